//! Which listeners of a Gateway a route is attached to: those that its parent reference names, if they allow it and have a host name in common.

use std::collections::BTreeMap;

use gateway_api::apis::standard::gateways::{
    GatewayListenersAllowedRoutes, GatewayListenersAllowedRoutesNamespacesFrom, GatewayListenersAllowedRoutesNamespacesSelector,
};

use super::hostnames::intersection;
use super::{GROUP, ParentRef, PlannedRoute, Refusal, RouteKind, Verdict};
use crate::plan::GatewayListener;

/// The label that every namespace has.
const NAME: &str = "kubernetes.io/metadata.name";

/// Which routes a listener takes.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) struct Allowed {
    pub(in crate::plan) kinds: Vec<RouteKind>,
    pub(in crate::plan) namespaces: Namespaces,
}

/// Of which namespaces.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) enum Namespaces {
    Same,
    All,
    Selector(GatewayListenersAllowedRoutesNamespacesSelector),
}

impl Allowed {
    /// What `allowedRoutes` of a listener of this protocol says, and whether all kinds in it can be had.
    pub(in crate::plan) fn new(protocol: &str, given: Option<&GatewayListenersAllowedRoutes>) -> (Self, Verdict) {
        let possible = RouteKind::of_protocol(protocol);
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
                            verdict = Err(Refusal::new("InvalidRouteKinds", what));
                        }
                    }
                }
                kinds
            }
        };
        let namespaces = given.and_then(|given| given.namespaces.as_ref());
        let namespaces = match namespaces.map(|n| (n.from.as_ref(), n.selector.as_ref())) {
            Some((Some(GatewayListenersAllowedRoutesNamespacesFrom::All), _)) => Namespaces::All,
            Some((Some(GatewayListenersAllowedRoutesNamespacesFrom::Selector), selector)) => {
                Namespaces::Selector(selector.cloned().unwrap_or_default())
            }
            _ => Namespaces::Same,
        };
        (Self { kinds, namespaces }, verdict)
    }

    fn takes(&self, route: &PlannedRoute, gateway: &str, labels: &impl Fn(&str) -> BTreeMap<String, String>) -> bool {
        let namespace = &route.object.key.namespace;
        self.kinds.contains(&route.kind)
            && match &self.namespaces {
                Namespaces::Same => namespace == gateway,
                Namespaces::All => true,
                Namespaces::Selector(selector) => selects(selector, namespace, labels(namespace)),
            }
    }
}

/// Whether a selector takes a namespace. One without any condition takes all of them.
fn selects(selector: &GatewayListenersAllowedRoutesNamespacesSelector, namespace: &str, mut labels: BTreeMap<String, String>) -> bool {
    labels.insert(NAME.to_owned(), namespace.to_owned());
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = value.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// The listeners, by their index, that a route is attached to by one of its parent references, each with the host names that they have in common.
///
/// # Errors
/// None, with the reason that the Gateway API has for it.
pub(in crate::plan) fn attach(
    listeners: &[GatewayListener],
    gateway: &str,
    route: &PlannedRoute,
    parent: &ParentRef,
    labels: &impl Fn(&str) -> BTreeMap<String, String>,
) -> Result<Vec<(usize, Vec<String>)>, Refusal> {
    let named = |l: &GatewayListener| {
        parent.section.as_ref().is_none_or(|section| *section == l.name) && parent.port.is_none_or(|port| port == l.port)
    };
    let named: Vec<(usize, &GatewayListener)> = listeners.iter().enumerate().filter(|(_, listener)| named(listener)).collect();
    if named.is_empty() {
        let section = parent.section.as_ref().map(|section| format!(" called {section:?}")).unwrap_or_default();
        let port = parent.port.map(|port| format!(" of port {port}")).unwrap_or_default();
        return Err(Refusal::new("NoMatchingParent", format!("the Gateway has no listener{section}{port}")));
    }
    let allowing: Vec<_> = named.into_iter().filter(|(_, listener)| listener.allowed.takes(route, gateway, labels)).collect();
    if allowing.is_empty() {
        let what = format!("no listener that it names takes a {} of namespace {:?}", route.kind.name(), route.object.key.namespace);
        return Err(Refusal::new("NotAllowedByListeners", what));
    }
    let common = |listener: &GatewayListener| match route.kind {
        RouteKind::Tcp | RouteKind::Udp => Some(Vec::new()),
        RouteKind::Http | RouteKind::Grpc | RouteKind::Tls => intersection(listener.hostname.as_deref(), &route.hostnames),
    };
    let attached: Vec<_> = allowing.into_iter().filter_map(|(i, listener)| Some((i, common(listener)?))).collect();
    if attached.is_empty() {
        let what = format!("no listener that takes it has a host name in common with {}", route.hostnames.join(", "));
        return Err(Refusal::new("NoMatchingListenerHostname", what));
    }
    Ok(attached)
}
