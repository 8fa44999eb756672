//! From the plan, the endpoints and the plugins to a snapshot. What must outlive a snapshot is kept here: pool ids, endpoint statistics,
//! affinity tables, counters, each service port's last good balancer.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sluicegate_host::Loaded;
use sluicegate_host::discovery::{FoundEndpoint, Key};
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::limiter::Limiter;
use sluicegate_model::object::ours::FailurePolicy;
use sluicegate_model::plan::{Plan, PlannedFront, PlannedPort, PlannedRouter, PlannedTarget, PluginUse};
use sluicegate_model::plugin::{BalancerGeneration, PluginError, RouterGeneration, Stage};
use sluicegate_model::pool::{Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::route::{RouteTable, ServiceRef};
use sluicegate_model::schema::Violation;
use sluicegate_model::settings::Rate;
use sluicegate_model::snapshot::{
    Affinity, Front, Listener, RouterBinding, RouterRung, ServiceIndex, ServicePort, ServiceSide, Snapshot, Target, TlsHost, VirtualHost,
};
use sluicegate_model::stats::{EndpointStats, ServiceStats};
use sluicegate_model::status::{EndpointStatus, PortStatus, ServiceStatus};

use crate::discovery::Runner;
use crate::registry::{Registry, Use};
use crate::tls::Tls;

/// Service ports whose counters are kept; beyond that, of those that are gone none.
const MOST_SERVICE_STATS: usize = 16_384;

/// What outlives a snapshot.
#[derive(Default)]
pub struct Assembler {
    version: u64,
    pools: HashMap<(ServiceRef, bool), (String, Arc<Pool>)>,
    endpoint_stats: HashMap<(ServiceRef, SocketAddr), Arc<EndpointStats>>,
    service_stats: HashMap<ServiceRef, Arc<ServiceStats>>,
    affinities: HashMap<ServiceRef, Arc<Affinity>>,
    limiters: HashMap<ServiceRef, Arc<Limiter>>,
    listener_limiters: HashMap<SocketAddr, Arc<Limiter>>,
    tls: Tls,
    balancers: HashMap<ServiceRef, (Vec<Arc<dyn BalancerGeneration>>, Arc<str>)>,
    routers: HashMap<Use, Vec<(Arc<dyn RouterGeneration>, Arc<RouteTable>)>>,
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
    pub fn assemble(&mut self, plan: &Plan, found: &Runner, registry: &mut Registry, here: &Here) -> Assembled {
        let mut faults = Vec::new();
        let mut services = Vec::new();
        let mut index: HashMap<ServiceRef, ServiceIndex> = HashMap::new();
        let mut statuses = Vec::new();
        for service in &plan.services {
            let mut ports = Vec::new();
            for port in &service.ports {
                let key = Key { namespace: port.service.namespace.clone(), name: port.service.name.clone() };
                let stats = self.service_stats.entry(port.service.clone()).or_default().clone();
                let all = self.endpoints(port, found.endpoints(&key).unwrap_or_default(), &stats);
                ports.push(status(port, &all, &stats));
                // UDP and SCTP ports may share a number with a TCP port; only TCP is forwarded.
                if port.protocol != "TCP" || !service.proxied {
                    continue;
                }
                let made = self.service_port(port, &all, stats, registry, here, &mut faults);
                index.insert(port.service.clone(), services.len());
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
            let target = |target: &PlannedTarget| match target {
                PlannedTarget::Service { service, side } => match index.get(service) {
                    Some(service) => Target::Service(ServiceSide { service: *service, side: *side }),
                    None => Target::Nothing,
                },
                PlannedTarget::Router(router) => bindings.get(*router).cloned().flatten().map_or(Target::Nothing, Target::Router),
                PlannedTarget::Nothing => Target::Nothing,
            };
            let tls = &mut self.tls;
            let front = match &listener.front {
                PlannedFront::Tcp(to) => Front::Tcp(target(to)),
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
            let limiter = limiter(&mut self.listener_limiters, &listener.address, &listener.settings.rates);
            Arc::new(Listener {
                address: listener.address,
                name: listener.name.clone(),
                front,
                settings: listener.settings.clone(),
                limiter,
            })
        });
        let listeners: Vec<Arc<Listener>> = listeners.collect();
        self.listener_limiters.retain(|address, _| listeners.iter().any(|l| l.address == *address));
        self.tls.forget(&listeners, &index);
        self.forget(&index);
        self.version += 1;
        Assembled { snapshot: Arc::new(Snapshot { version: self.version, listeners, services }), services: statuses, faults }
    }

    fn endpoints(&mut self, port: &PlannedPort, found: &[FoundEndpoint], service: &ServiceStats) -> Vec<Endpoint> {
        let mut all = Vec::new();
        for e in found.iter().filter(|e| e.port_name.as_ref().is_none_or(|name| *name == port.name)) {
            let Ok(ip) = e.address.parse::<IpAddr>() else {
                tracing::warn!(service = %port.service, address = e.address, "a discovery plugin published what is no IP address");
                continue;
            };
            if e.port == 0 {
                continue;
            }
            let address = SocketAddr::new(ip, e.port);
            let stats = self.endpoint_stats.entry((port.service.clone(), address)).or_insert_with(|| {
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
                stats,
            });
        }
        all
    }

    fn service_port(
        &mut self,
        port: &PlannedPort,
        all: &[Endpoint],
        stats: Arc<ServiceStats>,
        registry: &mut Registry,
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
                self.balancers.insert(port.service.clone(), (ladder, port.balancer.config.as_str().into()));
            }
            Err(error) => faults.extend(refused(&port.balancer, &error, registry)),
        }
        // Refused: what served last goes on; at first there is nothing, and the native random choice serves.
        let (balancers, balancer_config) = self.balancers.get(&port.service).cloned().unwrap_or_else(|| (Vec::new(), "{}".into()));
        let affinity = port.affinity.map(|timeout| self.affinity(&port.service, timeout));
        let internal = self.pool(port, all, port.internal, here, &balancer_config);
        let external =
            if port.internal == port.external { internal.clone() } else { self.pool(port, all, port.external, here, &balancer_config) };
        ServicePort {
            id: port.service.clone(),
            port_name: port.name.clone(),
            protocol: port.app_protocol,
            internal,
            external,
            balancers,
            balancer_config,
            fail_closed: registry.failure_policy(&port.balancer.plugin) == FailurePolicy::Fail,
            hash: port.hash.clone(),
            affinity,
            settings: port.settings.clone(),
            limiter: limiter(&mut self.limiters, &port.service, &port.settings.rates),
            tls: self.tls.endpoint(&port.service, &port.tls, faults),
            stats,
        }
    }

    fn affinity(&mut self, service: &ServiceRef, timeout: Duration) -> Arc<Affinity> {
        match self.affinities.get(service) {
            Some(table) if table.timeout == timeout => table.clone(),
            _ => {
                let table = Arc::new(Affinity::new(timeout));
                self.affinities.insert(service.clone(), table.clone());
                table
            }
        }
    }

    /// The pool that was, if nothing changed; its id, if only its endpoints did; a new id for a new balancer configuration.
    fn pool(&mut self, port: &PlannedPort, all: &[Endpoint], policy: TrafficPolicy, here: &Here, config: &str) -> Arc<Pool> {
        let key = (port.service.clone(), policy == TrafficPolicy::Local);
        let known = self.pools.get(&key).filter(|(known, _)| known == config).map(|(_, pool)| pool.clone());
        let pool = Pool::select(known.as_ref().map_or_else(unique, |pool| pool.id), all, policy, port.distribution, here);
        let pool = match known {
            Some(known)
                if known.empty == pool.empty
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
        index: &HashMap<ServiceRef, ServiceIndex>,
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
        let rung = |(generation, table): &(Arc<dyn RouterGeneration>, Arc<RouteTable>)| RouterRung {
            generation: generation.clone(),
            table: table.clone(),
            backends: table
                .rules
                .iter()
                .map(|rule| rule.backends.iter().map(|b| index.get(&b.service).copied().ok_or_else(|| missing(&b.service))).collect())
                .collect(),
            mirrors: table.rules.iter().map(|rule| rule.actions.mirrors.iter().map(|m| index.get(&m.service).copied()).collect()).collect(),
        };
        Some(Arc::new(RouterBinding { transport: router.listener.transport, ladder: ladder.iter().map(rung).collect() }))
    }

    /// Drops what belongs to service ports that are gone.
    fn forget(&mut self, live: &HashMap<ServiceRef, ServiceIndex>) {
        self.pools.retain(|(service, _), _| live.contains_key(service));
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

fn missing(service: &ServiceRef) -> Arc<str> {
    format!("service port {service} does not exist").into()
}

/// A fault for each field that does not fit the plugin's schema; else one for the plugin's own words.
pub(crate) fn refused(plugin: &PluginUse, error: &PluginError, registry: &Registry) -> Vec<Fault> {
    let fault = |place, message| Fault {
        severity: Severity::Error,
        place,
        object: None,
        message,
        expected: Some("what served before goes on serving".to_owned()),
    };
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
