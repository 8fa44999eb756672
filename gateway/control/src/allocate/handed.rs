//! Load balancer addresses in a cluster. They are kept in the objects' status, where every process reads them. One process, the leader, chooses those that are
//! missing, by the rules of a folder; they are written with the rest of the status. Whoever does not lead waits until they are there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use sluicegate_config::object::{Body, Object, ObjectKey};
use sluicegate_config::plan::{Allocations, AskedAddresses, LOAD_BALANCER_CLASS};
use sluicegate_model::family::IpFamily;
use sluicegate_model::fault::Fault;

use super::absent::Missing;
use super::wanting::id;
use super::{Allocator, Refused, State, Wanting};

/// Says whether this process is the one that chooses addresses.
pub type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// A Node with this label takes no traffic from outside.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// As many addresses as a Gateway's status may have.
const MOST_SHOWN: usize = 16;

/// Who chooses.
pub(super) struct Chooser {
    leads: Leads,
    /// Whether this process led when it allocated last.
    led: bool,
}

impl Allocator {
    /// The same allocator, which chooses load balancer addresses in a cluster while `leads` says so.
    #[must_use]
    pub fn chosen_by(self, leads: Leads) -> Self {
        Self { chooser: Some(Chooser { leads, led: false }), ..self }
    }

    /// Whether this process has begun, or ceased, to choose addresses since it allocated last.
    pub fn is_stale(&self) -> bool {
        self.has_addresses() && self.chooser.as_ref().is_some_and(|chooser| (chooser.leads)() != chooser.led)
    }

    /// Notes the load balancer addresses of Services and Gateways: those that stand in their status, and, of the leader, those that it chooses.
    pub(super) fn hand_out(&mut self, objects: &[Arc<Object>], made: &mut Allocations) -> Vec<Fault> {
        let Some(chooser) = self.chooser.as_mut() else { return Vec::new() };
        let led = std::mem::replace(&mut chooser.led, (chooser.leads)());
        let leads = chooser.led;
        if !self.has_addresses() {
            return Vec::new();
        }
        let wanting = |object| Wanting::new(object, &IpFamily::BOTH, &mut Vec::new());
        let all: Vec<Wanting<'_>> =
            objects.iter().filter_map(wanting).filter(|it| it.gateway.is_some() || is_balanced(it.object)).collect();
        self.name(&all);
        let mut held = State::default();
        for wanting in &all {
            for ip in in_status(wanting.object).into_iter().filter(|ip| self.ranges.load_balancer.iter().any(|range| range.contains(ip))) {
                held.keep_chosen(&wanting.id, ip, wanting.gateway.is_none() && wanting.families.secondary() == Some(IpFamily::of(ip)));
            }
        }
        if led && leads {
            // What was chosen and is not in the watch yet.
            for wanting in &all {
                for (chosen, secondary) in [(&self.state.load_balancer, false), (&self.state.secondary_load_balancer, true)] {
                    if let Some(ip) = chosen.get(&wanting.id) {
                        held.keep_chosen(&wanting.id, *ip, secondary);
                    }
                }
            }
        }
        self.state = held;
        let mut refused = Refused::default();
        if leads {
            let mut next = State::default();
            self.load_balancers(&all, &mut next, &mut refused);
            next.missing = Missing::default();
            self.state = next;
        }
        for wanting in &all {
            let key = (wanting.object.key.namespace.clone(), wanting.object.key.name.clone());
            let both = [&self.state.load_balancer, &self.state.secondary_load_balancer];
            let has = both.into_iter().filter_map(|map| map.get(&wanting.id).copied()).collect();
            match wanting.gateway {
                Some(gateway) if AskedAddresses::of(gateway).open => _ = made.gateways.insert(key, has),
                Some(_) => {}
                None => _ = made.load_balancer.insert(key, has),
            }
        }
        refused.faults
    }

    /// Whether a change of these Services bears on load balancer addresses.
    pub(super) fn is_balanced_otherwise(&self, changed: &[(ObjectKey, Option<Arc<Object>>)]) -> bool {
        let bears = |(key, object): &(ObjectKey, Option<Arc<Object>>)| {
            self.state.load_balancer.contains_key(&id(key)) || object.as_ref().is_some_and(|object| is_balanced(object))
        };
        self.has_addresses() && changed.iter().any(bears)
    }
}

impl State {
    /// Keeps an address for a holder, unless that has another one of the kind or the address has another holder.
    fn keep_chosen(&mut self, id: &str, ip: IpAddr, secondary: bool) {
        let free = self.load_balancer.holder(ip).or_else(|| self.secondary_load_balancer.holder(ip)).is_none();
        let map = if secondary { &mut self.secondary_load_balancer } else { &mut self.load_balancer };
        if free && !map.contains_key(id) {
            map.insert(id.to_owned(), ip);
        }
    }
}

/// Whether a Service is to have a load balancer address from this gateway in a cluster. One that names no class is another's there.
pub fn is_balanced(object: &Object) -> bool {
    let Body::Service(service) = &object.body else { return false };
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.as_deref() == Some(LOAD_BALANCER_CLASS)
    })
}

/// The addresses that an object's status has.
fn in_status(object: &Object) -> Vec<IpAddr> {
    let tree = object.value.tree();
    let (list, field) = if object.key.kind == "Gateway" { ("/status/addresses", "value") } else { ("/status/loadBalancer/ingress", "ip") };
    let all = tree.pointer(list).and_then(|list| list.as_array()).into_iter().flatten();
    all.filter_map(|address| address.get(field)?.as_str()?.parse().ok()).collect()
}

