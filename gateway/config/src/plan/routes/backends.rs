//! References of routes to Services: of a kind that can be a backend, permitted by a ReferenceGrant, and there.

use serde_json::{Value, json};
use sluicegate_model::route::Protocol;

use super::{Refusal, Rules};
use crate::object::{Body, Object, warning};
use crate::plan::compile::Compiler;
use crate::plan::references::Reference;

impl Compiler<'_> {
    /// Resolves one `backendRef`, which is JSON of one of the route kinds' types. In the place of one that may not be used stands one that leads nowhere
    /// and takes the same share.
    pub(super) fn backend(&mut self, route: &Object, path: &str, reference: &Value, protocol: Protocol, rules: &mut Rules) -> Value {
        let weight = reference.get("weight").and_then(Value::as_u64).unwrap_or(1);
        match self.service_ref(route, path, reference, protocol) {
            Ok((namespace, name, port)) => {
                let mut backend = json!({"name": name, "namespace": namespace, "port": port, "weight": weight});
                if let Some(filters) = reference.get("filters") {
                    backend["filters"] = filters.clone();
                }
                backend
            }
            Err((refusal, usable)) => {
                let invalid = json!({"invalid": format!("{}: {}", refusal.reason, refusal.message), "weight": weight});
                self.refuse(route, path, refusal, rules);
                // What is only missing may come.
                match usable {
                    Some((namespace, name, port)) => json!({"name": name, "namespace": namespace, "port": port, "weight": weight}),
                    None => invalid,
                }
            }
        }
    }

    /// Resolves the `backendRef` of a mirror. None: there is nobody to copy requests to.
    pub(super) fn mirror(&mut self, route: &Object, path: &str, reference: &Value, rules: &mut Rules) -> Option<Value> {
        match self.service_ref(route, path, reference, Protocol::Tcp) {
            Ok((namespace, name, port)) => Some(json!({"name": name, "namespace": namespace, "port": port})),
            Err((refusal, _)) => {
                self.refuse(route, path, refusal, rules);
                None
            }
        }
    }

    pub(super) fn refuse(&mut self, route: &Object, path: &str, refusal: Refusal, rules: &mut Rules) {
        let message = format!("{path}: {}: {}", refusal.reason, refusal.message);
        self.part.faults.push(warning(&route.origin, &route.key, path, message, None));
        rules.refused.push(Refusal::new(refusal.reason, format!("{path}: {}", refusal.message)));
    }

    /// The service port that is meant: namespace, name and number. With an error, where it would be if it were there.
    #[expect(clippy::type_complexity, reason = "three words of a service port, twice")]
    fn service_ref(
        &mut self,
        route: &Object,
        path: &str,
        reference: &Value,
        protocol: Protocol,
    ) -> Result<(String, String, u16), (Refusal, Option<(String, String, u16)>)> {
        let text = |field: &str| reference.get(field).and_then(Value::as_str);
        let (group, kind, name) = (text("group").unwrap_or_default(), text("kind").unwrap_or("Service"), text("name").unwrap_or_default());
        if !group.is_empty() || kind != "Service" {
            let what = format!("a {kind} of group {group:?} cannot be a backend here");
            return Err((Refusal::new("InvalidKind", what), None));
        }
        let namespace = text("namespace").unwrap_or(&route.key.namespace);
        if namespace != route.key.namespace && !self.granted(&Reference::new(route, path.to_owned(), (None, kind), name, Some(namespace))) {
            let what = format!("no ReferenceGrant in namespace {namespace:?} lets {} refer to {kind} {name:?}", route.key);
            return Err((Refusal::new("RefNotPermitted", what), None));
        }
        let port = reference.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let Some(port) = port else { return Err((Refusal::new("BackendNotFound", "a Service needs a port"), None)) };
        let there = (namespace.to_owned(), name.to_owned(), port);
        let missing = |what: String| Err((Refusal::new("BackendNotFound", what), Some(there.clone())));
        let Some(service) = self.object(kind, namespace, name).and_then(|object| match &object.body {
            Body::Service(service) => service.spec.as_ref(),
            _ => None,
        }) else {
            return missing(format!("there is no Service {name:?} in namespace {namespace:?}"));
        };
        if service.type_.as_deref() == Some("ExternalName") {
            return missing(format!("Service {namespace}/{name} is of type ExternalName, and not forwarded"));
        }
        let wanted = if protocol == Protocol::Udp { "UDP" } else { "TCP" };
        let mut ports = service.ports.iter().flatten();
        if !ports.any(|p| p.port == i32::from(port) && p.protocol.as_deref().unwrap_or("TCP") == wanted) {
            return missing(format!("Service {namespace}/{name} has no {wanted} port {port}"));
        }
        Ok(there)
    }
}

/// In the place of a backend, one that leads nowhere and takes the same share.
pub(super) fn nowhere(backend: &Value, why: &str) -> Value {
    json!({"invalid": why, "weight": backend.get("weight").cloned().unwrap_or_else(|| 1.into())})
}
