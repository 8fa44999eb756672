//! The status of Gateways, routes, BackendTLSPolicies and Backends, as the Gateway API has it: a pure function of the plan. Times are left out; whoever writes a status adds them.

mod backend;
mod class;
mod condition;
mod gateway;
mod route;
mod tls_policy;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use sluicegate_model::status::ObjectStatus;

use crate::object::{Object, ObjectKey};
use crate::plan::{Attachment, Conflict, Plan, PlannedGateway, PlannedRoute, PlannedService, PlannedTlsPolicy, RouteKind};

pub use condition::Condition;

/// What statuses are made of: parts that are shared with the plan.
#[derive(Clone, Default)]
pub struct Statuses {
    classes: Vec<Arc<Object>>,
    gateways: Vec<Arc<PlannedGateway>>,
    routes: Vec<Arc<PlannedRoute>>,
    tls_policies: Vec<Arc<PlannedTlsPolicy>>,
    backends: Vec<Arc<PlannedService>>,
    conflicts: Vec<Conflict>,
}

impl Statuses {
    /// Of a plan.
    pub fn new(plan: &Plan) -> Self {
        Self {
            classes: plan.classes.clone(),
            gateways: plan.gateways.clone(),
            routes: plan.routes.clone(),
            tls_policies: plan.tls_policies.clone(),
            backends: plan.backends.clone(),
            conflicts: plan.conflicts.clone(),
        }
    }
}

impl ObjectStatus for Statuses {
    /// By namespace and name.
    fn objects(&self, plural: &str) -> Option<Vec<Value>> {
        if plural == "gatewayclasses" {
            return Some(self.classes.iter().map(|class| with_status(class, class::status(class))).collect());
        }
        if plural == "gateways" {
            let conflicts = |gateway: &PlannedGateway| -> Vec<&Conflict> {
                self.conflicts.iter().filter(|conflict| conflict.object == gateway.object.key).collect()
            };
            return Some(self.gateways.iter().map(|g| with_status(&g.object, gateway::status(g, &conflicts(g)))).collect());
        }
        if plural == "backendtlspolicies" {
            let reached = tls_policy::reached(&self.gateways, &self.routes);
            return Some(self.tls_policies.iter().map(|p| with_status(&p.object, tls_policy::status(p, &reached))).collect());
        }
        if plural == "backends" {
            return Some(self.backends.iter().map(|backend| with_status(&backend.object, backend::status(backend))).collect());
        }
        let kind = RouteKind::ALL.into_iter().find(|kind| format!("{}s", kind.name().to_lowercase()) == plural)?;
        let mut attached: HashMap<&ObjectKey, Vec<(&PlannedGateway, &Attachment)>> = HashMap::new();
        for gateway in &self.gateways {
            for attachment in &gateway.attachments {
                attached.entry(&attachment.route).or_default().push((gateway, attachment));
            }
        }
        let routes = self.routes.iter().filter(|route| route.kind == kind);
        Some(routes.map(|r| with_status(&r.object, route::status(r, attached.get(&r.object.key).map_or(&[], Vec::as_slice)))).collect())
    }
}

fn with_status(object: &Object, status: Value) -> Value {
    let mut value = Value::clone(&object.value.tree());
    if let Some(fields) = value.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        if !object.key.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), object.key.namespace.clone().into());
        }
        metadata.insert("name".to_owned(), object.key.name.clone().into());
    }
    value
}

/// `metadata.generation`; files have none.
fn generation(object: &Object) -> Option<i64> {
    object.body.metadata().and_then(|metadata| metadata.generation)
}
