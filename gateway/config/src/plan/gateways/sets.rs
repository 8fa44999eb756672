//! ListenerSets: whether their Gateway allows them, and their listeners on its addresses (GEP-1713).

use super::*;
use crate::object::ListenerSet;
use crate::plan::namespaces::Namespaces;

/// The field that is at fault if a ListenerSet has no Gateway.
const PARENT: &str = "spec.parentRef";

/// Why a ListenerSet adds no listeners here.
pub(in crate::plan) enum Apart {
    /// There is no such Gateway. This is the message, and what might be meant instead.
    Nowhere(String, Option<String>),
    /// The Gateway belongs to another implementation.
    Others,
    /// The Gateway does not allow the ListenerSet. This is the Gateway, and why not.
    Refused(ObjectKey, String),
}

impl<'a> Compiler<'a> {
    pub(in crate::plan) fn listener_set(&mut self, object: &Arc<Object>, set: &ListenerSet) {
        let made = match self.gateway_of(object, set) {
            Ok((gateway, spec)) => {
                let Some(planned) = self.planned_gateway(&gateway.key) else { return };
                let (parameters, _) = self.parameters(gateway, spec);
                let holder = Holder { object, listeners: &set.spec.listeners, gateway, spec, parameters };
                let parent = |refusal: Refusal| Refusal::new(Reason::ParentNotAccepted, format!("{}: {}", gateway.key, refusal.message));
                let accepted = planned.accepted.clone().map_err(parent);
                // Connections to endpoints for what comes through the set show the Gateway's certificate. Whether that can be used is reported at the Gateway.
                self.gateway_identity(gateway, spec);
                let (listeners, attachments) = self.listeners(holder, &planned.addresses, &accepted);
                PlannedListenerSet { object: object.clone(), gateway: gateway.key.clone(), accepted, listeners, attachments }
            }
            Err(Apart::Refused(gateway, what)) => {
                let hint = "spec.allowedListeners.namespaces of the Gateway, which allows none unless it says so";
                let refusal = Refusal::new(Reason::NotAllowed, what);
                let fault = warning(&object.origin, &object.key, PARENT, refusal.at(PARENT), Some(hint.to_owned()));
                self.part.faults.push(fault);
                // The set's listeners are not looked at: an owner who is not allowed here learns nothing, and has nothing loaded.
                let (accepted, attachments) = (Err(refusal), self.unattached(object));
                PlannedListenerSet { object: object.clone(), gateway, accepted, listeners: Vec::new(), attachments }
            }
            Err(Apart::Nowhere(what, hint)) => return self.without_gateway(object, what, hint),
            Err(Apart::Others) => return,
        };
        self.part.listener_set = Some(Arc::new(made));
    }

    /// Finds the Gateway that a ListenerSet adds its listeners to.
    pub(in crate::plan) fn gateway_of(&self, object: &Object, set: &ListenerSet) -> Result<(&'a Arc<Object>, &'a Gateway), Apart> {
        let parent = &set.spec.parent_ref;
        let (group, kind) = (parent.group.as_deref().unwrap_or(GROUP), parent.kind.as_deref().unwrap_or("Gateway"));
        if (group, kind) != (GROUP, "Gateway") {
            return Err(Apart::Nowhere(format!("a {kind} of group {group:?} takes no listeners"), Some("a Gateway".to_owned())));
        }
        let namespace = parent.namespace.as_deref().unwrap_or(&object.key.namespace);
        let found = self.object(kind, namespace, &parent.name);
        let Some((gateway, Body::Gateway(spec))) = found.map(|gateway| (gateway, &gateway.body)) else {
            return Err(Apart::Nowhere(format!("there is no Gateway {:?} in namespace {namespace:?}", parent.name), None));
        };
        if !self.ours(&spec.spec.gateway_class_name) {
            return Err(Apart::Others);
        }
        let labels = |namespace: &str| self.namespace_labels(namespace);
        let allowed = spec.spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
        if !Namespaces::of_listener_sets(allowed).contain(&object.key.namespace, namespace, labels) {
            let what = format!("{} allows no ListenerSets of namespace {:?}", gateway.key, object.key.namespace);
            return Err(Apart::Refused(gateway.key.clone(), what));
        }
        Ok((gateway, &**spec))
    }

    fn without_gateway(&mut self, object: &Object, what: String, hint: Option<String>) {
        self.part.faults.push(warning(&object.origin, &object.key, PARENT, format!("{PARENT}: {what}"), hint));
    }
}
