//! Whether what a plan listens on could be listened on by this process, on this machine, and whether its routes lead anywhere.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use ipnet::IpNet;
use sluicegate_config::object::Body;
use sluicegate_config::objects::Objects;
use sluicegate_config::plan::Plan;
use sluicegate_control::node_addresses::{node_addresses, wildcards};
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::{Snapshot, Target};
use sluicegate_proxy::try_listen;

/// How many addresses are tried; the others are taken for free.
const MOST: usize = 512;

/// Faults of rules whose backends are not service ports: all that match are answered 500.
pub(super) fn routes(snapshot: &Snapshot, plan: &Plan) -> Vec<Fault> {
    let (mut faults, mut seen) = (Vec::new(), HashSet::new());
    let planned: HashMap<_, _> = plan.routers.iter().map(|r| ((&r.listener, &r.plugin.config), r)).collect();
    let targets = snapshot.listeners.sorted().into_iter().flat_map(|(_, listener)| listener.front.targets());
    let bindings = targets.filter_map(|target| if let Target::Router(binding) = target { binding.ladder.first() } else { None });
    for rung in bindings {
        let written = planned.get(&(&rung.table.listener, &rung.table.config));
        for (rule, backend, why) in rung.rules.iter().enumerate().flat_map(|(rule, bound)| {
            bound.backends.iter().enumerate().filter_map(move |(backend, found)| Some((rule, backend, found.as_ref().err()?)))
        }) {
            let place = written.and_then(|router| {
                let at = router.plugin.place(&format!("rules[{rule}].backendRefs[{backend}]"));
                at.or_else(|| router.plugin.place(&format!("rules[{rule}]")))
            });
            let message = format!("{}: rule {rule}: {why}: what it takes is answered 500", rung.table.listener.name);
            let fault = Fault { severity: Severity::Warning, place, object: None, message, expected: None };
            if seen.insert(fault.clone()) {
                faults.push(fault);
            }
        }
    }
    faults
}

/// Faults of addresses that something else has, or that this process may not have. Node ports that are only allocated when the gateway runs are left out.
pub(super) fn addresses(objects: &Objects, plan: &Plan, nodeport_addresses: &[IpNet]) -> Vec<Fault> {
    let services = objects.of_kind("Service").filter_map(|object| match &object.body {
        Body::Service(service) => service.spec.as_ref()?.ports.as_deref(),
        _ => None,
    });
    let fixed: HashSet<i32> = services.flatten().filter_map(|port| port.node_port).collect();
    let ports = plan.services.values().flat_map(|service| &service.ports);
    let node_ports: HashSet<(Protocol, u16)> = ports.filter_map(|port| Some((port.protocol.forwarded()?, port.node_port?))).collect();
    // These are the addresses that `run` would have. That this machine lacks one is told elsewhere.
    let here = node_addresses(nodeport_addresses).ok().filter(|all| !all.is_empty()).unwrap_or_else(wildcards);
    let mut faults = Vec::new();
    for listener in plan.listeners.values().take(MOST) {
        let (protocol, address) = listener.at();
        // A plan that is checked has node ports on all addresses, and nothing else gets an address that one of them wants.
        let node_port = address.ip().is_unspecified() && node_ports.contains(&(protocol, address.port()));
        if node_port && !fixed.contains(&i32::from(address.port())) {
            continue;
        }
        let at: Vec<SocketAddr> = if node_port {
            let same = |ip: &&std::net::IpAddr| ip.is_ipv4() == address.is_ipv4();
            here.iter().filter(same).map(|ip| SocketAddr::new(*ip, address.port())).collect()
        } else {
            vec![address]
        };
        for address in at {
            let Err(error) = try_listen(protocol, address) else { continue };
            // A gateway that runs already has what it serves. A check of files that are to become its configuration must not tell of that.
            if error.is_held_by("sluicegate") {
                continue;
            }
            let protocol = if protocol == Protocol::Udp { "UDP " } else { "" };
            let message = format!("{}: cannot listen on {protocol}{address}: {error}", listener.name);
            faults.push(Fault { severity: Severity::Warning, place: None, object: None, message, expected: None });
        }
    }
    faults
}
