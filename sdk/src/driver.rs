//! Drives a discovery plugin: it takes events and returns what was found. It waits for nothing and calls no host, so it is tested natively.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use serde_json::Value;

use crate::ask::Ask;
#[cfg(any(target_arch = "wasm32", test))]
use crate::ask::{Next, Reply};
use crate::bindings::discovery::sluicegate::plugin::objects::{Event, Key, Target};
use crate::config;
use crate::discovery::{Concerned, Discovery, PublishedEndpoint, Service};
use crate::objects::{Object, Objects};
use crate::{Level, log};

/// The shortest time between two refreshes, so that a plugin that asks for a refresh after no time at all does not spin.
const SHORTEST_REFRESH: Duration = Duration::from_millis(100);

/// Something that was found for a service and that the host does not know yet.
#[derive(Debug, PartialEq)]
pub(crate) enum Finding {
    Endpoints(Vec<PublishedEndpoint>),
    Failed(String),
}

/// The services and objects of one run.
pub(crate) struct Driver<D> {
    objects: Objects,
    services: BTreeMap<Name, Entry<D>>,
    /// The services that are to be asked again.
    dirty: BTreeSet<Name>,
    /// When services are to be asked although nothing has changed.
    due: BTreeSet<(Duration, Name)>,
    /// Which service waits for the answer to each question.
    asked: BTreeMap<Ticket, Name>,
    /// Whether all objects have come. Before that, every answer would be wrong.
    synced: bool,
    /// The time of the monotonic clock.
    now: Duration,
    /// Questions that are still to be asked.
    asks: Vec<(Ticket, Ask)>,
    tickets: Ticket,
}

/// A number that identifies a question.
pub(crate) type Ticket = u64;
/// A service's namespace and name.
type Name = (String, String);

struct Entry<D> {
    service: Service,
    plugin: Result<D, String>,
    due: Option<Duration>,
    /// The question whose answer the service waits for.
    asked: Option<Ticket>,
    /// A digest of the endpoints that the host was last told. Where there are 100,000, the endpoints themselves would take a third of a plugin's memory.
    published: Option<u64>,
    failed: Option<String>,
}

impl<D> Default for Driver<D> {
    fn default() -> Self {
        Self {
            objects: Objects::default(),
            services: BTreeMap::new(),
            dirty: BTreeSet::new(),
            due: BTreeSet::new(),
            asked: BTreeMap::new(),
            synced: false,
            now: Duration::ZERO,
            asks: Vec::new(),
            tickets: 0,
        }
    }
}

