//! The Service that stands for a Gateway (GEP-1762). It has the Gateway's addresses and ports, and the labels and annotations of its `spec.infrastructure`
//! (GEP-1867), so that tools that know Services find the Gateway. It forwards nothing: the Gateway's own listeners serve.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};
use sluicegate_model::plugin::hash_bytes;

use crate::object::{Body, ObjectKey};
use crate::plan::{GROUP, GatewayListener, ListenerProtocol, PlannedGateway, RouteKind, created};

/// The labels by which the Service is found. Their values are set here, whatever `spec.infrastructure` says.
const NAME: &str = "gateway.networking.k8s.io/gateway-name";
const CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// The greatest length of a Service's name, and of a label's value.
const LONGEST: usize = 63;

/// The names of the Services of all these Gateways, by the Gateways. Where two of a namespace come to the same name, as the Gateway `a-b` of class `c` and `a` of
/// class `b-c` do, the older one has it, and the other one's name has a hash besides.
pub(super) fn names<'g>(gateways: impl Iterator<Item = &'g PlannedGateway>) -> HashMap<&'g ObjectKey, String> {
    let dated = |gateway: &'g PlannedGateway| {
        let Body::Gateway(given) = &gateway.object.body else { return None };
        let created = created(&gateway.object);
        Some(((created.is_none(), created, &gateway.object.key), given.spec.gateway_class_name.as_str()))
    };
    let by_age: BTreeMap<_, &str> = gateways.filter_map(dated).collect();
    let (mut taken, mut names) = (HashSet::new(), HashMap::new());
    for ((_, _, key), class) in by_age {
        let mut own = name(&key.name, class);
        if !taken.insert((key.namespace.as_str(), own.clone())) {
            own = shortened(&own, &format!("{}/{class}", key.name));
            taken.insert((key.namespace.as_str(), own.clone()));
        }
        names.insert(key, own);
    }
    names
}

/// Makes the Service of this name. `addresses` are those of the Gateway's status; `listeners` are its own and those of the ListenerSets that are attached to it.
pub(super) fn service<'l>(
    gateway: &PlannedGateway,
    name: &str,
    addresses: &Value,
    listeners: impl Iterator<Item = &'l GatewayListener>,
) -> Option<Value> {
    let Body::Gateway(given) = &gateway.object.body else { return None };
    let (key, class) = (&gateway.object.key, &given.spec.gateway_class_name);
    let infrastructure = given.spec.infrastructure.as_ref();
    let mut labels = infrastructure.and_then(|infrastructure| infrastructure.labels.clone()).unwrap_or_default();
    labels.insert(NAME.to_owned(), value(&key.name));
    labels.insert(CLASS.to_owned(), value(class));
    let annotations = infrastructure.and_then(|infrastructure| infrastructure.annotations.clone()).unwrap_or_default();
    let ports: BTreeSet<(u16, &str)> = listeners.filter_map(|listener| Some((listener.port, transport(&listener.protocol)?))).collect();
    let ports = ports
        .into_iter()
        .map(|(port, protocol)| json!({"name": format!("{}-{port}", protocol.to_lowercase()), "port": port, "protocol": protocol}));
    let ingress: Vec<Value> =
        addresses.as_array().into_iter().flatten().filter_map(|address| Some(json!({"ip": address.get("value")?}))).collect();
    Some(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": key.namespace,
            "name": name,
            "labels": labels,
            "annotations": annotations,
            // Whoever makes it adds the uid; objects of a folder have none.
            "ownerReferences": [{"apiVersion": format!("{GROUP}/v1"), "kind": "Gateway", "name": key.name, "controller": true}],
        },
        "spec": {"type": "LoadBalancer", "ports": ports.collect::<Vec<_>>()},
        "status": {"loadBalancer": {"ingress": ingress}},
    }))
}

/// The transport protocol of a listener. `None`: the listener's protocol is not served.
fn transport(protocol: &ListenerProtocol) -> Option<&'static str> {
    match protocol.routes().first()? {
        RouteKind::Udp => Some("UDP"),
        _ => Some("TCP"),
    }
}

/// The name of the Service: `GATEWAY-CLASS` if that can be a Service's name (RFC 1035); otherwise as much of it as can be, with a hash that tells it from
/// others.
fn name(gateway: &str, class: &str) -> String {
    let whole = format!("{gateway}-{class}");
    let fits = whole.len() <= LONGEST && !whole.contains('.') && whole.starts_with(|first: char| first.is_ascii_lowercase());
    if fits {
        return whole;
    }
    let mut plain = whole.replace('.', "-");
    if !plain.starts_with(|first: char| first.is_ascii_lowercase()) {
        plain.insert_str(0, "gateway-");
    }
    shortened(&plain, &whole)
}

/// A name, shortened if it is too long for a label's value.
fn value(name: &str) -> String {
    if name.len() <= LONGEST { name.to_owned() } else { shortened(name, name) }
}

/// As much of a text as leaves room for a hash of `of`, with that hash.
fn shortened(text: &str, of: &str) -> String {
    let hash = format!("-{:016x}", hash_bytes(of.as_bytes()));
    let kept: String = text.chars().take(LONGEST - hash.len()).collect();
    format!("{}{hash}", kept.trim_end_matches(['-', '.', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_services_and_differ() {
        assert_eq!(name("web", "sluicegate"), "web-sluicegate");
        let long = "a".repeat(60);
        let odd =
            [name("web.example", "sluicegate"), name("web-example.", "sluicegate"), name("9", "c"), name(&long, "c"), name(&long, "d")];
        let distinct: BTreeSet<&String> = odd.iter().collect();
        assert_eq!(distinct.len(), odd.len(), "{odd:?}");
        for name in &odd {
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            let ends = name.as_bytes();
            assert!(plain && name.len() <= LONGEST && ends[0].is_ascii_lowercase() && ends[ends.len() - 1] != b'-', "{name}");
        }
        assert_eq!(value("web.example"), "web.example");
        assert_eq!(value(&"a".repeat(64)).len(), LONGEST);
    }
}
