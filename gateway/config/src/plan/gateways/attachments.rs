//! Routes that name a Gateway or ListenerSet as their parent, attached to its listeners.

use super::*;
use crate::plan::routes::{Attached, attach, rival};

impl Compiler<'_> {
    /// Attaches the routes that name a Gateway or ListenerSet. Returns what became of each route, and the routes of each listener.
    pub(super) fn attachments(&mut self, object: &Object, listeners: &mut [GatewayListener]) -> (Vec<Attachment>, Vec<Vec<Attached>>) {
        let (mut attachments, mut attached) = (Vec::new(), vec![Vec::<Attached>::new(); listeners.len()]);
        // Mostly all routes are of one kind. Then no rivals need to be looked for among thousands of them.
        let mut kinds: Vec<BTreeSet<RouteKind>> = vec![BTreeSet::new(); listeners.len()];
        for route in self.routes_of(&object.key) {
            for (i, parent) in route.parents.iter().enumerate() {
                if !route.names(i, &object.key) {
                    continue;
                }
                let labels = |namespace: &str| self.namespace_labels(namespace);
                let accepted = attach(listeners, &object.key.namespace, route, parent, &labels).and_then(|found| {
                    let mut refused = Vec::new();
                    let mut served = false;
                    for (at, hostnames) in found {
                        if let Some(policy) = &listeners[at].overridden {
                            refused.push(Refusal::new(
                                Reason::Overridden,
                                format!("the router of {policy} takes all traffic of the listener"),
                            ));
                        } else if let Some(rival) = Some(&attached[at])
                            .filter(|_| kinds[at].iter().any(|kind| *kind != route.kind))
                            .and_then(|attached| rival(attached, route, &hostnames))
                        {
                            let what = format!("{} has one of its host names there, and is older or comes first by name", rival.object.key);
                            refused.push(Refusal::new(Reason::Conflicted, what));
                        } else {
                            served = true;
                            kinds[at].insert(route.kind);
                            join(&mut attached[at], route, hostnames);
                        }
                    }
                    refused.into_iter().next().filter(|_| !served).map_or(Ok(()), Err)
                });
                if let Err(refusal) = &accepted {
                    self.not_attached(route, i, refusal);
                }
                attachments.push(Attachment { route: route.object.key.clone(), parent: i, accepted });
            }
        }
        for (listener, attached) in listeners.iter_mut().zip(&attached) {
            listener.routes = attached.len();
        }
        (attachments, attached)
    }

    /// Refuses the routes that name a ListenerSet which its Gateway does not allow.
    pub(super) fn unattached(&mut self, object: &Object) -> Vec<Attachment> {
        let refusal = Refusal::new(Reason::NoMatchingParent, format!("{} is not allowed by its Gateway", object.key));
        let mut attachments = Vec::new();
        for route in self.routes_of(&object.key) {
            for i in (0..route.parents.len()).filter(|i| route.names(*i, &object.key)) {
                self.not_attached(route, i, &refusal);
                attachments.push(Attachment { route: route.object.key.clone(), parent: i, accepted: Err(refusal.clone()) });
            }
        }
        attachments
    }

    /// Notes that a parent reference of a route is attached to no listener.
    fn not_attached(&mut self, route: &PlannedRoute, parent: usize, refusal: &Refusal) {
        let path = format!("spec.parentRefs[{parent}]");
        let message = refusal.at(&path);
        self.part.faults.push(warning(&route.object.origin, &route.object.key, &path, message, None));
    }
}

/// Adds a route to a listener's. If the route added last is the same one, by another of its parent references, it gets these host names besides its own.
fn join(attached: &mut Vec<Attached>, route: &Arc<PlannedRoute>, hostnames: Arc<[String]>) {
    match attached.last_mut().filter(|(known, _)| Arc::ptr_eq(known, route)) {
        Some((_, known)) => {
            let mut all = [&**known, &*hostnames].concat();
            all.sort_unstable();
            all.dedup();
            *known = all.into();
        }
        None => attached.push((route.clone(), hostnames)),
    }
}
