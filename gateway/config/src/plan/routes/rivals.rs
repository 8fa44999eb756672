//! An HTTPRoute and a GRPCRoute that have a host name in common: a listener takes the older one only (GEP-1016, `GRPCRoute.spec.hostnames`).

use std::sync::Arc;

use super::hostnames::overlap;
use super::{PlannedRoute, RouteKind};
use crate::object::Object;
use crate::plan::policies::created;

/// A route that is attached to a listener, with the host names that they have in common.
pub(in crate::plan) type Attached = (Arc<PlannedRoute>, Vec<String>);

/// Which route comes first: the older, one of a file without a time last; then by `{namespace}/{name}`. Of two kinds with the same name the HTTPRoute does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::plan) struct Age {
    undated: bool,
    created: String,
    /// `{namespace}/{name}`.
    name: String,
    of_another_kind: bool,
}

impl Age {
    pub(super) fn of(route: &Object) -> Self {
        let created = created(route).unwrap_or_default();
        let name = format!("{}/{}", route.key.namespace, route.key.name);
        Self { undated: created.is_empty(), created, name, of_another_kind: route.key.kind != "HTTPRoute" }
    }

    /// Its `creationTimestamp`.
    pub(super) fn created(&self) -> Option<&str> {
        (!self.undated).then_some(&*self.created)
    }

    /// Its `{namespace}/{name}`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The route of the other kind that a listener has taken for one of these host names.
pub(in crate::plan) fn rival<'a>(attached: &'a [Attached], route: &PlannedRoute, hostnames: &[String]) -> Option<&'a PlannedRoute> {
    let other = match route.kind {
        RouteKind::Http => RouteKind::Grpc,
        RouteKind::Grpc => RouteKind::Http,
        RouteKind::Tls | RouteKind::Tcp | RouteKind::Udp => return None,
    };
    attached.iter().find(|(known, taken)| known.kind == other && overlap(taken, hostnames)).map(|(known, _)| &**known)
}
