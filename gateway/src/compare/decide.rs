//! What one configuration decides about a recorded request, by the code and the plugins that a gateway decides with.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use sluicegate_decide::answer::{Reason, Why};
use sluicegate_decide::way::{self, Forwarded, Unrouted};
use sluicegate_model::requests::{RequestLine, Ruled};
use sluicegate_model::route::{Choice, RouteTable};
use sluicegate_model::settings::contains;
use sluicegate_model::snapshot::{Front, RouterRung, ServiceIndex, Snapshot, Target, TlsMode};
use sluicegate_proxy::{Asked, Outcome, Preview, preview};

use super::effect::{Effect, Kind, Kinds};
use super::{Instances, Of};

/// How many tables, and how many answers, are known at a time. Beyond that all are forgotten.
const MOST_KNOWN: usize = 4_096;
/// How often a router is asked that fails, as a machine that has much to do may have left it no time.
const ASK: usize = 3;

/// A decision about one request.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) effect: Arc<Effect>,
    /// Where a redirect leads, or what a rewrite makes of host and path.
    pub(crate) detail: Option<String>,
    /// The host and the path as rules see them; none: it was refused before that.
    pub(crate) asked: Option<(String, String)>,
}

impl Decision {
    fn of(effect: Arc<Effect>) -> Self {
        Self { effect, detail: None, asked: None }
    }

    /// In which respects another configuration's decision about the same request differs.
    pub(crate) fn against(&self, new: &Self) -> Kinds {
        let mut kinds = if Arc::ptr_eq(&self.effect, &new.effect) { Kinds::default() } else { self.effect.against(&new.effect) };
        if self.detail != new.detail && !kinds.has(Kind::Refused) {
            kinds.add(if self.effect.rewrites || new.effect.rewrites { Kind::Headers } else { Kind::Answered });
        }
        kinds
    }
}

/// Asks one configuration. What rules come to is kept, and so are instances of routers, as each compiles the rules that it is asked about.
#[derive(Default)]
pub(crate) struct Decider {
    routers: Instances,
    effects: Effects,
}

/// What rules and answers of one snapshot come to. What comes to the same in the next one stays the same value, by which requests are grouped.
#[derive(Default)]
pub(crate) struct Effects {
    /// By the address of the table, which is kept, so that no other one gets its address.
    tables: HashMap<usize, Rules>,
    answers: HashMap<String, Arc<Effect>>,
    services: HashMap<(ServiceIndex, &'static str), Arc<Effect>>,
    version: Option<u64>,
    all: HashSet<Arc<Effect>>,
}

struct Rules {
    _table: Arc<RouteTable>,
    /// The configuration, as far as it is JSON.
    written: Value,
    known: HashMap<(usize, String), Arc<Effect>>,
}

impl Effects {
    /// Forgets what is of another snapshot.
    pub(crate) fn settle(&mut self, snapshot: &Snapshot) {
        if self.version != Some(snapshot.version) {
            let mut all = std::mem::take(&mut self.all);
            if all.len() > MOST_KNOWN {
                all.clear();
            }
            *self = Self { version: Some(snapshot.version), all, ..Self::default() };
        }
    }

    /// What a rule comes to that gives no answer of its own. `how`: what is said before its backends.
    pub(crate) fn rule(&mut self, by: &Ruled, snapshot: &Snapshot, how: &str) -> Arc<Effect> {
        self.of_rule(by, how, |written| Effect::rule(by, written, snapshot, how))
    }

    /// What a rule comes to that gives this answer.
    pub(crate) fn answered(&mut self, by: &Ruled, text: &str) -> Arc<Effect> {
        self.of_rule(by, text, |_| Effect::answer(text.to_owned(), false).answered_by(by))
    }

    fn of_rule(&mut self, by: &Ruled, text: &str, make: impl FnOnce(&Value) -> Effect) -> Arc<Effect> {
        let (rules, key) = (self.rules(by), (by.index, text.to_owned()));
        if let Some(known) = rules.known.get(&key) {
            return known.clone();
        }
        let effect = make(&rules.written["rules"][by.index]);
        let effect = self.one(effect);
        self.rules(by).known.insert(key, effect.clone());
        effect
    }

