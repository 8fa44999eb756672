//! The loop: wait for a change of a file, of what discovery found, or of a plugin's health; then compile, load, assemble, publish.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use sluicegate_host::discovery::{Key, WasmDiscovery};
use sluicegate_host::{Loaded, Loader};
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::object::ours::MinisignKey;
use sluicegate_model::object::{Body, Object};
use sluicegate_model::operate::{Action, Done, Operate};
use sluicegate_model::plan::{self, Plan, Settings};
use sluicegate_model::plugin::{PluginError, Stage};
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::status::{ListenerStatus, Status};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::allocate::Allocator;
use crate::assemble::{Assembler, PortId, balancer_use, refused, router_use};
use crate::discovery::{Runner, Target};
use crate::health::Health;
use crate::registry::{Builtins, Registry, Use};
use crate::source::{self, Watcher};
use crate::store::Store;

/// How long the first snapshot waits for discovery, so that the first connection finds endpoints.
const FIRST_DISCOVERY: Duration = Duration::from_secs(2);
/// How often plugins' failures are looked at.
const PLUGINS: Duration = Duration::from_millis(100);
/// How soon an address that could not be bound is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// What control needs to know.
pub struct Options {
    /// Files and folders of objects.
    pub paths: Vec<PathBuf>,
    /// For the plan.
    pub settings: Settings,
    /// Finds built-in plugins.
    pub builtins: Builtins,
    /// Of those whose plugin files are loaded; empty: of anybody.
    pub trusted_keys: Vec<MinisignKey>,
    /// Held while a change is worked on: whoever holds it keeps the configuration as it is.
    pub turns: Arc<tokio::sync::Mutex<()>>,
}

/// What the loop waits for.
enum Event<O, H> {
    Order(O),
    Files,
    Found,
    Health(H),
    Plugins,
    Again,
}

/// Hands a snapshot to the workers; returns what could not be bound.
pub type Publish = Box<dyn Fn(Arc<Snapshot>) -> Vec<String> + Send>;

/// An order about the plugin of this name, and where the answer goes.
type Ordered = (String, Action, oneshot::Sender<Done>);

/// Control's whole state.
pub struct Controller {
    options: Options,
    store: Store,
    allocator: Allocator,
    registry: Registry,
    runner: Runner,
    assembler: Assembler,
    health: Health,
    objects: Vec<Arc<Object>>,
    plan: Plan,
    faults: Vec<Fault>,
    reported: Vec<Fault>,
    orders: mpsc::Receiver<Ordered>,
    order: mpsc::Sender<Ordered>,
    /// What could not be bound last.
    unbound: Vec<String>,
    /// The process's own configuration as it was at the start; none before the first load.
    started_with: Option<Vec<Arc<Value>>>,
}

impl Controller {
    /// Reads nothing yet.
    pub fn new(options: Options, loader: Loader, allocator: Allocator) -> Self {
        let (order, orders) = mpsc::channel(16);
        Self {
            orders,
            order,
            registry: Registry::new(loader, options.builtins).trusting(options.trusted_keys.clone()),
            options,
            store: Store::default(),
            allocator,
            runner: Runner::default(),
            assembler: Assembler::default(),
            health: Health::default(),
            objects: Vec::new(),
            plan: Plan::default(),
            faults: Vec::new(),
            reported: Vec::new(),
            unbound: Vec::new(),
            started_with: None,
        }
    }

    /// Looks at the configuration instead of serving it: see [`Store::judging`].
    #[must_use]
    pub fn judging(self) -> Self {
        Self { store: Store::judging(), ..self }
    }

    /// Takes orders while this runs.
    pub fn operate(&self) -> Operate {
        let order = self.order.clone();
        Arc::new(move |plugin, action| {
            let order = order.clone();
            Box::pin(async move {
                let gone = || "the gateway is stopping".to_owned();
                let (answer, answered) = oneshot::channel();
                order.send((plugin, action, answer)).await.map_err(|_| gone())?;
                answered.await.map_err(|_| gone())?
            })
        })
    }

