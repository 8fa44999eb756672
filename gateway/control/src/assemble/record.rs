//! The record of a service port: what its pools are selected from, and what must outlive a snapshot.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use sluicegate_config::family::ServiceFamilies;
use sluicegate_config::object::ours::FailurePolicy;
use sluicegate_config::plan::PlannedPort;
use sluicegate_host::Loaded;
use sluicegate_model::discovery::FoundEndpoint;
use sluicegate_model::family::IpFamily;
use sluicegate_model::fault::Fault;
use sluicegate_model::limiter::Limiter;
use sluicegate_model::plugin::{BalancerGeneration, hash_bytes};
use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::{Affinity, ServiceIndex, ServicePort};
use sluicegate_model::stats::{EndpointStats, ServiceStats};
use sluicegate_model::status::PortStatus;

use super::admission::{Admission, Refused};
use super::near::Noted;
use super::tls::Tls;
use super::{Collaborators, balancer_use, faults::refused, limiter, say_panic};
use crate::port::PortId;

/// The indices of a service port in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The index for addresses of the Service's primary IP family, and of a family that it does not name.
    pub(super) primary: ServiceIndex,
    /// The index for addresses of the Service's other IP family.
    secondary: Option<(IpFamily, ServiceIndex)>,
    /// The index for routes, where the client's IP family does not decide the endpoint's.
    pub(super) route: ServiceIndex,
    /// Whether its balancer is one that its own policy names, which counts before those of Gateways.
    pub(super) own_balancer: bool,
    /// Whether it keeps sessions by itself.
    pub(super) sessions: bool,
}

impl Entry {
    /// The index for what arrives at an address.
    pub(super) fn at(&self, address: SocketAddr) -> ServiceIndex {
        let family = IpFamily::of(address.ip());
        self.secondary.filter(|(of, _)| *of == family).map_or(self.primary, |(_, index)| index)
    }
}

/// How pools are selected.
#[derive(Clone, Copy)]
pub(super) struct Selection {
    internal: TrafficPolicy,
    external: TrafficPolicy,
    distribution: Distribution,
    pub(super) panic_threshold: u8,
}

/// A pool, and what it was selected from.
struct Kept {
    family: Option<IpFamily>,
    policy: TrafficPolicy,
    config: Arc<str>,
    pool: Arc<Pool>,
}

/// The record of one service port.
pub(super) struct Record {
    pub(super) stats: Arc<ServiceStats>,
    /// The endpoints that were let in.
    pub(super) all: Arc<[Endpoint]>,
    /// Whether some endpoints were not let in.
    pub(super) refused: bool,
    /// The port numbers of the endpoints that were let in, each once.
    pub(super) ports: Box<[u16]>,
    /// The indices; none: nothing leads here.
    pub(super) entry: Option<Entry>,
    /// Whether the endpoints' health is watched.
    pub(super) watched: bool,
    pub(super) selection: Selection,
    /// Statistics of endpoints that are gone. They are kept as long as somebody else has them: an exchange that still runs, or a pool that workers have.
    left: HashMap<SocketAddr, Arc<EndpointStats>>,
    pools: Vec<Kept>,
    affinity: Option<Arc<Affinity>>,
    limiter: Option<Arc<Limiter>>,
    /// The balancers that served last, and their configuration.
    balancer: Option<(Vec<Arc<dyn BalancerGeneration>>, Arc<str>)>,
}

impl Record {
    pub(super) fn new(stats: Arc<ServiceStats>) -> Self {
        let selection = Selection {
            internal: TrafficPolicy::Cluster,
            external: TrafficPolicy::Cluster,
            distribution: Distribution::Any,
            panic_threshold: 0,
        };
        Self {
            stats,
            all: Arc::default(),
            refused: false,
            ports: Box::default(),
            entry: None,
            watched: false,
            selection,
            left: HashMap::new(),
            pools: Vec::new(),
            affinity: None,
            limiter: None,
            balancer: None,
        }
    }

