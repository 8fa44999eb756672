//! Endpoints and pools, and which endpoints of a service port may be picked (KEP-1669, KEP-2433): those that are
//! ready, of them the healthy ones, of them the near ones.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};

use crate::health::Checked;
use crate::stats::EndpointStats;

pub use crate::unique::unique;

/// An endpoint: an address and port that serves a service port.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The address to connect to.
    pub address: SocketAddr,
    /// Whether the endpoint may take new connections.
    pub ready: bool,
    /// Whether the endpoint answers, even while it terminates.
    pub serving: bool,
    /// Whether the endpoint is being removed.
    pub terminating: bool,
    /// The relative share of traffic, for balancers that weigh. With 0 it takes no traffic while others have more.
    pub weight: u32,
    /// What else is known of the endpoint. There mostly is nothing, or it is the same for many. The fields `zone`, `node`, `labels` and so on can be used as if
    /// they were the endpoint's own.
    pub about: Arc<About>,
    /// The endpoint's statistics. All workers share them, and they are kept while the address stays in the service port.
    pub stats: Arc<EndpointStats>,
}

/// What is known of an endpoint besides its address and state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The topology zone.
    pub zone: Option<String>,
    /// The node its pod runs on.
    pub node: Option<String>,
    /// Topology hints of its EndpointSlice.
    pub hint_zones: Vec<String>,
    /// Node hints of its EndpointSlice.
    pub hint_nodes: Vec<String>,
    /// Labels of its pod.
    pub labels: Vec<(String, String)>,
    /// Annotations of its pod.
    pub annotations: Vec<(String, String)>,
}

impl About {
    /// Knows nothing. All endpoints of which nothing is known share it.
    pub fn nothing() -> Arc<Self> {
        static NOTHING: LazyLock<Arc<About>> = LazyLock::new(Arc::default);
        NOTHING.clone()
    }
}

impl Deref for Endpoint {
    type Target = About;

    fn deref(&self) -> &About {
        &self.about
    }
}

impl DerefMut for Endpoint {
    /// Makes a copy first if it is shared with other endpoints, which keep theirs.
    fn deref_mut(&mut self) -> &mut About {
        Arc::make_mut(&mut self.about)
    }
}

impl Endpoint {
    /// Whether another endpoint is the same in all respects, so that either may stand for both.
    pub fn is_same(&self, other: &Self) -> bool {
        self.address == other.address
            && (self.ready, self.serving, self.terminating, self.weight) == (other.ready, other.serving, other.terminating, other.weight)
            && (Arc::ptr_eq(&self.about, &other.about) || self.about == other.about)
            && Arc::ptr_eq(&self.stats, &other.stats)
    }

    /// A ready endpoint of weight 1, of which nothing else is known.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, ready: true, serving: true, terminating: false, weight: 1, about: About::nothing(), stats: Arc::default() }
    }
}

/// Where this gateway is, for traffic policies and hints.
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
    /// Endpoints on any node are used.
    #[default]
    Cluster,
    /// Only endpoints on this node are used.
    Local,
}

/// The endpoints of one service port that may be picked, at one moment.
#[derive(Debug)]
pub struct Pool {
    /// The number of the pool. It stays while the service port and its balancer binding stay, and a plugin keeps its state of the pool under it.
    pub id: u64,
    /// The version, which is unique in the process, and changes whenever `endpoints` does.
    pub version: u64,
    /// The endpoints that may be picked, sorted by address. Their weights are those that count now: an endpoint that warms up has a share of its own. Mostly
    /// these are all endpoints of the service port, and then both are one list.
    pub endpoints: Arc<[Endpoint]>,
    /// The endpoints that are not picked any more but still answer, sorted by address: UDP flows stay with them.
    pub draining: Vec<SocketAddr>,
    /// So few endpoints are healthy that the others are in the pool, too.
    pub panic: bool,
    /// Why `endpoints` is empty, if it is.
    pub empty: Option<EmptyReason>,
}

/// Why a pool has nothing to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum EmptyReason {
    /// The service port has no usable endpoint at all.
    NoEndpoints,
    /// The service port has usable endpoints, but none on this node, and the policy is Local.
    NoLocalEndpoints,
    /// The service port has usable endpoints, but none is healthy, and there is no panic threshold.
    NoHealthyEndpoints,
}

impl Pool {
    /// The index of an endpoint that may be picked.
    pub fn find(&self, address: SocketAddr) -> Option<usize> {
        self.endpoints.binary_search_by_key(&address, |e| e.address).ok()
    }

    /// Whether a flow may stay with an endpoint: it may be picked, or still answers while it terminates.
    pub fn serves(&self, address: SocketAddr) -> bool {
        self.find(address).is_some() || self.draining.binary_search(&address).is_ok()
    }

