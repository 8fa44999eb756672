//! Rules of single objects, with the API server's own texts (SERVICE-SEMANTICS §1, §2, §4, §9).

mod balancing;
mod connections;
mod endpoints;
mod forwarding;
mod health;
mod http2;
mod limits;
mod policies;
mod tls;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::fault::{Fault, Severity};
use crate::object::{Body, Object, error};

/// All faults of an object by itself. `known` are those found before: a field of these is not judged again, as something else may stand for it.
pub fn object(object: &Object, known: &[Fault]) -> Vec<Fault> {
    let mut faults = all(object);
    let judged = |fault: &Fault| known.iter().any(|known| known.severity == Severity::Error && known.place == fault.place);
    faults.retain(|fault| !judged(fault));
    faults
}

fn all(object: &Object) -> Vec<Fault> {
    let mut faults = Vec::new();
    match &object.body {
        Body::Service(service) => check_service(object, service, &mut faults),
        Body::Pod(_) | Body::EndpointSlice(_) => endpoints::check(object, &mut faults),
        Body::Gateway(gateway) => policies::gateway(object, gateway, &mut faults),
        Body::Secret(secret) => tls::secret(object, secret, &mut faults),
        Body::BackendTlsPolicy(policy) => tls::backend_tls_policy(object, policy, &mut faults),
        Body::Plugin(plugin) => policies::plugin(object, plugin, &mut faults),
        Body::BackendTrafficPolicy(policy) => {
            policies::targets(object, &policy.spec.target_refs, &["Service"], &mut faults);
            balancing::check(object, &policy.spec, &mut faults);
            health::check(object, &policy.spec, &mut faults);
            limits::backend(object, policy, &mut faults);
            connections::backend(object, policy, &mut faults);
            http2::backend(object, &policy.spec, &mut faults);
            tls::backend(object, policy.spec.tls.as_ref(), &mut faults);
        }
        Body::ClientTrafficPolicy(policy) => {
            policies::targets(object, &policy.spec.target_refs, &["Gateway", "Service"], &mut faults);
            limits::client(object, policy, &mut faults);
            connections::client(object, policy, &mut faults);
            forwarding::client(object, policy, &mut faults);
            http2::client(object, &policy.spec.http2, &mut faults);
            tls::client(object, policy.spec.tls.as_ref(), &mut faults);
        }
        Body::SluicegateConfiguration(configuration) => policies::configuration(object, configuration, &mut faults),
        _ => {}
    }
    faults
}

