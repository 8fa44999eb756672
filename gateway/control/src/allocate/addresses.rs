//! Allocates cluster IPs to Services, and load balancer addresses to Services and Gateways: at most one of each IP family.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use sluicegate_config::object::{error, warning};
use sluicegate_config::plan::{AskedAddresses, has_foreign_class};
use sluicegate_model::family::IpFamily;

use super::handed::is_balanced;
use super::wanting::shown;
use super::{Allocator, Held, Refused, State, Wanting};

/// A Service that is to have an address of one family.
struct Claim<'a, 'o> {
    service: &'a Wanting<'o>,
    asked: Option<IpAddr>,
}

/// What becomes of a Service that asks for an address that another one has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// The Service keeps the address that it holds, or gets none.
    Held,
    /// The Service gets another address.
    Any,
}

/// An address that a Service did not get.
enum Lacking<'a, 'o> {
    Taken { service: &'a Wanting<'o>, asked: IpAddr, by: String },
    OutOfRange { service: &'a Wanting<'o>, asked: IpAddr },
    Full { service: &'a Wanting<'o> },
}

/// Where addresses of one family come from.
struct Source<'a> {
    family: IpFamily,
    ranges: Vec<&'a IpNet>,
    otherwise: Otherwise,
    /// Addresses that are given only to those who ask for them or hold them.
    reserved: &'a BTreeSet<IpAddr>,
}

impl Source<'_> {
    fn has(&self, ip: &IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(ip))
    }

    /// Gives each claim its address. What objects ask for is given first, so it decides, and what was held before counts only where they leave it open. What
    /// others hold in `next` already stays theirs.
    fn settle<'a, 'o>(&self, claims: &[Claim<'a, 'o>], before: &Held, next: &mut Held) -> Vec<Lacking<'a, 'o>> {
        let mut missing = Vec::new();
        let held = |service: &Wanting<'_>| before.of(&service.id, self.family).filter(|ip| self.has(ip));
        let mut open: Vec<(&Claim<'a, 'o>, Otherwise)> = Vec::new();
        let mut asking: Vec<(&Claim<'a, 'o>, IpAddr)> = Vec::new();
        for claim in claims {
            match claim.asked {
                None => open.push((claim, Otherwise::Any)),
                Some(asked) if self.has(&asked) => asking.push((claim, asked)),
                Some(asked) => {
                    missing.push(Lacking::OutOfRange { service: claim.service, asked });
                    open.push((claim, Otherwise::Any));
                }
            }
        }
        // Of two that ask for one address, the one that has it keeps it.
        asking.sort_by_key(|(claim, asked)| before.of(&claim.service.id, self.family) != Some(*asked));
        for (claim, asked) in asking {
            if let Some(by) = next.holder(asked) {
                missing.push(Lacking::Taken { service: claim.service, asked, by: by.to_owned() });
                open.push((claim, self.otherwise));
            } else {
                next.give(claim.service, asked);
            }
        }
        let mut new = Vec::new();
        for (claim, otherwise) in open {
            match held(claim.service).filter(|ip| next.holder(*ip).is_none()) {
                Some(ip) => next.give(claim.service, ip),
                None if otherwise == Otherwise::Any => new.push(claim.service),
                None => {}
            }
        }
        // In IPv6 the first address of a network belongs to all its routers (RFC 4291 §2.6.1).
        let mut hosts = self
            .ranges
            .iter()
            .flat_map(|range| range.hosts().filter(|ip| ip.is_ipv4() || *ip != range.network() || range.prefix_len() == 128));
        for service in new {
            match hosts.find(|ip| next.holder(*ip).is_none() && !self.reserved.contains(ip)) {
                Some(ip) => next.give(service, ip),
                None => missing.push(Lacking::Full { service }),
            }
        }
        missing
    }
}

