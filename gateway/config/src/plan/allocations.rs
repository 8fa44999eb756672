//! Ports and addresses that were allocated, as the plan receives them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sluicegate_model::route::PortProtocol;

use crate::family::ServiceFamilies;
use crate::object::ObjectKey;

/// Ports and addresses that were allocated for Services and Gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Node ports, by namespace, name, port and protocol.
    pub node_ports: BTreeMap<(String, String, u16, PortProtocol), u16>,
    /// Cluster IPs, by namespace and name: at most one of each IP family, the primary family's first.
    pub cluster_ips: BTreeMap<(String, String), Vec<IpAddr>>,
    /// Load balancer addresses, by namespace and name.
    pub load_balancer: BTreeMap<(String, String), Vec<IpAddr>>,
    /// IP families of Services, by namespace and name.
    pub families: BTreeMap<(String, String), ServiceFamilies>,
    /// Health check node ports, by namespace and name.
    pub health_check_node_ports: BTreeMap<(String, String), u16>,
    /// Addresses of Gateways that leave theirs open, by namespace and name. A Gateway that got none has an empty list. The map is empty where there are no
    /// addresses to give.
    pub gateways: BTreeMap<(String, String), Vec<IpAddr>>,
    /// Where Gateways are to be reached that listen on all addresses of each node; empty: at the addresses of this machine.
    pub everywhere: Vec<IpAddr>,
    /// Whether Services whose load balancer this gateway is are served on the nodes' own addresses, as there are no others to give.
    pub on_nodes: bool,
}

impl Allocations {
    /// The Services and Gateways whose allocations differ between `self` and `other`.
    pub fn differences(&self, other: &Self) -> BTreeSet<ObjectKey> {
        let mut all = BTreeSet::new();
        let of = |kind: &str, namespace: &str, name: &str| ObjectKey::new(kind, namespace, name);
        differ(&self.gateways, &other.gateways, |key| _ = all.insert(of("Gateway", &key.0, &key.1)));
        differ(&self.node_ports, &other.node_ports, |key| _ = all.insert(of("Service", &key.0, &key.1)));
        let mut note = |key: &(String, String)| _ = all.insert(of("Service", &key.0, &key.1));
        differ(&self.cluster_ips, &other.cluster_ips, &mut note);
        differ(&self.load_balancer, &other.load_balancer, &mut note);
        differ(&self.families, &other.families, &mut note);
        differ(&self.health_check_node_ports, &other.health_check_node_ports, &mut note);
        all
    }
}

/// Calls `note` with each key whose values in the two maps differ, or that only one map has.
fn differ<K: Ord, V: PartialEq>(a: &BTreeMap<K, V>, b: &BTreeMap<K, V>, mut note: impl FnMut(&K)) {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (None, None) => return,
            (Some((key, value)), Some((other, there))) if key == other => {
                if value != there {
                    note(key);
                }
                a.next();
                b.next();
            }
            (Some((key, _)), Some((other, _))) if key < other => {
                note(key);
                a.next();
            }
            (Some((key, _)), None) => {
                note(key);
                a.next();
            }
            (_, Some((other, _))) => {
                note(other);
                b.next();
            }
        }
    }
}