/// Where Gateways are to be reached that listen on all addresses of each node: the addresses of the Nodes that take traffic from outside, external ones if there
/// are any.
pub fn everywhere<'o>(nodes: impl Iterator<Item = &'o Arc<Object>>) -> Vec<IpAddr> {
    let mut by_type: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
    for node in nodes {
        let Body::Node(node) = &node.body else { continue };
        let excluded = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
        if excluded || node.metadata.deletion_timestamp.is_some() {
            continue;
        }
        for address in node.status.iter().flat_map(|status| status.addresses.iter().flatten()) {
            if let Ok(ip) = address.address.parse() {
                by_type.entry(address.type_.as_str()).or_default().push(ip);
            }
        }
    }
    let mut found = by_type.remove("ExternalIP").or_else(|| by_type.remove("InternalIP")).unwrap_or_default();
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST_SHOWN);
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use sluicegate_config::{manifest, object};

    use super::super::{Ranges, Unread};
    use super::*;

    fn objects(text: &str) -> Vec<Arc<Object>> {
        let documents = manifest::parse(Path::new("test.yaml"), text).documents;
        documents.into_iter().map(|document| Arc::new(object::decode(document).0.expect("an object"))).collect()
    }

    fn service(name: &str, class: &str, held: &str) -> String {
        let status = if held.is_empty() { "{}".to_owned() } else { format!("{{ingress: [{{ip: {held}}}]}}") };
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, loadBalancerClass: {class}, clusterIP: 10.96.0.7, ports: [{{port: 80, nodePort: 31000}}]}}\nstatus: {{loadBalancer: {status}}}\n---\n"
        )
    }

    fn gateway(name: &str, held: &str) -> String {
        let status = if held.is_empty() { String::new() } else { format!("status: {{addresses: [{{value: {held}}}]}}\n") };
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec: {{gatewayClassName: sluicegate, listeners: [{{name: a, port: 80, protocol: HTTP}}]}}\n{status}---\n"
        )
    }

    fn has(allocator: &mut Allocator, text: &str) -> (Vec<String>, Vec<String>) {
        let (made, _) = allocator.allocate(&objects(text), &Unread::default());
        let shown = |map: &BTreeMap<(String, String), Vec<IpAddr>>| {
            let of = |(key, ips): (&(String, String), &Vec<IpAddr>)| ips.iter().map(|ip| format!("{} {ip}", key.1)).collect::<Vec<_>>();
            map.iter().flat_map(of).collect::<Vec<_>>()
        };
        (shown(&made.load_balancer), shown(&made.gateways))
    }

    #[test]
    fn the_leader_chooses_what_no_status_has_and_others_wait_for_it() {
        let leads = Arc::new(AtomicBool::new(false));
        let there = leads.clone();
        let ranges = Ranges { load_balancer: vec!["192.0.2.0/29".parse().expect("a range")], ..Ranges::default() };
        let mut allocator = Allocator::in_memory(ranges).as_given().chosen_by(Arc::new(move || there.load(Ordering::Relaxed)));
        let ours = LOAD_BALANCER_CLASS;
        // `c` holds the first address, and what is not of the pool is nothing that was given here.
        let text = [service("a", ours, ""), service("b", "other.example/x", "192.0.2.2"), service("c", ours, "192.0.2.1")].concat()
            + &gateway("edge", "203.0.113.9");
        let waiting = (vec!["c 192.0.2.1".to_owned()], Vec::new());
        assert_eq!(has(&mut allocator, &text), waiting);
        assert!(!allocator.is_stale());
        leads.store(true, Ordering::Relaxed);
        assert!(allocator.is_stale(), "it leads now");
        let chosen = has(&mut allocator, &text);
        assert_eq!(chosen.0, ["a 192.0.2.2", "c 192.0.2.1"]);
        assert_eq!(chosen.1, ["edge 192.0.2.3"]);
        assert!(!allocator.is_stale());
        // Another one comes, whose name is before theirs, and nothing is written yet.
        let more = service("a0", ours, "") + &gateway("a", "") + &text;
        let (services, gateways) = has(&mut allocator, &more);
        assert_eq!(services, ["a 192.0.2.2", "a0 192.0.2.4", "c 192.0.2.1"]);
        assert_eq!(gateways, ["a 192.0.2.5", "edge 192.0.2.3"]);
        // It does not lead any more: only what was written counts.
        leads.store(false, Ordering::Relaxed);
        assert_eq!(has(&mut allocator, &text), waiting);
    }

    #[test]
    fn clients_reach_the_nodes_that_take_traffic_from_outside() {
        let node = |name: &str, label: &str, kind: &str, ip: &str| {
            format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{label}}}}}\nstatus: {{addresses: [{{type: {kind}, address: {ip}}}, {{type: Hostname, address: {name}}}]}}\n---\n"
            )
        };
        let of = |text: &str| everywhere(objects(text).iter()).iter().map(ToString::to_string).collect::<Vec<_>>();
        let inside = node("b", "", "InternalIP", "10.0.0.2") + &node("a", "", "InternalIP", "10.0.0.1");
        assert_eq!(of(&inside), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(of(&(inside.clone() + &node("c", "", "ExternalIP", "198.51.100.1"))), ["198.51.100.1"]);
        assert_eq!(of(&(inside + &node("c", &format!("{EXCLUDED}: \"\""), "ExternalIP", "198.51.100.1"))), ["10.0.0.1", "10.0.0.2"]);
        assert!(of("").is_empty());
    }
}