impl Allocator {
    pub(super) fn cluster_ips(&self, services: &[Wanting<'_>], next: &mut State, told: &mut Refused) {
        let wanting: Vec<&Wanting<'_>> = services.iter().filter(|service| wants_cluster_ips(service)).collect();
        for service in &wanting {
            for wrong in given(service).filter(|ip| !ip.is_empty() && ip.parse::<IpAddr>().is_err()) {
                invalid(service, wrong, "must be a valid IP address", None, told);
            }
            let nowhere = |ip: &IpAddr| !self.ranges.cluster_ips.iter().any(|range| IpFamily::of(range.addr()) == IpFamily::of(*ip));
            for ip in given(service).filter_map(|ip| ip.parse().ok()).filter(nowhere) {
                let ranges: Vec<String> = self.ranges.cluster_ips.iter().map(ToString::to_string).collect();
                foreign(service, ip, &ranges.join(", "), told);
            }
        }
        let before = Held { primary: self.state.cluster_ips.clone(), secondary: self.state.secondary_cluster_ips.clone() };
        let mut held = Held { primary: std::mem::take(&mut next.cluster_ips), secondary: std::mem::take(&mut next.secondary_cluster_ips) };
        for range in &self.ranges.cluster_ips {
            let family = IpFamily::of(range.addr());
            let claims = wanting.iter().filter(|service| service.families.list().contains(&family));
            let claims: Vec<_> = claims.map(|service| Claim { service, asked: asked(service, family) }).collect();
            let source = Source { family, ranges: vec![range], otherwise: Otherwise::Held, reserved: &BTreeSet::new() };
            for missing in source.settle(&claims, &before, &mut held) {
                match missing {
                    Lacking::Taken { service, asked, by } => {
                        let what = format!("failed to allocate IP {asked}: provided IP is already allocated");
                        invalid(service, &asked.to_string(), &what, Some(&by), told);
                    }
                    Lacking::OutOfRange { service, asked } => foreign(service, asked, &range.to_string(), told),
                    Lacking::Full { service } => {
                        next.missing.cluster_ips += 1;
                        full(service, "failed to allocate a serviceIP: range is full", told);
                    }
                }
            }
        }
        (next.cluster_ips, next.secondary_cluster_ips) = (held.primary, held.secondary);
    }

    pub(super) fn load_balancers(&self, services: &[Wanting<'_>], next: &mut State, told: &mut Refused) {
        let Some(first) = self.ranges.load_balancer.first() else { return };
        // If the Service is of another class, another implementation gives the address (KEP-1959).
        let ours = |service: &Wanting<'_>| {
            if self.given { is_balanced(service.object) } else { service.spec().is_none_or(|spec| !has_foreign_class(spec)) }
        };
        let balanced = |service: &Wanting<'_>| service.type_() == Some("LoadBalancer") && ours(service);
        let open = |wanting: &Wanting<'_>| wanting.gateway.is_some_and(|gateway| AskedAddresses::of(gateway).open);
        let wanting: Vec<&Wanting<'_>> = services.iter().filter(|wanting| balanced(wanting) || open(wanting)).collect();
        let asked = |service: &Wanting<'_>| -> Option<IpAddr> {
            let ip = service.spec().and_then(|spec| spec.load_balancer_ip.as_deref()).and_then(|ip| ip.parse().ok());
            // An address outside of the ranges is asked of somebody else.
            ip.filter(|ip| self.ranges.load_balancer.iter().any(|range| range.contains(ip)))
        };
        let before = Held { primary: self.state.load_balancer.clone(), secondary: self.state.secondary_load_balancer.clone() };
        let mut held =
            Held { primary: std::mem::take(&mut next.load_balancer), secondary: std::mem::take(&mut next.secondary_load_balancer) };
        for family in IpFamily::BOTH {
            let ranges: Vec<&IpNet> = self.ranges.load_balancer.iter().filter(|range| IpFamily::of(range.addr()) == family).collect();
            let wants = |service: &Wanting<'_>| match service.families.endpoints() {
                Some(_) => service.families.list().contains(&family),
                None => IpFamily::of(asked(service).unwrap_or_else(|| first.addr())) == family,
            };
            let claims = wanting.iter().filter(|service| wants(service) && !ranges.is_empty());
            let claims = claims.map(|service| Claim { service, asked: asked(service).filter(|ip| IpFamily::of(*ip) == family) });
            let claims: Vec<_> = claims.collect();
            let source = Source { family, ranges, otherwise: Otherwise::Any, reserved: &self.named };
            for missing in source.settle(&claims, &before, &mut held) {
                match missing {
                    Lacking::Taken { service, asked, by } => {
                        let path = "spec.loadBalancerIP";
                        let message = format!("{path}: {asked} is the load balancer address of {}: another one is given", shown(&by));
                        told.add(service, Some(&by), warning(&service.object.origin, &service.object.key, path, message, None));
                    }
                    // These were filtered out above.
                    Lacking::OutOfRange { .. } => {}
                    Lacking::Full { service } => {
                        next.missing.load_balancer += 1;
                        full(service, "failed to allocate a load balancer address: all are taken", told);
                    }
                }
            }
        }
        (next.load_balancer, next.secondary_load_balancer) = (held.primary, held.secondary);
    }
}

fn wants_cluster_ips(service: &Wanting<'_>) -> bool {
    service.type_().is_some_and(|kind| kind != "ExternalName") && given(service).next() != Some("None")
}

/// The addresses of `clusterIPs`, or that of `clusterIP`.
fn given<'a>(service: &Wanting<'a>) -> impl Iterator<Item = &'a str> {
    let spec = service.spec();
    let all = spec.and_then(|spec| spec.cluster_ips.as_deref()).unwrap_or_default();
    let one = spec.and_then(|spec| spec.cluster_ip.as_ref()).filter(|_| all.is_empty());
    all.iter().chain(one).map(String::as_str)
}

fn asked(service: &Wanting<'_>, family: IpFamily) -> Option<IpAddr> {
    given(service).filter_map(|ip| ip.parse().ok()).find(|ip| IpFamily::of(*ip) == family)
}

/// Tells of an address outside of the range. What `kubectl get -o yaml` prints has an address of its cluster, which means nothing here.
fn foreign(service: &Wanting<'_>, ip: IpAddr, range: &str, told: &mut Refused) {
    let message = format!("spec.clusterIP: {ip} is another cluster's: addresses come from {range}");
    let hint = Some("an address of that range, or none; externalIPs for an address of this machine".to_owned());
    told.add(service, None, warning(&service.object.origin, &service.object.key, "spec.clusterIP", message, hint));
}

fn invalid(service: &Wanting<'_>, given: &str, what: &str, by: Option<&str>, told: &mut Refused) {
    let message = format!("Service {:?} is invalid: spec.clusterIPs: Invalid value: [{given:?}]: {what}", service.object.key.name);
    let expected = by.map(|by| format!("it is a cluster IP of Service {by}"));
    told.add(service, by, error(&service.object.origin, &service.object.key, "spec.clusterIP", message, expected));
}

fn full(service: &Wanting<'_>, message: &str, told: &mut Refused) {
    told.add(service, None, error(&service.object.origin, &service.object.key, "spec", message.to_owned(), None));
}
