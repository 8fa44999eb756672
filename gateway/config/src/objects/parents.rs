//! Which Gateways and ListenerSets a route names as its parents.

use super::Target;
use crate::object::{Body, Object};

/// The group of Gateways and routes.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// What a route names as its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRef {
    /// The parent's group.
    pub group: String,
    /// The parent's kind.
    pub kind: String,
    /// The parent's namespace, if the reference names one.
    pub namespace: Option<String>,
    /// The parent's name.
    pub name: String,
    /// The name of one listener, if the reference names one.
    pub section: Option<String>,
    /// The port of the listeners that are meant, if the reference names one.
    pub port: Option<u16>,
}

impl ParentRef {
    /// Whether the parent is of a kind that has listeners.
    pub(crate) fn has_listeners(&self) -> bool {
        self.group == GROUP && matches!(self.kind.as_str(), "Gateway" | "ListenerSet")
    }
}

/// The Gateways and ListenerSets that a route names as its parents; none of an object that is no route.
pub(crate) fn parents(object: &Object) -> Vec<Target> {
    let refs = parent_refs(&object.body).into_iter().filter(ParentRef::has_listeners);
    let mut targets: Vec<Target> = refs
        .map(|parent| Target {
            namespace: parent.namespace.unwrap_or_else(|| object.key.namespace.clone()),
            kind: parent.kind,
            name: parent.name,
        })
        .collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

macro_rules! parent_refs {
    ($refs:expr) => {
        $refs
            .iter()
            .flatten()
            .map(|parent| ParentRef {
                group: parent.group.clone().unwrap_or_else(|| GROUP.to_owned()),
                kind: parent.kind.clone().unwrap_or_else(|| "Gateway".to_owned()),
                namespace: parent.namespace.clone(),
                name: parent.name.clone(),
                section: parent.section_name.clone(),
                port: parent.port.and_then(|port| u16::try_from(port).ok()),
            })
            .collect()
    };
}

pub(crate) fn parent_refs(body: &Body) -> Vec<ParentRef> {
    match body {
        Body::HttpRoute(route) => parent_refs!(route.spec.parent_refs),
        Body::GrpcRoute(route) => parent_refs!(route.spec.parent_refs),
        Body::TlsRoute(route) => parent_refs!(route.spec.parent_refs),
        Body::TcpRoute(route) | Body::UdpRoute(route) => parent_refs!(route.spec.parent_refs),
        _ => Vec::new(),
    }
}
