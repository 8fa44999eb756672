//! Allocates for a few Services that have changed, while the others keep what they hold. The result is what all of them would be given, as long as these get
//! what they ask for, and have nothing to do with those who did not.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluicegate_config::object::{Object, ObjectKey};
use sluicegate_config::plan::Allocations;
use sluicegate_model::family::IpFamily;

use super::absent::Missing;
use super::{Allocator, Unread, Wanting, given};

impl Allocator {
    /// Allocates for these Services, of which some are gone, and brings `made` up to date. Returns false if all have to be looked at ([`Allocator::allocate`]);
    /// then nothing was changed.
    pub fn allocate_changed(&mut self, changed: &[(ObjectKey, Option<Arc<Object>>)], unread: &Unread, made: &mut Allocations) -> bool {
        if self.given {
            if self.is_balanced_otherwise(changed) {
                return false;
            }
            given::change(changed, made);
            return true;
        }
        let Some(disputing) = self.disputing.as_ref().filter(|_| unread.is_empty() && self.state.gone.is_empty()) else { return false };
        let ids: BTreeSet<String> = changed.iter().map(|(key, _)| super::wanting::id(key)).collect();
        if ids.iter().any(|id| disputing.contains(id)) {
            return false;
        }
        let configured: Vec<IpFamily> = self.ranges.cluster_ips.iter().map(|range| IpFamily::of(range.addr())).collect();
        let mut unconfigured = Vec::new();
        let objects = changed.iter().filter_map(|(_, object)| object.as_ref());
        let services: Vec<Wanting<'_>> = objects.filter_map(|object| Wanting::new(object, &configured, &mut unconfigured)).collect();
        if !unconfigured.is_empty() {
            return false;
        }
        // `self.state` is now what these Services hold, as if there were no others; what the others hold is taken.
        let mut others = std::mem::take(&mut self.state);
        self.state = others.take_out(&ids);
        let (mut next, refused) = self.attempt(&services, others);
        if !refused.faults.is_empty() || next.missing != Missing::default() {
            next.take_out(&ids);
            next.missing = Missing::default();
            next.put_in(std::mem::take(&mut self.state));
            self.state = next;
            return false;
        }
        self.announce(&services, &next);
        let now = next.take_out(&ids);
        for port in self.state.node_ports.keys().filter(|port| !now.node_ports.contains_key(*port)) {
            self.announced.remove(port);
        }
        self.keeping.changed(now.differences(&self.state));
        next.put_in(now);
        self.state = next;
        for (key, _) in changed {
            given::forget(key, made);
        }
        self.note(&services, made);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};
    use sluicegate_config::{manifest, object};

    use super::super::Ranges;
    use super::*;

    fn service(random: &mut StdRng, name: &str) -> Arc<Object> {
        let kind = ["ClusterIP", "NodePort", "NodePort", "LoadBalancer"][random.random_range(0..4)];
        let (mut ports, mut more) = (String::new(), String::new());
        for (i, port) in ["http", "more"].into_iter().enumerate().take(random.random_range(1..3)) {
            let number =
                if random.random_range(0..4) == 0 { format!(", nodePort: {}", 30000 + random.random_range(0..6)) } else { String::new() };
            ports.push_str(&format!("{{name: {port}, port: {}{number}}},", 80 + i));
        }
        if random.random_range(0..4) == 0 {
            more.push_str(&format!(", clusterIP: 127.96.0.{}", random.random_range(1..6)));
        }
        if kind == "LoadBalancer" && random.random_range(0..2) == 0 {
            more.push_str(", externalTrafficPolicy: Local");
        }
        let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: {kind}, ports: [{ports}]{more}}}\n");
        let parsed = manifest::parse(Path::new("test.yaml"), &text).documents.remove(0);
        Arc::new(object::decode(parsed).0.expect("an object"))
    }

    #[test]
    fn a_few_get_what_they_would_get_among_all() {
        let ranges = Ranges { load_balancer: vec!["192.0.2.0/30".parse().expect("a range")], ..Ranges::default() };
        let (mut quick, mut beside_faults) = (0, 0);
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut allocator = Allocator::in_memory(ranges.clone());
            let mut there: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
            let (mut made, mut told) = allocator.allocate(&[], &Unread::default());
            for step in 0..60 {
                let name = ["a", "b", "c", "d", "e"][random.random_range(0..5)];
                let made_now = service(&mut random, name);
                let key = made_now.key.clone();
                let object = (random.random_range(0..4) > 0).then_some(made_now);
                match &object {
                    Some(object) => drop(there.insert(key.clone(), object.clone())),
                    None => drop(there.remove(&key)),
                }
                let all: Vec<Arc<Object>> = there.values().cloned().collect();
                let mut among_all = Allocator { state: allocator.state.clone(), ..Allocator::in_memory(ranges.clone()) };
                let (expected, faults) = among_all.allocate(&all, &Unread::default());
                let held = made.clone();
                if allocator.allocate_changed(&[(key, object)], &Unread::default(), &mut made) {
                    quick += 1;
                    beside_faults += usize::from(!faults.is_empty());
                    assert_eq!(faults, told, "seed {seed}, step {step}: what others did not get is the same");
                } else {
                    assert_eq!(made, held, "seed {seed}, step {step}: nothing was changed");
                    (made, told) = allocator.allocate(&all, &Unread::default());
                }
                // New numbers are given at random.
                let ports = |of: &Allocations| of.node_ports.keys().cloned().collect::<Vec<_>>();
                assert_eq!(ports(&made), ports(&expected), "seed {seed}, step {step}");
                for (port, number) in held.node_ports.iter().filter(|(port, number)| expected.node_ports.get(*port) == Some(number)) {
                    assert_eq!(made.node_ports.get(port), Some(number), "seed {seed}, step {step}");
                }
                let but_ports = |of: &Allocations| Allocations {
                    node_ports: BTreeMap::new(),
                    health_check_node_ports: of.health_check_node_ports.keys().map(|id| (id.clone(), 0)).collect(),
                    ..of.clone()
                };
                assert_eq!(but_ports(&made), but_ports(&expected), "seed {seed}, step {step}");
                let numbers: BTreeSet<u16> = made.node_ports.values().copied().collect();
                assert_eq!(numbers.len(), made.node_ports.len(), "seed {seed}, step {step}: a number is given twice");
            }
        }
        assert!(quick > 200 && beside_faults > 30, "only {quick} steps were quick, {beside_faults} of them beside faults");
    }
}
