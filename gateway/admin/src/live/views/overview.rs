//! The overview: where most of the traffic flows, the busiest Services, and what an operator should look at first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Value, json};
use sluicegate_model::route::{Protocol, ServiceRef, Transport};
use sluicegate_model::status::{PluginState, PortStatus, ServiceStatus};

use super::super::index::Route;
use super::super::sample::{Figures, Sample};
use super::{Memory, falling, rounded, routes, services};

/// How many of each are drawn.
const ROUTES: usize = 8;
const SERVICES: usize = 8;
const LISTENERS: usize = 8;
/// How many listeners that lead straight to one Service are drawn.
const STRAIGHT: usize = 2;
/// How many endpoints of one Service are drawn, and of all.
const ENDPOINTS: usize = 4;
const ALL_ENDPOINTS: usize = 20;
/// How many rows there are to look at first.
const FIRST: usize = 6;

type Port<'s> = (&'s ServiceStatus, &'s PortStatus, Figures);

pub(super) fn overview(sample: &Sample, memory: &mut Memory) -> Value {
    let ports = sample.status.services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    let mut ports: Vec<Port<'_>> = ports.map(|(service, port)| (service, port, sample.port(&port.stats))).collect();
    let troubled: Vec<Value> = ports.iter().filter(|port| port.2.is_troubled()).take(FIRST).map(row).collect();
    let troubled_count = ports.iter().filter(|port| port.2.is_troubled()).count();
    ports.sort_by(|a, b| falling(Some(a.2.rate), Some(b.2.rate)));
    let plugins = sample.status.plugins.iter().filter(|plugin| plugin.state != PluginState::Active || plugin.rollout.is_some());
    json!({
        "flow": Flow::draw(sample, &ports, memory),
        "busiest": ports.iter().take(FIRST).map(row).collect::<Vec<_>>(),
        "troubled": troubled, "troubledCount": troubled_count,
        "faults": sample.status.faults.iter().take(FIRST).collect::<Vec<_>>(),
        "plugins": plugins.take(FIRST).collect::<Vec<_>>(),
        "ownAnswers": sample.own_answers.iter().map(|(reason, rate)| json!({ "reason": reason, "rate": rounded(*rate) })).collect::<Vec<_>>(),
    })
}

fn row((service, port, figures): &Port<'_>) -> Value {
    services::row(service, port, figures)
}

/// What is drawn: nodes in four columns, and what leads from one to the next. Listeners of one name on several addresses are one node.
#[derive(Default)]
struct Flow<'s> {
    /// By name: the addresses.
    listeners: BTreeMap<&'s str, BTreeSet<SocketAddr>>,
    /// The rules, by the places of the routes.
    rules: Vec<Value>,
    services: Vec<Value>,
    endpoints: Vec<Value>,
    links: Vec<Value>,
    hidden: BTreeMap<&'static str, usize>,
}

