//! Which Service has which cluster IP and which load balancer address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use sluicegate_model::fault::Fault;
use sluicegate_model::object::error;

use super::{Allocator, State, Wanting};

impl Allocator {
    pub(super) fn cluster_ips(&self, services: &[Wanting<'_>], next: &mut State, faults: &mut Vec<Fault>) {
        let mut taken: BTreeSet<IpAddr> = next.cluster_ips.values().copied().collect();
        let wanting: Vec<&Wanting<'_>> =
            services.iter().filter(|service| service.type_() != "ExternalName" && given(service) != Some("None")).collect();
        let range = &self.ranges.cluster_ips;
        for service in &wanting {
            if let Some(held) = self.state.cluster_ips.get(&service.id).filter(|ip| range.contains(*ip))
                && taken.insert(*held)
            {
                next.cluster_ips.insert(service.id.clone(), *held);
            }
        }
        for service in &wanting {
            let Some(given) = given(service).filter(|ip| !ip.is_empty()) else { continue };
            let held = next.cluster_ips.get(&service.id);
            let what = match given.parse::<IpAddr>() {
                Err(_) => "must be a valid IP address".to_owned(),
                Ok(ip) if held == Some(&ip) => continue,
                // What it holds stays, as when an update is refused.
                Ok(_) if held.is_some() => "may not change once set".to_owned(),
                Ok(ip) if !range.contains(&ip) => {
                    format!(
                        "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
                    )
                }
                Ok(ip) if !taken.insert(ip) => format!("failed to allocate IP {ip}: provided IP is already allocated"),
                Ok(ip) => {
                    next.cluster_ips.insert(service.id.clone(), ip);
                    continue;
                }
            };
            let message = format!("Service {:?} is invalid: spec.clusterIPs: Invalid value: [{given:?}]: {what}", service.object.key.name);
            faults.push(error(&service.object.origin, &service.object.key, "spec.clusterIP", message, None));
        }
        let mut free = range.hosts();
        for service in wanting.iter().filter(|service| given(service).is_none_or(str::is_empty)) {
            if next.cluster_ips.contains_key(&service.id) {
                continue;
            }
            match free.find(|ip| taken.insert(*ip)) {
                Some(ip) => drop(next.cluster_ips.insert(service.id.clone(), ip)),
                None => full(service, "failed to allocate a serviceIP: range is full", faults),
            }
        }
    }

    pub(super) fn load_balancers(&self, services: &[Wanting<'_>], next: &mut State, faults: &mut Vec<Fault>) {
        let mut taken: BTreeSet<IpAddr> = next.load_balancer.values().copied().collect();
        let wanting: Vec<&Wanting<'_>> = services.iter().filter(|service| service.type_() == "LoadBalancer").collect();
        let ours = |ip: &IpAddr| self.ranges.load_balancer.iter().any(|net| net.contains(ip));
        let asked = |service: &Wanting<'_>| -> Option<IpAddr> {
            service.service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_deref()).and_then(|ip| ip.parse().ok())
        };
        for service in &wanting {
            let held = self.state.load_balancer.get(&service.id).copied().filter(ours);
            // `loadBalancerIP` may change, and then what was held is free.
            if let Some(ip) = held.filter(|held| asked(service).filter(ours).is_none_or(|asked| asked == *held))
                && taken.insert(ip)
            {
                next.load_balancer.insert(service.id.clone(), ip);
            }
        }
        for service in &wanting {
            let wanted = asked(service).filter(ours).filter(|_| !next.load_balancer.contains_key(&service.id));
            if let Some(ip) = wanted.filter(|ip| taken.insert(*ip)) {
                next.load_balancer.insert(service.id.clone(), ip);
            }
        }
        for service in &wanting {
            if next.load_balancer.contains_key(&service.id) || self.ranges.load_balancer.is_empty() {
                continue;
            }
            match self.ranges.load_balancer.iter().flat_map(IpNet::hosts).find(|ip| taken.insert(*ip)) {
                Some(ip) => drop(next.load_balancer.insert(service.id.clone(), ip)),
                None => full(service, "failed to allocate a load balancer address: all are taken", faults),
            }
        }
    }
}

fn given<'a>(service: &'a Wanting<'_>) -> Option<&'a str> {
    service.service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref())
}

fn full(service: &Wanting<'_>, message: &str, faults: &mut Vec<Fault>) {
    faults.push(error(&service.object.origin, &service.object.key, "spec", message.to_owned(), None));
}
