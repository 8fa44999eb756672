//! Selects pods by the rules of the EndpointSlice controller.

use std::net::IpAddr;

use serde_json::Value;
use sluicegate_sdk::{Objects, PublishedEndpoint, Service};

use crate::service::{Family, Port, Spec, Target, items, number};

const WEIGHT: &str = "sluicegate.dev/weight";
const LARGEST_WEIGHT: u32 = 1_000_000;
/// The annotation in which kubectl notes what it applied.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The largest annotation, in bytes, that balancers are shown.
pub(crate) const LONGEST_ANNOTATION: usize = 4096;
const ZONE: &str = "topology.kubernetes.io/zone";

/// The endpoints that the service's pods provide.
pub(crate) fn endpoints(spec: &Spec, service: &Service, objects: &Objects) -> Vec<PublishedEndpoint> {
    let mut endpoints = Vec::new();
    let Some(selector) = spec.selector() else { return endpoints };
    for pod in objects.labelled("Pod", &service.namespace, &selector) {
        let pod = &pod.value;
        if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
            continue;
        }
        let addresses = addresses(pod, &spec.families);
        let serving = serving(pod);
        let terminating = !pod["metadata"]["deletionTimestamp"].is_null();
        let node = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty());
        let zone = node.and_then(|node| objects.get("Node", "", node)?.value["metadata"]["labels"][ZONE].as_str());
        for port in &spec.ports {
            let Some(number) = resolve(pod, port) else { continue };
            endpoints.extend(addresses.iter().map(|address| PublishedEndpoint {
                port_name: Some(port.name.clone()),
                ready: spec.publish_not_ready || (serving && !terminating),
                serving,
                terminating,
                weight: weight(pod),
                zone: zone.map(str::to_owned),
                node: node.map(str::to_owned),
                labels: labels(pod),
                annotations: annotations(pod),
                ..PublishedEndpoint::new(address.to_string(), number)
            }));
        }
    }
    endpoints
}

/// The addresses of a pod: the first of each of the service's IP families, as far as the pod has one. Each family has slices of its own (KEP-563).
fn addresses(pod: &Value, families: &[Family]) -> Vec<IpAddr> {
    let status = &pod["status"];
    let addresses: Vec<IpAddr> =
        items(&status["podIPs"]).map(|entry| &entry["ip"]).chain([&status["podIP"]]).filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    families.iter().filter_map(|family| addresses.iter().find(|address| Family::of(address) == *family)).copied().collect()
}

/// Whether a pod serves, by its condition Ready. A pod without conditions and phase was written by hand, in a folder where no kubelet fills them in, and
/// serves.
fn serving(pod: &Value) -> bool {
    let status = &pod["status"];
    let mut conditions = items(&status["conditions"]).peekable();
    if conditions.peek().is_none() && status["phase"].is_null() {
        return true;
    }
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The port of this pod that a service port leads to. `None`: no container has a port of that name and protocol.
fn resolve(pod: &Value, port: &Port) -> Option<u16> {
    let name = match &port.target {
        Target::Number(number) => return Some(*number),
        Target::Name(name) => name,
    };
    // Restartable init containers (sidecars) run beside the other containers.
    let sidecars = items(&pod["spec"]["initContainers"]).filter(|container| container["restartPolicy"] == "Always");
    items(&pod["spec"]["containers"])
        .chain(sidecars)
        .flat_map(|container| items(&container["ports"]))
        .find(|found| found["name"] == **name && found["protocol"].as_str().unwrap_or("TCP") == port.protocol)
        .and_then(|found| number(&found["containerPort"]))
}

/// The weight of a pod, by its annotation. It is 1 if there is none, or if that is no weight.
pub(crate) fn weight(pod: &Value) -> u32 {
    let annotation = pod["metadata"]["annotations"][WEIGHT].as_str();
    annotation.and_then(|text| text.parse().ok()).filter(|weight| *weight <= LARGEST_WEIGHT).unwrap_or(1)
}

/// The pod's labels, for balancers.
pub(crate) fn labels(pod: &Value) -> Vec<(String, String)> {
    pairs(&pod["metadata"]["labels"]).collect()
}

/// The pod's annotations, for balancers. Long ones are left out, and so is kubectl's, which contains the whole pod once more.
pub(crate) fn annotations(pod: &Value) -> Vec<(String, String)> {
    let kept = |(key, value): &(String, String)| key != LAST_APPLIED && value.len() <= LONGEST_ANNOTATION;
    pairs(&pod["metadata"]["annotations"]).filter(kept).collect()
}

fn pairs(of: &Value) -> impl Iterator<Item = (String, String)> {
    of.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