    /// The one value of all that are the same.
    fn one(&mut self, effect: Effect) -> Arc<Effect> {
        if let Some(known) = self.all.get(&effect) {
            return known.clone();
        }
        let effect = Arc::new(effect);
        self.all.insert(effect.clone());
        effect
    }

    fn rules(&mut self, by: &Ruled) -> &mut Rules {
        if self.tables.len() > MOST_KNOWN {
            self.tables.clear();
        }
        self.tables.entry(Arc::as_ptr(&by.table) as usize).or_insert_with(|| Rules {
            written: serde_json::from_str(&by.table.config).unwrap_or_default(),
            _table: by.table.clone(),
            known: HashMap::new(),
        })
    }

    /// An answer that no rule gives. `refused`: whether the request is refused.
    pub(crate) fn answer(&mut self, text: &str, refused: bool) -> Arc<Effect> {
        if self.answers.len() > MOST_KNOWN {
            self.answers.clear();
        }
        if let Some(known) = self.answers.get(text) {
            return known.clone();
        }
        let effect = self.one(Effect::answer(text.to_owned(), refused));
        self.answers.insert(text.to_owned(), effect.clone());
        effect
    }

    /// A service port to which a listener leads.
    pub(crate) fn service(&mut self, snapshot: &Snapshot, index: ServiceIndex, how: &'static str) -> Arc<Effect> {
        if let Some(known) = self.services.get(&(index, how)) {
            return known.clone();
        }
        let effect = match snapshot.services.get(&index) {
            Some(service) => self.one(Effect::service(service, how)),
            None => return self.answer("refused: the service port is gone", true),
        };
        self.services.insert((index, how), effect.clone());
        effect
    }
}

/// The rule that a rung has chosen.
fn ruled(rung: &RouterRung, choice: Choice) -> Option<Ruled> {
    Some(Ruled {
        plugin: rung.generation.generation().plugin.clone(),
        table: rung.table.clone(),
        index: choice.rule,
        bound: rung.rules.get(choice.rule)?.clone(),
        matched_prefix: choice.matched_prefix,
    })
}

/// What a rule makes of host and path on the way to a service. Backends may rewrite, too; which of them is drawn is left to chance, so what they do is only compared
/// as it is written.
pub(crate) fn rewritten(by: &Ruled, host: &str, path: &str) -> Option<String> {
    let rewrite = by.table.rules.get(by.index)?.actions.rewrite.as_ref()?;
    let host = rewrite.hostname.as_ref().and_then(|host| host.to_str().ok()).unwrap_or(host);
    let path = rewrite.path.as_ref().map_or_else(|| path.to_owned(), |change| change.apply(path, by.matched_prefix));
    Some(format!("{host}{path}"))
}

impl Decider {
    fn refused(&mut self, text: &str) -> Decision {
        Decision::of(self.effects.answer(text, true))
    }

    /// What becomes of a request or a connection at a listener; none: the configuration has no such listener.
    pub(crate) fn decide(&mut self, of: Option<Of<'_>>, request: &RequestLine) -> Decision {
        let Some(of) = of else { return self.refused("refused: nothing listens there") };
        self.effects.settle(of.0);
        let (client, sources) = (client(request), &of.1.settings.sources);
        if !sources.is_empty() && !contains(sources, client) && client != of.1.address.ip() {
            return self.refused("refused: its address may not connect");
        }
        match (&of.1.front, &request.server_name) {
            (Front::Http(_), None) if request.is_request() => self.request(of, request, client),
            (Front::Http(_), _) => self.refused("refused: HTTP without TLS is served there"),
            (Front::Tcp(target) | Front::Udp(target), _) => self.connection(of.0, target, "", client, ""),
            (Front::Tls(_), None) => self.refused("refused: TLS is served there"),
            (Front::Tls(hosts), Some(name)) => match hosts.find(name) {
                None => self.refused("no handshake: no listener has this server name"),
                Some(host) if matches!(host.mode, TlsMode::Http(_)) && request.is_request() => self.request(of, request, client),
                Some(host) if matches!(host.mode, TlsMode::Http(_)) => {
                    Decision::of(self.effects.answer("TLS ends here, and requests are served", false))
                }
                Some(host) => {
                    let how = if host.server().is_some() { "TLS ends here: " } else { "TLS is passed through: " };
                    self.connection(of.0, &host.target, name, client, how)
                }
            },
        }
    }

