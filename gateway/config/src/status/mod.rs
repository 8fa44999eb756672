//! The status of GatewayClasses, Gateways, ListenerSets, routes, policies and Backends, as the Gateway API defines it. It is a pure function of the plan. Times
//! are left out, and added by whoever writes a status.

mod backend;
mod balanced;
mod class;
mod condition;
mod gateway;
mod infrastructure;
mod listener;
mod policy;
mod route;
mod set;
mod tls_policy;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use sluicegate_model::snapshot::At;
use sluicegate_model::sorted::Sorted;
use sluicegate_model::status::{Judged, ObjectStatus};

use crate::object::{Object, ObjectKey};
use crate::plan::{
    Attachment, Conflict, Plan, PlannedClass, PlannedGateway, PlannedListenerSet, PlannedPolicy, PlannedRoute, PlannedService,
    PlannedTlsPolicy, RouteKind, Shadow,
};

pub use condition::Condition;
pub use policy::refused;

/// What statuses are made of. The parts are shared with the plan.
#[derive(Clone, Default)]
pub struct Statuses {
    classes: Vec<Arc<PlannedClass>>,
    gateways: Vec<Arc<PlannedGateway>>,
    listener_sets: Vec<Arc<PlannedListenerSet>>,
    routes: Vec<Arc<PlannedRoute>>,
    tls_policies: Vec<Arc<PlannedTlsPolicy>>,
    policies: BTreeMap<String, Sorted<PlannedPolicy>>,
    /// What is wrong with policies themselves, by their keys.
    invalid: Arc<HashMap<String, String>>,
    /// Which configuration plugins refuse, by the keys of the objects that have it.
    refused: Arc<HashMap<String, String>>,
    backends: Vec<Arc<PlannedService>>,
    /// Services of which this gateway is the load balancer, by their class, each with what of them another object has.
    balanced: Vec<(Arc<PlannedService>, BTreeSet<At>)>,
    conflicts: Vec<Conflict>,
    shadows: Vec<Shadow>,
    unbound: Arc<HashMap<At, String>>,
    uncertified: Arc<Uncertified>,
}

/// Listeners for which certificates are ordered and none is issued yet, by object and name, and what they wait for.
pub type Uncertified = HashMap<(String, String), String>;

impl Statuses {
    /// Takes what is needed for the statuses of a plan's objects.
    pub fn new(plan: &Plan) -> Self {
        Self {
            classes: plan.classes.clone(),
            gateways: plan.gateways.clone(),
            listener_sets: plan.listener_sets.clone(),
            routes: plan.routes.clone(),
            tls_policies: plan.tls_policies.clone(),
            policies: plan.policies.clone(),
            invalid: Arc::new(policy::invalid(&plan.faults)),
            refused: Arc::default(),
            backends: plan.backends.clone(),
            balanced: plan.balanced.clone(),
            conflicts: plan.conflicts.clone(),
            shadows: plan.shadows.clone(),
            unbound: Arc::default(),
            uncertified: Arc::default(),
        }
    }

    /// Which configuration plugins refuse, and why, by the keys of the objects that have it.
    pub fn refused(&self) -> &HashMap<String, String> {
        &self.refused
    }

    /// The same statuses, of a gateway whose plugins refuse this configuration.
    #[must_use]
    pub fn with_refused(&self, refused: HashMap<String, String>) -> Self {
        Self { refused: Arc::new(refused), ..self.clone() }
    }

    /// The addresses that could not be bound, and why.
    pub fn unbound(&self) -> &HashMap<At, String> {
        &self.unbound
    }

    /// The same statuses, of a gateway that could not bind these addresses.
    #[must_use]
    pub fn with_unbound(&self, unbound: HashMap<At, String>) -> Self {
        Self { unbound: Arc::new(unbound), ..self.clone() }
    }

    /// The listeners that wait for their certificates.
    pub fn uncertified(&self) -> &Uncertified {
        &self.uncertified
    }

    /// The same statuses, of a gateway of which these listeners wait for their certificates.
    #[must_use]
    pub fn with_uncertified(&self, uncertified: Uncertified) -> Self {
        Self { uncertified: Arc::new(uncertified), ..self.clone() }
    }
}

impl ObjectStatus for Statuses {
    /// The objects of a kind with their status, in the order of namespace and name.
    fn objects(&self, plural: &str) -> Option<Vec<Value>> {
        if plural == "services" {
            return Some(self.services());
        }
        Some(self.statuses(plural)?.into_iter().map(|(object, status)| with_status(object, status)).collect())
    }

    fn judged(&self, plural: &str) -> Option<Vec<Judged>> {
        let judged =
            |(object, status): (&Object, Value)| Judged { namespace: object.key.namespace.clone(), name: object.key.name.clone(), status };
        if plural == "services" {
            let status = |(service, lost): &(Arc<PlannedService>, BTreeSet<At>)| balanced::status(service, lost, &self.unbound);
            return Some(self.balanced.iter().map(|balanced| judged((&*balanced.0.object, status(balanced)))).collect());
        }
        Some(self.statuses(plural)?.into_iter().map(judged).collect())
    }
}

