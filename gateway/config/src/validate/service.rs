//! Rules of Services (Kubernetes 1.36, `ValidateService` and what its allocators say before), in the API server's order and words. The Service has its
//! defaults already. Left out is what an API server knows of other objects: the allocator of node ports and addresses says that.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::field::{Fields, quoted};
use super::{SOURCE_RANGES, metadata, names, service_addresses};

const NOT_A_PORT: &str = "must be between 1 and 65535, inclusive";
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn check(service: &Service, fields: &mut Fields<'_>) {
    let unset = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&unset);
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    if is_headless(spec) && matches!(kind, "NodePort" | "LoadBalancer") {
        fields.invalid("spec.clusterIPs[0]", "\"None\"", &format!("may not be set to 'None' for {kind} services"));
    }
    ports(spec, kind, fields);
    metadata::labels("spec.selector", spec.selector.iter().flatten(), fields);
    affinity(spec, fields);
    if kind == "ExternalName" {
        external_name(spec, fields);
    } else {
        service_addresses::cluster_ips(spec, fields);
    }
    service_addresses::external_ips(spec, fields);
    if !["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"].contains(&kind) {
        fields.unsupported("spec.type", kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    }
    load_balancer(service, spec, kind, fields);
    traffic(spec, kind, fields);
    topology(service, fields);
}

pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips.as_deref() == Some(&["None".to_owned()])
}

