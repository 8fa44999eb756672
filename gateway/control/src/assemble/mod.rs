//! Makes a snapshot from the plan, the endpoints and the plugins. [`Assembler`] makes anew what has changed, and shares the rest with the snapshot before:
//! service ports ([`record`]), listeners and routers ([`listeners`]), service ports as some routers see them ([`views`]). What must outlive a snapshot is
//! kept here: pool ids, endpoint statistics, affinity tables, counters, and each service port's last good balancer. [`faults`] has what plugins refuse.

mod admission;
mod faults;
mod indices;
mod listeners;
mod near;
mod record;
mod tls;
mod views;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluicegate_config::plan::{Listens, Plan, PlannedHealthCheck, PlannedPort, PlannedRouter, PlannedService, Planner, RuleBalancer};
use sluicegate_config::status::Uncertified;
use sluicegate_model::discovery::Key;
use sluicegate_model::family::IpFamily;
use sluicegate_model::fault::Fault;
use sluicegate_model::limiter::Limiter;
use sluicegate_model::persistent::Map;
use sluicegate_model::pool::Here;
use sluicegate_model::route::{Protocol, ServiceRef};
use sluicegate_model::settings::Rate;
use sluicegate_model::snapshot::{AppProtocol, HealthCheck, ServiceIndex, ServicePort, Snapshot};
use sluicegate_model::sorted::Sorted;
use sluicegate_model::stats::ServiceStats;
use sluicegate_model::status::{ListenerStatus, ServiceStatus};
use sluicegate_model::tls::acme::Ask;
use sluicegate_model::tls::{Acme, TicketSecrets};

use crate::discovery::Runner;
use crate::health::Health;
use crate::plugins::{Registry, Use};
use crate::port::{PortId, port_id};
use admission::Admission;
use indices::Indices;
use tls::Tls;
use views::Views;

pub(crate) use faults::refused;
use listeners::Listeners;
pub(crate) use listeners::Moved;
use near::{Near, Noted};
use record::Record;

/// For how many service ports counters are kept. Beyond that, the counters of service ports that are gone are dropped.
const MOST_SERVICE_STATS: usize = 16_384;

/// What has changed since the last snapshot.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// Plugins that have changed, or are treated otherwise.
    pub plugins: BTreeSet<String>,
    /// Whether the plan has changed.
    pub plan: bool,
    /// Addresses whose listeners may be planned otherwise.
    pub listeners: Listens,
    /// Services that are planned otherwise, or have other endpoints.
    pub services: BTreeSet<Key>,
}

impl Changed {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty() && !self.plan && self.listeners.is_empty() && self.services.is_empty()
    }
}

/// What outlives a snapshot.
#[derive(Default)]
pub struct Assembler {
    version: u64,
    records: HashMap<PortId, Box<Record>>,
    near: Near,
    services: BTreeMap<Key, Served>,
    /// What the admin API shows of Services.
    shown: Sorted<ServiceStatus>,
    /// Services that have faults.
    faulty: BTreeSet<Key>,
    service_stats: HashMap<PortId, Arc<ServiceStats>>,
    indices: Indices,
    views: Views,
    listeners: Listeners,
    tls: Tls,
    checks: BTreeMap<Key, HealthCheck>,
    last: Arc<Snapshot>,
    admission: Admission,
    /// Where the admin API listens.
    admin: Option<SocketAddr>,
    /// The number of service ports that were assembled so far.
    assembled: u64,
}

/// A Service that was assembled.
struct Served {
    ports: Box<[PortId]>,
    faults: Box<[Fault]>,
}

/// What service ports are assembled with.
pub(crate) struct Collaborators<'a> {
    pub(crate) registry: &'a mut Registry,
    pub(crate) health: &'a mut Health,
    pub(crate) here: &'a Here,
}

/// The use that a port makes of its balancer.
pub fn balancer_use(port: &PlannedPort) -> Use {
    Use { plugin: port.balancer.plugin.clone(), config: port.balancer.config.clone(), listener: None }
}

/// The use that a rule makes of the balancer that policies name for it.
pub fn rule_balancer_use(balancer: &RuleBalancer) -> Use {
    Use { plugin: balancer.plugin.plugin.clone(), config: balancer.plugin.config.clone(), listener: None }
}

