//! What a Service that stands for a Gateway is to be, and whether it is.

use serde_json::{Value, json};
use sluicegate_config::object::ObjectKey;
use sluicegate_model::hash::hash_bytes;
use sluicegate_model::status::ObjectStatus;

use crate::seen::MADE;

/// A Service that is to stand for a Gateway.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) key: ObjectKey,
    pub(super) gateway: ObjectKey,
    labels: Value,
    annotations: Value,
    ports: Value,
    owner: Value,
    /// Tells it from others of the same Gateway.
    pub(super) print: u64,
}

/// All of them.
pub(super) fn wishes(objects: &dyn ObjectStatus) -> Vec<Wish> {
    objects.objects("services").unwrap_or_default().iter().filter_map(Wish::of).collect()
}

impl Wish {
    fn of(service: &Value) -> Option<Self> {
        let metadata = &service["metadata"];
        let owner = metadata["ownerReferences"].get(0)?;
        let namespace = metadata["namespace"].as_str()?;
        let (labels, annotations, ports) = (metadata["labels"].clone(), metadata["annotations"].clone(), service["spec"]["ports"].clone());
        let print = hash_bytes(json!([labels, annotations, ports]).to_string().as_bytes());
        Some(Self {
            key: ObjectKey::new("Service", namespace, metadata["name"].as_str()?),
            gateway: ObjectKey::new("Gateway", namespace, owner["name"].as_str()?),
            labels,
            annotations,
            ports,
            owner: owner.clone(),
            print,
        })
    }

    fn mark(&self) -> String {
        format!("{:016x}", self.print)
    }

    fn owners(&self, gateway: &str) -> Value {
        let mut owner = self.owner.clone();
        owner["uid"] = gateway.into();
        json!([owner])
    }

    /// With what it is created: nothing that a later apply might have to take away again, as only what was applied can be.
    pub(super) fn begun(&self, gateway: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "namespace": self.key.namespace, "name": self.key.name, "annotations": {MADE: ""}, "ownerReferences": self.owners(gateway),
            },
            "spec": {"clusterIP": "None"},
        })
    }

    /// What is applied to the version that was seen. `gateway` is the Gateway's uid.
    pub(super) fn applied(&self, gateway: &str, version: &Value) -> Value {
        let mut annotations = self.annotations.clone();
        annotations[MADE] = self.mark().into();
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "namespace": self.key.namespace, "name": self.key.name, "resourceVersion": version, "labels": self.labels, "annotations": annotations,
                "ownerReferences": self.owners(gateway),
            },
            "spec": {"clusterIP": "None", "ports": self.ports},
        })
    }

    /// Whether a Service that this gateway has made for the Gateway is as it is to be. What others have added to it does not matter.
    pub(super) fn holds(&self, service: &Value) -> bool {
        let metadata = &service["metadata"];
        let has = |field: &str, wished: &Value| {
            wished.as_object().into_iter().flatten().all(|(name, value)| metadata[field].get(name) == Some(value))
        };
        metadata["annotations"][MADE] == self.mark().as_str()
            && has("labels", &self.labels)
            && has("annotations", &self.annotations)
            && ports(&service["spec"]["ports"]) == ports(&self.ports)
    }
}

/// What counts of ports. A server adds its defaults to them.
fn ports(all: &Value) -> Vec<[&Value; 3]> {
    all.as_array().into_iter().flatten().map(|port| [&port["port"], &port["protocol"], &port["name"]]).collect()
}

/// The uid of the Gateway for which a Service was made.
pub(super) fn owner(service: &Value) -> Option<&str> {
    let owners = service["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["kind"] == "Gateway" && owner["controller"] == true)?["uid"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(labels: &Value, ports: &Value) -> Value {
        json!({
            "metadata": {"namespace": "shop", "name": "edge-ours", "labels": labels, "annotations": {"a": "b"},
                "ownerReferences": [{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "edge", "controller": true}]},
            "spec": {"type": "LoadBalancer", "ports": ports},
        })
    }

    #[test]
    fn what_others_add_does_not_matter_and_what_is_ours_does() {
        let ports = json!([{"name": "tcp-80", "port": 80, "protocol": "TCP"}]);
        let wish = Wish::of(&service(&json!({"x": "y"}), &ports)).expect("a wish");
        assert_eq!((wish.key.to_string(), wish.gateway.to_string()), ("Service shop/edge-ours".to_owned(), "Gateway shop/edge".to_owned()));
        let begun = wish.begun("u");
        assert!(!wish.holds(&begun), "it is not finished");
        assert_eq!(owner(&begun), Some("u"));
        let mut applied = wish.applied("u", &json!("7"));
        assert_eq!((&applied["spec"]["clusterIP"], &applied["metadata"]["resourceVersion"]), (&json!("None"), &json!("7")));
        assert!(wish.holds(&applied));
        applied["metadata"]["labels"]["theirs"] = json!("z");
        applied["spec"]["ports"][0]["targetPort"] = json!(80);
        assert!(wish.holds(&applied));
        let other = Wish::of(&service(&json!({}), &ports)).expect("a wish");
        assert!(!other.holds(&applied), "a label has to go");
        for (field, to) in
            [("/metadata/labels/x", json!("other")), ("/metadata/annotations/a", Value::Null), ("/spec/ports/0/port", json!(81))]
        {
            let mut changed = applied.clone();
            *changed.pointer_mut(field).expect(field) = to;
            assert!(!wish.holds(&changed), "{field}");
        }
        assert!(Wish::of(&json!({"metadata": {"name": "a", "namespace": "b"}})).is_none());
    }
}