    /// Runs until the future is dropped.
    pub async fn run(mut self, status: Arc<ArcSwap<Status>>, publish: Publish) -> Result<(), notify::Error> {
        let mut watcher = Watcher::new()?;
        watcher.watch(self.options.paths.iter().map(PathBuf::as_path));
        let turns = self.options.turns.clone();
        let mut again = {
            let _turn = turns.lock().await;
            self.load().await;
            self.watch(&mut watcher);
            self.discover(FIRST_DISCOVERY).await;
            self.publish(&status, &publish)
        };
        let mut plugins_tick = tokio::time::interval(PLUGINS);
        loop {
            let plugins = self.discoveries();
            let event = tokio::select! {
                Some(order) = self.orders.recv() => Event::Order(order),
                () = watcher.changed() => Event::Files,
                () = self.runner.next(|name| plugins.get(name).cloned(), &self.objects) => Event::Found,
                changed = self.health.next() => Event::Health(changed),
                _ = plugins_tick.tick() => Event::Plugins,
                // Another process has an address; it may let go of it at any time, and nothing tells.
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => Event::Again,
            };
            let _turn = turns.lock().await;
            let mut answer = None;
            match event {
                Event::Order((plugin, action, to)) => {
                    answer = Some((to, self.registry.order(&plugin, action, &self.plan.plugins).await));
                    self.sync_discovery();
                }
                Event::Files => {
                    self.load().await;
                    self.watch(&mut watcher);
                }
                Event::Found | Event::Again => {}
                Event::Health(changed) => {
                    if !self.publish_health(&changed, &publish) {
                        continue;
                    }
                }
                Event::Plugins => {
                    let revive = self.registry.revive();
                    if revive {
                        self.registry.again(&self.plan.plugins).await;
                    }
                    let judged = self.registry.judge();
                    if !self.registry.roll_back() && !revive && !judged {
                        continue;
                    }
                    self.sync_discovery();
                }
            }
            again = self.publish(&status, &publish);
            if let Some((to, done)) = answer {
                // Who asked may be gone.
                let _ = to.send(done);
            }
        }
    }

    /// Loads and discovers once, for `check` and `explain`: the snapshot, the plan, and every fault.
    pub async fn once(&mut self, discovery: Duration) -> (Arc<Snapshot>, Status) {
        self.load().await;
        self.discover(discovery).await;
        self.assemble()
    }

