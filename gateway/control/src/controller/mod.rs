//! The loop of control. It waits for a change of a source, of what discovery has found, or of a plugin's health; then it compiles and loads ([`mod@load`]),
//! assembles and publishes ([`publish`]).

mod load;
mod publish;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sluicegate_config::object::Given;
use sluicegate_config::object::ours::MinisignKey;
use sluicegate_config::objects::Objects;
use sluicegate_config::plan::{Allocations, Plan, PlannedPlugin, Planner, Settings};
use sluicegate_host::Loader;
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::fault::Fault;
use sluicegate_model::operate::{Action, Done, Operate};
use sluicegate_model::snapshot::{At, Snapshot};
use sluicegate_model::status::Status;
use sluicegate_model::tls::TicketSecrets;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::acme::Link;
use crate::allocate::Allocator;
use crate::assemble::{Assembler, Changed};
use crate::discovery::Runner;
use crate::health::Health;
use crate::plugins::{Builtins, Files, Registry, Use};
use crate::saved::Saver;
use crate::sources::folder::Folder;
use crate::sources::{Change, Source, SourceError, Sources, Wanted};
use crate::status::Reporter;
use crate::store::Store;

/// How long the first snapshot waits for discovery, so that the first connection finds endpoints.
const FIRST_DISCOVERY: Duration = Duration::from_secs(2);
/// How long endpoints are gathered: those found first are published at once, and those found within this time after them together.
const GATHER: Duration = Duration::from_millis(20);
/// How long the first snapshot waits until the sources have told all that they have.
const FIRST_SYNC: Duration = Duration::from_secs(10);
/// How often plugins' failures are looked at.
const PLUGINS: Duration = Duration::from_millis(100);

/// What control needs to know.
pub struct Options {
    /// Files and folders of objects.
    pub paths: Vec<PathBuf>,
    /// What the plan depends on besides the objects.
    pub settings: Settings,
    /// Finds built-in plugins.
    pub builtins: Builtins,
    /// Keys, of which one must have signed each plugin file; empty: files need no signature.
    pub trusted_keys: Vec<MinisignKey>,
    /// Where the admin API listens. No endpoint may lead there.
    pub admin: Option<SocketAddr>,
    /// Is locked while a change is worked on. Whoever holds it keeps the configuration as it is.
    pub turns: Arc<tokio::sync::Mutex<()>>,
}

/// A question about what is planned, which is answered between two changes. It must be a quick one, as changes wait for it.
pub type Inquiry = Box<dyn FnOnce(&Plan, &Objects) + Send>;

/// What the loop waits for.
enum Event<O, H> {
    Order(O),
    Inquiry(Inquiry),
    Sources,
    Found,
    Health(H),
    Plugins,
    Save,
    Certificates,
    Again,
}

/// Hands a snapshot to the workers; returns what could not be bound.
pub type Publish = Box<dyn Fn(Arc<Snapshot>) -> Vec<Unbound> + Send>;

/// Prepares what is about to be listened on by this status, as far as anything has to be done for that. It is awaited before the addresses are bound.
pub type Prepare = Box<dyn Fn(&Status) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Something that could not be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbound {
    /// The address of a listener; none of what is no listener, as a health check node port.
    pub at: Option<At>,
    /// What could not be listened on and why, for people.
    pub message: String,
}

/// An order about the plugin of this name, and where its answer goes.
type Ordered = (String, Action, oneshot::Sender<Done>);

/// The whole state of control.
pub struct Controller {
    options: Options,
    /// Whether the zone of this node is configured.
    zone_is_given: bool,
    /// Sources besides the files and folders.
    sources: Vec<Box<dyn Source>>,
    /// What sources are told that report only what is wanted.
    wanted: Option<Wanted>,
    /// Those who order certificates from ACME CAs; none: nobody does.
    acme: Option<Link>,
    /// Saves what a source has told.
    saver: Option<Saver>,
    store: Store,
    allocator: Allocator,
    registry: Registry,
    runner: Runner,
    assembler: Assembler,
    health: Health,
    planner: Planner,
    allocations: Allocations,
    /// What is wrong with the process itself.
    own_faults: Vec<Fault>,
    /// The faults of allocations.
    allocated: Vec<Fault>,
    /// The plugins and uses that were loaded last.
    loaded: Option<(Vec<PlannedPlugin>, Vec<Use>)>,
    /// The configurations of balancers in use, with the number of service ports that use each.
    balancers: BTreeMap<(String, ConfigText), usize>,
    /// What has changed since the last snapshot.
    changed: Changed,
    faults: Vec<Fault>,
    /// Whether every source has told all that it had at first.
    complete: bool,
    /// Whether plugins were looked at since the last status.
    looked_at_plugins: bool,
    reporter: Reporter,
    orders: mpsc::Receiver<Ordered>,
    order: mpsc::Sender<Ordered>,
    /// What has to be done before addresses are bound.
    prepare: Option<Prepare>,
    /// Whether all objects were known when something was prepared last; none: nothing was.
    prepared: Option<bool>,
    inquiries: mpsc::Receiver<Inquiry>,
    inquire: mpsc::Sender<Inquiry>,
    /// What could not be listened on last.
    unbound: Vec<Unbound>,
    /// After how much time files of plugins are read again that could not be read; zero: all could be.
    read_again: Duration,
    /// The process's own settings as they were at the start; none before the first load.
    started_with: Option<Vec<Given>>,
}

