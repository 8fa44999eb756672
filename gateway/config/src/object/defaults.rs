//! The defaults that an API server gives a Service and an EndpointSlice before it judges them, and the empty texts and zeros that mean "not set"
//! (`SetDefaults_Service`, `normalizeClusterIPs`, `SetDefaults_EndpointPort`). What may stay unset stays unset: whoever reads it knows the default.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Body;

/// Gives an object its defaults, if its kind has some.
pub(super) fn set(body: &mut Body) {
    match body {
        Body::Service(service) => self::service(service),
        Body::EndpointSlice(slice) => self::slice(slice),
        _ => {}
    }
}

fn service(service: &mut Service) {
    let Some(spec) = &mut service.spec else { return };
    let texts = [
        &mut spec.type_,
        &mut spec.session_affinity,
        &mut spec.external_traffic_policy,
        &mut spec.cluster_ip,
        &mut spec.external_name,
        &mut spec.load_balancer_ip,
    ];
    for text in texts {
        text.take_if(|text| text.is_empty());
    }
    for port in spec.ports.iter_mut().flatten() {
        port.name.take_if(|name| name.is_empty());
        port.protocol.take_if(|protocol| protocol.is_empty());
        port.node_port.take_if(|port| *port == 0);
        port.target_port.take_if(|target| match target {
            IntOrString::Int(number) => *number == 0,
            IntOrString::String(name) => name.is_empty(),
        });
    }
    spec.health_check_node_port.take_if(|port| *port == 0);
    spec.cluster_ips.take_if(|ips| ips.is_empty());
    if let (Some(ip), None) = (&spec.cluster_ip, &spec.cluster_ips) {
        spec.cluster_ips = Some(vec![ip.clone()]);
    }
    if spec.session_affinity.as_deref().unwrap_or("None") == "None" {
        spec.session_affinity_config = None;
    }
}

fn slice(slice: &mut EndpointSlice) {
    for port in slice.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
}
