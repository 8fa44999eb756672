//! In a cluster an API server has allocated already: what its objects have is what counts, and nothing is given besides. Two gateways that gave out numbers of
//! their own would give different ones.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use sluicegate_config::family::ServiceFamilies;
use sluicegate_config::object::{Body, Object, ObjectKey, Service};
use sluicegate_config::plan::{Allocations, has_foreign_class};
use sluicegate_model::family::IpFamily;
use sluicegate_model::route::PortProtocol;

use super::Allocator;
use super::wanting::ports;

impl Allocator {
    /// The same allocator, which gives what the objects have and nothing else.
    #[must_use]
    pub fn as_given(self) -> Self {
        Self { given: true, ..self }
    }
}

/// Notes what a Service has.
pub(super) fn note(object: &Object, made: &mut Allocations) {
    let Body::Service(service) = &object.body else { return };
    let Some(spec) = &service.spec else { return };
    let id = (object.key.namespace.clone(), object.key.name.clone());
    let (families, _) = ServiceFamilies::resolve(spec, &[IpFamily::V4, IpFamily::V6]);
    made.families.insert(id.clone(), families);
    let parsed = |ip: &String| ip.parse::<IpAddr>().ok();
    let given = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none()));
    made.cluster_ips.insert(id.clone(), given.filter_map(parsed).collect());
    made.load_balancer.insert(id.clone(), balanced(service));
    let exposed = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    for port in ports(service).into_iter().filter(|_| exposed) {
        if let Some(number) = port.node_port.and_then(|number| u16::try_from(number).ok()) {
            made.node_ports.insert((id.0.clone(), id.1.clone(), port.port, port.protocol), number);
        }
    }
    if let Some(number) = spec.health_check_node_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0) {
        made.health_check_node_ports.insert(id, number);
    }
}

/// The addresses that its status has, if this gateway is its load balancer.
fn balanced(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    // One without a class is the cluster's own load balancer's.
    if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.is_none() || has_foreign_class(spec) {
        return Vec::new();
    }
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref());
    let ips: BTreeSet<IpAddr> = ingress.into_iter().flatten().filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect();
    ips.into_iter().collect()
}

/// Brings up to date what these Services have, of which some are gone.
pub(super) fn change(changed: &[(ObjectKey, Option<Arc<Object>>)], made: &mut Allocations) {
    for (key, object) in changed {
        forget(key, made);
        if let Some(object) = object {
            note(object, made);
        }
    }
}

/// Notes that a Service has nothing.
pub(super) fn forget(key: &ObjectKey, made: &mut Allocations) {
    let id = (key.namespace.clone(), key.name.clone());
    let first = (id.0.clone(), id.1.clone(), 0, PortProtocol::default());
    let ports = made.node_ports.range(first..).take_while(|(port, _)| (&port.0, &port.1) == (&id.0, &id.1));
    for port in ports.map(|(port, _)| port.clone()).collect::<Vec<_>>() {
        made.node_ports.remove(&port);
    }
    made.cluster_ips.remove(&id);
    made.load_balancer.remove(&id);
    made.families.remove(&id);
    made.health_check_node_ports.remove(&id);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sluicegate_config::plan::LOAD_BALANCER_CLASS;
    use sluicegate_config::{manifest, object};

    use super::super::{Ranges, Unread};
    use super::*;

    fn service(spec: &str) -> Arc<Object> {
        let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: shop}}\n{spec}");
        Arc::new(object::decode(manifest::parse(Path::new("s.yaml"), &text).documents.remove(0)).0.expect("an object"))
    }

    #[test]
    fn what_the_server_has_allocated_counts_and_nothing_is_invented() {
        let mut allocator = Allocator::in_memory(Ranges::default()).as_given();
        let given = service(
            "spec: {type: NodePort, clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, 'fd00::9'], ipFamilies: [IPv4, IPv6], ports: [{port: 80, nodePort: 30201}]}",
        );
        let (made, faults) = allocator.allocate(std::slice::from_ref(&given), &Unread::default());
        let id = ("shop".to_owned(), "s".to_owned());
        assert!(faults.is_empty() && !allocator.has_addresses());
        assert_eq!(made.node_ports.values().copied().collect::<Vec<_>>(), [30201]);
        assert_eq!(made.cluster_ips[&id].len(), 2);
        let mut changed = made.clone();
        // It lies outside of the range that this gateway would allocate from.
        let other = service("spec: {type: NodePort, clusterIP: 10.96.0.9, ports: [{port: 80, nodePort: 1024}]}");
        assert!(allocator.allocate_changed(&[(other.key.clone(), Some(other.clone()))], &Unread::default(), &mut changed));
        assert_eq!(changed.node_ports.values().copied().collect::<Vec<_>>(), [1024]);
        let bare = service("spec: {type: NodePort, ports: [{port: 80}]}");
        assert!(allocator.allocate_changed(&[(bare.key.clone(), Some(bare.clone()))], &Unread::default(), &mut changed));
        assert!(changed.node_ports.is_empty() && changed.cluster_ips[&id].is_empty());
        assert!(allocator.allocate_changed(&[(bare.key.clone(), None)], &Unread::default(), &mut changed));
        assert_eq!(changed, Allocations::default());
    }

    #[test]
    fn the_addresses_of_a_load_balancer_are_those_of_its_status_if_it_is_this_gateway() {
        let spec = |class: &str| {
            format!(
                "spec: {{type: LoadBalancer, loadBalancerClass: {class}, ports: [{{port: 80}}]}}\nstatus: {{loadBalancer: {{ingress: [{{ip: 192.0.2.7}}]}}}}"
            )
        };
        let mut made = Allocations::default();
        note(&service(&spec(LOAD_BALANCER_CLASS)), &mut made);
        assert_eq!(made.load_balancer.values().flatten().count(), 1);
        note(&service(&spec("example.com/other")), &mut made);
        assert_eq!(made.load_balancer.values().flatten().count(), 0);
    }
}
