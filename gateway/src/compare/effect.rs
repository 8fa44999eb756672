//! What a decision comes to, and in which respects two of them differ.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluicegate_model::requests::Ruled;
use sluicegate_model::route::{Actions, RouteTable, Rule, Transport};
use sluicegate_model::settings::{BackendSettings, ClientSettings, HeaderChanges};
use sluicegate_model::snapshot::{BoundRule, EndpointTls, HashKey, ServicePort, Snapshot};

/// A respect in which decisions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Another rule decides. By itself that is no change of what becomes of a request.
    Route,
    /// Other services.
    Service,
    /// The same services, of which some get another share.
    Spread,
    /// Other changes of header fields, host or path, or other rules about origins.
    Headers,
    /// Other time-outs.
    Timeouts,
    /// Other rules about retries.
    Retries,
    /// Other limits: rates, content, connections, circuit breakers.
    Limits,
    /// The gateway refuses what it did not refuse.
    Refused,
    /// The gateway answers otherwise, or no longer.
    Answered,
    /// Anything else: mirrors, sessions, balancers, TLS, protocols, health.
    Other,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Route,
        Self::Service,
        Self::Spread,
        Self::Headers,
        Self::Timeouts,
        Self::Retries,
        Self::Limits,
        Self::Refused,
        Self::Answered,
        Self::Other,
    ];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Service => "service",
            Self::Spread => "spread",
            Self::Headers => "headers",
            Self::Timeouts => "timeouts",
            Self::Retries => "retries",
            Self::Limits => "limits",
            Self::Refused => "refused",
            Self::Answered => "answered",
            Self::Other => "other",
        }
    }
}

/// Several respects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kinds(u16);

impl Kinds {
    pub(crate) fn add(&mut self, kind: Kind) {
        self.0 |= 1 << kind as u16;
    }

    pub(crate) fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }

    /// Whether something else becomes of a request, whichever rule decides.
    pub(crate) fn changed(self) -> bool {
        self.iter().any(|kind| kind != Kind::Route)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Kind::name).collect();
        f.write_str(&names.join(", "))
    }
}

/// What is said of a rule, of a service or of a listener, in the respects that [`SAID`] lists.
type Said = [String; 5];
const SAID: [Kind; 5] = [Kind::Headers, Kind::Timeouts, Kind::Retries, Kind::Limits, Kind::Other];

/// An answer of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Answer {
    text: String,
    refused: bool,
}

/// What a decision comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Effect {
    /// The name of the rule that decides; empty: none does.
    pub(crate) by: String,
    /// What becomes of the request, for people.
    pub(crate) does: String,
    /// Whether the request's host or path is rewritten.
    pub(crate) rewrites: bool,
    answer: Option<Answer>,
    /// The services by name, each with its share.
    shares: BTreeMap<String, u64>,
    /// Whether a part of the requests has no backend to go to.
    broken: bool,
    rule: Said,
    services: BTreeMap<String, Said>,
}

impl Effect {
    /// An answer of the gateway's own.
    pub(crate) fn answer(text: String, refused: bool) -> Self {
        Self { does: text.clone(), answer: Some(Answer { text, refused }), ..Self::default() }
    }

    /// The same, as a rule gives it.
    pub(crate) fn answered_by(self, by: &Ruled) -> Self {
        let given = by.table.rules.get(by.index).map(|rule| (of_rule(rule, None), given(&rule.actions)));
        let (rule, given) = given.unwrap_or_default();
        // The content is no part of what is shown, but makes another answer.
        let answer = self.answer.map(|answer| Answer { text: answer.text + &given, ..answer });
        Self { by: name(by), rule, answer, ..self }
    }

    /// A service port to which a listener leads.
    pub(crate) fn service(service: &ServicePort, how: &str) -> Self {
        let name = service.id.to_string();
        Self {
            does: format!("{how}{name}"),
            shares: BTreeMap::from([(name.clone(), 1)]),
            services: BTreeMap::from([(name, of_service(service, None))]),
            ..Self::default()
        }
    }

