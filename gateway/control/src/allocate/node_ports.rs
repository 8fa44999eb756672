//! Allocates node ports, for service ports and for health checks: all of them from one range of numbers.
//!
//! What objects ask for by number decides, whatever was held before, so that files that fit together come to what they say, from any state. What was held
//! counts where they leave it open, and between two that ask for one number.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rand::RngExt as _;
use sluicegate_config::object::error;
use sluicegate_model::route::PortProtocol;

use super::health_checks;
use super::wanting::Port;
use super::{Allocator, Refused, State, Wanting};

/// Which Service has which number, for which port and protocols. TCP and UDP share a number only inside one Service, with the same port.
#[derive(Default)]
pub(super) struct Taken(BTreeMap<u16, Owner>);

struct Owner {
    /// The id of the Service.
    id: String,
    /// The port; none: it is for health checks, or not known.
    port: Option<u16>,
    protocols: Vec<PortProtocol>,
    why: Why,
}

#[derive(Clone, Copy)]
enum Why {
    /// The Service is absent, as it cannot be read now.
    Absent,
    Port,
    HealthCheck,
}

impl Taken {
    /// Keeps a number for a Service that cannot be read now.
    fn keep(&mut self, number: u16, id: &str) {
        self.0.insert(number, Owner { id: id.to_owned(), port: None, protocols: Vec::new(), why: Why::Absent });
    }

    /// Takes a number for health checks alone.
    pub(super) fn take_whole(&mut self, number: u16, id: &str) -> bool {
        let free = !self.0.contains_key(&number);
        if free {
            self.0.insert(number, Owner { id: id.to_owned(), port: None, protocols: Vec::new(), why: Why::HealthCheck });
        }
        free
    }

    fn take(&mut self, number: u16, id: &str, port: &Port) -> bool {
        let new = || Owner { id: id.to_owned(), port: Some(port.port), protocols: Vec::new(), why: Why::Port };
        let owner = self.0.entry(number).or_insert_with(new);
        let free = owner.id == id && owner.port == Some(port.port) && !owner.protocols.contains(&port.protocol);
        if free {
            owner.protocols.push(port.protocol);
        }
        free
    }

    /// The id of the Service that has a number.
    pub(super) fn id(&self, number: u16) -> Option<&str> {
        self.0.get(&number).map(|owner| owner.id.as_str())
    }

