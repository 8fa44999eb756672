//! What becomes of one request or connection, for those who sample requests ([`sluicegate_model::requests`]). It is told to them when this is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use sluicegate_model::requests::{By, Early, Fields, RequestLine, Requests, Ruled, Seen, Session};
use sluicegate_model::route::Choice;
use sluicegate_model::snapshot::{RouterRung, Snapshot};

/// A request or connection that somebody samples. It is carried in a box, as most gateways have nobody who does.
pub(crate) struct Sampled {
    samples: Vec<(Arc<Session>, Box<Seen>)>,
    begun: Instant,
}

impl Sampled {
    /// What those want to know who sample it; none if nobody does. `line`: what is known of it, with these fields.
    pub(crate) fn of(
        requests: &Requests,
        early: &Early<'_>,
        snapshot: &Arc<Snapshot>,
        line: impl Fn(&Fields) -> RequestLine,
    ) -> Option<Box<Self>> {
        let sessions = requests.wanting(early);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let samples = sessions.into_iter().map(|session| {
            let wanted = session.wanted();
            let by = wanted.decision.then(|| By { snapshot: snapshot.clone(), rule: None, location: None });
            let line = RequestLine { at: u64::try_from(at.as_millis()).unwrap_or(u64::MAX), ..line(&wanted.fields) };
            (session, Box::new(Seen { line, by }))
        });
        let samples: Vec<_> = samples.collect();
        (!samples.is_empty()).then(|| Box::new(Self { samples, begun: Instant::now() }))
    }

    /// Notes something about it.
    pub(crate) fn note(&mut self, what: impl Fn(&mut RequestLine)) {
        self.samples.iter_mut().for_each(|(_, seen)| what(&mut seen.line));
    }

    /// Notes the rule that takes it.
    pub(crate) fn ruled(&mut self, rung: &RouterRung, choice: Choice) {
        let name = rung.table.rules.get(choice.rule).and_then(|rule| rule.name.clone());
        let Some(bound) = rung.rules.get(choice.rule) else { return };
        for (_, seen) in &mut self.samples {
            seen.line.decided.rule.clone_from(&name);
            if let Some(by) = &mut seen.by {
                by.rule = Some(Ruled {
                    plugin: rung.generation.generation().plugin.clone(),
                    table: rung.table.clone(),
                    index: choice.rule,
                    bound: bound.clone(),
                    matched_prefix: choice.matched_prefix,
                });
            }
        }
    }

    /// Notes that the gateway answers itself, why, and where it sends the client.
    pub(crate) fn refused(&mut self, why: &'static str, location: Option<&HeaderValue>) {
        for (_, seen) in &mut self.samples {
            seen.line.decided.reason = Some(why.to_owned());
            if let Some(by) = &mut seen.by {
                by.location = location.and_then(|location| location.to_str().ok()).map(str::to_owned);
            }
        }
    }

    /// How long ago it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Sampled {
    fn drop(&mut self) {
        self.samples.drain(..).for_each(|(session, seen)| session.tell(seen));
    }
}
