//! Which service port has which node port (SERVICE-SEMANTICS §2).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rand::RngExt as _;
use sluicegate_model::fault::Fault;
use sluicegate_model::object::error;

use super::{Allocator, Port, State, Wanting};

/// By number: which Service has it, for which port, with which protocols. TCP and UDP share one only inside one Service with the same port.
#[derive(Default)]
pub(super) struct Taken(BTreeMap<u16, (String, u16, Vec<String>)>);

impl Taken {
    /// A number for one thing alone, which is no port of a Service.
    pub(super) fn take_whole(&mut self, number: u16, id: &str) -> bool {
        let free = !self.0.contains_key(&number);
        if free {
            self.0.insert(number, (id.to_owned(), 0, vec![String::new()]));
        }
        free
    }

    fn take(&mut self, number: u16, id: &str, port: &Port) -> bool {
        let owner = self.0.entry(number).or_insert_with(|| (id.to_owned(), port.port, Vec::new()));
        let free = owner.0 == id && owner.1 == port.port && !owner.2.contains(&port.protocol);
        if free {
            owner.2.push(port.protocol.clone());
        }
        free
    }

    fn release(&mut self, number: u16, port: &Port) {
        if let Some(owner) = self.0.get_mut(&number) {
            owner.2.retain(|protocol| *protocol != port.protocol);
            if owner.2.is_empty() {
                self.0.remove(&number);
            }
        }
    }
}

impl Allocator {
    pub(super) fn node_ports(&self, services: &[Wanting<'_>], next: &mut State, faults: &mut Vec<Fault>) {
        let mut taken = Taken::default();
        for (key, number) in &next.node_ports {
            // Of Services that could not be read: nobody else's.
            taken.0.insert(*number, (key.split(':').next().unwrap_or_default().to_owned(), 0, vec![String::new()]));
        }
        self.held_health_checks(services, &mut taken, next);
        let wanting: Vec<&Wanting<'_>> = services.iter().filter(|service| wants_node_ports(service)).collect();
        for service in &wanting {
            for (port, number) in service.ports.iter().zip(self.held(service)) {
                if let Some(number) = number.filter(|n| self.ranges.node_ports.contains(n))
                    && taken.take(number, &service.id, port)
                {
                    next.node_ports.insert(port.key(&service.id), number);
                }
            }
        }
        // One that moves frees its number for another, so the order of names does not decide.
        let mut fixed: Vec<(&Wanting<'_>, &Port, i32)> =
            wanting.iter().flat_map(|service| service.ports.iter().filter_map(|port| Some((*service, port, port.node_port?)))).collect();
        loop {
            let left = fixed.len();
            fixed.retain(|(service, port, wanted)| !self.give(service, port, *wanted, &mut taken, next));
            if fixed.len() == left {
                break;
            }
        }
        for (service, port, wanted) in &fixed {
            let path = format!("spec.ports[{}].nodePort", port.index);
            let range = &self.ranges.node_ports;
            let what = if u16::try_from(*wanted).is_ok_and(|number| range.contains(&number)) {
                "provided port is already allocated".to_owned()
            } else {
                format!("provided port is not in the valid range. The range of valid ports is {}-{}", range.start(), range.end())
            };
            let message = format!("Service {:?} is invalid: {path}: Invalid value: {wanted}: {what}", service.object.key.name);
            faults.push(error(&service.object.origin, &service.object.key, &path, message, None));
        }
        self.wanted_health_checks(services, &mut taken, next, faults);
        self.new_health_checks(services, &mut taken, next, faults);
        for service in &wanting {
            for port in &service.ports {
                let key = port.key(&service.id);
                // Who asked for a number and may not have it gets no other; what it held before stays, as when an update is refused.
                if port.node_port.is_none() && !next.node_ports.contains_key(&key) {
                    self.give_any(service, port, &mut taken, next, faults);
                }
                if next.node_ports.contains_key(&key) && !port.name.is_empty() {
                    next.port_names.insert(key, port.name.clone());
                }
            }
        }
    }

    /// What each port of a Service held before: found by the port's name, as the API server does it, and else by its number and protocol.
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

    /// Gives a port the number that its object asks for, if it is free.
    fn give(&self, service: &Wanting<'_>, port: &Port, wanted: i32, taken: &mut Taken, next: &mut State) -> bool {
        let Some(number) = u16::try_from(wanted).ok().filter(|n| self.ranges.node_ports.contains(n)) else { return false };
        let key = port.key(&service.id);
        let held = next.node_ports.get(&key).copied();
        if held == Some(number) {
            return true;
        }
        if !taken.take(number, &service.id, port) {
            return false;
        }
        if let Some(held) = held {
            taken.release(held, port);
        }
        next.node_ports.insert(key, number);
        true
    }

    fn give_any(&self, service: &Wanting<'_>, port: &Port, taken: &mut Taken, next: &mut State, faults: &mut Vec<Fault>) {
        let key = port.key(&service.id);
        // TCP and UDP of one port get one number, as the API server gives them.
        let siblings = service.ports.iter().filter(|p| p.port == port.port);
        let sibling = siblings.filter_map(|p| next.node_ports.get(&p.key(&service.id)).copied()).next();
        let number = sibling
            .filter(|n| taken.take(*n, &service.id, port))
            .or_else(|| candidates(&self.ranges.node_ports).find(|n| taken.take(*n, &service.id, port)));
        match number {
            Some(number) => drop(next.node_ports.insert(key, number)),
            None => {
                let (path, message) = (format!("spec.ports[{}]", port.index), "failed to allocate a nodePort: range is full".to_owned());
                faults.push(error(&service.object.origin, &service.object.key, &path, message, None));
            }
        }
    }
}

fn wants_node_ports(service: &Wanting<'_>) -> bool {
    let allocates = || service.service.spec.as_ref().and_then(|spec| spec.allocate_load_balancer_node_ports).unwrap_or(true);
    match service.type_() {
        "NodePort" => true,
        "LoadBalancer" => allocates(),
        _ => false,
    }
}

/// The size of the static band: min(max(16, size/32), 128), and 0 for ranges of at most 16 (KEP-3668).
pub(super) fn static_band(size: u16) -> u16 {
    if size <= 16 { 0 } else { (size / 32).clamp(16, 128) }
}

/// All ports in the order they are tried: the dynamic band from a random place, with wrap, then the static band likewise.
pub(super) fn candidates(range: &RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let (start, size) = (*range.start(), (range.end() - range.start()).saturating_add(1));
    let band = static_band(size);
    let scan = |from: u16, count: u16| {
        let offset = if count == 0 { 0 } else { rand::rng().random_range(0..count) };
        (0..count).map(move |i| from + ((u32::from(offset) + u32::from(i)) % u32::from(count.max(1))) as u16)
    };
    scan(start + band, size - band).chain(scan(start, band))
}