/// Waits until something is to be saved.
async fn due(saver: Option<&Saver>) {
    match saver {
        Some(saver) => saver.due().await,
        None => std::future::pending().await,
    }
}

/// Waits until something has come of a name for which a certificate is ordered.
async fn told(link: Option<&Link>) {
    match link {
        Some(link) => link.told().await,
        None => std::future::pending().await,
    }
}

impl Controller {
    /// A controller that has read nothing yet.
    pub fn new(options: Options, loader: Loader, allocator: Allocator) -> Self {
        let (order, orders) = mpsc::channel(16);
        let (inquire, inquiries) = mpsc::channel(16);
        Self {
            orders,
            order,
            inquiries,
            inquire,
            registry: Registry::new(loader, options.builtins).trusting(options.trusted_keys.clone()),
            assembler: Assembler::guarding(options.admin),
            planner: Planner::new(options.settings.clone()),
            zone_is_given: options.settings.here.zone.is_some(),
            options,
            sources: Vec::new(),
            wanted: None,
            acme: None,
            saver: None,
            store: Store::default(),
            allocator,
            runner: Runner::default(),
            health: Health::default(),
            allocations: Allocations::default(),
            own_faults: Vec::new(),
            allocated: Vec::new(),
            loaded: None,
            balancers: BTreeMap::new(),
            changed: Changed::default(),
            faults: Vec::new(),
            complete: false,
            looked_at_plugins: false,
            reporter: Reporter::new(),
            prepare: None,
            prepared: None,
            unbound: Vec::new(),
            read_again: Duration::ZERO,
            started_with: None,
        }
    }

    /// Looks at the configuration, rather than serving it: see [`Store::judging`].
    #[must_use]
    pub fn judging(self) -> Self {
        Self { store: Store::judging(), ..self }
    }