fn check_service(object: &Object, service: &Service, faults: &mut Vec<Fault>) {
    let name = &object.key.name;
    let mut invalid = |path: &str, what: String| {
        faults.push(error(&object.origin, &object.key, path, format!("Service {name:?} is invalid: {path}: {what}"), None));
    };
    let Some(spec) = &service.spec else {
        invalid("spec", "Required value".to_owned());
        return;
    };
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    if !["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"].contains(&kind) {
        invalid(
            "spec.type",
            format!("Unsupported value: {kind:?}: supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""),
        );
    }
    let headless = spec.cluster_ip.as_deref() == Some("None");
    if headless && matches!(kind, "NodePort" | "LoadBalancer") {
        invalid("spec.clusterIPs[0]", format!("Invalid value: \"None\": may not be set to 'None' for {kind} services"));
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !headless && kind != "ExternalName" {
        invalid("spec.ports", "Required value".to_owned());
    }
    for (i, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{i}].{field}");
        let range = |n: i32| format!("Invalid value: {n}: must be between 1 and 65535, inclusive");
        if !(1..=65535).contains(&port.port) {
            invalid(&at("port"), range(port.port));
        }
        if let Some(IntOrString::Int(target)) = port.target_port
            && !(1..=65535).contains(&target)
        {
            invalid(&at("targetPort"), range(target));
        }
        if let Some(IntOrString::String(target)) = &port.target_port {
            for wrong in wrong_port_name(target) {
                invalid(&at("targetPort"), format!("Invalid value: {target:?}: {wrong}"));
            }
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if !["TCP", "UDP", "SCTP"].contains(&protocol) {
            invalid(&at("protocol"), format!("Unsupported value: {protocol:?}: supported values: \"SCTP\", \"TCP\", \"UDP\""));
        }
        match &port.name {
            None if ports.len() > 1 => invalid(&at("name"), "Required value".to_owned()),
            Some(name) if ports[..i].iter().any(|p| p.name.as_ref() == Some(name)) => {
                invalid(&at("name"), format!("Duplicate value: {name:?}"))
            }
            Some(name) if !is_label(name) => invalid(
                &at("name"),
                format!(
                    "Invalid value: {name:?}: a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"
                ),
            ),
            _ => {}
        }
        if ports[..i].iter().any(|p| p.port == port.port && p.protocol.as_deref().unwrap_or("TCP") == protocol) {
            invalid(&format!("spec.ports[{i}]"), format!("Duplicate value: {{\"port\":{},\"protocol\":{protocol:?}}}", port.port));
        }
        if port.node_port.is_some_and(|n| n != 0) && matches!(kind, "ClusterIP" | "ExternalName") {
            invalid(&at("nodePort"), format!("Forbidden: may not be used when `type` is '{kind}'"));
        }
    }
    let mut one_of = |path: &str, value: Option<&str>, supported: &[&str]| {
        if let Some(value) = value.filter(|v| !supported.contains(v)) {
            let supported: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
            invalid(path, format!("Unsupported value: {value:?}: supported values: {}", supported.join(", ")));
        }
    };
    one_of("spec.sessionAffinity", spec.session_affinity.as_deref(), &["ClientIP", "None"]);
    one_of("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_deref(), &["Cluster", "Local"]);
    one_of("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref(), &["Cluster", "Local"]);
    one_of("spec.trafficDistribution", spec.traffic_distribution.as_deref(), &["PreferClose", "PreferSameNode", "PreferSameZone"]);
    one_of("spec.ipFamilyPolicy", spec.ip_family_policy.as_deref(), &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    for (i, family) in spec.ip_families.iter().flatten().enumerate() {
        one_of(&format!("spec.ipFamilies[{i}]"), Some(family), &["IPv4", "IPv6"]);
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if let Some(i) = (1..families.len()).find(|i| families[..*i].contains(&families[*i])) {
        invalid(&format!("spec.ipFamilies[{i}]"), format!("Duplicate value: {:?}", families[i]));
    }
    let addresses: Vec<IpAddr> = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
    if addresses.len() > 2 || (addresses.len() == 2 && addresses[0].is_ipv4() == addresses[1].is_ipv4()) {
        let given = spec.cluster_ips.as_deref().unwrap_or_default();
        invalid("spec.clusterIPs", format!("Invalid value: {given:?}: may specify no more than one IP for each IP family"));
    }
    if let (Some(first), Some(ip)) = (spec.cluster_ips.iter().flatten().next(), spec.cluster_ip.as_ref())
        && first != ip
    {
        invalid("spec.clusterIPs[0]", format!("Invalid value: {first:?}: first value must match `clusterIP`"));
    }
    let outside = matches!(kind, "NodePort" | "LoadBalancer") || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if let Some(policy) = spec.external_traffic_policy.as_ref().filter(|_| !outside) {
        invalid("spec.externalTrafficPolicy", format!("Invalid value: {policy:?}: may only be set for externally-accessible services"));
    }
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        match ip.parse::<IpAddr>() {
            Err(_) => invalid(
                &format!("spec.externalIPs[{i}]"),
                format!("Invalid value: {ip:?}: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ),
            Ok(ip) if ip.is_unspecified() => {
                invalid(&format!("spec.externalIPs[{i}]"), format!("Invalid value: \"{ip}\": may not be unspecified ({ip})"))
            }
            Ok(_) => {}
        }
    }
    service_load_balancer(service, kind, &mut invalid);
    if kind == "ExternalName" && spec.external_name.as_deref().unwrap_or_default().is_empty() {
        invalid("spec.externalName", "Required value".to_owned());
    }
    let timeout = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
    if let Some(seconds) = timeout.filter(|s| !(1..=86400).contains(s)) {
        invalid(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("Invalid value: {seconds}: must be greater than 0 and less than 86400"),
        );
    }
}

/// What only Services of type LoadBalancer may say.
fn service_load_balancer(service: &Service, kind: &str, invalid: &mut impl FnMut(&str, String)) {
    let spec = service.spec.as_ref();
    let not_a_cidr = |range: &str| {
        let wrong = range.trim().parse::<ipnet::IpNet>().is_err();
        wrong.then(|| format!("Invalid value: {range:?}: must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
    };
    let only = "Forbidden: may only be used when `type` is 'LoadBalancer'";
    let ranges = spec.and_then(|s| s.load_balancer_source_ranges.as_deref()).unwrap_or_default();
    for (i, range) in ranges.iter().enumerate() {
        if let Some(wrong) = not_a_cidr(range) {
            invalid(&format!("spec.loadBalancerSourceRanges[{i}]"), wrong);
        }
    }
    if !ranges.is_empty() {
        if kind != "LoadBalancer" {
            invalid("spec.loadBalancerSourceRanges", only.to_owned());
        }
    } else if let Some(annotation) = service.metadata.annotations.as_ref().and_then(|a| a.get(SOURCE_RANGES)) {
        let path = format!("metadata.annotations[{SOURCE_RANGES}]");
        if kind != "LoadBalancer" {
            invalid(&path, only.to_owned());
        }
        for wrong in annotation.split(',').filter(|range| !range.trim().is_empty()).filter_map(not_a_cidr) {
            invalid(&path, wrong);
        }
    }
    let port = spec.and_then(|s| s.health_check_node_port).unwrap_or(0);
    let local = spec.and_then(|s| s.external_traffic_policy.as_deref()) == Some("Local");
    if port < 0 {
        invalid("spec.healthCheckNodePort", format!("Invalid value: {port}: must be greater than or equal to 0"));
    }
    if port != 0 && !(kind == "LoadBalancer" && local) {
        let what = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        invalid("spec.healthCheckNodePort", format!("Invalid value: {port}: {what}"));
    }
}

/// The older way to say `loadBalancerSourceRanges`, a list with commas; the field counts before it.
pub const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// An RFC 1123 label: at most 63 letters, digits and hyphens.
fn is_label(name: &str) -> bool {
    let inner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    inner && !name.is_empty() && name.len() <= 63 && !name.starts_with('-') && !name.ends_with('-')
}

/// What is wrong with a port's name as a target (RFC 6335), in the API server's words.
fn wrong_port_name(name: &str) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    if name.len() > 15 {
        wrong.push("must be no more than 15 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen");
    }
    wrong
}
