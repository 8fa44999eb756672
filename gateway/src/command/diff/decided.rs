//! What becomes of a request or a connection, as far as routes decide it: not which of several backends is drawn, but which there are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};
use sluicegate_decide::answer::{Reason, Why};
use sluicegate_decide::way::{self, Forwarded, Unrouted};
use sluicegate_model::route::Choice;
use sluicegate_model::snapshot::{Front, Listener, RouterRung, ServiceIndex, Snapshot, Target, TlsMode};
use sluicegate_proxy::{Asked, Outcome, preview};

use super::probes::Probe;
use crate::compare::effect::{backends, refused, told};
use crate::compare::{Instances, Of};

/// The client. Routers may look at it, and then other clients may be answered otherwise.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The fields of a rule that say which requests it takes, and not what becomes of them.
const CONDITIONS: [&str; 5] = ["matches", "hostnames", "source", "createdAt", "name"];

/// What one configuration decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Decided {
    /// The route and the rule that decide, if one does.
    by: String,
    does: String,
    /// What the rule does, as it is written.
    rule: String,
}

impl Decided {
    fn of(does: impl Into<String>) -> Self {
        Self { does: does.into(), ..Self::default() }
    }

    /// Whether the same is decided, whichever rule decides.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.does == other.does && self.rule == other.rule
    }

    fn text(&self) -> String {
        if self.by.is_empty() { self.does.clone() } else { format!("{} ({})", self.does, self.by) }
    }

    /// Describes both, and if the descriptions are the same, what else differs.
    pub(super) fn apart(one: &Self, other: &Self) -> (String, String) {
        let (was, is) = (one.text(), other.text());
        if was != is {
            return (was, is);
        }
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let (before, after) = (read(&one.rule), read(&other.rule));
        let fields = [&before, &after].into_iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys);
        let mut differ: Vec<&String> = fields.filter(|field| before.get(*field) != after.get(*field)).collect();
        differ.sort_unstable();
        differ.dedup();
        let told = |rule: &Value| {
            let all: Vec<String> =
                differ.iter().map(|field| format!("{field}: {}", rule.get(field.as_str()).unwrap_or(&Value::Null))).collect();
            format!("{was}, {}", all.join(", "))
        };
        (told(&before), told(&after))
    }

    pub(super) fn json(&self) -> Value {
        json!({"by": self.by, "decision": self.does, "rule": serde_json::from_str::<Value>(&self.rule).ok()})
    }
}

/// Asks one configuration. Instances of routers are kept, as each compiles the rules that it is asked about; and so is what these rules are written as.
#[derive(Default)]
pub(super) struct Decider {
    routers: Instances,
    /// Configurations, by the tables' numbers.
    written: HashMap<u64, Value>,
}

/// What a listener is asked, in words: where connections or flows are forwarded whole there is no request.
pub(super) fn asked(listener: &Listener, probe: &Probe) -> String {
    match &listener.front {
        Front::Http(_) => probe.to_string(),
        Front::Tcp(_) => "a connection".to_owned(),
        Front::Udp(_) => "a flow".to_owned(),
        Front::Tls(hosts) => match hosts.find(&probe.host) {
            Some(host) if matches!(host.mode, TlsMode::Http(_)) => probe.to_string(),
            _ => format!("a connection with TLS for {}", probe.host),
        },
    }
}

impl Decider {
    pub(super) fn decide(&mut self, of: Of<'_>, probe: &Probe) -> Decided {
        match &of.1.front {
            Front::Http(_) => self.request(of, probe),
            Front::Tcp(target) | Front::Udp(target) => self.connection(of.0, target, ""),
            Front::Tls(hosts) => match hosts.find(&probe.host) {
                None => Decided::of("no handshake: no listener has this server name"),
                Some(host) if matches!(host.mode, TlsMode::Http(_)) => self.request(of, probe),
                Some(host) => {
                    let mut decided = self.connection(of.0, &host.target, &probe.host);
                    let tls = if host.server().is_some() { "TLS ends here" } else { "TLS is passed through" };
                    decided.does = format!("{tls}: {}", decided.does);
                    decided
                }
            },
        }
    }

    fn request(&mut self, (snapshot, listener): Of<'_>, probe: &Probe) -> Decided {
        let field = |(name, value): (&str, &str)| Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?));
        let host = HeaderValue::from_str(&probe.host).ok().map(|host| (header::HOST, host));
        let headers: Vec<_> = host.into_iter().chain(probe.headers().filter_map(field)).collect();
        let target = probe.target();
        let asked = Asked { method: probe.method(), target: &target, headers: &headers, client: CLIENT, server_name: &probe.host };
        let found = preview(snapshot, listener, &asked, &mut self.routers);
        match (found.outcome, found.rule) {
            (Outcome::Forward { .. } | Outcome::Answer { why: Why::Reason(Reason::BadBackend | Reason::EndpointTls), .. }, Some(rule)) => {
                self.by_rule(rule, None)
            }
            (Outcome::Forward { service, .. }, None) => Decided::of(service.id.to_string()),
            (Outcome::Answer { status, why: Why::Redirect, location: Some(to) }, Some(rule)) => {
                self.by_rule(rule, Some(format!("{}, a redirect to {to}", status.as_u16())))
            }
            (Outcome::Answer { status, why: why @ (Why::Direct | Why::Preflight | Why::Redirect), .. }, Some(rule)) => {
                self.by_rule(rule, Some(format!("{}, {}", status.as_u16(), why.label())))
            }
            (Outcome::Answer { status, why, .. }, _) => Decided::of(format!("{} {}", status.as_u16(), why.label())),
        }
    }

    fn connection(&mut self, snapshot: &Snapshot, target: &Target, host: &str) -> Decided {
        let name = |service: ServiceIndex| snapshot.services.get(&service).map_or_else(|| "nothing".to_owned(), |one| one.id.to_string());
        match way::forward(target, host, &HeaderMap::new(), CLIENT, &mut self.routers) {
            Ok(Forwarded { to, rule: None }) => Decided::of(name(to.service)),
            Ok(Forwarded { rule: Some(rule), .. }) => self.by_rule(rule, None),
            Err(Unrouted::BadBackend(rung, choice)) => self.by_rule((rung, choice), None),
            Err(Unrouted::Nothing | Unrouted::NoMatch(_)) => Decided::of("refused: no route takes it"),
            Err(Unrouted::RouterFailed) => Decided::of("refused: the router failed"),
        }
    }

    /// What a rule does. If it gives no answer of its own, these are its backends.
    fn by_rule(&mut self, (rung, choice): (&RouterRung, Choice), answer: Option<String>) -> Decided {
        let config = self.written.entry(rung.table.id).or_insert_with(|| serde_json::from_str(&rung.table.config).unwrap_or_default());
        let written = &config["rules"][choice.rule];
        let text = |field: &str| written[field].as_str().map(str::to_owned);
        let by = text("name").or_else(|| text("source").map(|source| format!("route {source}")));
        let by = by.unwrap_or_else(|| format!("rule {} of {}", choice.rule, rung.generation.generation().plugin));
        let mut shown = written.clone();
        if let Some(fields) = shown.as_object_mut() {
            CONDITIONS.iter().for_each(|field| drop(fields.remove(*field)));
        }
        let bound = rung.rules.get(choice.rule).map(|bound| &**bound);
        let backends = || told(&backends(&rung.table, choice.rule, bound, written), refused(&rung.table));
        Decided { by, does: answer.unwrap_or_else(backends), rule: shown.to_string() }
    }
}
