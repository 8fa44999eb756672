//! Which listeners of a Gateway a route is attached to: those that its parent reference names, if they allow it and have a host name in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_api::apis::standard::gateways::GatewayListenersAllowedRoutes;

use super::hostnames::intersection;
use super::{PlannedRoute, RouteKind};
use crate::objects::{GROUP, ParentRef};
use crate::plan::namespaces::Namespaces;
use crate::plan::{GatewayListener, ListenerProtocol, Reason, Refusal, Verdict};

/// Which routes a listener takes.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) struct Allowed {
    pub(in crate::plan) kinds: Vec<RouteKind>,
    pub(in crate::plan) namespaces: Namespaces,
}

impl Allowed {
    /// Reads `allowedRoutes` of a listener of this protocol. The verdict says whether the protocol can serve all kinds that are named there.
    pub(in crate::plan) fn new(protocol: &ListenerProtocol, given: Option<&GatewayListenersAllowedRoutes>) -> (Self, Verdict) {
        let possible = protocol.routes();
        let mut verdict = Ok(());
        let kinds = match given.and_then(|given| given.kinds.as_deref()).filter(|kinds| !kinds.is_empty()) {
            None => possible.to_vec(),
            Some(wanted) => {
                let mut kinds = Vec::new();
                for one in wanted {
                    let group = one.group.as_deref().unwrap_or(GROUP);
                    let kind = RouteKind::named(&one.kind).filter(|kind| group == GROUP && possible.contains(kind));
                    match kind {
                        Some(kind) if kinds.contains(&kind) => {}
                        Some(kind) => kinds.push(kind),
                        None => {
                            let what = format!("a listener of protocol {protocol} takes no routes of kind {} of group {group:?}", one.kind);
                            verdict = Err(Refusal::new(Reason::InvalidRouteKinds, what));
                        }
                    }
                }
                kinds
            }
        };
        let namespaces = Namespaces::of_routes(given.and_then(|given| given.namespaces.as_ref()));
        (Self { kinds, namespaces }, verdict)
    }

    /// Whether the listener takes a route. `own` is the namespace of the object that has the listener.
    fn takes(&self, route: &PlannedRoute, own: &str, labels: &impl Fn(&str) -> BTreeMap<String, String>) -> bool {
        self.kinds.contains(&route.kind) && self.namespaces.contain(&route.object.key.namespace, own, labels)
    }
}

/// Returns the indexes of the listeners to which a route is attached by one of its parent references, each with the host names that they have in common.
/// `namespace` is that of the Gateway or ListenerSet that has the listeners.
///
/// # Errors
/// There is no such listener; the reason is the one that the Gateway API has for this.
pub(in crate::plan) fn attach(
    listeners: &[GatewayListener],
    namespace: &str,
    route: &PlannedRoute,
    parent: &ParentRef,
    labels: &impl Fn(&str) -> BTreeMap<String, String>,
) -> Result<Vec<(usize, Arc<[String]>)>, Refusal> {
    let named = |l: &GatewayListener| {
        parent.section.as_ref().is_none_or(|section| *section == l.name) && parent.port.is_none_or(|port| port == l.port)
    };
    let common = |listener: &GatewayListener| match route.kind {
        RouteKind::Tcp | RouteKind::Udp => Some(Arc::default()),
        RouteKind::Http | RouteKind::Grpc | RouteKind::Tls => intersection(listener.hostname.as_deref(), &route.hostnames),
    };
    let (mut is_named, mut is_taken, mut attached) = (false, false, Vec::new());
    for (i, listener) in listeners.iter().enumerate().filter(|(_, listener)| named(listener)) {
        is_named = true;
        if listener.allowed.takes(route, namespace, labels) {
            is_taken = true;
            attached.extend(common(listener).map(|hostnames| (i, hostnames)));
        }
    }
    if !is_named {
        let section = parent.section.as_ref().map(|section| format!(" called {section:?}")).unwrap_or_default();
        let port = parent.port.map(|port| format!(" of port {port}")).unwrap_or_default();
        return Err(Refusal::new(Reason::NoMatchingParent, format!("the {} has no listener{section}{port}", parent.kind)));
    }
    if !is_taken {
        let what = format!("no listener that it names takes a {} of namespace {:?}", route.kind.name(), route.object.key.namespace);
        return Err(Refusal::new(Reason::NotAllowedByListeners, what));
    }
    if attached.is_empty() {
        let what = format!("no listener that takes it has a host name in common with {}", route.hostnames.join(", "));
        return Err(Refusal::new(Reason::NoMatchingListenerHostname, what));
    }
    Ok(attached)
}