/// The use that a listener makes of its router.
pub fn router_use(router: &PlannedRouter) -> Use {
    Use { plugin: router.plugin.plugin.clone(), config: router.plugin.config.clone(), listener: Some(router.listener.clone()) }
}

impl Assembler {
    /// For a gateway whose admin API listens there.
    pub fn guarding(admin: Option<SocketAddr>) -> Self {
        Self { admin, ..Self::default() }
    }

    /// With the secrets from which the keys of session tickets are made. Without any, no tickets are given out.
    #[must_use]
    pub fn with_tickets(self, secrets: Arc<TicketSecrets>) -> Self {
        Self { tls: Tls::new(secrets), ..self }
    }

    /// With the certificates that ACME brings.
    #[must_use]
    pub(crate) fn with_acme(self, acme: Arc<Acme>) -> Self {
        Self { tls: self.tls.with_acme(acme), ..self }
    }

    /// What listeners ask ACME's issuers for.
    pub(crate) fn asks(&self) -> impl Iterator<Item = &Arc<Ask>> {
        self.tls.asks()
    }

    /// The listeners that have nothing to show until their first certificate is issued, and what they wait for.
    pub(crate) fn awaiting(&self) -> Uncertified {
        self.tls.awaiting()
    }

    /// Shows anew what has come of what listeners ask ACME's issuers for.
    pub(crate) fn show_certificates(&mut self) {
        self.listeners.show_again(&self.last.listeners, self.tls.asking());
    }

    /// Makes the next snapshot.
    pub(crate) fn assemble(&mut self, planner: &Planner, changed: &Changed, found: &Runner, mut with: Collaborators<'_>) -> Arc<Snapshot> {
        let plan = planner.plan();
        self.admission.begin();
        let mut wanted = changed.services.clone();
        let mut all = false;
        let mut moved = listeners::Moved::default();
        if changed.plan {
            moved = self.listeners.plan(&changed.listeners);
            let (own, permits) = self.admission.update(plan, &moved, self.admin);
            all |= permits;
            if !own.is_empty() {
                wanted.extend(self.reached(&own));
            }
        }
        if !changed.plugins.is_empty() {
            let uses = |service: &&Arc<PlannedService>| service.ports.iter().any(|port| changed.plugins.contains(&port.balancer.plugin));
            wanted.extend(plan.services.values().filter(uses).map(|service| key(service)));
        }
        if all {
            wanted.extend(self.services.keys().cloned());
            wanted.extend(plan.services.values().map(|service| key(service)));
        }
        let mut services = self.last.services.clone();
        let mut moves = false;
        for key in &wanted {
            moves |= self.service(key, planner.service(&key.namespace, &key.name), found, &mut with, &mut services);
        }
        if self.service_stats.len() > MOST_SERVICE_STATS {
            // A Service that comes back, as when its file is written in two steps, goes on counting.
            self.service_stats.retain(|_, stats| Arc::strong_count(stats) > 1);
        }
        let again = if all {
            listeners::Again::All
        } else if moves || changed.plan || !changed.plugins.is_empty() {
            listeners::Again::Routers
        } else {
            listeners::Again::None
        };
        if again != listeners::Again::None {
            self.views.begin();
        }
        let views = RefCell::new((&mut self.views, &mut self.indices));
        let entries = listeners::Entries {
            of: &|service, protocol| self.records.get(&(service.clone(), protocol)).and_then(|record| record.entry),
            seen_by: &|index, view| {
                let (views, indices) = &mut *views.borrow_mut();
                views.of(index, view, indices)
            },
        };
        let listeners =
            self.listeners.assemble(plan, moved, again, (&self.last.listeners, moves || all), with.registry, &mut self.tls, entries);
        self.views.settle(&mut services, &mut self.indices);
        self.version += 1;
        let health_checks = self.health_checks(plan, changed.plan || all, &wanted, with.here);
        self.last = Arc::new(Snapshot { version: self.version, listeners, services, health_checks });
        self.last.clone()
    }

    /// What the admin API shows of Services, in the order of their names.
    pub(crate) fn services(&self) -> &Sorted<ServiceStatus> {
        &self.shown
    }

    /// What the admin API shows of listeners, in the plan's order.
    pub(crate) fn shown_listeners(&self) -> &Sorted<ListenerStatus> {
        self.listeners.shown()
    }

