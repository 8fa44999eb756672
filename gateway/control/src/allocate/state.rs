//! What is allocated to whom, as it is kept on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluicegate_model::family::IpFamily;

use super::Wanting;
use super::absent::{Missing, owner};
use super::holdings::Holdings;

/// The allocations: a row for each service port, and one for each Service. What a later release adds is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// Node ports, by `namespace/name:port/protocol`.
    pub(super) node_ports: BTreeMap<String, u16>,
    /// The names of these ports, by the same keys: a port that is renumbered and keeps its name keeps its node port.
    #[serde(default)]
    pub(super) port_names: BTreeMap<String, String>,
    /// Cluster IPs of the primary IP family, by the Services' `namespace/name`.
    pub(super) cluster_ips: Holdings,
    /// Cluster IPs of the other IP family of Services that have both.
    #[serde(default, skip_serializing_if = "nothing_held")]
    pub(super) secondary_cluster_ips: Holdings,
    /// Load balancer addresses, by the Services' `namespace/name` and by `Gateway/namespace/name`.
    pub(super) load_balancer: Holdings,
    #[serde(default, skip_serializing_if = "nothing_held")]
    pub(super) secondary_load_balancer: Holdings,
    #[serde(default)]
    pub(super) health_check_node_ports: BTreeMap<String, u16>,
    /// For each Service, the file that its object was in last.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// Services that are not there and keep what they hold, each with a number: the lower it is, the longer they have been gone.
    #[serde(default)]
    pub(super) gone: BTreeMap<String, u64>,
    /// The number of times that all of it was written, so that no two files are the same.
    #[serde(default)]
    pub(super) number: u64,
    /// What was missing while it was allocated.
    #[serde(skip)]
    pub(super) missing: Missing,
}

fn nothing_held(holdings: &Holdings) -> bool {
    holdings.is_empty()
}

impl State {
    /// The part of it that these Services and Gateways hold.
    pub(super) fn of(&self, ids: &BTreeSet<String>) -> Self {
        fn whole<V: Clone>(from: &BTreeMap<String, V>, ids: &BTreeSet<String>) -> BTreeMap<String, V> {
            ids.iter().filter_map(|id| Some((id.clone(), from.get(id)?.clone()))).collect()
        }
        fn ports<V: Clone>(from: &BTreeMap<String, V>, ids: &BTreeSet<String>) -> BTreeMap<String, V> {
            let of = |id: &String| {
                let prefix = format!("{id}:");
                let all = from.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix));
                all.map(|(key, value)| (key.clone(), value.clone()))
            };
            ids.iter().flat_map(of).collect()
        }
        Self {
            node_ports: ports(&self.node_ports, ids),
            port_names: ports(&self.port_names, ids),
            cluster_ips: whole(&self.cluster_ips, ids).into_iter().collect(),
            secondary_cluster_ips: whole(&self.secondary_cluster_ips, ids).into_iter().collect(),
            load_balancer: whole(&self.load_balancer, ids).into_iter().collect(),
            secondary_load_balancer: whole(&self.secondary_load_balancer, ids).into_iter().collect(),
            health_check_node_ports: whole(&self.health_check_node_ports, ids),
            files: whole(&self.files, ids),
            gone: whole(&self.gone, ids),
            number: 0,
            missing: Missing::default(),
        }
    }

    /// Takes out what these hold.
    pub(super) fn take_out(&mut self, ids: &BTreeSet<String>) -> Self {
        fn remove<V>(from: &mut BTreeMap<String, V>, these: &BTreeMap<String, V>) {
            these.keys().for_each(|key| _ = from.remove(key));
        }
        let taken = self.of(ids);
        remove(&mut self.node_ports, &taken.node_ports);
        remove(&mut self.port_names, &taken.port_names);
        remove(&mut self.health_check_node_ports, &taken.health_check_node_ports);
        remove(&mut self.files, &taken.files);
        remove(&mut self.gone, &taken.gone);
        for (from, these) in [
            (&mut self.cluster_ips, &taken.cluster_ips),
            (&mut self.secondary_cluster_ips, &taken.secondary_cluster_ips),
            (&mut self.load_balancer, &taken.load_balancer),
            (&mut self.secondary_load_balancer, &taken.secondary_load_balancer),
        ] {
            these.keys().for_each(|id| _ = from.remove(id));
        }
        taken
    }

    /// Puts in what others hold. It does not use `append`, which makes a tree anew.
    pub(super) fn put_in(&mut self, more: Self) {
        self.node_ports.extend(more.node_ports);
        self.port_names.extend(more.port_names);
        self.cluster_ips.extend(more.cluster_ips);
        self.secondary_cluster_ips.extend(more.secondary_cluster_ips);
        self.load_balancer.extend(more.load_balancer);
        self.secondary_load_balancer.extend(more.secondary_load_balancer);
        self.health_check_node_ports.extend(more.health_check_node_ports);
        self.files.extend(more.files);
        self.gone.extend(more.gone);
    }

    /// The holders whose allocations differ between the two.
    pub(super) fn differences(&self, other: &Self) -> BTreeSet<String> {
        fn differ<V: PartialEq>(a: &BTreeMap<String, V>, b: &BTreeMap<String, V>, ids: &mut BTreeSet<String>) {
            let others = a.iter().filter(|(key, value)| b.get(*key) != Some(value)).map(|(key, _)| key);
            let gone = b.keys().filter(|key| !a.contains_key(*key));
            ids.extend(others.chain(gone).map(|key| owner(key).to_owned()));
        }
        let mut ids = BTreeSet::new();
        differ(&self.node_ports, &other.node_ports, &mut ids);
        differ(&self.port_names, &other.port_names, &mut ids);
        differ(&self.cluster_ips, &other.cluster_ips, &mut ids);
        differ(&self.secondary_cluster_ips, &other.secondary_cluster_ips, &mut ids);
        differ(&self.load_balancer, &other.load_balancer, &mut ids);
        differ(&self.secondary_load_balancer, &other.secondary_load_balancer, &mut ids);
        differ(&self.health_check_node_ports, &other.health_check_node_ports, &mut ids);
        differ(&self.files, &other.files, &mut ids);
        differ(&self.gone, &other.gone, &mut ids);
        ids
    }
}

/// Addresses of both IP families, by `namespace/name`.
pub(super) struct Held {
    pub(super) primary: Holdings,
    pub(super) secondary: Holdings,
}

impl Held {
    /// The holder of an address.
    pub(super) fn holder(&self, ip: IpAddr) -> Option<&str> {
        self.secondary.holder(ip).or_else(|| self.primary.holder(ip))
    }

    pub(super) fn of(&self, id: &str, family: IpFamily) -> Option<IpAddr> {
        [&self.primary, &self.secondary].into_iter().filter_map(|map| map.get(id).copied()).find(|ip| IpFamily::of(*ip) == family)
    }

    pub(super) fn give(&mut self, service: &Wanting<'_>, ip: IpAddr) {
        let primary = service.families.secondary() != Some(IpFamily::of(ip));
        let map = if primary { &mut self.primary } else { &mut self.secondary };
        map.insert(service.id.clone(), ip);
    }
}
