//! What was decided about a request, beside what the configuration in the shadow decides.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate_model::requests::{RequestLine, Seen};
use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::{Listener, Snapshot, Target};

use crate::compare::decide::{Decider, Decision, Effects, rewritten};
use crate::compare::effect::OfListener;
use crate::compare::tally::Place;

/// Answers that depend on more than a request and a configuration: on what there was to do, or on time. Of these no comparison is made, if no rule was found before.
const PASSING: [&str; 8] =
    ["overloaded", "rate-limited", "client-gone", "slow-request", "router-failed", "bad-content", "loop", "no-upgrade"];
/// Answers that a rule gives or asks for.
const OF_RULES: [&str; 3] = ["redirect", "preflight", "direct"];
/// How many listeners are remembered. Beyond that all are forgotten.
const MOST_PLACES: usize = 1_024;

/// Decides for the configuration in the shadow.
pub(super) struct Judge {
    snapshot: Arc<Snapshot>,
    names: HashMap<String, SocketAddr>,
    decider: Decider,
    /// What the rules come to that are served.
    served: Effects,
    /// Listeners, each with its number, by the version of the snapshot that was served then.
    places: HashMap<(u64, SocketAddr), usize>,
    /// The same listener has the same number in all snapshots in which it does the same.
    all: Vec<Arc<Place>>,
}

impl Judge {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        let tcp = snapshot.listeners.values().filter(|listener| listener.front.protocol() == Protocol::Tcp);
        let names = tcp.map(|listener| (listener.name.clone(), listener.address)).collect();
        Self { snapshot, names, decider: Decider::default(), served: Effects::default(), places: HashMap::new(), all: Vec::new() }
    }

    /// Both decisions about a request; none: it was not decided by the configuration alone.
    #[expect(clippy::type_complexity, reason = "three things that belong together for one call")]
    pub(super) fn judge(&mut self, seen: &Seen) -> Option<((usize, &Arc<Place>), Decision, Decision)> {
        let old = self.old(seen)?;
        let (at, by) = (seen.line.address?, seen.by.as_ref()?);
        let snapshot = self.snapshot.clone();
        let find = |at: SocketAddr| snapshot.listeners.get(&(Protocol::Tcp, at)).map(Arc::as_ref);
        let listener = find(at).or_else(|| find(*self.names.get(&seen.line.listener)?));
        let new = self.decider.decide(listener.map(|listener| (&*snapshot, listener)), &seen.line);
        let old = self.detailed(old, &new, seen);
        let key = (by.snapshot.version, at);
        if self.places.len() > MOST_PLACES {
            self.places.clear();
        }
        if self.all.len() > MOST_PLACES {
            (self.places, self.all) = (HashMap::new(), Vec::new());
        }
        if !self.places.contains_key(&key) {
            let was = by.snapshot.listeners.get(&(Protocol::Tcp, at)).map(Arc::as_ref);
            let place = place(&seen.line, was, listener);
            let known = self.all.iter().position(|known| **known == place);
            let number = known.unwrap_or_else(|| {
                self.all.push(Arc::new(place));
                self.all.len() - 1
            });
            self.places.insert(key, number);
        }
        let number = *self.places.get(&key)?;
        Some(((number, self.all.get(number)?), old, new))
    }

    /// What the worker has decided.
    fn old(&mut self, seen: &Seen) -> Option<Decision> {
        let by = seen.by.as_ref()?;
        let (decided, snapshot) = (&seen.line.decided, &*by.snapshot);
        self.served.settle(snapshot);
        let reason = decided.reason.as_deref();
        let effect = match (&by.rule, reason) {
            (Some(rule), Some(label)) if OF_RULES.contains(&label) => self.served.answered(rule, &format!("{} {label}", decided.status?)),
            // Whatever came of it later, the rule had been found.
            (Some(rule), _) => self.served.rule(rule, snapshot, ""),
            (None, _) if decided.service.is_some() => {
                let listener = snapshot.listeners.get(&(Protocol::Tcp, seen.line.address?))?;
                let service = decided.service.as_deref()?;
                let led = listener.front.targets().into_iter().find_map(|target| match target {
                    Target::Service(to) if snapshot.services.get(&to.service)?.id.to_string() == service => Some(to.service),
                    _ => None,
                });
                self.served.service(snapshot, led?, "")
            }
            (None, Some(label)) if !PASSING.contains(&label) => {
                self.served.answer(&format!("{} {label}", decided.status?), !OF_RULES.contains(&label))
            }
            (None, _) => return None,
        };
        Some(Decision { effect, detail: None, asked: None })
    }

    /// With where it redirects to, or what it makes of host and path.
    fn detailed(&self, old: Decision, new: &Decision, seen: &Seen) -> Decision {
        let rewrites = old.effect.rewrites || new.effect.rewrites;
        if !rewrites {
            let location = seen.by.as_ref().and_then(|by| by.location.as_ref()).map(|location| format!("to {location}"));
            return Decision { detail: location, ..old };
        }
        let rule = seen.by.as_ref().and_then(|by| by.rule.as_ref()).filter(|_| old.effect.rewrites);
        let path = seen.line.target.split('?').next().unwrap_or_default();
        let (host, path) = new.asked.as_ref().map_or((seen.line.host.as_str(), path), |(host, path)| (host.as_str(), path.as_str()));
        let detail = rule.and_then(|rule| rewritten(rule, host, path));
        Decision { detail, ..old }
    }
}

fn place(line: &RequestLine, old: Option<&Listener>, new: Option<&Listener>) -> Place {
    let both = old.zip(new).map(|(old, new)| (OfListener::new(&old.settings), OfListener::new(&new.settings)));
    Place::new(&line.listener, both.as_ref().map(|(old, new)| (old, new)))
}
