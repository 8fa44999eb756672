//! Allocates health check node ports. They are taken from the numbers of node ports, whole, and kept likewise.

use sluicegate_config::object::error;

use super::node_ports::{Taken, candidates};
use super::{Allocator, Refused, State, Wanting};

pub(super) const PATH: &str = "spec.healthCheckNodePort";

impl Allocator {
    /// First gives numbers that objects ask for. Returns those that may not have theirs, with what they asked for, and the number if it is in the range.
    pub(super) fn asked_health_checks<'a, 'o>(
        &self,
        services: &'a [Wanting<'o>],
        taken: &mut Taken,
        next: &mut State,
    ) -> Vec<(&'a Wanting<'o>, i32, Option<u16>)> {
        let asking = services.iter().filter(|s| wants_health_check(s)).filter_map(|s| Some((s, asked(s)?)));
        let mut asking: Vec<(&Wanting<'o>, i32)> = asking.collect();
        asking.sort_by_key(|(s, wanted)| self.state.health_check_node_ports.get(&s.id).copied().map(i32::from) != Some(*wanted));
        let mut refused = Vec::new();
        for (service, wanted) in asking {
            let number = u16::try_from(wanted).ok().filter(|number| self.ranges.node_ports.contains(number));
            match number.filter(|number| taken.take_whole(*number, &service.id)) {
                Some(number) => drop(next.health_check_node_ports.insert(service.id.clone(), number)),
                None => refused.push((service, wanted, number)),
            }
        }
        refused
    }

    /// Then keeps the numbers that are held.
    pub(super) fn held_health_checks(&self, services: &[Wanting<'_>], taken: &mut Taken, next: &mut State) {
        for service in services.iter().filter(|service| wants_health_check(service)) {
            if let Some(number) = self.state.health_check_node_ports.get(&service.id).filter(|n| self.ranges.node_ports.contains(n))
                && !next.health_check_node_ports.contains_key(&service.id)
                && taken.take_whole(*number, &service.id)
            {
                next.health_check_node_ports.insert(service.id.clone(), *number);
            }
        }
    }

    /// At last gives a number to each Service that asks for none.
    pub(super) fn new_health_checks(&self, services: &[Wanting<'_>], taken: &mut Taken, next: &mut State, told: &mut Refused) {
        for service in services.iter().filter(|s| wants_health_check(s) && asked(s).is_none()) {
            if next.health_check_node_ports.contains_key(&service.id) {
                continue;
            }
            match candidates(&self.ranges.node_ports).find(|number| taken.take_whole(*number, &service.id)) {
                Some(number) => drop(next.health_check_node_ports.insert(service.id.clone(), number)),
                None => {
                    next.missing.node_ports += 1;
                    let message = "failed to allocate a HealthCheck NodePort: range is full".to_owned();
                    told.add(service, None, error(&service.object.origin, &service.object.key, "spec", message, None));
                }
            }
        }
    }
}

pub(super) fn wants_health_check(service: &Wanting<'_>) -> bool {
    let local = service.spec().and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local");
    local && service.type_() == Some("LoadBalancer")
}

fn asked(service: &Wanting<'_>) -> Option<i32> {
    service.spec().and_then(|spec| spec.health_check_node_port).filter(|port| *port != 0)
}