    /// What plugins have refused, and what else could not be assembled.
    pub(crate) fn faults(&self) -> impl Iterator<Item = &Fault> {
        let services = self.faulty.iter().filter_map(|key| self.services.get(key));
        services.flat_map(|served| &served.faults).chain(self.listeners.faults())
    }

    /// The number of service ports that were assembled so far.
    pub fn assembled(&self) -> u64 {
        self.assembled
    }

    /// The Services whose endpoints may be refused or let in now, as the gateway listens elsewhere.
    fn reached(&mut self, own: &[(Protocol, SocketAddr)]) -> Vec<Key> {
        let mut reached: Vec<ServiceIndex> = self.near.refused().collect();
        for index in self.near.at(own) {
            let Some(port) = self.last.services.get(&index) else { continue };
            let protocol = if port.protocol == AppProtocol::Udp { Protocol::Udp } else { Protocol::Tcp };
            let Some(record) = self.records.get(&(port.id.clone(), protocol)) else { continue };
            if record.all.iter().any(|e| self.admission.reaches(e.address, protocol, own)) {
                reached.push(index);
            }
        }
        let key = |port: &Arc<ServicePort>| Key { namespace: port.id.namespace.clone(), name: port.id.name.clone() };
        reached.iter().filter_map(|index| self.last.services.get(index).map(key)).collect()
    }

    /// Assembles one Service. Returns whether what leads to its ports now leads elsewhere.
    fn service(
        &mut self,
        key: &Key,
        planned: Option<&Arc<PlannedService>>,
        found: &Runner,
        with: &mut Collaborators<'_>,
        services: &mut Map<ServiceIndex, ServicePort>,
    ) -> bool {
        let before = self.services.remove(key).map(|served| served.ports).unwrap_or_default();
        let (mut ports, mut shown, mut faults, mut moves) = (Vec::new(), Vec::new(), Vec::new(), false);
        for port in planned.into_iter().flat_map(|service| &service.ports) {
            let Some(service) = planned else { continue };
            let id = port_id(port);
            self.assembled += 1;
            let forwarded = port.protocol.forwarded().is_some() && service.routable;
            let stats = self.service_stats.entry(id.clone()).or_default().clone();
            let known = if forwarded { self.records.remove(&id) } else { None };
            let mut record = known.unwrap_or_else(|| Box::new(Record::new(stats)));
            let before = record.entry.map(|entry| (entry.primary, record.ports.clone(), record.refused));
            record.admit(port, id.1, found.endpoints(key).unwrap_or_default(), &mut self.admission, &mut faults);
            shown.push(record.shown(port));
            if !forwarded {
                continue;
            }
            let families: Vec<Option<IpFamily>> =
                std::iter::once(service.families.endpoints()).chain(service.families.secondary().map(Some)).collect();
            let indices: Vec<ServiceIndex> = families.iter().map(|family| self.indices.of(&id, *family)).collect();
            for gone in self.indices.keep(&id, &families) {
                services.remove(&gone);
            }
            let entry = record.enter(port, &service.families, &indices);
            moves |= record.entry != Some(entry);
            record.entry = Some(entry);
            let before = before.as_ref().map(|(index, ports, refused)| Noted { index: *index, ports, refused: *refused });
            self.near.change(id.1, before, record.noted());
            for (at, made) in indices.iter().zip(record.assemble(port, &id, &families, with, &mut self.tls, &mut faults)) {
                if services.get(at).is_none_or(|known| !known.is_same(&made)) {
                    services.insert(*at, Arc::new(made));
                }
            }
            self.records.insert(id.clone(), record);
            ports.push(id);
        }
        for id in before.into_iter().filter(|id| !ports.contains(id)) {
            moves = true;
            if let Some(record) = self.records.remove(&id) {
                self.near.change(id.1, record.noted(), None);
            }
            self.tls.forget_endpoints(&id);
            with.health.forget(&id);
            for gone in self.indices.keep(&id, &[]) {
                services.remove(&gone);
            }
        }
        _ = if faults.is_empty() { self.faulty.remove(key) } else { self.faulty.insert(key.clone()) };
        if let Some(service) = planned {
            shown.shrink_to_fit();
            let status = ServiceStatus {
                namespace: service.namespace.clone(),
                name: service.name.clone(),
                type_: service.type_.clone(),
                cluster_ips: service.cluster_ips.iter().map(ToString::to_string).collect(),
                external_ips: service.external_ips.iter().map(ToString::to_string).collect(),
                ports: shown,
            };
            self.shown.insert(Arc::new(status));
            self.services.insert(key.clone(), Served { ports: ports.into(), faults: faults.into() });
        } else {
            self.shown.remove((&key.namespace, &key.name));
        }
        moves
    }

