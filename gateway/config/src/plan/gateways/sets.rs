//! ListenerSets: whether their Gateway allows them, and their listeners on its addresses (GEP-1713).

use super::*;
use crate::object::ListenerSet;
use crate::plan::namespaces::Namespaces;

/// The field that is wrong if a ListenerSet has no Gateway.
const PARENT: &str = "spec.parentRef";

impl Compiler<'_> {
    pub(in crate::plan) fn listener_set(&mut self, object: &Arc<Object>, set: &ListenerSet) {
        let parent = &set.spec.parent_ref;
        let (group, kind) = (parent.group.as_deref().unwrap_or(GROUP), parent.kind.as_deref().unwrap_or("Gateway"));
        if (group, kind) != (GROUP, "Gateway") {
            let what = format!("a {kind} of group {group:?} takes no listeners");
            self.without_gateway(object, what, Some("a Gateway".to_owned()));
            return;
        }
        let namespace = parent.namespace.as_deref().unwrap_or(&object.key.namespace);
        let Some(gateway) = self.object(kind, namespace, &parent.name) else {
            self.without_gateway(object, format!("there is no Gateway {:?} in namespace {namespace:?}", parent.name), None);
            return;
        };
        let Body::Gateway(spec) = &gateway.body else { return };
        // One of another class is another gateway's affair.
        let Some(planned) = self.planned_gateway(&gateway.key) else { return };
        let labels = |namespace: &str| self.namespace_labels(namespace);
        let allowed = spec.spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
        let made = if Namespaces::of_listener_sets(allowed).contain(&object.key.namespace, namespace, labels) {
            let (parameters, _) = self.parameters(gateway, spec);
            let holder = Holder { object, listeners: &set.spec.listeners, gateway, spec, parameters };
            let parent = |refusal: Refusal| Refusal::new(Reason::ParentNotAccepted, format!("{}: {}", gateway.key, refusal.message));
            let accepted = planned.accepted.clone().map_err(parent);
            // What comes through it shows endpoints the Gateway's certificate; whether that can be used is the Gateway's to say.
            self.gateway_identity(gateway, spec);
            let (listeners, attachments) = self.listeners(holder, &planned.addresses, &accepted);
            PlannedListenerSet { object: object.clone(), gateway: gateway.key.clone(), accepted, listeners, attachments }
        } else {
            let what = format!("{} allows no ListenerSets of namespace {:?}", gateway.key, object.key.namespace);
            let hint = "spec.allowedListeners.namespaces of the Gateway, which allows none unless it says so";
            let refusal = Refusal::new(Reason::NotAllowed, what);
            let fault = warning(&object.origin, &object.key, PARENT, refusal.at(PARENT), Some(hint.to_owned()));
            self.part.faults.push(fault);
            // Nothing of its listeners is looked at: whoever is not allowed here is to learn nothing, and to have nothing loaded.
            let (accepted, attachments) = (Err(refusal), self.unattached(object));
            PlannedListenerSet { object: object.clone(), gateway: gateway.key.clone(), accepted, listeners: Vec::new(), attachments }
        };
        self.part.listener_set = Some(Arc::new(made));
    }

    fn without_gateway(&mut self, object: &Object, what: String, hint: Option<String>) {
        self.part.faults.push(warning(&object.origin, &object.key, PARENT, format!("{PARENT}: {what}"), hint));
    }
}
