//! References of routes to Services and Backends. One that can be used names a kind that can be a backend, is permitted by a ReferenceGrant where it crosses
//! namespaces, and names an object that exists.

use serde_json::{Value, json};
use sluicegate_model::route::{Protocol, ServiceRef};

use super::Rules;
use crate::object::{Body, Object, warning};
use crate::plan::backends::{backend_of, service_port};
use crate::plan::compile::Compiler;
use crate::plan::references::Reference;
use crate::plan::{Reason, Refusal};

/// The group of the kind Backend.
const OURS: &str = "sluicegate.dev";

impl Compiler<'_> {
    /// Resolves one `backendRef`, which is the JSON of one of the route kinds' types. One that may not be used is replaced by one that leads nowhere and takes
    /// the same share of traffic.
    pub(super) fn backend(&mut self, route: &Object, path: &str, reference: &Value, protocol: Protocol, rules: &mut Rules) -> Value {
        let weight = reference.get("weight").and_then(Value::as_u64).unwrap_or(1);
        match self.service_ref(route, path, reference, protocol) {
            Ok(to) => {
                let mut backend = written(&to);
                backend["weight"] = weight.into();
                rules.services.insert(to);
                if let Some(filters) = reference.get("filters") {
                    backend["filters"] = filters.clone();
                }
                backend
            }
            Err((refusal, usable)) => {
                let invalid = json!({"invalid": format!("{}: {}", refusal.reason, refusal.message), "weight": weight});
                self.refuse(route, path, refusal, rules);
                // A Service that is merely missing may still come.
                let Some(to) = usable else { return invalid };
                let mut backend = written(&to);
                backend["weight"] = weight.into();
                rules.services.insert(to);
                backend
            }
        }
    }

    /// Resolves the `backendRef` of a mirror. `None`: there is nothing to copy requests to.
    pub(super) fn mirror(&mut self, route: &Object, path: &str, reference: &Value, rules: &mut Rules) -> Option<Value> {
        match self.service_ref(route, path, reference, Protocol::Tcp) {
            Ok(to) => {
                let backend = written(&to);
                rules.services.insert(to);
                Some(backend)
            }
            Err((refusal, _)) => {
                self.refuse(route, path, refusal, rules);
                None
            }
        }
    }

    pub(super) fn refuse(&mut self, route: &Object, path: &str, refusal: Refusal, rules: &mut Rules) {
        let message = refusal.at(path);
        self.part.faults.push(warning(&route.origin, &route.key, path, message, None));
        rules.refused.push(Refusal::new(refusal.reason, format!("{path}: {}", refusal.message)));
    }

    /// Finds the service port that a reference means. An error comes with the service port that it would be, if the reference is only to something missing.
    fn service_ref(
        &mut self,
        route: &Object,
        path: &str,
        reference: &Value,
        protocol: Protocol,
    ) -> Result<ServiceRef, (Refusal, Option<ServiceRef>)> {
        let text = |field: &str| reference.get(field).and_then(Value::as_str);
        let (group, kind, name) = (text("group").unwrap_or_default(), text("kind").unwrap_or("Service"), text("name").unwrap_or_default());
        if !matches!((group, kind), ("", "Service") | (OURS, "Backend")) {
            let what = format!("a {kind} of group {group:?} cannot be a backend here");
            return Err((Refusal::new(Reason::InvalidKind, what), None));
        }
        let namespace = text("namespace").unwrap_or(&route.key.namespace);
        if namespace != route.key.namespace
            && !self.granted(&Reference::new(route, path.to_owned(), (Some(group), kind), name, Some(namespace)))
        {
            let what = format!("no ReferenceGrant in namespace {namespace:?} lets {} refer to {kind} {name:?}", route.key);
            return Err((Refusal::new(Reason::RefNotPermitted, what), None));
        }
        if kind == "Backend" {
            return self.backend_ref(namespace, name, protocol).map_err(|refusal| (refusal, None));
        }
        let port = reference.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let Some(port) = port else { return Err((Refusal::new(Reason::BackendNotFound, "a Service needs a port"), None)) };
        let there = ServiceRef { namespace: namespace.to_owned(), name: name.to_owned(), port };
        let missing = |what: String| Err((Refusal::new(Reason::BackendNotFound, what), Some(there.clone())));
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

impl Compiler<'_> {
    fn backend_ref(&mut self, namespace: &str, name: &str, protocol: Protocol) -> Result<ServiceRef, Refusal> {
        let refuse = |what: String| Err(Refusal::new(Reason::BackendNotFound, what));
        let Some(Body::Backend(backend)) = self.object("Backend", namespace, name).map(|object| &object.body) else {
            return refuse(format!("there is no Backend {name:?} in namespace {namespace:?}"));
        };
        if protocol == Protocol::Udp {
            return refuse(format!("Backend {namespace}/{name} takes no datagrams"));
        }
        match backend.spec.port() {
            Some(port) => Ok(service_port(namespace, name, port)),
            None => refuse(format!("Backend {namespace}/{name} has no endpoint")),
        }
    }
}

/// Writes a service port as the plugin `rules` reads it.
fn written(to: &ServiceRef) -> Value {
    let mut written = json!({"name": to.name, "namespace": to.namespace, "port": to.port});
    if let Some(name) = backend_of(&to.name) {
        written["name"] = name.into();
        written["kind"] = "Backend".into();
        written["group"] = OURS.into();
    }
    written
}

/// Replaces a backend by one that leads nowhere and takes the same share of traffic.
pub(super) fn nowhere(backend: &Value, why: &str) -> Value {
    json!({"invalid": why, "weight": backend.get("weight").cloned().unwrap_or_else(|| 1.into())})
}