impl Statuses {
    /// The objects of a kind, each with its status, by namespace and name.
    fn statuses(&self, plural: &str) -> Option<Vec<(&Object, Value)>> {
        if plural == "gatewayclasses" {
            return Some(self.classes.iter().map(|class| (&*class.object, class::status(class))).collect());
        }
        if matches!(plural, "gateways" | "listenersets") {
            return Some(self.holders(plural == "gateways"));
        }
        if plural == "backendtlspolicies" {
            let reached = tls_policy::reached(&self.gateways, &self.listener_sets, &self.routes);
            return Some(self.tls_policies.iter().map(|p| (&*p.object, tls_policy::status(p, &reached))).collect());
        }
        if let Some(kind) = policy_kind(plural) {
            let policies = self.policies.get(kind).into_iter().flat_map(Sorted::iter);
            let status = |policy: &PlannedPolicy| {
                let key = policy.object.key.to_string();
                let shadows = self.shadows.iter().filter(|shadow| shadow.policy.key == policy.object.key);
                policy::status(policy, self.invalid.get(&key).into_iter().chain(self.refused.get(&key)), shadows)
            };
            return Some(policies.map(|policy| (&*policy.object, status(policy))).collect());
        }
        if plural == "backends" {
            return Some(self.backends.iter().map(|backend| (&*backend.object, backend::status(backend))).collect());
        }
        let kind = RouteKind::ALL.into_iter().find(|kind| format!("{}s", kind.name().to_lowercase()) == plural)?;
        let mut attached: HashMap<&ObjectKey, Vec<&Attachment>> = HashMap::new();
        let of_gateways = self.gateways.iter().flat_map(|gateway| &gateway.attachments);
        for attachment in of_gateways.chain(self.listener_sets.iter().flat_map(|set| &set.attachments)) {
            attached.entry(&attachment.route).or_default().push(attachment);
        }
        let routes = self.routes.iter().filter(|route| route.kind == kind);
        let attached = |route: &PlannedRoute| attached.get(&route.object.key).map_or(&[][..], Vec::as_slice);
        Some(routes.map(|r| (&*r.object, route::status(r, attached(r), &self.refused))).collect())
    }

    /// The Gateways with their status, or the ListenerSets with theirs.
    fn holders(&self, gateways: bool) -> Vec<(&Object, Value)> {
        let mut conflicts: HashMap<&ObjectKey, Vec<&Conflict>> = HashMap::new();
        for conflict in &self.conflicts {
            conflicts.entry(&conflict.object).or_default().push(conflict);
        }
        let of = |object: &Object| Circumstances {
            conflicts: conflicts.get(&object.key).map_or(&[][..], Vec::as_slice),
            unbound: &self.unbound,
            uncertified: &self.uncertified,
        };
        if !gateways {
            let parents: HashMap<&ObjectKey, &PlannedGateway> = self.gateways.iter().map(|g| (&g.object.key, &**g)).collect();
            let sets = self.listener_sets.iter().filter_map(|set| Some((set, *parents.get(&set.gateway)?)));
            return sets.map(|(set, parent)| (&*set.object, set::status(set, parent, of(&set.object)))).collect();
        }
        let mut attached: HashMap<&ObjectKey, usize> = HashMap::new();
        for set in self.listener_sets.iter().filter(|set| set::is_attached(set, of(&set.object))) {
            *attached.entry(&set.gateway).or_default() += 1;
        }
        let sets = |gateway: &PlannedGateway| attached.get(&gateway.object.key).copied().unwrap_or_default();
        self.gateways.iter().map(|g| (&*g.object, gateway::status(g, of(&g.object), sets(g)))).collect()
    }

    /// The Services that stand for the Gateways that are accepted.
    fn services(&self) -> Vec<Value> {
        let made = self.gateways.iter().zip(self.holders(true)).filter(|(gateway, _)| gateway.accepted.is_ok());
        let names = infrastructure::names(self.gateways.iter().map(|gateway| &**gateway).filter(|gateway| gateway.accepted.is_ok()));
        made.filter_map(|(gateway, (_, status))| {
            let sets = self.listener_sets.iter().filter(|set| set.gateway == gateway.object.key && set.accepted.is_ok());
            let listeners = gateway.listeners.iter().chain(sets.flat_map(|set| &set.listeners));
            infrastructure::service(gateway, names.get(&gateway.object.key)?, &status["addresses"], listeners)
        })
        .collect()
    }
}

/// What the status of an object's listeners depends on besides the object itself.
#[derive(Clone, Copy)]
struct Circumstances<'c> {
    /// The conflicts of the object's listeners.
    conflicts: &'c [&'c Conflict],
    /// The addresses that could not be bound, and why.
    unbound: &'c HashMap<At, String>,
    /// The listeners that wait for their certificates.
    uncertified: &'c Uncertified,
}

fn policy_kind(plural: &str) -> Option<&'static str> {
    match plural {
        "backendtrafficpolicies" => Some("BackendTrafficPolicy"),
        "clienttrafficpolicies" => Some("ClientTrafficPolicy"),
        "xbackendtrafficpolicies" => Some("XBackendTrafficPolicy"),
        _ => None,
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

/// The object's `metadata.generation`. Objects in files have none.
fn generation(object: &Object) -> Option<i64> {
    object.body.metadata().and_then(|metadata| metadata.generation)
}