    /// Selects those endpoints of a service port that may be picked. `panic_threshold`: see [`crate::settings::HealthSettings::panic_threshold`].
    pub fn select(id: u64, all: &[Endpoint], policy: TrafficPolicy, distribution: Distribution, here: &Here, panic_threshold: u8) -> Self {
        let usable = ready_or_draining(all.iter().collect());
        let (candidates, empty) = match policy {
            TrafficPolicy::Cluster => (usable, EmptyReason::NoEndpoints),
            TrafficPolicy::Local => {
                let local = all.iter().filter(|e| here.node.is_some() && e.node == here.node).collect();
                let reason = if usable.is_empty() { EmptyReason::NoEndpoints } else { EmptyReason::NoLocalEndpoints };
                (ready_or_draining(local), reason)
            }
        };
        let empty = if candidates.is_empty() { empty } else { EmptyReason::NoHealthyEndpoints };
        let (healthy, panic) = healthy(candidates, panic_threshold);
        // This comes after health: where all near endpoints fail, the far ones serve.
        let mut chosen = if policy == TrafficPolicy::Cluster { near(healthy, distribution, here) } else { healthy };
        chosen.sort_by_key(|e| e.address);
        chosen.dedup_by_key(|e| e.address);
        let mut endpoints: Vec<Endpoint> = chosen.into_iter().cloned().collect();
        warm(&mut endpoints);
        let mut draining: Vec<SocketAddr> = all.iter().filter(|e| e.serving && e.terminating).map(|e| e.address).collect();
        draining.retain(|address| endpoints.binary_search_by_key(address, |e| e.address).is_err());
        draining.sort_unstable();
        Self { id, version: unique(), empty: endpoints.is_empty().then_some(empty), endpoints: endpoints.into(), draining, panic }
    }
}

/// The endpoints that neither probes nor exchanges speak against; or all of them, if those are fewer than the threshold says. An endpoint that waits for its
/// first probe counts for neither side, and serves where nothing better does.
fn healthy(all: Vec<&Endpoint>, panic_threshold: u8) -> (Vec<&Endpoint>, bool) {
    let verdict = |e: &Endpoint| {
        let health = &e.stats.health;
        if health.is_ejected() { Checked::Failing } else { health.checked() }
    };
    let count = |which| all.iter().filter(|e| verdict(e) == which).count();
    let (passing, failing) = (count(Checked::Passing), count(Checked::Failing));
    if passing == all.len() {
        return (all, false);
    }
    // Unless an endpoint fails there is no panic: pending endpoints are left out, or are all there is.
    let panic = failing > 0 && passing * 100 < usize::from(panic_threshold) * (passing + failing);
    let wanted = if passing > 0 { Checked::Passing } else { Checked::Pending };
    if panic { (all, true) } else { (all.into_iter().filter(|e| verdict(e) == wanted).collect(), false) }
}

/// Gives endpoints that warm up their share of their weight. Weights are small numbers, so all are multiplied by a hundred first, or by as much as fits.
fn warm(endpoints: &mut [Endpoint]) {
    let share = |e: &Endpoint| u64::from(e.stats.health.share());
    if endpoints.iter().all(|e| share(e) >= 100) {
        return;
    }
    let most = endpoints.iter().map(|e| u64::from(e.weight) * 100).max().unwrap_or(0);
    let divisor = most.div_ceil(u64::from(u32::MAX)).max(1);
    for endpoint in endpoints {
        let weight = u64::from(endpoint.weight) * share(endpoint) / divisor;
        // An endpoint that has a weight keeps one, as 0 would take it out.
        let least = u32::from(endpoint.weight > 0);
        endpoint.weight = u32::try_from(weight).unwrap_or(u32::MAX).max(least);
    }
}

/// `spec.trafficDistribution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Distribution {
    /// No endpoints are preferred.
    #[default]
    Any,
    /// Endpoints of the same zone are preferred: `PreferClose` or `PreferSameZone`.
    SameZone,
    /// Endpoints on the same node are preferred: `PreferSameNode`.
    SameNode,
}

/// The ready endpoints; if there are none anywhere, those that serve while they terminate (KEP-1669).
fn ready_or_draining(all: Vec<&Endpoint>) -> Vec<&Endpoint> {
    if all.iter().any(|e| e.ready) {
        return all.into_iter().filter(|e| e.ready).collect();
    }
    all.into_iter().filter(|e| e.serving && e.terminating).collect()
}

