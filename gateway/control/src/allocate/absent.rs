//! What is held by Services that are not there now. If everything could be read, they were removed, and what they held is free. Else it is kept for those
//! that may only have become unreadable; and, as long as there is enough, for the others as well, as they may have moved to a file that cannot be read. If
//! there is not enough, or an object asks for the very number, it is used again, first that of the Services that have been gone longest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sluicegate_config::object::ObjectKey;

use super::{Allocator, State, Wanting};

/// What of the configuration could not be read, or only in part. Objects that are served in an older version are not missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Files that could not be read, and folders, which stand for all below them.
    pub files: BTreeSet<PathBuf>,
    /// Objects that are there and have a fault.
    pub objects: BTreeSet<ObjectKey>,
}

impl Unread {
    /// Whether everything could be read.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.objects.is_empty()
    }

    /// Whether objects of this file may be there nevertheless.
    pub fn covers(&self, file: &Path) -> bool {
        self.files.iter().any(|unread| file.starts_with(unread))
    }
}

/// What an attempt did not have enough of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) node_ports: usize,
    pub(super) cluster_ips: usize,
    pub(super) load_balancer: usize,
}

/// What absent Services hold, and in which order it is given to others.
pub(super) struct Absent {
    pub(super) held: State,
    /// The order: first Services that were most probably removed; among them, first those that have been gone longest.
    order: Vec<String>,
}

impl Allocator {
    pub(super) fn absent(&self, services: &[Wanting<'_>], unread: &Unread) -> Absent {
        let mut absent = Absent { held: State::default(), order: Vec::new() };
        if unread.is_empty() {
            return absent;
        }
        let there: BTreeSet<&str> = services.iter().map(|service| service.id.as_str()).collect();
        let named: BTreeSet<String> = unread.objects.iter().map(super::wanting::id).collect();
        let ids: BTreeSet<&str> = self.state.ids().filter(|id| !there.contains(id)).collect();
        let mut next = self.state.gone.values().max().map_or(0, |last| last + 1);
        let mut order = Vec::new();
        for id in ids {
            let since = self.state.gone.get(id).copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            absent.held.gone.insert(id.to_owned(), since);
            let file = self.state.files.get(id);
            let expected = named.contains(id) || file.is_none_or(|file| unread.covers(Path::new(file)));
            order.push((expected, since, id.to_owned()));
            absent.held.files.extend(file.map(|file| (id.to_owned(), file.clone())));
        }
        let gone: BTreeSet<String> = absent.held.gone.keys().cloned().collect();
        absent.held.keep(&self.state, |id| gone.contains(id));
        order.sort();
        let removed = order.iter().filter(|(expected, ..)| !expected).map(|(.., id)| id.as_str());
        absent.held.yield_to(services, &removed.collect());
        absent.order = order.into_iter().map(|(.., id)| id).collect();
        absent
    }
}

impl Absent {
    /// Frees some of what was missing, in the order. Returns false if there is nothing to free.
    pub(super) fn free(&mut self, missing: Missing) -> bool {
        let held = &mut self.held;
        let (mut ports, mut ips, mut load_balancer) = (missing.node_ports, missing.cluster_ips, missing.load_balancer);
        for id in &self.order {
            if ports > 0 {
                let before = held.node_ports.len() + held.health_check_node_ports.len();
                held.node_ports.retain(|key, _| owner(key) != id);
                held.port_names.retain(|key, _| owner(key) != id);
                held.health_check_node_ports.remove(id);
                ports = ports.saturating_sub(before - held.node_ports.len() - held.health_check_node_ports.len());
            }
            if ips > 0 {
                let freed = [held.cluster_ips.remove(id), held.secondary_cluster_ips.remove(id)];
                ips = ips.saturating_sub(freed.iter().flatten().count());
            }
            if load_balancer > 0 {
                let freed = [held.load_balancer.remove(id), held.secondary_load_balancer.remove(id)];
                load_balancer = load_balancer.saturating_sub(freed.iter().flatten().count());
            }
        }
        (ports, ips, load_balancer) != (missing.node_ports, missing.cluster_ips, missing.load_balancer)
    }
}

impl State {
    /// The ids of all that hold something.
    fn ids(&self) -> impl Iterator<Item = &str> {
        let ports = self.node_ports.keys().map(|key| owner(key));
        let whole = self.cluster_ips.keys().chain(self.secondary_cluster_ips.keys());
        let whole =
            whole.chain(self.load_balancer.keys()).chain(self.secondary_load_balancer.keys()).chain(self.health_check_node_ports.keys());
        ports.chain(whole.map(String::as_str))
    }

    /// Takes over what these hold.
    fn keep(&mut self, from: &Self, these: impl Fn(&str) -> bool) {
        fn some<V: Clone>(from: &BTreeMap<String, V>, these: impl Fn(&str) -> bool) -> BTreeMap<String, V> {
            from.iter().filter(|(key, _)| these(owner(key))).map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        self.node_ports = some(&from.node_ports, &these);
        self.port_names = some(&from.port_names, &these);
        self.cluster_ips = some(&from.cluster_ips, &these).into_iter().collect();
        self.secondary_cluster_ips = some(&from.secondary_cluster_ips, &these).into_iter().collect();
        self.load_balancer = some(&from.load_balancer, &these).into_iter().collect();
        self.secondary_load_balancer = some(&from.secondary_load_balancer, &these).into_iter().collect();
        self.health_check_node_ports = some(&from.health_check_node_ports, &these);
    }

    /// Gives up what Services that are there ask for by its number or address, if one of `removed` holds it.
    fn yield_to(&mut self, services: &[Wanting<'_>], removed: &BTreeSet<&str>) {
        let specs = || services.iter().filter_map(Wanting::spec);
        let ports: BTreeSet<i32> = services.iter().flat_map(|s| s.ports.iter().filter_map(|port| port.node_port)).collect();
        let checks = specs().filter_map(|spec| spec.health_check_node_port);
        let ports: BTreeSet<u16> = ports.into_iter().chain(checks).filter_map(|port| u16::try_from(port).ok()).collect();
        let addresses =
            specs().flat_map(|spec| spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten()).chain(&spec.load_balancer_ip));
        let addresses: BTreeSet<IpAddr> = addresses.filter_map(|ip| ip.parse().ok()).collect();
        self.node_ports.retain(|key, number| !(ports.contains(number) && removed.contains(owner(key))));
        self.health_check_node_ports.retain(|id, number| !(ports.contains(number) && removed.contains(id.as_str())));
        let held = [&mut self.cluster_ips, &mut self.secondary_cluster_ips, &mut self.load_balancer, &mut self.secondary_load_balancer];
        for map in held {
            map.retain(|id, ip| !(addresses.contains(&ip) && removed.contains(id)));
        }
        let node_ports = &self.node_ports;
        self.port_names.retain(|key, _| node_ports.contains_key(key));
    }
}

/// The Service that a service port's key names.
pub(super) fn owner(key: &str) -> &str {
    key.split(':').next().unwrap_or_default()
}
