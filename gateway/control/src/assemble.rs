//! From the plan, the endpoints and the plugins to a snapshot. What must outlive a snapshot is kept here: pool ids, endpoint statistics,
//! affinity tables, counters, each service port's last good balancer.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sluicegate_host::Loaded;
use sluicegate_host::discovery::{FoundEndpoint, Key};
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::limiter::Limiter;
use sluicegate_model::object::ours::FailurePolicy;
use sluicegate_model::plan::{Plan, PlannedFront, PlannedHealthCheck, PlannedPort, PlannedRouter, PlannedTarget, PluginUse};
use sluicegate_model::plugin::{BalancerGeneration, PluginError, RouterGeneration, Stage, hash_bytes};
use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::route::{Protocol, RouteTable, ServiceRef};
use sluicegate_model::schema::Violation;
use sluicegate_model::settings::Rate;
use sluicegate_model::snapshot::{
    Affinity, AppProtocol, Front, HealthCheck, Listener, RouterBinding, RouterRung, ServiceIndex, ServicePort, ServiceSide, Snapshot,
    Target, TlsHost, VirtualHost,
};
use sluicegate_model::stats::{EndpointStats, ServiceStats};
use sluicegate_model::status::{EndpointStatus, PortStatus, ServiceStatus};

use crate::discovery::Runner;
use crate::health::Health;
use crate::registry::{Registry, Use};
use crate::tls::Tls;

/// Service ports whose counters are kept; beyond that, of those that are gone none.
const MOST_SERVICE_STATS: usize = 16_384;
/// A service port, and its protocol: TCP 53 and UDP 53 of one Service are two.
pub(crate) type PortId = (ServiceRef, Protocol);

fn port_id(port: &PlannedPort) -> PortId {
    (port.service.clone(), if port.protocol == "UDP" { Protocol::Udp } else { Protocol::Tcp })
}

/// What outlives a snapshot.
#[derive(Default)]
pub struct Assembler {
    version: u64,
    pools: HashMap<(PortId, bool), (String, Arc<Pool>)>,
    endpoint_stats: HashMap<(PortId, SocketAddr), Arc<EndpointStats>>,
    service_stats: HashMap<PortId, Arc<ServiceStats>>,
    affinities: HashMap<PortId, Arc<Affinity>>,
    limiters: HashMap<PortId, Arc<Limiter>>,
    listener_limiters: HashMap<(Protocol, SocketAddr), Arc<Limiter>>,
    tls: Tls,
    balancers: HashMap<PortId, (Vec<Arc<dyn BalancerGeneration>>, Arc<str>)>,
    routers: HashMap<Use, Vec<(Arc<dyn RouterGeneration>, Arc<RouteTable>)>>,
    /// Of service ports whose endpoints' health is watched: what their pools are selected from.
    watched: HashMap<PortId, Candidates>,
    last: Arc<Snapshot>,
}

/// What a service port's pools are selected from, and how.
#[derive(Clone)]
struct Candidates {
    all: Arc<[Endpoint]>,
    internal: TrafficPolicy,
    external: TrafficPolicy,
    distribution: Distribution,
    panic_threshold: u8,
}

/// A snapshot and what there is to say of it.
pub struct Assembled {
    /// For the workers.
    pub snapshot: Arc<Snapshot>,
    /// For the admin API.
    pub services: Vec<ServiceStatus>,
    /// Configurations that plugins refused.
    pub faults: Vec<Fault>,
}

/// A name of a port's pools that a restart does not change. State under one configuration is nothing to another.
fn kept_as(port: &PlannedPort, config: &str) -> Arc<str> {
    format!("{}/{} {:016x}", port.service, port.protocol, hash_bytes(config.as_bytes())).into()
}

/// The use a port makes of its balancer.
pub fn balancer_use(port: &PlannedPort) -> Use {
    Use { plugin: port.balancer.plugin.clone(), config: port.balancer.config.clone(), listener: None }
}

/// The use a listener makes of its router.
pub fn router_use(router: &PlannedRouter) -> Use {
    Use { plugin: router.plugin.plugin.clone(), config: router.plugin.config.clone(), listener: Some(router.listener.clone()) }
}