    /// With what is wrong with the process itself.
    #[must_use]
    pub fn with_faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.own_faults.extend(faults);
        self
    }

    /// With a source of objects besides the files and folders of its options.
    #[must_use]
    pub fn with_source(mut self, source: Box<dyn Source>) -> Self {
        self.sources.push(source);
        self
    }

    /// With something that has to be done before addresses are bound.
    #[must_use]
    pub fn preparing(self, prepare: Prepare) -> Self {
        Self { prepare: Some(prepare), ..self }
    }

    /// With a source that reports only what is wanted, and learns it from this.
    #[must_use]
    pub fn with_wanted(self, wanted: Wanted) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    /// With a copy of what a source has told, for the next start.
    #[must_use]
    pub fn with_saver(self, saver: Saver) -> Self {
        Self { saver: Some(saver), ..self }
    }

    /// With the secrets from which the keys of session tickets are made. Without any, no tickets are given out.
    #[must_use]
    pub fn with_tickets(self, secrets: Arc<TicketSecrets>) -> Self {
        Self { assembler: self.assembler.with_tickets(secrets), ..self }
    }

    /// With somebody who orders the certificates that listeners ask for.
    #[must_use]
    pub fn with_acme(self, link: Link) -> Self {
        Self { assembler: self.assembler.with_acme(link.acme().clone()), acme: Some(link), ..self }
    }

    /// What carries orders to this controller while it runs.
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

    /// What carries questions to this controller while it runs.
    pub fn inquiries(&self) -> mpsc::Sender<Inquiry> {
        self.inquire.clone()
    }

    /// Runs until the future is dropped.
    ///
    /// # Errors
    /// A source cannot start.
    pub async fn run(mut self, status: Arc<ArcSwap<Status>>, publish: Publish) -> Result<(), SourceError> {
        let (files, followed) = Folder::new(self.options.paths.clone());
        let mut all: Vec<Box<dyn Source>> = vec![Box::new(files)];
        all.append(&mut self.sources);
        let sources = Sources::start(all)?;
        loop {
            let missing = sources.synced(FIRST_SYNC).await;
            let awaited = missing.iter().any(|source| source.is_awaited);
            for source in &missing {
                let outcome = if awaited { "nothing is served before that" } else { "the gateway starts with the other sources" };
                tracing::warn!(source = source.name, "it has not told all that it has yet; {outcome}");
            }
            if !awaited {
                break;
            }
        }
        let turns = self.options.turns.clone();
        let mut again = {
            let _turn = turns.lock().await;
            self.follow(&sources, &followed).await;
            self.discover(FIRST_DISCOVERY).await;
            // Plugins have said by now what they watch, and nothing else may happen for long.
            self.want(&sources).await;
            let unsaved = self.allocator.save_beside().await;
            let assembled = self.prepared().await;
            self.publish(assembled, &status, &publish, unsaved)
        };
        let mut plugins_tick = tokio::time::interval(PLUGINS);
        // At most half of the time is spent on what discovery finds. The other half is left for files, orders and health.
        let mut listen_from = Instant::now();
        loop {
            let plugins = self.discoveries();
            let event = tokio::select! {
                Some(order) = self.orders.recv() => Event::Order(order),
                Some(inquiry) = self.inquiries.recv() => Event::Inquiry(inquiry),
                () = sources.changed() => Event::Sources,
                () = async {
                    tokio::time::sleep_until(listen_from).await;
                    self.runner.next(|name| plugins.get(name).cloned(), self.store.objects()).await;
                } => Event::Found,
                changed = self.health.next() => Event::Health(changed),
                _ = plugins_tick.tick() => Event::Plugins,
                () = due(self.saver.as_ref()) => Event::Save,
                () = told(self.acme.as_ref()) => Event::Certificates,
                // Another process has an address, or a disk is full. That may end at any time, without an event.
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => Event::Again,
            };
            let _turn = turns.lock().await;
            let begun = Instant::now();
            let found = matches!(event, Event::Found);
            let mut answer = None;
            match event {
                Event::Order((plugin, action, to)) => {
                    answer = Some((to, self.registry.order(&plugin, action, &self.planner.plan().plugins).await));
                    self.changed.plugins.insert(plugin);
                    self.sync_discovery();
                }
                Event::Inquiry(inquiry) => {
                    inquiry(self.planner.plan(), self.store.objects());
                    continue;
                }
                Event::Sources => {
                    let (faults, complete) = (self.faults.clone(), self.complete);
                    self.follow(&sources, &followed).await;
                    if self.complete == complete && self.is_served(&faults) {
                        continue;
                    }
                }
                Event::Again if self.registry.unread() => self.sync_plugins(Some(Files::All)).await,
                Event::Save => {
                    if let Some(saver) = &mut self.saver {
                        saver.save(self.store.objects()).await;
                    }
                    continue;
                }
                Event::Found => self.want(&sources).await,
                Event::Certificates => self.assembler.show_certificates(),
                Event::Again => {}
                Event::Health(changed) => {
                    if !self.publish_health(&changed, &publish) {
                        continue;
                    }
                }
                Event::Plugins => {
                    let mut others = BTreeSet::new();
                    if self.registry.revive() {
                        others = self.registry.again(&self.planner.plan().plugins).await;
                    }
                    others.append(&mut self.registry.judge());
                    others.append(&mut self.registry.roll_back());
                    if others.is_empty() {
                        continue;
                    }
                    self.changed.plugins.append(&mut others);
                    self.sync_discovery();
                }
            }
            // It is saved before it is served, as what somebody was told must be the same after a crash.
            let unsaved = self.allocator.save_beside().await;
            let assembled = self.prepared().await;
            again = self.publish(assembled, &status, &publish, unsaved);
            if found {
                listen_from = (Instant::now() + begun.elapsed()).max(begun + GATHER);
            }
            if let Some((to, done)) = answer {
                // The asker may have stopped waiting.
                let _ = to.send(done);
            }
        }
    }

    /// Whether nothing that the sources have told bears on what is served or shown, if these were the faults before. That is so for endpoints, which only
    /// discovery looks at.
    fn is_served(&self, faults: &[Fault]) -> bool {
        let same = self.changed.is_empty() && !self.looked_at_plugins && !self.runner.has_changed() && self.faults == faults;
        // What could not be had is tried again on each occasion.
        same && self.reporter.until().is_none() && self.unbound.is_empty() && !self.allocator.unsaved()
    }

    /// Loads and discovers once, for `check` and `explain`, what was read of files and folders (by [`folder::read`](crate::sources::folder::read)). Returns the snapshot, and the status with
    /// every fault.
    pub async fn once(&mut self, read: Vec<Change>, discovery: Duration) -> (Arc<Snapshot>, Status) {
        self.load(read, Some(Files::All)).await;
        self.discover(discovery).await;
        self.assemble()
    }

    /// The objects that the plan was compiled from.
    pub fn objects(&self) -> &Objects {
        self.store.objects()
    }

    /// The plan that was compiled last.
    pub fn plan(&self) -> &Plan {
        self.planner.plan()
    }
}
