//! The status of a Service whose load balancer is this gateway.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use serde_json::{Value, json};
use sluicegate_model::family::IpFamily;
use sluicegate_model::snapshot::At;

use crate::plan::{PlannedPort, PlannedService};

/// Makes the status: the addresses at which ports of the Service are served. `lost`: what of it another object has. `unbound`: what could not be listened on.
///
/// With `ipMode: Proxy` kube-proxy sends traffic to the address to the gateway, rather than taking it for its own (KEP-1860). An address at which some ports are
/// not served lists all of them, those with an error (`LoadBalancerIngress` of the API's reference); one at which none is served is left out.
pub(super) fn status(service: &PlannedService, lost: &BTreeSet<At>, unbound: &HashMap<At, String>) -> Value {
    let mut ingress = Vec::new();
    for ip in &service.balanced {
        let errors: Vec<Option<&str>> = service.ports.iter().map(|port| error(service, port, *ip, lost, unbound)).collect();
        if !errors.is_empty() && errors.iter().all(Option::is_some) {
            continue;
        }
        let mut shown = json!({"ip": ip.to_string(), "ipMode": "Proxy"});
        if errors.iter().any(Option::is_some) {
            let ports = service.ports.iter().zip(errors).map(|(port, error)| {
                let mut told = json!({"port": port.service.port, "protocol": port.protocol.to_string()});
                if let Some(error) = error {
                    told["error"] = error.into();
                }
                told
            });
            shown["ports"] = ports.collect();
        }
        ingress.push(shown);
    }
    json!({"loadBalancer": {"ingress": ingress}})
}

/// Why a port is not served at an address of the load balancer. Where the nodes' own addresses are shown, what this one listens on stands for all of its family.
fn error(
    service: &PlannedService,
    port: &PlannedPort,
    ip: IpAddr,
    lost: &BTreeSet<At>,
    unbound: &HashMap<At, String>,
) -> Option<&'static str> {
    if port.protocol.forwarded().is_none() {
        return Some("sluicegate.dev/ProtocolNotSupported");
    }
    let mut all = service.balanced_at(port).filter(|(_, at)| IpFamily::of(at.ip()) == IpFamily::of(ip));
    all.find_map(|at| match (lost.contains(&at), unbound.contains_key(&at)) {
        (true, _) => Some("sluicegate.dev/PortConflict"),
        (false, true) => Some("sluicegate.dev/PortUnavailable"),
        (false, false) => None,
    })
}