impl Assembler {
    /// Makes the next snapshot.
    pub fn assemble(&mut self, plan: &Plan, found: &Runner, registry: &mut Registry, health: &mut Health, here: &Here) -> Assembled {
        let mut faults = Vec::new();
        let mut services = Vec::new();
        let mut index: HashMap<PortId, ServiceIndex> = HashMap::new();
        let mut statuses = Vec::new();
        for service in &plan.services {
            let mut ports = Vec::new();
            for port in &service.ports {
                let key = Key { namespace: port.service.namespace.clone(), name: port.service.name.clone() };
                let stats = self.service_stats.entry(port_id(port)).or_default().clone();
                let all = self.endpoints(port, found.endpoints(&key).unwrap_or_default(), &stats);
                ports.push(status(port, &all, &stats));
                if port.protocol == "SCTP" || !service.proxied {
                    continue;
                }
                let made = self.service_port(port, all, stats, registry, health, here, &mut faults);
                index.insert(port_id(port), services.len());
                services.push(Arc::new(made));
            }
            statuses.push(ServiceStatus {
                namespace: service.namespace.clone(),
                name: service.name.clone(),
                type_: service.type_.clone(),
                cluster_ips: service.cluster_ips.iter().map(ToString::to_string).collect(),
                external_ips: service.external_ips.iter().map(ToString::to_string).collect(),
                ports,
            });
        }
        let mut bindings = Vec::new();
        for router in &plan.routers {
            bindings.push(self.router(router, registry, &index, &mut faults));
        }
        let listeners = plan.listeners.iter().map(|listener| {
            let protocol = listener.front.protocol();
            let target = |target: &PlannedTarget| match target {
                PlannedTarget::Service { service, side } => match index.get(&(service.clone(), protocol)) {
                    Some(service) => Target::Service(ServiceSide { service: *service, side: *side }),
                    None => Target::Nothing,
                },
                PlannedTarget::Router(router) => bindings.get(*router).cloned().flatten().map_or(Target::Nothing, Target::Router),
                PlannedTarget::Nothing => Target::Nothing,
            };
            let tls = &mut self.tls;
            let front = match &listener.front {
                PlannedFront::Tcp(to) => Front::Tcp(target(to)),
                PlannedFront::Udp(to) => Front::Udp(target(to)),
                PlannedFront::Http(hosts) => {
                    Front::Http(hosts.iter().map(|(hostname, to)| VirtualHost { hostname: hostname.clone(), target: target(to) }).collect())
                }
                PlannedFront::Tls(hosts) => Front::Tls(
                    hosts
                        .iter()
                        .map(|host| TlsHost {
                            hostname: host.hostname.clone(),
                            mode: tls.mode(listener.address, host, &mut faults),
                            target: target(&host.target),
                        })
                        .collect(),
                ),
            };
            let limiter = limiter(&mut self.listener_limiters, &(protocol, listener.address), &listener.settings.rates);
            Arc::new(Listener {
                address: listener.address,
                name: listener.name.clone(),
                front,
                settings: listener.settings.clone(),
                limiter,
            })
        });
        let listeners: Vec<Arc<Listener>> = listeners.collect();
        self.listener_limiters.retain(|of, _| listeners.iter().any(|l| (l.front.protocol(), l.address) == *of));
        self.tls.forget(&listeners, &index);
        self.forget(&index);
        health.retain(|service| index.contains_key(service));
        self.version += 1;
        let health_checks = plan.health_checks.iter().map(|check| health_check(check, &statuses, here)).collect();
        self.last = Arc::new(Snapshot { version: self.version, listeners, services, health_checks });
        Assembled { snapshot: self.last.clone(), services: statuses, faults }
    }

    /// The last snapshot with new pools for service ports whose endpoints' health has changed; none if all came out the same. Everything else
    /// is shared with the last one, so this costs by the size of these pools only.
    pub(crate) fn refresh(&mut self, changed: &HashSet<PortId>, here: &Here) -> Option<Arc<Snapshot>> {
        let last = self.last.clone();
        let mut next: Option<Snapshot> = None;
        for (index, port) in last.services.iter().enumerate() {
            let protocol = if port.protocol == AppProtocol::Udp { Protocol::Udp } else { Protocol::Tcp };
            let id = (port.id.clone(), protocol);
            let Some(candidates) = self.watched.get(&id).filter(|_| changed.contains(&id)).cloned() else { continue };
            let (internal, external) = self.pools(&id, &candidates, here, &port.balancer_config, &port.stats);
            if Arc::ptr_eq(&internal, &port.internal) && Arc::ptr_eq(&external, &port.external) {
                continue;
            }
            let port = ServicePort { internal, external, ..ServicePort::clone(port) };
            next.get_or_insert_with(|| Snapshot::clone(&last)).services[index] = Arc::new(port);
        }
        let mut next = next?;
        self.version += 1;
        next.version = self.version;
        self.last = Arc::new(next);
        Some(self.last.clone())
    }