fn external_name(spec: &ServiceSpec, fields: &mut Fields<'_>) {
    let unwanted = "may not be set for ExternalName services";
    if spec.cluster_ips.is_some() {
        fields.forbidden("spec.clusterIPs", unwanted);
    }
    if spec.ip_families.as_ref().is_some_and(|families| !families.is_empty()) {
        fields.forbidden("spec.ipFamilies", unwanted);
    }
    if spec.ip_family_policy.is_some() {
        fields.forbidden("spec.ipFamilyPolicy", unwanted);
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    match name.strip_suffix('.').unwrap_or(name) {
        "" => fields.required("spec.externalName", ""),
        name => fields.invalid_text("spec.externalName", name, names::subdomain(name)),
    }
}

fn ports(spec: &ServiceSpec, kind: &str, fields: &mut Fields<'_>) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        fields.required("spec.ports", "");
    }
    for (i, given) in ports.iter().enumerate() {
        port(i, given, &ports[..i], ports.len() > 1, fields);
        if kind == "ClusterIP" && given.node_port.is_some() {
            fields.forbidden(&format!("spec.ports[{i}].nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    for (i, given) in ports.iter().enumerate() {
        if given.node_port.is_some() && ports[..i].iter().any(|p| p.node_port == given.node_port && protocol(p) == protocol(given)) {
            fields.duplicate(&format!("spec.ports[{i}].nodePort"), given.node_port.unwrap_or(0));
        }
        if ports[..i].iter().any(|p| p.port == given.port && protocol(p) == protocol(given)) {
            // What an API server shows is its internal type, with all that is not set.
            fields.duplicate(
                &format!("spec.ports[{i}]"),
                format_args!("{{\"port\":{},\"protocol\":{}}}", given.port, quoted(protocol(given))),
            );
        }
    }
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn port(i: usize, port: &ServicePort, before: &[ServicePort], named: bool, fields: &mut Fields<'_>) {
    let at = |field: &str| format!("spec.ports[{i}].{field}");
    match &port.name {
        None if named => fields.required(&at("name"), ""),
        None => {}
        Some(name) => {
            fields.invalid_text(&at("name"), name, names::label(name));
            if before.iter().any(|other| other.name.as_ref() == Some(name)) {
                fields.duplicate(&at("name"), quoted(name));
            }
        }
    }
    if !(1..=65535).contains(&port.port) {
        fields.invalid(&at("port"), port.port, NOT_A_PORT);
    }
    if !PROTOCOLS.contains(&protocol(port)) {
        fields.unsupported(&at("protocol"), protocol(port), &PROTOCOLS);
    }
    match &port.target_port {
        Some(IntOrString::Int(number)) if !(1..=65535).contains(number) => fields.invalid(&at("targetPort"), number, NOT_A_PORT),
        Some(IntOrString::String(name)) => fields.invalid_text(&at("targetPort"), name, names::port_name(name)),
        // By default it is the port, and as wrong.
        None if !(1..=65535).contains(&port.port) && port.port != 0 => fields.invalid(&at("targetPort"), port.port, NOT_A_PORT),
        _ => {}
    }
    if let Some(protocol) = &port.app_protocol {
        fields.invalid_text(&at("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

fn affinity(spec: &ServiceSpec, fields: &mut Fields<'_>) {
    let affinity = spec.session_affinity.as_deref().unwrap_or("None");
    if !["ClientIP", "None"].contains(&affinity) {
        fields.unsupported("spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    }
    let timeout = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
    if let Some(seconds) = timeout.filter(|s| affinity == "ClientIP" && !(1..=86400).contains(s)) {
        fields.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, "must be greater than 0 and less than 86400");
    }
}

/// What only Services of type LoadBalancer may say.
fn load_balancer(service: &Service, spec: &ServiceSpec, kind: &str, fields: &mut Fields<'_>) {
    let balanced = kind == "LoadBalancer";
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if !ranges.is_empty() {
        // The API server itself writes the field with a capital letter.
        if !balanced {
            fields.forbidden("spec.LoadBalancerSourceRanges", ONLY_LOAD_BALANCER);
        }
        for (i, range) in ranges.iter().enumerate() {
            let range = range.trim();
            fields.invalid_text(&format!("spec.LoadBalancerSourceRanges[{i}]"), range, names::cidr(range));
        }
    } else if let Some(annotation) = service.metadata.annotations.as_ref().and_then(|a| a.get(SOURCE_RANGES)) {
        let path = format!("metadata.annotations[{SOURCE_RANGES}]");
        if !balanced {
            fields.forbidden(&path, ONLY_LOAD_BALANCER);
        }
        if !annotation.trim().is_empty() {
            for range in annotation.split(',').map(str::trim) {
                fields.invalid_text(&path, range, names::cidr(range));
            }
        }
    }
    if spec.allocate_load_balancer_node_ports.is_some() && !balanced {
        fields.forbidden("spec.allocateLoadBalancerNodePorts", ONLY_LOAD_BALANCER);
    }
    if let Some(class) = &spec.load_balancer_class {
        if balanced {
            fields.invalid_text("spec.loadBalancerClass", class, names::qualified_name(class));
        } else {
            fields.forbidden("spec.loadBalancerClass", ONLY_LOAD_BALANCER);
        }
    }
}

fn traffic(spec: &ServiceSpec, kind: &str, fields: &mut Fields<'_>) {
    let external = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    let outside = matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external);
    let policy = spec.external_traffic_policy.as_deref();
    match policy {
        Some(policy) if !outside => {
            fields.invalid("spec.externalTrafficPolicy", quoted(policy), "may only be set for externally-accessible services");
        }
        Some(policy) if !["Cluster", "Local"].contains(&policy) => {
            fields.unsupported("spec.externalTrafficPolicy", policy, &["Cluster", "Local"]);
        }
        _ => {}
    }
    if let Some(port) = spec.health_check_node_port {
        if !(kind == "LoadBalancer" && policy == Some("Local")) {
            let rule = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            fields.invalid("spec.healthCheckNodePort", port, rule);
        } else if !(1..=65535).contains(&port) {
            fields.invalid("spec.healthCheckNodePort", port, NOT_A_PORT);
        }
    }
    if let Some(policy) = spec.internal_traffic_policy.as_deref().filter(|policy| !["Cluster", "Local"].contains(policy)) {
        fields.unsupported("spec.internalTrafficPolicy", policy, &["Cluster", "Local"]);
    }
    const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    if let Some(distribution) = spec.traffic_distribution.as_deref().filter(|distribution| !DISTRIBUTIONS.contains(distribution)) {
        fields.unsupported("spec.trafficDistribution", distribution, &DISTRIBUTIONS);
    }
}

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

fn topology(service: &Service, fields: &mut Fields<'_>) {
    let annotation = |name: &str| service.metadata.annotations.as_ref().and_then(|a| a.get(name));
    if let (Some(mode), Some(hints)) = (annotation(TOPOLOGY_MODE), annotation(TOPOLOGY_HINTS))
        && mode != hints
    {
        let rule = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        fields.invalid(&format!("metadata.annotations[{TOPOLOGY_MODE}]"), quoted(mode), &rule);
    }
}

/// What an API server warns of (`GetWarningsForService`): the field, and the words.
pub(super) fn warnings(service: &Service) -> Vec<(String, String)> {
    let unset = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&unset);
    let mut warnings: Vec<(String, String)> = Vec::new();
    let mut warn = |path: &str, words: String| warnings.push((path.to_owned(), words));
    if service.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(TOPOLOGY_HINTS)) {
        let path = format!("metadata.annotations[{TOPOLOGY_HINTS}]");
        warn(&path, format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let headless = kind == "ClusterIP" && spec.cluster_ip.as_deref() == Some("None");
    let external_ips = spec.external_ips.as_deref().unwrap_or_default();
    if headless {
        if spec.load_balancer_ip.is_some() {
            warn("spec.loadBalancerIP", "spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !external_ips.is_empty() {
            warn("spec.externalIPs", "spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.session_affinity.as_deref().unwrap_or("None") != "None" {
            warn("spec.sessionAffinity", "spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    for (field, ips) in [("clusterIPs", spec.cluster_ips.as_deref().unwrap_or_default()), ("externalIPs", external_ips)] {
        for (i, ip) in ips.iter().enumerate() {
            let path = format!("spec.{field}[{i}]");
            warn_of(&path, names::not_canonical(&path, ip), &mut warn);
        }
    }
    if let Some(ip) = &spec.load_balancer_ip {
        warn_of("spec.loadBalancerIP", names::not_canonical("spec.loadBalancerIP", ip), &mut warn);
    }
    if kind == "ExternalName" {
        if !external_ips.is_empty() {
            warn("spec.externalIPs", "spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
        }
    } else if spec.external_name.is_some() {
        warn("spec.externalName", "spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    } else if !external_ips.is_empty() && !headless {
        warn("spec.externalIPs", "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        let words = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
        warn("spec.trafficDistribution", words.to_owned());
    }
    warnings
}

fn warn_of(path: &str, words: Option<String>, warn: &mut impl FnMut(&str, String)) {
    if let Some(words) = words {
        warn(path, words);
    }
}