impl<'s> Flow<'s> {
    fn draw(sample: &'s Sample, ports: &[Port<'s>], memory: &mut Memory) -> Value {
        let mut flow = Self::default();
        let index = &sample.index;
        let mut busiest: Vec<(usize, Route, f32)> =
            index.routes.iter().enumerate().map(|(at, route)| (at, *route, routes::figures(sample, *route).rate)).collect();
        busiest.sort_by(|a, b| falling(Some(a.2), Some(b.2)));
        flow.hidden.insert("routes", busiest.len().saturating_sub(ROUTES));
        busiest.truncate(ROUTES);
        busiest.sort_by_key(|(at, ..)| *at);
        let wanted = flow.rules(sample, &busiest);
        let mut shown: Vec<&Port<'_>> = ports.iter().filter(|port| wanted.contains(&of(port))).take(SERVICES).collect();
        let others = ports.iter().filter(|port| !wanted.contains(&of(port)) && index.straight.contains_key(&of(port).0));
        shown.extend(others.take(SERVICES - shown.len()));
        shown.sort_by(|a, b| (&a.0.namespace, &a.0.name, a.1.port).cmp(&(&b.0.namespace, &b.0.name, b.1.port)));
        flow.hidden.insert("services", ports.len().saturating_sub(shown.len()));
        let mut left = ALL_ENDPOINTS;
        for port in shown {
            left = flow.service(sample, port, left, memory);
        }
        flow.finish(sample)
    }

    /// Draws rules, and says which service ports they lead to.
    fn rules(&mut self, sample: &'s Sample, busiest: &[(usize, Route, f32)]) -> BTreeSet<(ServiceRef, bool)> {
        let mut wanted = BTreeSet::new();
        for (at, route, rate) in busiest {
            let Some((router, rung, name)) = sample.index.route(*route) else { continue };
            let Some(rule) = rung.table.rules.get(route.rule) else { continue };
            let id = format!("r{at}");
            let does = routes::does(&rule.actions, rung.next(route.rule).is_some());
            self.rules
                .push(json!({ "id": id, "name": name, "rate": rounded(*rate), "does": does, "broken": routes::is_broken(sample, *route) }));
            let from = self.listeners(sample, router.at.iter().map(|(listener, _)| *listener), LISTENERS);
            // It is not counted by which of several listeners a request came.
            let share = (from.len() == 1).then(|| rounded(*rate));
            for listener in from {
                self.links.push(json!({ "from": listener_id(listener), "to": id, "rate": share }));
            }
            let figures = routes::figures(sample, *route);
            let udp = router.binding.transport == Transport::Udp;
            for (at, backend) in rule.backends.iter().enumerate().take(SERVICES) {
                let rate = figures.backends.get(at).copied().unwrap_or_default();
                let to = service_id(&backend.service, udp);
                self.links.push(json!({ "from": id, "to": to, "rate": rounded(rate) }));
                wanted.insert((backend.service.clone(), udp));
            }
        }
        wanted
    }

    /// Draws a service port with its endpoints, and the listeners that lead straight to it. Returns how many endpoints may still be drawn.
    fn service(&mut self, sample: &'s Sample, port: &Port<'_>, left: usize, memory: &mut Memory) -> usize {
        let (service, status, figures) = port;
        let (to, udp) = of(port);
        let id = service_id(&to, udp);
        let straight = sample.index.straight.get(&to).map(Vec::as_slice).unwrap_or_default().iter().copied();
        let straight = straight
            .filter(|at| sample.index.listeners.get(*at).is_some_and(|listener| (listener.front.protocol() == Protocol::Udp) == udp));
        let by_rules: f64 = self.links.iter().filter(|link| link["to"] == id).filter_map(|link| link["rate"].as_f64()).sum();
        let straight_rate = (f64::from(figures.rate) - by_rules).max(0.0);
        // Addresses of a Service that is reached by rules are drawn if something comes there.
        let drawn = !self.links.iter().any(|link| link["to"] == id) || straight_rate > 0.1 + 0.1 * by_rules;
        let listeners = self.listeners(sample, straight, if drawn { STRAIGHT } else { 0 });
        let share = (listeners.len() == 1).then(|| rounded(straight_rate as f32));
        for listener in listeners {
            self.links.push(json!({ "from": listener_id(listener), "to": id, "rate": share }));
        }
        self.services.push(json!({
            "id": id, "name": format!("{}/{}:{}", service.namespace, service.name, status.port), "protocol": status.protocol,
            "rate": rounded(figures.rate), "errors": rounded(figures.errors), "ready": figures.ready, "endpoints": figures.endpoints,
        }));
        let shown = status.endpoints.iter().take(ENDPOINTS.min(left));
        let mut count = 0;
        for endpoint in shown {
            count += 1;
            let mut drawn = memory.endpoint(endpoint);
            let to = format!("e{id}{}", endpoint.address);
            self.links.push(json!({ "from": id, "to": to, "rate": drawn["rate"] }));
            drawn["id"] = to.into();
            self.endpoints.push(drawn);
        }
        let more = status.endpoints.len() - count;
        if more > 0 {
            let to = format!("m{id}");
            self.links.push(json!({ "from": id, "to": to, "rate": Value::Null }));
            self.endpoints.push(json!({ "id": to, "more": more }));
        }
        left - count
    }

    /// Draws listeners, and returns their names.
    fn listeners(&mut self, sample: &'s Sample, at: impl Iterator<Item = usize>, most: usize) -> BTreeSet<&'s str> {
        let mut names = BTreeSet::new();
        for listener in at.filter_map(|at| sample.index.listeners.get(at)) {
            if names.len() < most || names.contains(listener.name.as_str()) {
                names.insert(listener.name.as_str());
                self.listeners.entry(&listener.name).or_default().insert(listener.address);
            }
        }
        names
    }

    fn finish(mut self, sample: &Sample) -> Value {
        let known: BTreeSet<String> = self.services.iter().filter_map(|service| service["id"].as_str().map(str::to_owned)).collect();
        self.links.retain(|link| link["to"].as_str().is_none_or(|to| !to.starts_with('s') || known.contains(to)));
        let drawn: usize = self.listeners.values().map(BTreeSet::len).sum();
        let listeners = self.listeners.iter().map(|(name, addresses)| {
            let shown: Vec<&SocketAddr> = addresses.iter().take(FIRST).collect();
            json!({ "id": listener_id(name), "name": name, "addresses": shown })
        });
        let listeners: Vec<Value> = listeners.collect();
        self.hidden.insert("listeners", sample.index.listeners.len().saturating_sub(drawn));
        json!({
            "listeners": listeners, "routes": self.rules, "services": self.services, "endpoints": self.endpoints, "links": self.links,
            "hidden": self.hidden,
        })
    }
}

/// The service port, and whether it is one of UDP.
fn of((service, port, _): &Port<'_>) -> (ServiceRef, bool) {
    let id = ServiceRef { namespace: service.namespace.clone(), name: service.name.clone(), port: port.port };
    (id, port.protocol.forwarded() == Some(Protocol::Udp))
}

fn listener_id(name: &str) -> String {
    format!("l{name}")
}

fn service_id(service: &ServiceRef, udp: bool) -> String {
    format!("s{service}{}", if udp { "/UDP" } else { "" })
}