    fn endpoints(&mut self, port: &PlannedPort, found: &[FoundEndpoint], service: &ServiceStats) -> Vec<Endpoint> {
        let (id, mut all) = (port_id(port), Vec::new());
        for e in found.iter().filter(|e| e.port_name.as_ref().is_none_or(|name| *name == port.name)) {
            let Ok(ip) = e.address.parse::<IpAddr>() else {
                tracing::warn!(service = %port.service, address = e.address, "a discovery plugin published what is no IP address");
                continue;
            };
            if e.port == 0 {
                continue;
            }
            let address = SocketAddr::new(ip, e.port);
            let stats = self.endpoint_stats.entry((id.clone(), address)).or_insert_with(|| {
                let stats = Arc::<EndpointStats>::default();
                service.picks.join(stats.clone());
                stats
            });
            let stats = stats.clone();
            all.push(Endpoint {
                address,
                ready: e.ready,
                serving: e.serving,
                terminating: e.terminating,
                weight: e.weight,
                zone: e.zone.clone(),
                node: e.node.clone(),
                hint_zones: e.hint_zones.clone(),
                hint_nodes: e.hint_nodes.clone(),
                labels: e.labels.clone(),
                annotations: e.annotations.clone(),
                stats,
            });
        }
        all
    }

    fn service_port(
        &mut self,
        port: &PlannedPort,
        all: Vec<Endpoint>,
        stats: Arc<ServiceStats>,
        registry: &mut Registry,
        health: &mut Health,
        here: &Here,
        faults: &mut Vec<Fault>,
    ) -> ServicePort {
        match registry.ladder(&balancer_use(port)) {
            Ok(ladder) => {
                let ladder: Vec<Arc<dyn BalancerGeneration>> = ladder
                    .into_iter()
                    .filter_map(|(loaded, _)| match loaded {
                        Loaded::Balancer(balancer) => Some(balancer as Arc<dyn BalancerGeneration>),
                        _ => None,
                    })
                    .collect();
                self.balancers.insert(port_id(port), (ladder, port.balancer.config.as_str().into()));
            }
            Err(error) => faults.extend(refused(&port.balancer, &error, registry)),
        }
        // Refused: what served last goes on; at first there is nothing, and the native random choice serves.
        let (balancers, balancer_config) = self.balancers.get(&port_id(port)).cloned().unwrap_or_else(|| (Vec::new(), "{}".into()));
        let affinity = port.affinity.map(|timeout| self.affinity(port_id(port), timeout));
        let tls = self.tls.endpoint(&port_id(port), &port.tls, faults);
        health.admit(&port_id(port), &port.settings, &tls, &stats, &all, Instant::now());
        let candidates = Candidates {
            all: all.into(),
            internal: port.internal,
            external: port.external,
            distribution: port.distribution,
            panic_threshold: port.settings.health.panic_threshold,
        };
        let (internal, external) = self.pools(&port_id(port), &candidates, here, &balancer_config, &stats);
        if port.settings.health.is_on() {
            self.watched.insert(port_id(port), candidates);
        } else {
            self.watched.remove(&port_id(port));
        }
        let kept_as = registry.persists(&port.balancer.plugin).then(|| kept_as(port, &balancer_config));
        ServicePort {
            id: port.service.clone(),
            port_name: port.name.clone(),
            protocol: port.app_protocol,
            internal,
            external,
            balancers,
            balancer_config,
            fail_closed: registry.failure_policy(&port.balancer.plugin) == FailurePolicy::Fail,
            kept_as,
            trial: registry.trial(&balancer_use(port)),
            hash: port.hash.clone(),
            affinity,
            settings: port.settings.clone(),
            limiter: limiter(&mut self.limiters, &port_id(port), &port.settings.rates),
            tls,
            stats,
        }
    }

    fn affinity(&mut self, port: PortId, timeout: Duration) -> Arc<Affinity> {
        match self.affinities.get(&port) {
            Some(table) if table.timeout == timeout => table.clone(),
            _ => {
                let table = Arc::new(Affinity::new(timeout));
                self.affinities.insert(port, table.clone());
                table
            }
        }
    }