    /// What load balancers in front are told. The endpoints of the wanted Services are counted anew.
    fn health_checks(&mut self, plan: &Plan, planned: bool, wanted: &BTreeSet<Key>, here: &Here) -> Arc<[HealthCheck]> {
        let of = |check: &PlannedHealthCheck| Key { namespace: check.namespace.clone(), name: check.name.clone() };
        let mut any = planned && (!self.checks.is_empty() || !plan.health_checks.is_empty());
        if any {
            let live: HashSet<Key> = plan.health_checks.iter().map(|check| of(check)).collect();
            self.checks.retain(|key, _| live.contains(key));
        }
        for check in &plan.health_checks {
            let key = of(check);
            let known = self.checks.get(&key);
            if known.is_some_and(|known| known.addresses == check.addresses) && !wanted.contains(&key) {
                continue;
            }
            any = true;
            // As in kube-proxy, an endpoint of several ports counts once, and one that terminates does not count.
            let records = self.services.get(&key).into_iter().flat_map(|served| &served.ports).filter_map(|id| self.records.get(id));
            let local = records.flat_map(|record| record.all.iter()).filter(|e| e.ready && here.node.is_some() && e.node == here.node);
            let local_endpoints = local.map(|e| e.address.ip()).collect::<HashSet<IpAddr>>().len();
            let (namespace, name, addresses) = (check.namespace.clone(), check.name.clone(), check.addresses.clone());
            self.checks.insert(key, HealthCheck { namespace, name, addresses, local_endpoints });
        }
        if any { self.checks.values().cloned().collect() } else { self.last.health_checks.clone() }
    }

    /// The last snapshot with new pools for service ports whose endpoints' health has changed; none if all came out the same. Everything else is shared with
    /// the last one, so it costs by the size of these pools only.
    pub(crate) fn refresh(&mut self, changed: &HashSet<PortId>, here: &Here) -> Option<Arc<Snapshot>> {
        let mut services = self.last.services.clone();
        let mut any = false;
        for id in changed {
            let Some(record) = self.records.get_mut(id).filter(|record| record.watched) else { continue };
            let mut panic = false;
            for index in self.indices.all_of(id) {
                let Some(port) = services.get(&index).cloned() else { continue };
                let (internal, external) = record.pools(port.family, here, &port.balancer_config);
                panic |= internal.panic || external.panic;
                if Arc::ptr_eq(&internal, &port.internal) && Arc::ptr_eq(&external, &port.external) {
                    continue;
                }
                any = true;
                services.insert(index, Arc::new(ServicePort { internal, external, ..ServicePort::clone(&port) }));
            }
            say_panic(&id.0, panic, record.selection.panic_threshold, &record.stats);
        }
        self.views.follow(&mut services);
        if !any {
            return None;
        }
        self.version += 1;
        self.last = Arc::new(Snapshot { version: self.version, services, ..Snapshot::clone(&self.last) });
        Some(self.last.clone())
    }
}

fn key(service: &PlannedService) -> Key {
    Key { namespace: service.namespace.clone(), name: service.name.clone() }
}

/// Logs when a panic begins and when it ends.
fn say_panic(service: &ServiceRef, panic: bool, threshold: u8, stats: &ServiceStats) {
    if stats.health.panic.swap(panic, Ordering::Relaxed) != panic {
        if panic {
            tracing::error!(%service, "less than {threshold} % of the endpoints are healthy: all of them are used");
        } else {
            tracing::info!(%service, "enough endpoints are healthy again: only they are used");
        }
    }
}

/// The limiter of these limits: the one that was, if it has the same, so that a snapshot does not give everybody full buckets.
fn limiter(known: &mut Option<Arc<Limiter>>, rates: &[Rate]) -> Option<Arc<Limiter>> {
    if known.as_ref().is_none_or(|known| !known.is_of(rates)) {
        *known = Limiter::new(rates).map(Arc::new);
    }
    known.clone()
}
