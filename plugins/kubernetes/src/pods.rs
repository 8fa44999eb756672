//! Endpoints from Pods, as the endpoint slice controller makes them.

use std::net::IpAddr;

use serde_json::Value;
use sluicegate_sdk::{Object, Objects, PublishedEndpoint, Service};

use crate::{Port, Target, text};

/// Every label of the selector is on the pod. A Service without a selector selects nothing.
pub(crate) fn selected(service: &Service, pod: &Object) -> bool {
    let Some(selector) = service.object.pointer("/spec/selector").and_then(Value::as_object).filter(|s| !s.is_empty()) else {
        return false;
    };
    let labels = pod.value.pointer("/metadata/labels");
    pod.namespace == service.namespace && selector.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

pub(crate) fn endpoints(service: &Service, objects: &Objects, ports: &[Port<'_>], (v4, v6): (bool, bool)) -> Vec<PublishedEndpoint> {
    let publish_not_ready = service.object.pointer("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true));
    let mut found = Vec::new();
    for pod in objects.of_kind("Pod").filter(|pod| selected(service, pod)) {
        let pod = &pod.value;
        if matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed")) {
            continue;
        }
        let serving = ready(pod);
        let terminating = pod.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null());
        let node = text(pod, "/spec/nodeName");
        let zone = node
            .and_then(|node| objects.of_kind("Node").find(|n| n.name == node))
            .and_then(|n| text(&n.value, "/metadata/labels/topology.kubernetes.io~1zone"));
        let weight =
            text(pod, "/metadata/annotations/sluicegate.dev~1weight").and_then(|w| w.parse().ok()).filter(|w| *w <= 1_000_000).unwrap_or(1);
        let labels = pod.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let labels: Vec<(String, String)> = labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
        for address in addresses(pod).into_iter().filter(|ip| if ip.is_ipv4() { v4 } else { v6 }) {
            for port in ports {
                let Some(number) = resolve(pod, port) else { continue };
                found.push(PublishedEndpoint {
                    port_name: Some(port.name.to_owned()),
                    ready: publish_not_ready || (serving && !terminating),
                    serving,
                    terminating,
                    weight,
                    zone: zone.map(str::to_owned),
                    node: node.map(str::to_owned),
                    labels: labels.clone(),
                    ..PublishedEndpoint::new(address.to_string(), number)
                });
            }
        }
    }
    found
}

/// Condition Ready. A manifest without any status of the pod's life says only where it is: standalone, that counts as ready.
fn ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    match conditions {
        None => text(pod, "/status/phase").is_none_or(|phase| phase == "Running"),
        Some(conditions) => conditions.iter().any(|c| text(c, "/type") == Some("Ready") && text(c, "/status") == Some("True")),
    }
}

/// `status.podIPs`, else `status.podIP`; the first of each family.
fn addresses(pod: &Value) -> Vec<IpAddr> {
    let all = pod.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten().filter_map(|ip| text(ip, "/ip"));
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in all.chain(text(pod, "/status/podIP")).filter_map(|ip| ip.parse::<IpAddr>().ok()) {
        if !addresses.iter().any(|known| known.is_ipv4() == ip.is_ipv4()) {
            addresses.push(ip);
        }
    }
    addresses
}

/// A named port is looked up in the pod's containers, then in its restartable init containers, by name and protocol.
fn resolve(pod: &Value, port: &Port<'_>) -> Option<u16> {
    let name = match port.target {
        Target::Number(number) => return Some(number),
        Target::Name(name) => name,
    };
    let list = |pointer| pod.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let restartable = list("/spec/initContainers").filter(|c| text(c, "/restartPolicy") == Some("Always"));
    let ports =
        list("/spec/containers").chain(restartable).flat_map(|c| c.pointer("/ports").and_then(Value::as_array).into_iter().flatten());
    let mut ports = ports.filter(|p| text(p, "/name") == Some(name) && text(p, "/protocol").unwrap_or("TCP") == port.protocol);
    ports.next()?.get("containerPort")?.as_u64().and_then(|n| u16::try_from(n).ok())
}
