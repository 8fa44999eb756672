//! Rules of EndpointSlices (Kubernetes 1.36, `ValidateEndpointSlice`), in the API server's words.

use std::collections::HashSet;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::field::{Fields, quoted};
use super::{metadata, names};

const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_TOPOLOGY_LABELS: usize = 16;
const MOST_HINTS: usize = 8;
const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn check(slice: &EndpointSlice, fields: &mut Fields<'_>) {
    let kind = slice.address_type.as_str();
    if kind.is_empty() {
        fields.required("addressType", "");
    } else if !TYPES.contains(&kind) {
        fields.unsupported("addressType", kind, &TYPES);
    }
    let endpoints = slice.endpoints.as_deref().unwrap_or_default();
    if endpoints.len() > MOST_ENDPOINTS {
        fields.too_many("endpoints", endpoints.len(), MOST_ENDPOINTS);
    } else {
        endpoints.iter().enumerate().for_each(|(i, given)| endpoint(i, given, kind, fields));
    }
    ports(slice.ports.as_deref().unwrap_or_default(), fields);
}

fn endpoint(i: usize, endpoint: &Endpoint, kind: &str, fields: &mut Fields<'_>) {
    let at = |field: &str| format!("endpoints[{i}].{field}");
    if endpoint.addresses.is_empty() {
        fields.required(&at("addresses"), "must contain at least 1 address");
    } else if endpoint.addresses.len() > MOST_ADDRESSES {
        fields.too_many(&at("addresses"), endpoint.addresses.len(), MOST_ADDRESSES);
    }
    for (j, text) in endpoint.addresses.iter().enumerate() {
        let path = format!("endpoints[{i}].addresses[{j}]");
        match kind {
            "IPv4" | "IPv6" => address(&path, text, kind, fields),
            "FQDN" if text.is_empty() => fields.required(&path, ""),
            "FQDN" => {
                if let Some((part, what)) = names::domain(text) {
                    fields.invalid(&path, quoted(&part), &what);
                }
            }
            _ => {}
        }
    }
    if let Some(node) = &endpoint.node_name {
        fields.invalid_text(&at("nodeName"), node, names::subdomain(node));
    }
    let topology = endpoint.deprecated_topology.iter().flatten();
    if topology.clone().count() > MOST_TOPOLOGY_LABELS {
        fields.too_many(&at("deprecatedTopology"), topology.clone().count(), MOST_TOPOLOGY_LABELS);
    }
    metadata::labels(&at("deprecatedTopology"), topology, fields);
    if let Some(name) = &endpoint.hostname {
        fields.invalid_text(&at("hostname"), name, names::label(name));
    }
    if let Some(hints) = &endpoint.hints {
        let zones: Vec<&str> = hints.for_zones.iter().flatten().map(|zone| zone.name.as_str()).collect();
        self::hints(&at("hints.forZones"), &zones, names::label_value, fields);
        let nodes: Vec<&str> = hints.for_nodes.iter().flatten().map(|node| node.name.as_str()).collect();
        self::hints(&at("hints.forNodes"), &nodes, names::subdomain, fields);
    }
}

/// Loopback addresses pass, which an API server refuses: a gateway by itself may have no others.
fn address(path: &str, text: &str, kind: &str, fields: &mut Fields<'_>) {
    match names::address(text) {
        Err(what) => fields.invalid(path, quoted(text), what),
        Ok(ip) => {
            if ip.is_ipv4() != (kind == "IPv4") {
                fields.invalid(path, quoted(text), &format!("must be an {kind} address"));
            }
            if !ip.is_loopback() {
                fields.invalid_text(path, text, names::special(ip, text));
            }
        }
    }
}

fn hints(path: &str, given: &[&str], wrong: fn(&str) -> Vec<String>, fields: &mut Fields<'_>) {
    if given.len() > MOST_HINTS {
        return fields.too_many(path, given.len(), MOST_HINTS);
    }
    for (i, name) in given.iter().enumerate() {
        let path = format!("{path}[{i}].name");
        if given[..i].contains(name) {
            fields.duplicate(&path, quoted(name));
        }
        fields.invalid_text(&path, name, wrong(name));
    }
}

fn ports(ports: &[EndpointPort], fields: &mut Fields<'_>) {
    if ports.len() > MOST_PORTS {
        return fields.too_many("ports", ports.len(), MOST_PORTS);
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("ports[{i}].{field}");
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            fields.invalid_text(&at("name"), name, names::label(name));
        }
        if !seen.insert(name) {
            fields.duplicate(&at("name"), quoted(name));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if !PROTOCOLS.contains(&protocol) {
            fields.unsupported(&at("protocol"), protocol, &PROTOCOLS);
        }
        if let Some(protocol) = &port.app_protocol {
            fields.invalid_text(&at("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}