    /// A rule that gives no answer of its own. `written`: how it is written, as far as the router has HTTPRoute's words.
    pub(crate) fn rule(by: &Ruled, written: &Value, snapshot: &Snapshot, how: &str) -> Self {
        let all = backends(&by.table, by.index, Some(&by.bound), written);
        let Some(rule) = by.table.rules.get(by.index) else { return Self::default() };
        let does = format!("{how}{}", told(&all, refused(&by.table)));
        let mut effect = Self { by: name(by), does, rule: of_rule(rule, Some(&by.bound)), ..Self::default() };
        let whole = all.iter().map(|(_, weight)| *weight).fold(0, gcd).max(1);
        for (what, weight) in all.iter().filter(|(_, weight)| *weight > 0) {
            *effect.shares.entry(what.clone()).or_default() += weight / whole;
        }
        let all_actions = std::iter::once(&rule.actions).chain(rule.backends.iter().map(|backend| &backend.actions));
        effect.rewrites = all_actions.into_iter().any(|actions| actions.rewrite.is_some());
        let mut usable = false;
        for (backend, found) in rule.backends.iter().zip(&by.bound.backends) {
            let service = found.as_ref().ok().and_then(|index| snapshot.services.get(index));
            let served = service.is_some_and(|service| !matches!(service.tls, EndpointTls::Untold | EndpointTls::Broken));
            usable |= served && backend.weight > 0;
            effect.broken |= !served && backend.weight > 0;
            if let Some(service) = service {
                effect.services.insert(backend.service.to_string(), of_service(service, Some(rule)));
            }
        }
        effect.broken |= written["backendRefs"].as_array().is_some_and(|all| all.iter().any(|backend| backend["invalid"].is_string()));
        if !usable && by.bound.next.is_none() {
            effect.answer = Some(Answer { text: effect.does.clone(), refused: true });
        }
        effect
    }

    /// In which respects another configuration's decision about the same request differs.
    pub(crate) fn against(&self, new: &Self) -> Kinds {
        let mut kinds = Kinds::default();
        if self.by != new.by {
            kinds.add(Kind::Route);
        }
        let is_refused = |answer: &Option<Answer>| answer.as_ref().is_some_and(|answer| answer.refused);
        match (&self.answer, &new.answer) {
            (None, None) => self.served(new, &mut kinds),
            (old, now) if old.as_ref().map(|a| &a.text) == now.as_ref().map(|a| &a.text) => {}
            (old, now) => kinds.add(if is_refused(now) && !is_refused(old) { Kind::Refused } else { Kind::Answered }),
        }
        kinds
    }

    /// Likewise, if both go to services.
    fn served(&self, new: &Self, kinds: &mut Kinds) {
        if !self.shares.keys().eq(new.shares.keys()) {
            kinds.add(Kind::Service);
        } else if self.shares != new.shares {
            kinds.add(Kind::Spread);
        }
        if new.broken && !self.broken {
            kinds.add(Kind::Refused);
        }
        for (kind, ..) in self.differences(new) {
            kinds.add(kind);
        }
    }

    /// What is said otherwise of the rule, and of the services that both have.
    pub(crate) fn differences(&self, new: &Self) -> Vec<(Kind, String, String)> {
        if self.answer.is_some() || new.answer.is_some() {
            return Vec::new();
        }
        let mut all = apart(&self.rule, &new.rule, "");
        for (name, old) in &self.services {
            if let Some(new) = new.services.get(name) {
                all.extend(apart(old, new, &format!("{name}: ")));
            }
        }
        all
    }
}

/// What a listener does with all its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfListener(Said);

impl OfListener {
    pub(crate) fn new(settings: &ClientSettings) -> Self {
        let ClientSettings { timeouts, connections, head, content, rates, headers, trust, path, .. } = settings;
        let limits = format!("{connections:?} {head:?} content {content:?} {rates:?}");
        let other = format!("{:?}", (&settings.keepalive, settings.tcp_idle, &settings.http2));
        Self([format!("{headers:?} {trust:?} {path:?}"), format!("{timeouts:?}"), String::new(), limits, other])
    }

    /// In which respects another one differs.
    pub(crate) fn differences(&self, new: &Self) -> Vec<(Kind, String, String)> {
        apart(&self.0, &new.0, "listener: ")
    }
}

fn apart(old: &Said, new: &Said, of: &str) -> Vec<(Kind, String, String)> {
    let shown = |text: &str| format!("{of}{}", if text.is_empty() { "none" } else { text });
    let pairs = SAID.into_iter().zip(old.iter().zip(new)).filter(|(_, (old, new))| old != new);
    pairs.map(|(kind, (old, new))| (kind, shown(old), shown(new))).collect()
}

/// The rule's name, for people.
fn name(by: &Ruled) -> String {
    let given = by.table.rules.get(by.index).and_then(|rule| rule.name.clone());
    given.unwrap_or_else(|| format!("rule {} of {}", by.index, by.plugin))
}

/// The content and the fields of an answer that a rule gives.
fn given(actions: &Actions) -> String {
    actions.answer.as_ref().map(|answer| format!(" {:?} {:?}", answer.headers, answer.body)).unwrap_or_default()
}

