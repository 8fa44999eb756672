//! Endpoints and pools, and which endpoints of a service port may be picked (SERVICE-SEMANTICS §5, §7; KEP-1669, KEP-2433).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stats::EndpointStats;

/// One address and port that serves a service port.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to connect to.
    pub address: SocketAddr,
    /// May take new connections.
    pub ready: bool,
    /// Answers, even while it terminates.
    pub serving: bool,
    /// Is being removed.
    pub terminating: bool,
    /// Relative share, for balancers that weigh; 0 takes no traffic while others have more.
    pub weight: u32,
    /// Topology zone.
    pub zone: Option<String>,
    /// The node its pod runs on.
    pub node: Option<String>,
    /// Topology hints of its EndpointSlice.
    pub hint_zones: Vec<String>,
    /// Node hints of its EndpointSlice.
    pub hint_nodes: Vec<String>,
    /// Labels of its pod.
    pub labels: Vec<(String, String)>,
    /// Shared by all workers, and kept while the address stays in the service port.
    pub stats: Arc<EndpointStats>,
}

/// Where this gateway stands, for traffic policies and hints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// The node's name.
    pub node: Option<String>,
    /// The node's zone.
    pub zone: Option<String>,
}

/// `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize)]
pub enum TrafficPolicy {
    /// Endpoints anywhere.
    #[default]
    Cluster,
    /// Endpoints on this node only.
    Local,
}

/// The endpoints of one service port that may be picked, at one moment.
#[derive(Debug)]
pub struct Pool {
    /// Stable while the service port and its balancer binding stay; a plugin keeps its state of the pool under it.
    pub id: u64,
    /// Changes, process-wide unique, whenever `endpoints` does.
    pub version: u64,
    /// Those that may be picked, sorted by address.
    pub endpoints: Vec<Endpoint>,
    /// Why `endpoints` is empty, if it is.
    pub empty: Option<EmptyReason>,
}

/// Why a pool has nothing to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum EmptyReason {
    /// The service port has no usable endpoint at all.
    NoEndpoints,
    /// It has, but none on this node, and the policy is Local.
    NoLocalEndpoints,
}

/// A process-wide unique number.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Pool {
    /// Selects, from all endpoints of a service port, those that may be picked.
    pub fn select(id: u64, all: &[Endpoint], policy: TrafficPolicy, distribution: Distribution, here: &Here) -> Self {
        let usable = ready_or_draining(all.iter().collect());
        let (mut chosen, empty) = match policy {
            TrafficPolicy::Cluster => (near(usable, distribution, here), EmptyReason::NoEndpoints),
            TrafficPolicy::Local => {
                let local = all.iter().filter(|e| here.node.is_some() && e.node == here.node).collect();
                let reason = if usable.is_empty() { EmptyReason::NoEndpoints } else { EmptyReason::NoLocalEndpoints };
                (ready_or_draining(local), reason)
            }
        };
        chosen.sort_by_key(|e| e.address);
        chosen.dedup_by_key(|e| e.address);
        let endpoints: Vec<Endpoint> = chosen.into_iter().cloned().collect();
        Self { id, version: unique(), empty: endpoints.is_empty().then_some(empty), endpoints }
    }
}

/// `spec.trafficDistribution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Distribution {
    /// No preference.
    #[default]
    Any,
    /// `PreferClose` or `PreferSameZone`.
    SameZone,
    /// `PreferSameNode`.
    SameNode,
}

/// Ready endpoints; if there are none anywhere, those serving while they terminate (KEP-1669).
fn ready_or_draining(all: Vec<&Endpoint>) -> Vec<&Endpoint> {
    if all.iter().any(|e| e.ready) {
        return all.into_iter().filter(|e| e.ready).collect();
    }
    all.into_iter().filter(|e| e.serving && e.terminating).collect()
}

/// Hints count only if every endpoint has one and some name this place; node hints before zone hints.
fn near<'a>(all: Vec<&'a Endpoint>, distribution: Distribution, here: &Here) -> Vec<&'a Endpoint> {
    let hinted = |hints: fn(&Endpoint) -> &Vec<String>, here: &Option<String>| -> Option<Vec<&'a Endpoint>> {
        let here = here.as_ref()?;
        if all.iter().any(|e| hints(e).is_empty()) {
            return None;
        }
        let close: Vec<_> = all.iter().copied().filter(|e| hints(e).contains(here)).collect();
        (!close.is_empty()).then_some(close)
    };
    let by_node = || hinted(|e| &e.hint_nodes, &here.node);
    let by_zone = || hinted(|e| &e.hint_zones, &here.zone);
    match distribution {
        Distribution::Any => None,
        Distribution::SameZone => by_zone(),
        Distribution::SameNode => by_node().or_else(by_zone),
    }
    .unwrap_or(all)
}