    /// The plan compiled last.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn watch(&self, watcher: &mut Watcher) {
        watcher.watch(self.options.paths.iter().map(PathBuf::as_path).chain(self.registry.files()));
    }

    /// Files → objects → plan → plugins → discovery's targets.
    async fn load(&mut self) {
        let (objects, mut faults) = self.store.update(source::read(&self.options.paths));
        let (allocations, more) = self.allocator.allocate(&objects, self.store.complete());
        faults.extend(more);
        self.plan = plan::compile(&objects, &allocations, &self.options.settings);
        faults.append(&mut self.plan.faults.clone());
        self.objects = objects;
        faults.extend(self.needs_restart());
        self.faults = faults;
        let balancers = self.plan.services.iter().flat_map(|s| &s.ports).map(balancer_use);
        let uses: Vec<Use> = balancers.chain(self.plan.routers.iter().map(router_use)).collect();
        let mut distinct: Vec<Use> = Vec::new();
        for wanted in uses {
            if !distinct.contains(&wanted) {
                distinct.push(wanted);
            }
        }
        self.registry.sync(&self.plan.plugins, &distinct).await;
        self.sync_discovery();
    }

    /// The process's own settings are read once.
    fn needs_restart(&mut self) -> Option<Fault> {
        let own: Vec<&Arc<Object>> = self.objects.iter().filter(|o| matches!(o.body, Body::SluicegateConfiguration(_))).collect();
        let values: Vec<Arc<Value>> = own.iter().map(|o| o.value.clone()).collect();
        let same = *self.started_with.get_or_insert_with(|| values.clone()) == values;
        (!same).then(|| Fault {
            severity: Severity::Warning,
            place: own.first().map(|o| o.origin.place("")),
            object: None,
            message: "the SluicegateConfiguration has changed since the start".to_owned(),
            expected: Some("a restart of the gateway: what it started with stays in force".to_owned()),
        })
    }

    fn discoveries(&self) -> HashMap<String, Arc<WasmDiscovery>> {
        let mut found = HashMap::new();
        for port in self.plan.services.iter().filter(|s| s.proxied).flat_map(|s| &s.ports) {
            let name = &port.discovery.plugin;
            if found.contains_key(name) {
                continue;
            }
            if let Some(Loaded::Discovery(plugin)) = self.registry.live(name) {
                found.insert(name.clone(), plugin.clone());
            }
        }
        found
    }

    fn sync_discovery(&mut self) {
        let live = self.discoveries();
        let mut tasks: BTreeMap<String, (Option<Arc<WasmDiscovery>>, HashMap<Key, Target>)> = BTreeMap::new();
        for service in self.plan.services.iter().filter(|s| s.proxied) {
            // One discovery serves all ports of a Service: a policy's `sectionName` does not reach it.
            let Some(port) = service.ports.first() else { continue };
            let name = &port.discovery.plugin;
            let (_, targets) = tasks.entry(name.clone()).or_insert_with(|| (live.get(name).cloned(), HashMap::new()));
            let key = Key { namespace: service.namespace.clone(), name: service.name.clone() };
            let target = Target { service: service.object.value.to_string().into(), config: port.discovery.config.as_str().into() };
            targets.insert(key, target);
        }
        self.runner.sync(tasks, &self.objects);
    }

    async fn discover(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let plugins = self.discoveries();
        while !self.runner.complete() {
            let next = self.runner.next(|name| plugins.get(name).cloned(), &self.objects);
            if tokio::time::timeout_at(deadline, next).await.is_err() {
                tracing::warn!("discovery has not answered for every service yet; it goes on");
                return;
            }
        }
    }

    fn assemble(&mut self) -> (Arc<Snapshot>, Status) {
        let made = self.assembler.assemble(&self.plan, &self.runner, &mut self.registry, &mut self.health, &self.options.settings.here);
        let mut faults = self.faults.clone();
        faults.extend(made.faults);
        for (planned, error, serving) in self.registry.refused() {
            let message = error.to_string();
            if !faults.iter().any(|f| f.message == message) {
                let serving = serving.map_or("no generation serves".to_owned(), |number| format!("generation {number} serves"));
                faults.push(Fault {
                    severity: Severity::Error,
                    place: planned.place.clone(),
                    object: None,
                    message,
                    expected: Some(serving),
                });
            }
        }
        faults.extend(self.discovery_faults());
        let mut plugins = self.registry.status();
        for plugin in &mut plugins {
            if let Some(error) = self.runner.ended(&plugin.name) {
                plugin.state = "degraded".to_owned();
                plugin.reason = Some(error.to_string());
            }
        }
        faults.sort_by(|a, b| (&a.place, &a.message).cmp(&(&b.place, &b.message)));
        faults.dedup();
        let listeners = made.snapshot.listeners.iter().map(|l| ListenerStatus::of(l)).collect();
        let status = Status {
            snapshot: made.snapshot.version,
            services: made.services,
            listeners,
            plugins,
            faults,
            compiled: self.registry.compiled(),
        };
        (made.snapshot, status)
    }

    /// Services whose endpoints could not be found, and why; where the configuration does not fit the plugin's schema, at its fields.
    fn discovery_faults(&self) -> Vec<Fault> {
        let ports = self.plan.services.iter().filter(|s| s.proxied).filter_map(|s| Some((s, s.ports.first()?)));
        let failed = ports.filter_map(|(service, port)| {
            let key = Key { namespace: service.namespace.clone(), name: service.name.clone() };
            Some((service, &port.discovery, self.runner.failure(&key)?))
        });
        let faults = failed.flat_map(|(service, used, reason)| {
            let error = PluginError { plugin: used.plugin.as_str().into(), stage: Stage::Configure, reason: reason.to_owned() };
            refused(used, &error, &self.registry).into_iter().map(|mut fault| {
                fault.place = fault.place.or_else(|| Some(service.object.origin.place("metadata.name")));
                fault.object = Some(service.object.key.to_string());
                fault
            })
        });
        faults.collect()
    }

    /// New pools where endpoints' health has changed; nothing else is compiled or assembled. True if there is more to say: other addresses
    /// than before could not be bound.
    fn publish_health(&mut self, changed: &HashSet<PortId>, publish: &Publish) -> bool {
        let snapshot = self.assembler.refresh(changed, &self.options.settings.here);
        snapshot.is_some_and(|snapshot| publish(snapshot) != self.unbound)
    }

    /// When to try again, if an address could not be bound.
    fn publish(&mut self, status: &ArcSwap<Status>, publish: &Publish) -> Option<Instant> {
        let (snapshot, mut now) = self.assemble();
        self.health.sync_probes();
        self.unbound = publish(snapshot);
        let again = (!self.unbound.is_empty()).then(|| Instant::now() + BIND_AGAIN);
        for message in self.unbound.iter().cloned() {
            now.faults.push(Fault { severity: Severity::Error, place: None, object: None, message, expected: None });
        }
        for fault in now.faults.iter().filter(|f| !self.reported.contains(f)) {
            match fault.severity {
                Severity::Error => tracing::error!("{fault}"),
                Severity::Warning => tracing::warn!("{fault}"),
            }
        }
        self.reported.clone_from(&now.faults);
        status.store(Arc::new(now));
        again
    }
}

/// The local addresses that `--nodeport-addresses` selects; a single address (`/32`, `/128`) in 127.0.0.0/8 is always local. Empty: all.
pub fn node_addresses(cidrs: &[ipnet::IpNet]) -> std::io::Result<Vec<IpAddr>> {
    if cidrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: Vec<IpAddr> =
        if_addrs::get_if_addrs()?.into_iter().map(|i| i.ip()).filter(|ip| cidrs.iter().any(|c| c.contains(ip))).collect();
    found.extend(cidrs.iter().filter(|c| c.prefix_len() == c.max_prefix_len() && c.addr().is_loopback()).map(ipnet::IpNet::addr));
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(std::io::Error::other(format!(
            "no local address is in {}",
            cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    Ok(found)
}
