//! If an HTTPRoute and a GRPCRoute have a host name in common, a listener takes only the older one (GEP-1016, `GRPCRoute.spec.hostnames`).

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use super::hostnames::overlap;
use super::{PlannedRoute, RouteKind};
use crate::object::Object;
use crate::objects::Target;
use crate::plan::policies::created;

/// A route that is attached to a listener, with the host names that they have in common.
pub(in crate::plan) type Attached = (Arc<PlannedRoute>, Arc<[String]>);

/// Routes by the Gateways and ListenerSets that they name.
pub(in crate::plan) type AttachedRoutes = HashMap<Target, BTreeSet<ByAge>>;

/// A route in the order of its [age](Age).
#[derive(Debug)]
pub(in crate::plan) struct ByAge(pub(in crate::plan) Arc<PlannedRoute>);

impl Deref for ByAge {
    type Target = Arc<PlannedRoute>;

    fn deref(&self) -> &Arc<PlannedRoute> {
        &self.0
    }
}

impl PartialEq for ByAge {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByAge {}

impl PartialOrd for ByAge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByAge {
    fn cmp(&self, other: &Self) -> Ordering {
        self.age.cmp(&other.age).then_with(|| self.object.key.cmp(&other.object.key))
    }
}

/// Which route comes first: the older one, then the first by `{namespace}/{name}`, then the HTTPRoute. Routes of files without a time of creation come last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::plan) struct Age {
    undated: bool,
    created: String,
    /// The route's `{namespace}/{name}`.
    name: String,
    of_another_kind: bool,
}

impl Age {
    pub(super) fn of(route: &Object) -> Self {
        let created = created(route).unwrap_or_default();
        let name = format!("{}/{}", route.key.namespace, route.key.name);
        Self { undated: created.is_empty(), created, name, of_another_kind: route.key.kind != "HTTPRoute" }
    }

    /// The route's `creationTimestamp`.
    pub(super) fn created(&self) -> Option<&str> {
        (!self.undated).then_some(&*self.created)
    }

    /// The route's namespace and name, as `{namespace}/{name}`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Returns the route of the other kind that a listener has taken for one of these host names.
pub(in crate::plan) fn rival<'a>(attached: &'a [Attached], route: &PlannedRoute, hostnames: &[String]) -> Option<&'a PlannedRoute> {
    let other = match route.kind {
        RouteKind::Http => RouteKind::Grpc,
        RouteKind::Grpc => RouteKind::Http,
        RouteKind::Tls | RouteKind::Tcp | RouteKind::Udp => return None,
    };
    attached.iter().find(|(known, taken)| known.kind == other && overlap(taken, hostnames)).map(|(known, _)| &**known)
}