impl<D: Discovery> Driver<D> {
    /// How long to wait for events, in milliseconds: until the soonest refresh.
    pub(crate) fn timeout_ms(&self, now: Duration) -> Option<u64> {
        let (soonest, _) = self.due.first()?;
        // The time is rounded up, as a wait that ends too soon would be repeated at once.
        Some(u64::try_from(soonest.saturating_sub(now).as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
    }

    /// Takes the events that came during a wait.
    pub(crate) fn take(&mut self, now: Duration, events: Vec<Event>) {
        self.now = now;
        for event in events {
            self.apply(event);
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::TargetApplied(target) => self.apply_target(target),
            Event::TargetRemoved(key) => {
                self.remove(&(key.namespace, key.name));
            }
            Event::ObjectApplied(object) => match serde_json::from_str(&object.json) {
                Ok(value) => {
                    let mut object = Object { kind: object.kind, namespace: object.key.namespace, name: object.key.name, value };
                    D::trim(&mut object);
                    if self.synced {
                        self.touch(&object);
                    }
                    if let Some(old) = self.objects.insert(object) {
                        self.touch(&old);
                    }
                }
                Err(error) => log(Level::Error, &format!("{} {}/{}: {error}", object.kind, object.key.namespace, object.key.name)),
            },
            Event::ObjectRemoved(key) => {
                if let Some(old) = self.objects.remove(&key.kind, &key.key.namespace, &key.key.name) {
                    self.touch(&old);
                }
            }
            Event::Synced => self.synced = true,
        }
    }

    fn apply_target(&mut self, target: Target) {
        let Target { key: Key { namespace, name }, service, config } = target;
        let (object, parsed) = match serde_json::from_str(&service) {
            Ok(object) => (object, Ok(())),
            Err(error) => (Value::Null, Err(format!("service: {error}"))),
        };
        let mut service = Service { namespace: namespace.clone(), name: name.clone(), object };
        let plugin = parsed.and_then(|()| config::parse(&config)).and_then(|config| D::open(&service, config));
        D::trim_service(&mut service);
        // What the host was told remains in force until something else is found.
        let name = (namespace, name);
        let (published, failed) = match self.remove(&name) {
            Some(old) => (old.published, old.failed),
            None => (None, None),
        };
        self.dirty.insert(name.clone());
        self.services.insert(name, Entry { service, plugin, due: None, asked: None, published, failed });
    }

    fn remove(&mut self, name: &Name) -> Option<Entry<D>> {
        let old = self.services.remove(name)?;
        self.dirty.remove(name);
        if let Some(due) = old.due {
            self.due.remove(&(due, name.clone()));
        }
        if let Some(ticket) = old.asked {
            self.asked.remove(&ticket);
        }
        Some(old)
    }

    /// Notes which services a change concerns. Until all objects have come, all services are to be asked anyway.
    fn touch(&mut self, object: &Object) {
        if !self.synced {
            return;
        }
        let dirty = &mut self.dirty;
        let mut note = |name: &Name, entry: &Entry<D>| {
            if !dirty.contains(name) && entry.plugin.as_ref().is_ok_and(|plugin| plugin.concerns(&entry.service, object)) {
                dirty.insert(name.clone());
            }
        };
        match D::concerned(object) {
            Concerned::All => self.services.iter().for_each(|(name, entry)| note(name, entry)),
            Concerned::Namespace => {
                let first = (object.namespace.clone(), String::new());
                let near = self.services.range(first..).take_while(|((namespace, _), _)| *namespace == object.namespace);
                near.for_each(|(name, entry)| note(name, entry));
            }
            Concerned::Service(name) => {
                if let Some((name, entry)) = self.services.get_key_value(&(object.namespace.clone(), name)) {
                    note(name, entry);
                }
            }
            Concerned::Nobody => {}
        }
    }

    /// Asks for the endpoints of the services that a change concerns or whose refresh is due. After each, `tell` is called with what the host does not know
    /// yet. Asking may take some time, and refreshes count from its end. Questions to the network are in [`Driver::asks`] afterwards.
    pub(crate) fn resolve(&mut self, clock: impl Fn() -> Duration, mut tell: impl FnMut(&Key, Option<Finding>)) {
        if !self.synced {
            return;
        }
        let due = self.due.iter().take_while(|(due, _)| *due <= self.now).map(|(_, name)| name.clone());
        let mut wanted: BTreeSet<Name> = due.collect();
        wanted.append(&mut self.dirty);
        for name in wanted {
            let Some(entry) = self.services.get_mut(&name) else { continue };
            if entry.asked.is_some() {
                // The answer to the service's question is awaited first. What changed meanwhile is looked at afterwards.
                self.dirty.insert(name);
                continue;
            }
            if let Some(due) = entry.due.take() {
                self.due.remove(&(due, name.clone()));
            }
            if let Some(ask) = entry.ask() {
                self.tickets += 1;
                entry.asked = Some(self.tickets);
                self.asked.insert(self.tickets, name);
                self.asks.push((self.tickets, ask));
                continue;
            }
            let finding = entry.resolve(&self.objects, &clock);
            self.due.extend(entry.due.map(|due| (due, name.clone())));
            let (namespace, name) = name;
            tell(&Key { namespace, name }, finding);
        }
    }
}

/// These methods are for plugins that ask the network or read files. Such plugins run only in the gateway.
#[cfg(any(target_arch = "wasm32", test))]
impl<D: Discovery> Driver<D> {
    /// Notes a change that concerns all services.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn stir(&mut self) {
        self.dirty.extend(self.services.keys().cloned());
    }

    /// Takes the questions that are to be asked.
    pub(crate) fn asks(&mut self) -> Vec<(Ticket, Ask)> {
        std::mem::take(&mut self.asks)
    }

    /// Whether the answer to a question is still wanted. A service that is gone, or has another configuration, does not want it.
    pub(crate) fn waits(&self, ticket: Ticket) -> bool {
        self.asked.contains_key(&ticket)
    }

    /// Takes an answer, and returns what the host does not know yet.
    pub(crate) fn answered(&mut self, ticket: Ticket, reply: Reply, clock: impl Fn() -> Duration) -> Option<(Key, Option<Finding>)> {
        let name = self.asked.remove(&ticket)?;
        let entry = self.services.get_mut(&name)?;
        entry.asked = None;
        let Ok(plugin) = &mut entry.plugin else { return None };
        let found = match plugin.answered(&entry.service, reply) {
            Ok(Next::Ask(ask)) => {
                self.tickets += 1;
                entry.asked = Some(self.tickets);
                self.asked.insert(self.tickets, name);
                self.asks.push((self.tickets, ask));
                return None;
            }
            Ok(Next::Endpoints(endpoints)) => Ok(endpoints),
            Err(reason) => Err(reason),
        };
        let finding = entry.found(found, clock);
        self.due.extend(entry.due.map(|due| (due, name.clone())));
        let (namespace, name) = name;
        Some((Key { namespace, name }, finding))
    }
}

impl<D: Discovery> Entry<D> {
    fn ask(&mut self) -> Option<Ask> {
        match &mut self.plugin {
            Ok(plugin) if D::ASKS => plugin.ask(&self.service),
            _ => None,
        }
    }