    /// The pools for traffic from inside and outside. A panic is said when it begins and when it ends.
    fn pools(&mut self, port: &PortId, candidates: &Candidates, here: &Here, config: &str, stats: &ServiceStats) -> (Arc<Pool>, Arc<Pool>) {
        let internal = self.pool(port, candidates, candidates.internal, here, config);
        let external = if candidates.internal == candidates.external {
            internal.clone()
        } else {
            self.pool(port, candidates, candidates.external, here, config)
        };
        let panic = internal.panic || external.panic;
        if stats.health.panic.swap(panic, Ordering::Relaxed) != panic {
            let (service, threshold) = (&port.0, candidates.panic_threshold);
            if panic {
                tracing::error!(%service, "less than {threshold} % of the endpoints are healthy: all of them are used");
            } else {
                tracing::info!(%service, "enough endpoints are healthy again: only they are used");
            }
        }
        (internal, external)
    }

    /// The pool that was, if nothing changed; its id, if only its endpoints did; a new id for a new balancer configuration.
    fn pool(&mut self, port: &PortId, from: &Candidates, policy: TrafficPolicy, here: &Here, config: &str) -> Arc<Pool> {
        let key = (port.clone(), policy == TrafficPolicy::Local);
        let known = self.pools.get(&key).filter(|(known, _)| known == config).map(|(_, pool)| pool.clone());
        let id = known.as_ref().map_or_else(unique, |pool| pool.id);
        let pool = Pool::select(id, &from.all, policy, from.distribution, here, from.panic_threshold);
        let pool = match known {
            Some(known)
                if known.empty == pool.empty
                    && known.draining == pool.draining
                    && known.panic == pool.panic
                    && known.endpoints.len() == pool.endpoints.len()
                    && known.endpoints.iter().zip(&pool.endpoints).all(|(a, b)| same(a, b)) =>
            {
                known
            }
            _ => Arc::new(pool),
        };
        self.pools.insert(key, (config.to_owned(), pool.clone()));
        pool
    }

    fn router(
        &mut self,
        router: &PlannedRouter,
        registry: &mut Registry,
        index: &HashMap<PortId, ServiceIndex>,
        faults: &mut Vec<Fault>,
    ) -> Option<Arc<RouterBinding>> {
        let wanted = router_use(router);
        match registry.ladder(&wanted) {
            Ok(ladder) => {
                let ladder = ladder.into_iter().filter_map(|(loaded, table)| match (loaded, table) {
                    (Loaded::Router(router), Some(table)) => Some((router as Arc<dyn RouterGeneration>, table)),
                    _ => None,
                });
                let ladder: Vec<_> = ladder.collect();
                // Other configurations of this listener are its past.
                self.routers.retain(|u, _| u.listener != wanted.listener);
                self.routers.insert(wanted.clone(), ladder);
            }
            Err(error) => faults.extend(refused(&router.plugin, &error, registry)),
        }
        let ladder =
            self.routers.get(&wanted).or_else(|| self.routers.iter().find(|(u, _)| u.listener == wanted.listener).map(|(_, l)| l))?;
        let protocol = router.listener.transport.protocol();
        let found = |service: &ServiceRef| index.get(&(service.clone(), protocol)).copied();
        let rung = |(generation, table): &(Arc<dyn RouterGeneration>, Arc<RouteTable>)| RouterRung {
            generation: generation.clone(),
            table: table.clone(),
            backends: table
                .rules
                .iter()
                .map(|rule| rule.backends.iter().map(|b| found(&b.service).ok_or_else(|| missing(&b.service, protocol))).collect())
                .collect(),
            mirrors: table.rules.iter().map(|rule| rule.actions.mirrors.iter().map(|m| found(&m.service)).collect()).collect(),
        };
        Some(Arc::new(RouterBinding { transport: router.listener.transport, ladder: ladder.iter().map(rung).collect() }))
    }

