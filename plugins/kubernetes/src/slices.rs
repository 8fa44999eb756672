//! Endpoints from EndpointSlices: the union of all slices of a Service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use sluicegate_sdk::{Object, PublishedEndpoint, Service};

use crate::{Port, text};

/// Joined by label. Slices of headless Services are not for proxies.
pub(crate) fn belongs(service: &Service, slice: &Object) -> bool {
    slice.namespace == service.namespace
        && text(&slice.value, "/metadata/labels/kubernetes.io~1service-name") == Some(&service.name)
        && slice.value.pointer("/metadata/labels/service.kubernetes.io~1headless").is_none()
}

pub(crate) fn endpoints(slices: &[&Object], ports: &[Port<'_>], (v4, v6): (bool, bool)) -> Vec<PublishedEndpoint> {
    let mut union: BTreeMap<(String, IpAddr, u16), PublishedEndpoint> = BTreeMap::new();
    for slice in slices.iter().map(|s| &s.value) {
        let wanted = match text(slice, "/addressType") {
            Some("IPv6") => v6,
            Some("IPv4") | None => v4,
            Some(_) => false,
        };
        if !wanted {
            continue;
        }
        for port in ports {
            let named = |p: &&Value| text(p, "/name").unwrap_or("") == port.name && text(p, "/protocol").unwrap_or("TCP") == port.protocol;
            let list = |pointer| slice.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
            let number = list("/ports").find(named).and_then(|p| p.get("port")?.as_u64());
            let Some(number) = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0) else { continue };
            for endpoint in list("/endpoints") {
                let Some(ip) = text(endpoint, "/addresses/0").and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
                let made = endpoint_of(endpoint, ip, number, port.name);
                let key = (port.name.to_owned(), ip, number);
                // A pod can stand in two slices while it moves: the entry that is not terminating counts.
                if union.get(&key).is_none_or(|known| known.terminating && !made.terminating) {
                    union.insert(key, made);
                }
            }
        }
    }
    union.into_values().collect()
}

fn endpoint_of(endpoint: &Value, ip: IpAddr, port: u16, port_name: &str) -> PublishedEndpoint {
    let condition = |name: &str, default| endpoint.pointer(&format!("/conditions/{name}")).and_then(Value::as_bool).unwrap_or(default);
    let hints = |pointer| {
        endpoint
            .pointer(pointer)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|h| text(h, "/name").map(str::to_owned))
            .collect()
    };
    PublishedEndpoint {
        port_name: Some(port_name.to_owned()),
        ready: condition("ready", true),
        serving: condition("serving", true),
        terminating: condition("terminating", false),
        zone: text(endpoint, "/zone").map(str::to_owned),
        node: text(endpoint, "/nodeName").map(str::to_owned),
        hint_zones: hints("/hints/forZones"),
        hint_nodes: hints("/hints/forNodes"),
        ..PublishedEndpoint::new(ip.to_string(), port)
    }
}
