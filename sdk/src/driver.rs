//! Drives a discovery plugin: events in, findings out. It waits for nothing and calls no host, so it is tested natively.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::ask::Ask;
#[cfg(any(target_arch = "wasm32", test))]
use crate::ask::{Next, Reply};
use crate::bindings::discovery::sluicegate::plugin::objects::{Event, Key, Target};
use crate::config;
use crate::discovery::{Discovery, PublishedEndpoint, Service};
use crate::objects::{Object, Objects};
use crate::{Level, log};

/// The shortest time between two refreshes, so that a plugin that asks for none at all does not spin.
const SHORTEST_REFRESH: Duration = Duration::from_millis(100);

/// What was found for a service, when it is news.
#[derive(Debug, PartialEq)]
pub(crate) enum Finding {
    Endpoints(Vec<PublishedEndpoint>),
    Failed(String),
}

/// The services and objects of one run.
pub(crate) struct Driver<D> {
    objects: Objects,
    services: BTreeMap<(String, String), Entry<D>>,
    /// Before all objects have come, every answer would be wrong.
    synced: bool,
    /// The time on the monotonic clock.
    now: Duration,
    /// Questions that nobody has taken to the network yet.
    asks: Vec<(Ticket, Ask)>,
    tickets: Ticket,
}

/// Tells the questions apart.
pub(crate) type Ticket = u64;

struct Entry<D> {
    service: Service,
    plugin: Result<D, String>,
    dirty: bool,
    due: Option<Duration>,
    /// What it waits for the answer to.
    asked: Option<Ticket>,
    /// What was last told to the host.
    published: Option<Vec<PublishedEndpoint>>,
    failed: Option<String>,
}

impl<D> Default for Driver<D> {
    fn default() -> Self {
        Self { objects: Objects::default(), services: BTreeMap::new(), synced: false, now: Duration::ZERO, asks: Vec::new(), tickets: 0 }
    }
}

impl<D: Discovery> Driver<D> {
    /// How long to wait for events, in milliseconds: until the soonest refresh.
    pub(crate) fn timeout_ms(&self, now: Duration) -> Option<u64> {
        let soonest = self.services.values().filter_map(|entry| entry.due).min()?;
        // Rounded up: a wait that ends too soon would be repeated at once.
        Some(u64::try_from(soonest.saturating_sub(now).as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
    }

    /// Takes in what a wait brought.
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
                self.services.remove(&(key.namespace, key.name));
            }
            Event::ObjectApplied(object) => match serde_json::from_str(&object.json) {
                Ok(value) => {
                    let object = Object { kind: object.kind, namespace: object.key.namespace, name: object.key.name, value };
                    let old = self.objects.insert(object.clone());
                    self.touch(&object);
                    if let Some(old) = old {
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
        let service = Service { namespace: namespace.clone(), name: name.clone(), object };
        let plugin = parsed.and_then(|()| config::parse(&config)).and_then(|config| D::open(&service, config));
        // What the host was told stays true until something else is found.
        let (published, failed) = match self.services.remove(&(namespace.clone(), name.clone())) {
            Some(old) => (old.published, old.failed),
            None => (None, None),
        };
        self.services.insert((namespace, name), Entry { service, plugin, dirty: true, due: None, asked: None, published, failed });
    }

    fn touch(&mut self, object: &Object) {
        for entry in self.services.values_mut().filter(|entry| !entry.dirty) {
            entry.dirty = entry.plugin.as_ref().is_ok_and(|plugin| plugin.concerns(&entry.service, object));
        }
    }

    /// Asks for the endpoints of the services that a change concerns or whose refresh is due, and tells after each what the host does not know
    /// yet. Asking may take its time: refreshes count from its end. What the network has to be asked for is in [`Driver::asks`] then.
    pub(crate) fn resolve(&mut self, clock: impl Fn() -> Duration, mut tell: impl FnMut(&Key, Option<Finding>)) {
        if !self.synced {
            return;
        }
        for ((namespace, name), entry) in &mut self.services {
            let due = entry.due.is_some_and(|due| due <= self.now);
            if entry.asked.is_some() || !(entry.dirty || due) {
                continue;
            }
            entry.dirty = false;
            if let Some(ask) = entry.ask() {
                self.tickets += 1;
                (entry.asked, entry.due) = (Some(self.tickets), None);
                self.asks.push((self.tickets, ask));
                continue;
            }
            let finding = entry.resolve(&self.objects, &clock);
            tell(&Key { namespace: namespace.clone(), name: name.clone() }, finding);
        }
    }
}

/// For plugins that ask or read files, which run in the gateway only.
#[cfg(any(target_arch = "wasm32", test))]
impl<D: Discovery> Driver<D> {
    /// A change of what concerns all services.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn stir(&mut self) {
        self.services.values_mut().for_each(|entry| entry.dirty = true);
    }

    /// The questions that have come up.
    pub(crate) fn asks(&mut self) -> Vec<(Ticket, Ask)> {
        std::mem::take(&mut self.asks)
    }

    /// Whether the answer is still wanted: a service that is gone, or was configured anew, does not want it.
    pub(crate) fn waits(&self, ticket: Ticket) -> bool {
        self.services.values().any(|entry| entry.asked == Some(ticket))
    }

    /// Takes in an answer, and says what the host does not know yet.
    pub(crate) fn answered(&mut self, ticket: Ticket, reply: Reply, clock: impl Fn() -> Duration) -> Option<(Key, Option<Finding>)> {
        let ((namespace, name), entry) = self.services.iter_mut().find(|(_, entry)| entry.asked == Some(ticket))?;
        entry.asked = None;
        let Ok(plugin) = &mut entry.plugin else { return None };
        let found = match plugin.answered(&entry.service, reply) {
            Ok(Next::Ask(ask)) => {
                self.tickets += 1;
                entry.asked = Some(self.tickets);
                self.asks.push((self.tickets, ask));
                return None;
            }
            Ok(Next::Endpoints(endpoints)) => Ok(endpoints),
            Err(reason) => Err(reason),
        };
        Some((Key { namespace: namespace.clone(), name: name.clone() }, entry.found(found, clock)))
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
                // After a failure the same endpoints are told again: that is how the host learns that it is over.
                let news = self.failed.take().is_some() || self.published.as_ref() != Some(&endpoints);
                news.then(|| {
                    self.published = Some(endpoints.clone());
                    Finding::Endpoints(endpoints)
                })
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

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
