//! Services: the list of their ports, and one with its endpoints.

use serde_json::{Value, json};
use sluicegate_model::status::{PortStatus, ServiceStatus};

use super::super::sample::{Figures, Sample};
use super::{Memory, Sort, Viewed, falling, list};

type Found<'s> = (&'s ServiceStatus, &'s PortStatus, Figures);

pub(super) fn services(viewed: &Viewed, sample: &Sample) -> Value {
    let ports = sample.status.services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    let found = ports.filter(|(service, port)| {
        viewed.text.is_empty()
            || viewed.finds(&[&format!("{}/{}:{}", service.namespace, service.name, port.port), &port.balancer, &port.name])
    });
    let found = found.map(|(service, port)| (service, port, sample.port(&port.stats)));
    let mut found: Vec<Found<'_>> = found.filter(|(.., figures)| !viewed.troubled || figures.is_troubled()).collect();
    // The list is in the order of names already, and stays so where figures are equal.
    sort(viewed.sort, &mut found);
    list(viewed, found, sample.totals.service_ports, |(service, port, figures)| row(service, port, &figures))
}

fn sort(by: Sort, found: &mut [Found<'_>]) {
    match by {
        Sort::Name => {}
        Sort::Rate => found.sort_by(|a, b| falling(Some(a.2.rate), Some(b.2.rate))),
        Sort::Errors => found.sort_by(|a, b| falling(Some(a.2.errors), Some(b.2.errors))),
        Sort::Time => found.sort_by(|a, b| falling(a.2.p99, b.2.p99)),
        Sort::InFlight => found.sort_by_key(|found| std::cmp::Reverse(found.2.in_flight)),
    }
}

pub(super) fn row(service: &ServiceStatus, port: &PortStatus, figures: &Figures) -> Value {
    json!({
        "namespace": service.namespace, "name": service.name, "type": service.type_, "port": port.port, "portName": port.name,
        "protocol": port.protocol, "balancer": port.balancer, "figures": figures,
    })
}

/// A Service with its ports; the endpoints are those of one port, `namespace/name:port/protocol`.
pub(super) fn service(viewed: &Viewed, sample: &Sample, memory: &mut Memory) -> Value {
    let Some((name, (number, protocol))) = viewed.name.rsplit_once(':').and_then(|(name, port)| Some((name, port.split_once('/')?))) else {
        return Value::Null;
    };
    let Some((namespace, name)) = name.split_once('/') else { return Value::Null };
    let Some(service) = sample.status.services.get((namespace, name)) else { return Value::Null };
    let of = |port: &&PortStatus| port.port.to_string() == number && port.protocol.name() == protocol;
    let Some(port) = service.ports.iter().find(of) else { return Value::Null };
    let found = port.endpoints.iter().filter(|endpoint| {
        let (zone, node) = (endpoint.zone.as_deref().unwrap_or_default(), endpoint.node.as_deref().unwrap_or_default());
        viewed.finds(&[&endpoint.address.to_string(), endpoint.state().0, zone, node])
    });
    let mut found: Vec<_> = found.collect();
    if viewed.sort == Sort::InFlight {
        found.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.stats.in_flight()));
    }
    let mut shown = list(viewed, found, port.endpoints.len(), |endpoint| memory.endpoint(endpoint));
    let others: Vec<Value> = service.ports.iter().take(super::ROWS).map(|port| row(service, port, &sample.port(&port.stats))).collect();
    shown["service"] = row(service, port, &sample.port(&port.stats));
    shown["ports"] = others.into();
    shown["clusterIPs"] = json!(service.cluster_ips);
    shown["externalIPs"] = json!(service.external_ips);
    shown["nodePort"] = json!(port.node_port);
    shown["listeners"] = super::routes::straight(sample, namespace, name, port.port);
    shown
}