    /// Drops what belongs to service ports that are gone.
    fn forget(&mut self, live: &HashMap<PortId, ServiceIndex>) {
        self.pools.retain(|(service, _), _| live.contains_key(service));
        self.watched.retain(|service, _| live.contains_key(service));
        self.affinities.retain(|service, _| live.contains_key(service));
        self.limiters.retain(|service, _| live.contains_key(service));
        self.balancers.retain(|service, _| live.contains_key(service));
        // Here, in its service's sum, and elsewhere.
        self.endpoint_stats.retain(|(service, _), stats| live.contains_key(service) && Arc::strong_count(stats) > 2);
        // A Service that comes back, be it that its file was written in two steps, goes on counting.
        if self.service_stats.len() > MOST_SERVICE_STATS {
            self.service_stats.retain(|_, stats| Arc::strong_count(stats) > 1);
        }
    }
}

/// The limiter that was, if its limits are the same: a snapshot must not give everybody full buckets.
fn limiter<K: Clone + Eq + Hash>(known: &mut HashMap<K, Arc<Limiter>>, of: &K, rates: &[Rate]) -> Option<Arc<Limiter>> {
    if let Some(known) = known.get(of).filter(|known| known.is_of(rates)) {
        return Some(known.clone());
    }
    let made = Limiter::new(rates).map(Arc::new);
    match &made {
        Some(made) => known.insert(of.clone(), made.clone()),
        None => known.remove(of),
    };
    made
}

/// Counts addresses as kube-proxy does: an endpoint of several ports is one, and one that terminates is none.
fn health_check(check: &PlannedHealthCheck, services: &[ServiceStatus], here: &Here) -> HealthCheck {
    let service = services.iter().find(|s| s.namespace == check.namespace && s.name == check.name);
    let endpoints = service.into_iter().flat_map(|s| &s.ports).flat_map(|p| &p.endpoints);
    let local = endpoints.filter(|e| e.ready && here.node.is_some() && e.node == here.node);
    let addresses: HashSet<Option<IpAddr>> = local.map(|e| e.address.parse::<SocketAddr>().ok().map(|a| a.ip())).collect();
    HealthCheck {
        namespace: check.namespace.clone(),
        name: check.name.clone(),
        addresses: check.addresses.clone(),
        local_endpoints: addresses.len(),
    }
}

fn missing(service: &ServiceRef, protocol: Protocol) -> Arc<str> {
    let protocol = if protocol == Protocol::Udp { "UDP " } else { "" };
    format!("{protocol}service port {service} does not exist").into()
}

/// A fault for each field that does not fit the plugin's schema; else one for the plugin's own words.
pub(crate) fn refused(plugin: &PluginUse, error: &PluginError, registry: &Registry) -> Vec<Fault> {
    let serves = match registry.live(&plugin.plugin) {
        Some(_) => "what served before goes on serving",
        None => "no generation of it serves: balancers choose at random, routers answer 503, discovered endpoints stay",
    };
    let fault = |place, message| Fault { severity: Severity::Error, place, object: None, message, expected: Some(serves.to_owned()) };
    let violations = if error.stage == Stage::Configure { registry.violations(&plugin.plugin, &plugin.config) } else { Vec::new() };
    if violations.is_empty() {
        return vec![fault(plugin.place(""), error.to_string())];
    }
    let one = |v: &Violation| {
        let dot = if v.path.is_empty() || v.path.starts_with('[') { "" } else { "." };
        fault(plugin.place(&v.path), format!("plugin {}: config{dot}{}: {}", plugin.plugin, v.path, v.message))
    };
    violations.iter().map(one).collect()
}

fn same(a: &Endpoint, b: &Endpoint) -> bool {
    a.address == b.address
        && a.weight == b.weight
        && a.zone == b.zone
        && a.node == b.node
        && a.labels == b.labels
        && a.annotations == b.annotations
        && a.terminating == b.terminating
        && Arc::ptr_eq(&a.stats, &b.stats)
}

fn status(port: &PlannedPort, all: &[Endpoint], stats: &Arc<ServiceStats>) -> PortStatus {
    let shown = |e: &Endpoint| EndpointStatus {
        address: e.address.to_string(),
        ready: e.ready,
        serving: e.serving,
        terminating: e.terminating,
        weight: e.weight,
        zone: e.zone.clone(),
        node: e.node.clone(),
        stats: e.stats.clone(),
    };
    PortStatus {
        name: port.name.clone(),
        port: port.service.port,
        protocol: port.protocol.clone(),
        node_port: port.node_port,
        balancer: port.balancer.plugin.clone(),
        endpoints: all.iter().map(shown).collect(),
        stats: stats.clone(),
    }
}