    fn request(&mut self, (snapshot, listener): Of<'_>, request: &RequestLine, client: IpAddr) -> Decision {
        if let (Some(most), Some(length)) = (listener.settings.content, request.content_length)
            && length > most
        {
            return self.refused("413 large-content");
        }
        let field =
            |(name, value): &(String, String)| Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?));
        let host = HeaderValue::from_bytes(request.host.as_bytes()).ok().map(|host| (header::HOST, host));
        let headers: Vec<_> = host.into_iter().chain(request.headers.iter().filter_map(field)).collect();
        let asked = Asked {
            method: &request.method,
            target: &request.target,
            headers: &headers,
            client,
            server_name: request.server_name.as_deref().unwrap_or_default(),
        };
        let mut found = preview(snapshot, listener, &asked, &mut self.routers);
        for _ in 1..ASK {
            if !matches!(&found.outcome, Outcome::Answer { why: Why::Reason(Reason::RouterFailed), .. }) {
                break;
            }
            found = preview(snapshot, listener, &asked, &mut self.routers);
        }
        self.previewed(snapshot, found)
    }

    fn previewed(&mut self, snapshot: &Snapshot, found: Preview<'_>) -> Decision {
        let asked = found.arrived.map(|arrived| (arrived.host, arrived.path));
        let by = found.rule.and_then(|(rung, choice)| ruled(rung, choice));
        match (found.outcome, by) {
            (Outcome::Forward { .. } | Outcome::Answer { why: Why::Reason(Reason::BadBackend | Reason::EndpointTls), .. }, Some(by)) => {
                let effect = self.effects.rule(&by, snapshot, "");
                let rewritten = |(host, path): &(String, String)| rewritten(&by, host, path);
                let detail = asked.as_ref().filter(|_| effect.rewrites).and_then(rewritten);
                Decision { effect, detail, asked }
            }
            (Outcome::Forward { service, .. }, None) => {
                let known = match found.found.map(|found| found.target) {
                    Some(Target::Service(to)) => Some(self.effects.service(snapshot, to.service, "")),
                    _ => None,
                };
                Decision { asked, ..Decision::of(known.unwrap_or_else(|| Arc::new(Effect::service(service, "")))) }
            }
            (Outcome::Answer { status, why, location }, by) => {
                let text = answer(status, why.label());
                let given = by.filter(|_| matches!(why, Why::Direct | Why::Preflight | Why::Redirect));
                let effect = match given {
                    Some(by) => self.effects.answered(&by, &text),
                    None => self.effects.answer(&text, matches!(why, Why::Reason(_))),
                };
                Decision { effect, detail: location.map(|location| format!("to {location}")), asked }
            }
        }
    }

    fn connection(&mut self, snapshot: &Snapshot, target: &Target, host: &str, client: IpAddr, how: &'static str) -> Decision {
        match way::forward(target, host, &HeaderMap::new(), client, &mut self.routers) {
            Ok(Forwarded { to, rule: None }) => Decision::of(self.effects.service(snapshot, to.service, how)),
            Ok(Forwarded { rule: Some((rung, choice)), .. }) | Err(Unrouted::BadBackend(rung, choice)) => match ruled(rung, choice) {
                Some(by) => Decision::of(self.effects.rule(&by, snapshot, how)),
                None => self.refused("refused: the rule leads nowhere"),
            },
            Err(Unrouted::Nothing | Unrouted::NoMatch(_)) => self.refused("refused: no route takes it"),
            Err(Unrouted::RouterFailed) => self.refused("refused: the router failed"),
        }
    }
}

/// An answer in words.
pub(crate) fn answer(status: StatusCode, label: &str) -> String {
    format!("{} {label}", status.as_u16())
}

/// The address that a configuration sees first: that of who connected, if the fields are there that say for whom it speaks, else the client's.
fn client(request: &RequestLine) -> IpAddr {
    let named = request.headers.iter().any(|(name, _)| name == "x-forwarded-for" || name == "forwarded");
    let connected = request.peer.as_deref().filter(|_| named);
    connected.unwrap_or(&request.client).parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
