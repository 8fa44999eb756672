//! Joins EndpointSlices (KEP-752), which are read as kube-proxy reads them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use sluicegate_sdk::{Object, Objects, PublishedEndpoint, Service};

use crate::pods;
use crate::service::{Family, Spec, items, number};
use crate::trim;

/// The label that names a slice's Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The name of the Service that a slice belongs to.
pub(crate) fn service_name(slice: &Object) -> Option<&str> {
    slice.value["metadata"]["labels"][SERVICE_NAME].as_str()
}

/// Whether a slice belongs to the service.
pub(crate) fn is_of(service: &Service, slice: &Object) -> bool {
    slice.namespace == service.namespace && service_name(slice) == Some(&*service.name)
}

/// The endpoints of the service's slices. `None`: it has no slices. Slices of host names (`FQDN`) do not count. Those of headless Services do, other than for kube-proxy, as routes lead to these, too.
pub(crate) fn endpoints(spec: &Spec, service: &Service, objects: &Objects) -> Option<Vec<PublishedEndpoint>> {
    let mut joined = false;
    // The key is (port name, address, port): an endpoint may stand in two slices while it is moved from one to the other.
    let mut endpoints: BTreeMap<(String, IpAddr, u16), PublishedEndpoint> = BTreeMap::new();
    for slice in objects.labelled("EndpointSlice", &service.namespace, &[(SERVICE_NAME, &*service.name)]) {
        let slice = trim::said(&slice.value);
        let Some(family) = slice["addressType"].as_str().and_then(Family::named) else { continue };
        joined = true;
        if !spec.families.contains(&family) {
            continue;
        }
        for entry in items(&slice["endpoints"]) {
            // Only the first address counts: the API does not define what others mean.
            let address = entry["addresses"][0].as_str().and_then(|address| address.parse::<IpAddr>().ok());
            let Some(address) = address.filter(|address| Family::of(address) == family) else { continue };
            for port in items(&slice["ports"]) {
                let Some((name, number)) = service_port(spec, port) else { continue };
                let endpoint = endpoint(service, objects, entry, address, name, number);
                let key = (name.to_owned(), address, number);
                if endpoints.get(&key).is_none_or(|earlier| earlier.terminating && !endpoint.terminating) {
                    endpoints.insert(key, endpoint);
                }
            }
        }
    }
    joined.then(|| endpoints.into_values().collect())
}

/// The service port that a slice's port stands for, by name and protocol, and its number.
fn service_port<'a>(spec: &Spec, port: &'a Value) -> Option<(&'a str, u16)> {
    let name = port["name"].as_str().unwrap_or("");
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    spec.ports.iter().find(|of_service| of_service.name == name && of_service.protocol == protocol)?;
    Some((name, number(&port["port"])?))
}

fn endpoint(service: &Service, objects: &Objects, entry: &Value, address: IpAddr, port_name: &str, port: u16) -> PublishedEndpoint {
    let conditions = &entry["conditions"];
    // Weight, labels and annotations are not in the slice. They are taken from the pod, if that is known.
    let target = &entry["targetRef"];
    let pod = target["name"].as_str().filter(|_| target["kind"] == "Pod");
    let pod = pod.and_then(|name| objects.get("Pod", &service.namespace, name)).map(|pod| &pod.value);
    PublishedEndpoint {
        port_name: Some(port_name.to_owned()),
        ready: conditions["ready"].as_bool().unwrap_or(true),
        serving: conditions["serving"].as_bool().unwrap_or(true),
        terminating: conditions["terminating"].as_bool().unwrap_or(false),
        weight: pod.map_or(1, pods::weight),
        zone: text(&entry["zone"]),
        node: text(&entry["nodeName"]),
        hint_zones: names(&entry["hints"]["forZones"]),
        hint_nodes: names(&entry["hints"]["forNodes"]),
        labels: pod.map(pods::labels).unwrap_or_default(),
        annotations: pod.map(pods::annotations).unwrap_or_default(),
        ..PublishedEndpoint::new(address.to_string(), port)
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn names(list: &Value) -> Vec<String> {
    items(list).filter_map(|entry| text(&entry["name"])).collect()
}

#[cfg(test)]
#[path = "slices_tests.rs"]
mod tests;