    /// Takes in the endpoints that are let in.
    pub(super) fn admit(
        &mut self,
        port: &PlannedPort,
        protocol: Protocol,
        found: &[FoundEndpoint],
        admission: &mut Admission,
        faults: &mut Vec<Fault>,
    ) {
        let mut all: Vec<Endpoint> = Vec::with_capacity(found.len());
        let mut known = std::mem::take(&mut self.left);
        known.extend(self.all.iter().map(|e| (e.address, e.stats.clone())));
        let mut refused = Refused::default();
        for e in found.iter().filter(|e| e.port_name.as_ref().is_none_or(|name| **name == *port.name)) {
            let address = match admission.admit(e, &port.discovery.plugin, protocol) {
                Ok(address) => address,
                Err(why) => {
                    refused.add(e, why);
                    continue;
                }
            };
            let stats = known.entry(address).or_insert_with(|| {
                let stats = Arc::<EndpointStats>::default();
                self.stats.picks.join(stats.clone());
                stats
            });
            all.push(Endpoint {
                address,
                ready: e.ready,
                serving: e.serving,
                terminating: e.terminating,
                weight: e.weight,
                about: e.about.clone(),
                stats: stats.clone(),
            });
        }
        self.refused = !refused.is_empty();
        faults.extend(refused.faults(port));
        // If nothing has changed, it is the same list, which the pools share.
        if all.len() != self.all.len() || !all.iter().zip(&*self.all).all(|(now, before)| now.is_same(before)) {
            let mut ports: Vec<u16> = all.iter().map(|e| e.address.port()).collect();
            ports.sort_unstable();
            ports.dedup();
            (self.all, self.ports) = (all.into(), ports.into());
        }
        self.all.iter().for_each(|e| _ = known.remove(&e.address));
        if !known.is_empty() {
            self.left = known;
        }
    }