    /// Which Service has a number, and where that is written.
    pub(super) fn holder(&self, number: u16, services: &[Wanting<'_>]) -> Option<String> {
        let owner = self.0.get(&number)?;
        let service = services.iter().find(|service| service.id == owner.id);
        let place = service.map(|service| {
            let port = service.ports.iter().find(|p| Some(p.port) == owner.port);
            let path = port.map_or_else(|| health_checks::PATH.to_owned(), |port| format!("spec.ports[{}].nodePort", port.index));
            let place = service.object.origin.place(&path);
            format!(" ({}:{})", place.file.display(), place.line)
        });
        let (id, place) = (&owner.id, place.unwrap_or_default());
        Some(match (owner.why, owner.port) {
            (Why::Absent, _) => format!("{number} belongs to Service {id}, which cannot be read now"),
            (Why::HealthCheck, _) => format!("{number} is the health check node port of Service {id}{place}"),
            (Why::Port, port) => format!("{number} is the node port of Service {id}, port {}{place}", port.unwrap_or_default()),
        })
    }
}

impl Allocator {
    pub(super) fn node_ports(&self, services: &[Wanting<'_>], next: &mut State, told: &mut Refused) {
        let mut taken = Taken::default();
        for (key, number) in next.node_ports.iter().chain(&next.health_check_node_ports) {
            taken.keep(*number, key.split(':').next().unwrap_or_default());
        }
        let wanting: Vec<(&Wanting<'_>, Vec<Option<u16>>)> =
            services.iter().filter(|service| wants_node_ports(service)).map(|service| (service, self.held(service))).collect();
        let ports =
            || wanting.iter().flat_map(|(service, held)| service.ports.iter().zip(held).map(move |(port, held)| (*service, port, *held)));
        let mut asking: Vec<(&Wanting<'_>, &Port, i32, Option<u16>)> =
            ports().filter_map(|(service, port, held)| Some((service, port, port.node_port?, held))).collect();
        asking.sort_by_key(|(_, _, wanted, held)| held.map(i32::from) != Some(*wanted));
        let mut refused = Vec::new();
        for (service, port, wanted, _) in asking {
            let number = u16::try_from(wanted).ok().filter(|number| self.ranges.node_ports.contains(number));
            match number.filter(|number| taken.take(*number, &service.id, port)) {
                Some(number) => drop(next.node_ports.insert(port.key(&service.id), number)),
                None => refused.push((service, port, wanted, number)),
            }
        }
        let refused_checks = self.asked_health_checks(services, &mut taken, next);
        // Of ports that leave it open, what was held is kept; and of those that are refused what they ask for, as when an update is refused.
        for (service, port, held) in ports() {
            let key = port.key(&service.id);
            if let Some(number) = held.filter(|number| self.ranges.node_ports.contains(number) && !next.node_ports.contains_key(&key))
                && taken.take(number, &service.id, port)
            {
                next.node_ports.insert(key, number);
            }
        }
        self.held_health_checks(services, &mut taken, next);
        for (service, port, wanted, number) in &refused {
            let path = format!("spec.ports[{}].nodePort", port.index);
            let what = self.refusal(*number);
            let message = format!("Service {:?} is invalid: {path}: Invalid value: {wanted}: {what}", service.object.key.name);
            let holder = number.and_then(|number| taken.holder(number, services));
            let by = number.and_then(|number| taken.id(number));
            told.add(service, by, error(&service.object.origin, &service.object.key, &path, message, holder));
        }
        for (service, wanted, number) in refused_checks {
            let message = format!("failed to allocate requested HealthCheck NodePort {wanted}: {}", self.refusal(number));
            let holder = number.and_then(|number| taken.holder(number, services));
            let by = number.and_then(|number| taken.id(number));
            told.add(service, by, error(&service.object.origin, &service.object.key, health_checks::PATH, message, holder));
        }
        self.new_health_checks(services, &mut taken, next, told);
        for (service, port, _) in ports() {
            let key = port.key(&service.id);
            // A port that asked for a number and may not have it gets no other.
            if port.node_port.is_none() && !next.node_ports.contains_key(&key) {
                self.give_any(service, port, &mut taken, next, told);
            }
            if next.node_ports.contains_key(&key) && !port.name.is_empty() {
                next.port_names.insert(key, port.name.clone());
            }
        }
    }

    /// The API server's message. None: the number is not in the range.
    fn refusal(&self, number: Option<u16>) -> String {
        let range = &self.ranges.node_ports;
        number.map_or_else(
            || format!("provided port is not in the valid range. The range of valid ports is {}-{}", range.start(), range.end()),
            |_| "provided port is already allocated".to_owned(),
        )
    }

    /// What each port of a Service held before. It is found by the port's name, as in the API server, and else by its number and protocol.
    fn held(&self, service: &Wanting<'_>) -> Vec<Option<u16>> {
        let prefix = format!("{}:", service.id);
        let mut before: Vec<(&String, u16)> =
            self.state.node_ports.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)).map(|(k, n)| (k, *n)).collect();
        let mut held = vec![None; service.ports.len()];
        let mut find = |fits: &dyn Fn(&Port, &String) -> bool| {
            for (port, held) in service.ports.iter().zip(&mut held).filter(|(_, held)| held.is_none()) {
                if let Some(at) = before.iter().position(|(key, _)| fits(port, key)) {
                    *held = Some(before.remove(at).1);
                }
            }
        };
        let name = |key: &String| self.state.port_names.get(key).map(String::as_str).unwrap_or_default();
        find(&|port, key| port.key(&service.id) == **key && name(key) == port.name);
        find(&|port, key| name(key) == port.name);
        find(&|port, key| port.key(&service.id) == **key);
        held
    }

    fn give_any(&self, service: &Wanting<'_>, port: &Port, taken: &mut Taken, next: &mut State, told: &mut Refused) {
        let key = port.key(&service.id);
        // TCP and UDP of one port get one number, as the API server does it.
        let siblings = service.ports.iter().filter(|p| p.port == port.port);
        let sibling = siblings.filter_map(|p| next.node_ports.get(&p.key(&service.id)).copied()).next();
        let number = sibling
            .filter(|n| taken.take(*n, &service.id, port))
            .or_else(|| candidates(&self.ranges.node_ports).find(|n| taken.take(*n, &service.id, port)));
        match number {
            Some(number) => drop(next.node_ports.insert(key, number)),
            None => {
                next.missing.node_ports += 1;
                let (path, message) = (format!("spec.ports[{}]", port.index), "failed to allocate a nodePort: range is full".to_owned());
                told.add(service, None, error(&service.object.origin, &service.object.key, &path, message, None));
            }
        }
    }
}

fn wants_node_ports(service: &Wanting<'_>) -> bool {
    let allocates = || service.spec().and_then(|spec| spec.allocate_load_balancer_node_ports).unwrap_or(true);
    match service.type_() {
        Some("NodePort") => true,
        Some("LoadBalancer") => allocates(),
        _ => false,
    }
}

/// The size of the static band: min(max(16, size/32), 128), and 0 for ranges of at most 16 (KEP-3668).
pub(super) fn static_band(size: u16) -> u16 {
    if size <= 16 { 0 } else { (size / 32).clamp(16, 128) }
}

/// All ports in the order in which they are tried: the dynamic band from a random place on and round, then the static band likewise.
pub(super) fn candidates(range: &RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let (start, size) = (*range.start(), (range.end() - range.start()).saturating_add(1));
    let band = static_band(size);
    let scan = |from: u16, count: u16| {
        let offset = if count == 0 { 0 } else { rand::rng().random_range(0..count) };
        (0..count).map(move |i| from + ((u32::from(offset) + u32::from(i)) % u32::from(count.max(1))) as u16)
    };
    scan(start + band, size - band).chain(scan(start, band))
}