    fn resolve(&mut self, objects: &Objects, clock: impl Fn() -> Duration) -> Option<Finding> {
        let found = match &mut self.plugin {
            Ok(plugin) => plugin.endpoints(&self.service, objects),
            Err(reason) => Err(reason.clone()),
        };
        self.found(found, clock)
    }

    fn found(&mut self, found: Result<Vec<PublishedEndpoint>, String>, clock: impl Fn() -> Duration) -> Option<Finding> {
        let refresh = self.plugin.as_ref().ok().and_then(|plugin| plugin.refresh());
        self.due = refresh.map(|pause| clock().saturating_add(pause.max(SHORTEST_REFRESH)));
        match found {
            Ok(endpoints) => {
                // After a failure the same endpoints are told again, by which the host learns that the failure is over.
                let published = Some(digest(&endpoints));
                let news = self.failed.take().is_some() || self.published != published;
                self.published = published;
                news.then_some(Finding::Endpoints(endpoints))
            }
            Err(reason) => {
                let news = self.failed.as_ref() != Some(&reason);
                news.then(|| {
                    self.failed = Some(reason.clone());
                    Finding::Failed(reason)
                })
            }
        }
    }
}

/// A digest of a list of endpoints. Two lists that differ have the same digest with a probability of 2^-64.
fn digest(endpoints: &[PublishedEndpoint]) -> u64 {
    let mut hasher = DefaultHasher::new();
    endpoints.len().hash(&mut hasher);
    for endpoint in endpoints {
        // The pattern has no `..`, so that no field of a later contract is forgotten.
        let PublishedEndpoint {
            address,
            port,
            port_name,
            ready,
            serving,
            terminating,
            weight,
            zone,
            node,
            hint_zones,
            hint_nodes,
            labels,
            annotations,
        } = endpoint;
        (address, port, port_name, ready, serving, terminating, weight).hash(&mut hasher);
        (zone, node, hint_zones, hint_nodes, labels, annotations).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