    /// What is noted of its endpoints; none if it has no index yet.
    pub(super) fn noted(&self) -> Option<Noted<'_>> {
        self.entry.map(|entry| Noted { index: entry.primary, ports: &self.ports, refused: self.refused })
    }

    /// Gives it its indices, one for each family.
    pub(super) fn enter(&self, port: &PlannedPort, families: &ServiceFamilies, indices: &[ServiceIndex]) -> Entry {
        let (primary, secondary) = (families.endpoints(), families.secondary());
        let answers = |family| self.all.iter().any(|e| IpFamily::of(e.address.ip()) == family && (e.ready || e.serving));
        let elsewhere = secondary.is_some_and(|family| answers(family) && !primary.is_some_and(answers));
        let first = indices.first().copied().unwrap_or_default();
        let second = secondary.zip(indices.get(1).copied());
        let route = second.filter(|_| elsewhere).map_or(first, |(_, index)| index);
        Entry { primary: first, secondary: second, route, own_balancer: port.own_balancer, sessions: port.settings.session.is_some() }
    }

    /// A service port for each of `families`.
    pub(super) fn assemble(
        &mut self,
        port: &PlannedPort,
        id: &PortId,
        families: &[Option<IpFamily>],
        with: &mut Collaborators<'_>,
        tls: &mut Tls,
        faults: &mut Vec<Fault>,
    ) -> Vec<ServicePort> {
        let registry = &mut *with.registry;
        match registry.ladder(&balancer_use(port)) {
            Ok(ladder) => {
                let ladder: Vec<Arc<dyn BalancerGeneration>> = ladder
                    .into_iter()
                    .filter_map(|(loaded, _)| match loaded {
                        Loaded::Balancer(balancer) => Some(balancer as Arc<dyn BalancerGeneration>),
                        _ => None,
                    })
                    .collect();
                self.balancer = Some((ladder, port.balancer.config.text().clone()));
            }
            Err(error) => faults.extend(refused(&port.balancer, &error, registry)),
        }
        // If it is refused, what served last goes on. At first there is nothing, and the native random choice serves.
        let (balancers, balancer_config) = self.balancer.clone().unwrap_or_else(|| (Vec::new(), "{}".into()));
        self.affinity = port.affinity.map(|timeout| {
            let known = self.affinity.take().filter(|table| table.timeout == timeout);
            known.unwrap_or_else(|| Arc::new(Affinity::new(timeout)))
        });
        let tls = tls.endpoint(id, &port.tls, faults);
        with.health.admit(id, &port.settings, &tls, &self.stats, &self.all, Instant::now());
        self.watched = port.settings.health.is_on();
        self.selection = Selection {
            internal: port.internal,
            external: port.external,
            distribution: port.distribution,
            panic_threshold: port.settings.health.panic_threshold,
        };
        let limiter = limiter(&mut self.limiter, &port.settings.rates);
        let persists = registry.persists(&port.balancer.plugin);
        self.pools.retain(|kept| families.contains(&kept.family));
        let mut made = Vec::new();
        for (position, family) in families.iter().copied().enumerate() {
            let (internal, external) = self.pools(family, with.here, &balancer_config);
            made.push(ServicePort {
                id: port.service.clone(),
                port_name: port.name.clone(),
                family,
                protocol: port.app_protocol,
                internal,
                external,
                local: port.external == TrafficPolicy::Local,
                balancers: balancers.clone(),
                balancer_config: balancer_config.clone(),
                fail_closed: registry.failure_policy(&port.balancer.plugin) == FailurePolicy::Fail,
                kept_as: persists.then(|| kept_as(port, family.filter(|_| position > 0), &balancer_config)),
                trial: registry.trial(&balancer_use(port)),
                hash: port.hash.clone(),
                affinity: self.affinity.clone(),
                settings: port.settings.clone(),
                limiter: limiter.clone(),
                tls: tls.clone(),
                stats: self.stats.clone(),
            });
        }
        // These are held here, in the sum of the service's counters, and elsewhere.
        self.left.retain(|_, stats| Arc::strong_count(stats) > 2);
        if self.left.is_empty() {
            self.left = HashMap::new();
        }
        let panic = made.iter().any(|port| port.internal.panic || port.external.panic);
        say_panic(&port.service, panic, self.selection.panic_threshold, &self.stats);
        made
    }

    /// The pools for traffic from inside and outside, of endpoints of this IP family.
    pub(super) fn pools(&mut self, family: Option<IpFamily>, here: &Here, config: &Arc<str>) -> (Arc<Pool>, Arc<Pool>) {
        let Selection { internal, external, .. } = self.selection;
        let inside = self.pool(family, internal, here, config);
        let outside = if internal == external { inside.clone() } else { self.pool(family, external, here, config) };
        (inside, outside)
    }

    /// The pool: the same as before, if nothing has changed; with the same id, if only the endpoints have; with a new id for another balancer configuration.
    fn pool(&mut self, family: Option<IpFamily>, policy: TrafficPolicy, here: &Here, config: &Arc<str>) -> Arc<Pool> {
        let at = self.pools.iter().position(|kept| (kept.family, kept.policy) == (family, policy));
        let known = at.map(|at| &self.pools[at]).filter(|kept| kept.config == *config).map(|kept| kept.pool.clone());
        let id = known.as_ref().map_or_else(unique, |pool| pool.id);
        let of_family = |e: &Endpoint| family.is_none_or(|family| IpFamily::of(e.address.ip()) == family);
        let some: Vec<Endpoint>;
        let all: &[Endpoint] = if self.all.iter().all(of_family) {
            &self.all
        } else {
            some = self.all.iter().filter(|e| of_family(e)).cloned().collect();
            &some
        };
        let mut pool = Pool::select(id, all, policy, self.selection.distribution, here, self.selection.panic_threshold);
        if pool.endpoints.len() == self.all.len() && pool.endpoints.iter().zip(&*self.all).all(|(a, b)| a.is_same(b)) {
            pool.endpoints = self.all.clone();
        }
        let pool = match known {
            Some(known)
                if known.empty == pool.empty
                    && known.draining == pool.draining
                    && known.panic == pool.panic
                    && known.endpoints.len() == pool.endpoints.len()
                    && known.endpoints.iter().zip(&*pool.endpoints).all(|(a, b)| same(a, b)) =>
            {
                known
            }
            _ => Arc::new(pool),
        };
        let kept = Kept { family, policy, config: config.clone(), pool: pool.clone() };
        match at {
            Some(at) => self.pools[at] = kept,
            None => self.pools.push(kept),
        }
        pool
    }

    /// What the admin API shows of the port.
    pub(super) fn shown(&self, port: &PlannedPort) -> PortStatus {
        PortStatus {
            name: port.name.clone(),
            port: port.service.port,
            protocol: port.protocol,
            node_port: port.node_port,
            balancer: port.balancer.plugin.clone(),
            endpoints: self.all.clone(),
            stats: self.stats.clone(),
        }
    }
}

/// A name for a port's pools that a restart does not change. Another configuration has another name, as it can do nothing with the state.
/// `secondary`: for the pools of a Service's secondary IP family.
fn kept_as(port: &PlannedPort, secondary: Option<IpFamily>, config: &str) -> Arc<str> {
    let family = secondary.map(|family| format!(" {family}")).unwrap_or_default();
    format!("{}/{}{family} {:016x}", port.service, port.protocol, hash_bytes(config.as_bytes())).into()
}

fn same(a: &Endpoint, b: &Endpoint) -> bool {
    a.address == b.address
        && a.weight == b.weight
        && (Arc::ptr_eq(&a.about, &b.about)
            || (a.zone == b.zone && a.node == b.node && a.labels == b.labels && a.annotations == b.annotations))
        && a.terminating == b.terminating
        && Arc::ptr_eq(&a.stats, &b.stats)
}
