//! Which Service has which node port for health checks (SERVICE-SEMANTICS §6): taken from the same numbers as node ports, whole, and kept as they are.

use sluicegate_model::fault::Fault;
use sluicegate_model::object::error;

use super::node_ports::{Taken, candidates};
use super::{Allocator, State, Wanting};

const PATH: &str = "spec.healthCheckNodePort";

impl Allocator {
    /// First those that are held, also by Services that cannot be read now.
    pub(super) fn held_health_checks(&self, services: &[Wanting<'_>], taken: &mut Taken, next: &mut State) {
        for (id, number) in &next.health_check_node_ports {
            taken.take_whole(*number, id);
        }
        for service in services.iter().filter(|service| wants_health_check(service)) {
            if let Some(number) = self.state.health_check_node_ports.get(&service.id).filter(|n| self.ranges.node_ports.contains(n))
                && taken.take_whole(*number, &service.id)
            {
                next.health_check_node_ports.insert(service.id.clone(), *number);
            }
        }
    }

    /// Then those that objects ask for. What is held does not change.
    pub(super) fn wanted_health_checks(&self, services: &[Wanting<'_>], taken: &mut Taken, next: &mut State, faults: &mut Vec<Fault>) {
        for (service, wanted) in services.iter().filter(|s| wants_health_check(s)).filter_map(|s| Some((s, asked(s)?))) {
            let range = &self.ranges.node_ports;
            let number = u16::try_from(wanted).ok().filter(|number| range.contains(number));
            let message = match (next.health_check_node_ports.get(&service.id), number) {
                (Some(held), _) if i32::from(*held) == wanted => continue,
                (Some(_), _) => {
                    format!("Service {:?} is invalid: {PATH}: Invalid value: {wanted}: field is immutable", service.object.key.name)
                }
                (None, Some(number)) if taken.take_whole(number, &service.id) => {
                    next.health_check_node_ports.insert(service.id.clone(), number);
                    continue;
                }
                (None, Some(_)) => {
                    format!("failed to allocate requested HealthCheck NodePort {wanted}: provided port is already allocated")
                }
                (None, None) => format!(
                    "failed to allocate requested HealthCheck NodePort {wanted}: provided port is not in the valid range. The range of valid ports is {}-{}",
                    range.start(),
                    range.end()
                ),
            };
            faults.push(error(&service.object.origin, &service.object.key, PATH, message, None));
        }
    }

    /// At last one for each that asks for none.
    pub(super) fn new_health_checks(&self, services: &[Wanting<'_>], taken: &mut Taken, next: &mut State, faults: &mut Vec<Fault>) {
        for service in services.iter().filter(|s| wants_health_check(s) && asked(s).is_none()) {
            if next.health_check_node_ports.contains_key(&service.id) {
                continue;
            }
            match candidates(&self.ranges.node_ports).find(|number| taken.take_whole(*number, &service.id)) {
                Some(number) => drop(next.health_check_node_ports.insert(service.id.clone(), number)),
                None => {
                    let message = "failed to allocate a HealthCheck NodePort: range is full".to_owned();
                    faults.push(error(&service.object.origin, &service.object.key, "spec", message, None));
                }
            }
        }
    }
}

fn wants_health_check(service: &Wanting<'_>) -> bool {
    let local = service.service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local");
    local && service.type_() == "LoadBalancer"
}

fn asked(service: &Wanting<'_>) -> Option<i32> {
    service.service.spec.as_ref().and_then(|spec| spec.health_check_node_port).filter(|port| *port != 0)
}
