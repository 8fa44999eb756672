//! The status of a BackendTLSPolicy: an entry for each Gateway of this gateway from which a route leads to a Service that the policy targets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Condition, generation};
use crate::object::ObjectKey;
use crate::plan::{CONTROLLER, GROUP, PlannedGateway, PlannedListenerSet, PlannedRoute, PlannedTlsPolicy, Reason, TlsTarget};

/// The greatest number of ancestors that the schema allows.
const MOST_ANCESTORS: usize = 16;

/// For each Service, by namespace and name, the Gateways from which routes lead to it, and the ports that they lead to.
pub(super) type Reached<'p> = HashMap<(&'p str, &'p str), BTreeMap<&'p ObjectKey, BTreeSet<u16>>>;

/// Collects where routes lead to from the Gateways that have accepted them.
pub(super) fn reached<'p>(
    gateways: &'p [Arc<PlannedGateway>],
    sets: &'p [Arc<PlannedListenerSet>],
    routes: &'p [Arc<PlannedRoute>],
) -> Reached<'p> {
    let routes: HashMap<&ObjectKey, &PlannedRoute> = routes.iter().map(|route| (&route.object.key, &**route)).collect();
    let mut reached = Reached::new();
    let own = gateways.iter().map(|gateway| (&gateway.object.key, &gateway.attachments));
    for (gateway, attachments) in own.chain(sets.iter().map(|set| (&set.gateway, &set.attachments))) {
        let accepted = attachments.iter().filter(|attachment| attachment.accepted.is_ok());
        for to in accepted.filter_map(|attachment| routes.get(&attachment.route)).flat_map(|route| &route.services) {
            let service = reached.entry((to.namespace.as_str(), to.name.as_str())).or_default();
            service.entry(gateway).or_default().insert(to.port);
        }
    }
    reached
}

pub(super) fn status(policy: &PlannedTlsPolicy, reached: &Reached<'_>) -> Value {
    let mut ancestors: BTreeMap<&ObjectKey, Vec<&TlsTarget>> = BTreeMap::new();
    for target in &policy.targets {
        for (gateway, ports) in reached.get(&(policy.object.key.namespace.as_str(), target.service.as_str())).into_iter().flatten() {
            // A target without ports has a section that the Service does not have. That is reported at each Gateway that leads to the Service.
            if target.ports.is_empty() || target.ports.iter().any(|port| ports.contains(port)) {
                ancestors.entry(gateway).or_default().push(target);
            }
        }
    }
    let ancestors = ancestors.into_iter().take(MOST_ANCESTORS).map(|(gateway, targets)| {
        let reference = json!({"group": GROUP, "kind": gateway.kind, "namespace": gateway.namespace, "name": gateway.name});
        json!({"ancestorRef": reference, "controllerName": CONTROLLER, "conditions": conditions(policy, &targets)})
    });
    json!({ "ancestors": ancestors.collect::<Vec<_>>() })
}

fn conditions(policy: &PlannedTlsPolicy, targets: &[&TlsTarget]) -> [Condition; 2] {
    let generation = generation(&policy.object);
    let lost = targets.iter().map(|target| &target.accepted).find(|accepted| accepted.is_err());
    [
        Condition::of("Accepted", lost.unwrap_or(&policy.accepted), Reason::Accepted, generation),
        Condition::of("ResolvedRefs", &policy.resolved, Reason::ResolvedRefs, generation),
    ]
}