fn of_rule(rule: &Rule, bound: Option<&BoundRule>) -> Said {
    let mut headers = actions(&rule.actions);
    for backend in &rule.backends {
        let own = actions(&backend.actions);
        if !own.is_empty() {
            let _ = write!(headers, "for {}: {own}", backend.service);
        }
    }
    let time = |what: &str, time: Option<Duration>| time.map(|time| format!("{what} {time:?} ")).unwrap_or_default();
    let timeouts = time("request", rule.request_timeout) + &time("try", rule.backend_timeout);
    let retries = rule.retry.as_ref().map(|retry| format!("{retry:?}")).unwrap_or_default();
    let limiter = bound.and_then(|bound| bound.limiter.as_ref());
    let limits = limiter.map(|limiter| format!("{:?}", limiter.rates().collect::<Vec<_>>())).unwrap_or_default();
    let mut other: String = rule
        .mirrors()
        .map(|(_, mirror)| format!("mirror {} of {} to {}; ", mirror.numerator, mirror.denominator, mirror.service))
        .collect();
    if let Some(session) = &rule.session {
        let _ = write!(other, "{session:?}; ");
    }
    [headers, timeouts, retries, limits, other].map(|text| text.trim_end_matches([' ', ';']).to_owned())
}

fn actions(actions: &Actions) -> String {
    let mut text = changes("request", &actions.request_headers) + &changes("response", &actions.response_headers);
    if let Some(rewrite) = &actions.rewrite {
        let host = rewrite.hostname.as_ref().map(|host| format!(" host {}", String::from_utf8_lossy(host.as_bytes()))).unwrap_or_default();
        let path = rewrite.path.as_ref().map(|path| format!(" path {path:?}")).unwrap_or_default();
        let _ = write!(text, "rewrite{host}{path}; ");
    }
    if let Some(cors) = &actions.cors {
        let _ = write!(text, "{cors:?}; ");
    }
    text
}

fn changes(of: &str, changes: &HeaderChanges) -> String {
    let mut text = String::new();
    for (what, fields) in [("set", &changes.set), ("add", &changes.add)] {
        for (name, value) in fields {
            let _ = write!(text, "{of}: {what} {name}={}; ", String::from_utf8_lossy(value.as_bytes()));
        }
    }
    for name in &changes.remove {
        let _ = write!(text, "{of}: remove {name}; ");
    }
    text
}

/// What policies say of a service. What the rule says itself counts before it.
fn of_service(service: &ServicePort, rule: Option<&Rule>) -> Said {
    let of = &*service.settings;
    let BackendSettings { timeouts, retry, budget, session, breaker, rates, .. } = of;
    let mut timeouts = timeouts.clone();
    if rule.is_some_and(|rule| rule.request_timeout.is_some()) {
        timeouts.request = None;
    }
    let retry = retry.as_ref().filter(|_| rule.is_none_or(|rule| rule.retry.is_none()));
    let session = session.as_ref().filter(|_| rule.is_none_or(|rule| rule.session.is_none()));
    let balancer = service.balancers.first().map(|balancer| balancer.generation().plugin.clone());
    let hash = service.hash.as_ref().map(|hash| match hash {
        HashKey::Cookie { name, .. } => format!("cookie {name}"),
        other => format!("{other:?}"),
    });
    let other = format!(
        "{session:?} balancer {balancer:?} {} by {hash:?}, {:?}, TLS {}, affinity {}, {:?}",
        service.balancer_config,
        service.protocol,
        service.tls.id() != 0,
        service.affinity.is_some(),
        (&of.keepalive, of.proxy_protocol, &of.http2, &of.upgrades, &of.request_trailers, &of.health)
    );
    [String::new(), format!("{timeouts:?}"), format!("{retry:?} {budget:?}"), format!("{breaker:?} {rates:?}"), other]
}

/// How a part of a rule is told that has no backend to go to.
pub(crate) fn refused(table: &RouteTable) -> &'static str {
    if table.listener.transport == Transport::Http { "500" } else { "refused" }
}

/// The backends of a rule and their weights. Those that do not exist are told as what is answered in their place.
pub(crate) fn backends(table: &RouteTable, index: usize, bound: Option<&BoundRule>, written: &Value) -> Vec<(String, u64)> {
    let refused = refused(table);
    let rule = table.rules.get(index);
    let served = rule.into_iter().flat_map(|rule| &rule.backends).zip(bound.into_iter().flat_map(|bound| &bound.backends));
    let mut all: Vec<(String, u64)> = served
        .map(|(backend, found)| {
            let what = found.as_ref().err().map_or_else(|| backend.service.to_string(), |why| format!("{refused} ({why})"));
            (what, u64::from(backend.weight))
        })
        .collect();
    for backend in written["backendRefs"].as_array().into_iter().flatten() {
        if let Some(why) = backend["invalid"].as_str() {
            all.push((format!("{refused} ({why})"), backend["weight"].as_u64().unwrap_or(1)));
        }
    }
    all
}

/// The backends in words, each with its weight if there are several.
pub(crate) fn told(all: &[(String, u64)], refused: &str) -> String {
    match all {
        [] => format!("{refused} (the rule has no backend)"),
        [(only, _)] => only.clone(),
        several => several.iter().map(|(what, weight)| format!("{what} with weight {weight}")).collect::<Vec<_>>().join(", "),
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