/// The endpoints that are near. Hints count only if every endpoint has one and some name this place. Node hints count before zone hints.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Reason, ServiceHealth};

    fn endpoints(n: u8) -> Vec<Endpoint> {
        (0..n).map(|i| Endpoint::new(SocketAddr::from(([10, 0, 0, i], 80)))).collect()
    }

    fn select(all: &[Endpoint], panic_threshold: u8) -> (Vec<u8>, bool) {
        let pool = Pool::select(1, all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), panic_threshold);
        let last = |e: &Endpoint| if let std::net::IpAddr::V4(ip) = e.address.ip() { ip.octets()[3] } else { 0 };
        (pool.endpoints.iter().map(last).collect(), pool.panic)
    }

    fn eject(endpoint: &Endpoint) {
        let service = ServiceHealth::default();
        service.set_ejected(0, 1);
        assert!(service.eject(&endpoint.stats.health, Reason::Latency));
    }

    /// There may be 100,000 endpoints, each in the list of all and in up to two pools.
    #[test]
    fn an_endpoint_is_small_and_what_is_known_of_many_is_held_once() {
        assert!(size_of::<Endpoint>() <= 56, "{}", size_of::<Endpoint>());
        assert!(size_of::<EndpointStats>() <= 96, "{}", size_of::<EndpointStats>());
        let (mut a, b) = (Endpoint::new(SocketAddr::from(([10, 0, 0, 1], 80))), Endpoint::new(SocketAddr::from(([10, 0, 0, 2], 80))));
        assert!(Arc::ptr_eq(&a.about, &b.about));
        a.zone = Some("z".to_owned());
        assert_eq!((a.zone.as_deref(), b.zone.as_deref()), (Some("z"), None));
    }

    #[test]
    fn unhealthy_and_ejected_endpoints_are_left_out_until_too_few_are_left() {
        let all = endpoints(4);
        all[0].stats.health.set_checked(Checked::Failing);
        assert_eq!(select(&all, 50), (vec![1, 2, 3], false));
        eject(&all[1]);
        assert_eq!(select(&all, 50), (vec![2, 3], false), "a half is not below a half");
        eject(&all[2]);
        assert_eq!(select(&all, 50), (vec![0, 1, 2, 3], true));
        assert_eq!(select(&all, 0), (vec![3], false));
        eject(&all[3]);
        assert_eq!(select(&all, 0), (vec![], false));
        let pool = Pool::select(1, &all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 0);
        assert_eq!(pool.empty, Some(EmptyReason::NoHealthyEndpoints));
    }

    #[test]
    fn pending_endpoints_wait_while_others_serve() {
        let all = endpoints(3);
        all[0].stats.health.set_checked(Checked::Pending);
        assert_eq!(select(&all, 50), (vec![1, 2], false));
        all[1].stats.health.set_checked(Checked::Pending);
        assert_eq!(select(&all, 50), (vec![2], false), "what is not known is no reason to panic");
        all[2].stats.health.set_checked(Checked::Failing);
        assert_eq!(select(&all, 50), (vec![0, 1, 2], true));
        assert_eq!(select(&all, 0), (vec![0, 1], false), "rather what is not known than what fails");
        all[2].stats.health.set_checked(Checked::Pending);
        assert_eq!(select(&all, 50), (vec![0, 1, 2], false));
    }

    #[test]
    fn traffic_leaves_the_zone_when_all_of_it_fails() {
        let mut all = endpoints(4);
        for (i, e) in all.iter_mut().enumerate() {
            e.hint_zones = vec![if i == 0 { "here" } else { "there" }.to_owned()];
        }
        let here = Here { node: None, zone: Some("here".to_owned()) };
        let near = |all: &[Endpoint]| Pool::select(1, all, TrafficPolicy::Cluster, Distribution::SameZone, &here, 50).endpoints.len();
        assert_eq!(near(&all), 1);
        eject(&all[0]);
        assert_eq!(near(&all), 3);
    }

    #[test]
    fn a_warming_endpoint_has_its_share_of_the_weight() {
        let mut all = endpoints(3);
        (all[1].weight, all[2].weight) = (4, 0);
        let weights = |all: &[Endpoint]| {
            let pool = Pool::select(1, all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50);
            pool.endpoints.iter().map(|e| e.weight).collect::<Vec<_>>()
        };
        assert_eq!(weights(&all), [1, 4, 0]);
        all[0].stats.health.set_share(25);
        assert_eq!(weights(&all), [25, 400, 0]);
        all[1].weight = u32::MAX;
        let large = weights(&all);
        assert_eq!((large[0], large[2]), (1, 0), "as much as fits, but not nothing");
        assert!(large[1] > u32::MAX / 101 * 100, "{large:?}");
    }
}
