//! Runs the discovery plugins, one task and thread each, tells them of targets and objects, and takes what they publish, as far as each has its
//! [`share`] of control. A task that ends is started anew after a pause that doubles from 100 ms to 30 s; what it published stays.

mod outbox;
mod share;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use sluicegate_config::object::Object;
use sluicegate_config::objects::{Change, Objects};
use sluicegate_model::discovery::{AsJson, DiscoveryGeneration, Event, Found, FoundEndpoint, Key, weigh};
use sluicegate_model::plugin::PluginError;
use tokio::sync::{Notify, mpsc};

use task::{Ended, Reports, Task};

/// How much one plugin may have published for all its targets together, in bytes: about a million endpoints.
const MOST_HELD: usize = 256 << 20;

/// A Service as its discovery plugin gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// The Service, JSON.
    pub service: Arc<str>,
    /// The plugin's configuration for it, JSON.
    pub config: Arc<str>,
}

/// An object as plugins are told of it. It becomes text on their thread.
#[derive(Debug)]
struct Whole(Arc<Object>);

impl AsJson for Whole {
    fn json(&self) -> String {
        self.0.json().to_string()
    }
}

/// All discovery tasks.
pub struct Runner {
    tasks: BTreeMap<String, Task>,
    /// How tasks report that they have published or ended.
    reports: Reports,
    /// The tasks that have ended.
    ended: mpsc::UnboundedReceiver<Ended>,
    /// The targets, each with the plugin that finds its endpoints.
    targets: HashMap<Key, (String, Target)>,
    /// The plugins in use, with the number of their targets.
    in_use: BTreeMap<String, usize>,
    /// What was published for each target, and by which plugin.
    published: HashMap<Key, Published>,
    /// The memory that this takes, by plugin.
    held: HashMap<String, usize>,
    failures: BTreeMap<Key, String>,
    /// Targets for which nothing was published yet.
    unanswered: HashSet<Key>,
    /// Targets for which something else is published than was taken last.
    changed: BTreeSet<Key>,
}

/// What tasks are told of a changed object. None: tasks are not told of this object.
fn object_event((change, old): &(Change, Option<Arc<Object>>)) -> Option<Event> {
    let key = change.key();
    if key.kind == "Secret" {
        return None;
    }
    let id = Key { namespace: key.namespace.clone(), name: key.name.clone() };
    match change {
        Change::Applied(object) if old.as_ref().is_some_and(|old| old.value == object.value) => None,
        Change::Applied(object) => Some(Event::Object(key.kind.clone(), id, Arc::new(Whole(object.clone())))),
        Change::Gone(_) => Some(Event::ObjectGone(key.kind.clone(), id)),
    }
}

struct Published {
    plugin: String,
    endpoints: Vec<FoundEndpoint>,
    /// The memory that they take, in bytes.
    bytes: usize,
}

impl Default for Runner {
    fn default() -> Self {
        let (send, ended) = mpsc::unbounded_channel();
        Self {
            tasks: BTreeMap::new(),
            reports: Reports { ended: send, published: Arc::new(Notify::new()) },
            ended,
            targets: HashMap::new(),
            in_use: BTreeMap::new(),
            published: HashMap::new(),
            held: HashMap::new(),
            failures: BTreeMap::new(),
            unanswered: HashSet::new(),
            changed: BTreeSet::new(),
        }
    }
}

impl Runner {
    /// The plugins that targets name.
    pub fn plugins(&self) -> impl Iterator<Item = &String> {
        self.in_use.keys()
    }

    /// Takes in which targets have changed or are gone, and which objects have, and tells the tasks. A task is told all of it as one change, and publishes what
    /// follows from the whole.
    pub fn change<'c>(
        &mut self,
        objects: impl IntoIterator<Item = &'c (Change, Option<Arc<Object>>)>,
        targets: impl IntoIterator<Item = (Key, Option<(String, Target)>)>,
    ) {
        let objects: Vec<Event> = objects.into_iter().filter_map(object_event).collect();
        let mut telling: BTreeMap<String, Vec<Event>> = self.tasks.keys().map(|name| (name.clone(), objects.clone())).collect();
        self.target(targets, |plugin, event| telling.entry(plugin.to_owned()).or_default().push(event));
        for (plugin, change) in telling {
            let Some(task) = self.tasks.get_mut(&plugin) else { continue };
            let retargeted = change.len() > objects.len();
            task.send(change);
            if retargeted && task.ended.is_some() {
                task.hurry();
            }
        }
    }

    fn target(&mut self, changes: impl IntoIterator<Item = (Key, Option<(String, Target)>)>, mut tell: impl FnMut(&str, Event)) {
        for (key, new) in changes {
            let old = self.targets.remove(&key);
            if let Some((plugin, _)) = &old
                && new.as_ref().is_none_or(|(now, _)| now != plugin)
            {
                tell(plugin, Event::TargetGone(key.clone()));
                self.forget(&key);
                if let Some(count) = self.in_use.get_mut(plugin) {
                    *count -= 1;
                    if *count == 0 {
                        self.in_use.remove(plugin);
                    }
                }
            }
            let Some((plugin, target)) = new else {
                self.failures.remove(&key);
                continue;
            };
            let known = old.filter(|(before, _)| *before == plugin).map(|(_, target)| target);
            if known.is_none() {
                *self.in_use.entry(plugin.clone()).or_default() += 1;
            }
            if known.as_ref() != Some(&target) {
                tell(&plugin, Event::Target(key.clone(), target.service.clone(), target.config.clone()));
            }
            if !self.published.contains_key(&key) && !self.failures.contains_key(&key) {
                self.unanswered.insert(key.clone());
            }
            self.targets.insert(key, (plugin, target));
        }
    }

    /// Starts and ends tasks. These are the plugins in use of which some generation serves. A plugin of which none does has no task; what it published stays.
    pub fn sync(&mut self, live: &HashMap<String, Arc<dyn DiscoveryGeneration>>, objects: &Objects) {
        self.tasks.retain(|name, _| live.contains_key(name));
        for (name, plugin) in live {
            let id = plugin.generation().id;
            if self.tasks.get(name).is_none_or(|task| task.generation != id) {
                let task = Task::start(name, plugin.clone(), None, &self.reports);
                self.tell_all(name, &task, objects);
                self.tasks.insert(name.clone(), task);
            }
        }
    }

    /// Whether there is something for [`Self::take_changed`].
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The targets for which something else is published than the last time this was called.
    pub fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }

    /// Tells a task that knows nothing yet of all its targets and objects.
    fn tell_all(&self, plugin: &str, task: &Task, objects: &Objects) {
        for (key, (of, target)) in &self.targets {
            if of == plugin {
                task.send(vec![Event::Target(key.clone(), target.service.clone(), target.config.clone())]);
            }
        }
        for object in objects.iter().filter(|object| object.key.kind != "Secret") {
            let id = Key { namespace: object.key.namespace.clone(), name: object.key.name.clone() };
            task.send(vec![Event::Object(object.key.kind.clone(), id, Arc::new(Whole(object.clone())))]);
        }
        task.send(vec![Event::Synced]);
    }

    /// Forgets what was published for a target.
    fn forget(&mut self, key: &Key) {
        self.unanswered.remove(key);
        self.failures.remove(key);
        if let Some(published) = self.published.remove(key) {
            self.changed.insert(key.clone());
            if let Some(held) = self.held.get_mut(&published.plugin) {
                *held -= published.bytes;
            }
        }
    }

    /// The kinds whose objects plugins watch, of those plugins of which `counts` is true.
    pub fn watched(&self, counts: impl Fn(&str) -> bool) -> BTreeSet<String> {
        self.tasks.iter().filter(|(name, _)| counts(name)).flat_map(|(_, task)| task.watched.iter().cloned()).collect()
    }

    /// Waits until a task has published something and takes it in, with all that is due at once.
    pub async fn next(&mut self, plugins: impl Fn(&str) -> Option<Arc<dyn DiscoveryGeneration>>, objects: &Objects) {
        loop {
            let due = match self.take() {
                Ok(()) => return,
                Err(due) => due,
            };
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.ended.recv() => {
                    self.start_anew(ended, &plugins, objects);
                    return;
                }
                () = self.reports.published.notified() => {}
                () = wait => {}
            }
        }
    }

    /// Takes what is due of what was published. If nothing is, it returns when something will be.
    fn take(&mut self) -> Result<(), Option<Instant>> {
        let now = Instant::now();
        let (mut any, mut next) = (false, None);
        let mut later = |due: Instant| next = Some(next.map_or(due, |next: Instant| next.min(due)));
        for (name, task) in &mut self.tasks {
            if let Some(watched) = task.outbox.take_watched() {
                any |= watched != task.watched;
                task.watched = watched;
            }
            if task.outbox.is_empty() {
                continue;
            }
            let due = task.share.due(now);
            if due > now {
                later(due);
                continue;
            }
            let found = task.outbox.take(|target| {
                let due = task.share.due_of(target, now);
                if due > now {
                    later(due);
                }
                due <= now
            });
            if found.is_empty() {
                continue;
            }
            let size = |found: &Found| match found {
                Found::Endpoints(key, endpoints) => (key.clone(), endpoints.len()),
                Found::Failed(key, _) => (key.clone(), 0),
            };
            task.share.took(found.iter().map(size), now);
            let held = self.held.entry(name.clone()).or_default();
            for found in found {
                let (Found::Endpoints(key, _) | Found::Failed(key, _)) = &found;
                if self.targets.get(key).is_none_or(|(of, _)| of != name) {
                    continue;
                }
                any = true;
                self.unanswered.remove(key);
                self.changed.insert(key.clone());
                match found {
                    Found::Endpoints(key, endpoints) => {
                        task.ended = None;
                        let before = self.published.get(&key).map_or(0, |p| p.bytes);
                        let bytes = weigh(&endpoints);
                        if *held - before + bytes > MOST_HELD {
                            let reason =
                                format!("with these {} endpoints its plugin would hold more than {MOST_HELD} bytes", endpoints.len());
                            self.failures.insert(key, reason);
                            continue;
                        }
                        *held = *held - before + bytes;
                        self.failures.remove(&key);
                        self.published.insert(key, Published { plugin: name.clone(), endpoints, bytes });
                    }
                    Found::Failed(key, reason) => drop(self.failures.insert(key, reason)),
                }
            }
        }
        if any { Ok(()) } else { Err(next) }
    }

    fn start_anew(
        &mut self,
        (name, number, error): Ended,
        plugins: &impl Fn(&str) -> Option<Arc<dyn DiscoveryGeneration>>,
        objects: &Objects,
    ) {
        if self.tasks.get(&name).is_none_or(|task| task.number != number) {
            return;
        }
        let Some(plugin) = plugins(&name) else { return };
        let Some(task) = self.tasks.remove(&name) else { return };
        let anew = task.start_anew(&name, plugin, error, &self.reports);
        self.tell_all(&name, &anew, objects);
        self.tasks.insert(name, anew);
    }

    /// What was published for a Service; none before anything was.
    pub fn endpoints(&self, key: &Key) -> Option<&[FoundEndpoint]> {
        self.published.get(key).map(|published| published.endpoints.as_slice())
    }

    /// Whether every target has been answered, if only by a failure.
    pub fn complete(&self) -> bool {
        self.missing().next().is_none()
    }

    /// Targets for which a running task has published nothing yet.
    pub fn missing(&self) -> impl Iterator<Item = &Key> {
        let runs =
            |key: &&Key| self.targets.get(*key).and_then(|(plugin, _)| self.tasks.get(plugin)).is_some_and(|task| task.ended.is_none());
        self.unanswered.iter().filter(runs)
    }

    /// Why a plugin's task ended last, if it has not published since.
    pub fn ended(&self, plugin: &str) -> Option<&PluginError> {
        self.tasks.get(plugin)?.ended.as_ref()
    }

    /// How many of a plugin's Services have no endpoints because they could not be found, and why for the first; none if it fails for none.
    pub fn failing(&self, plugin: &str) -> Option<String> {
        self.tasks.get(plugin)?;
        let mut failed = self.failures.iter().filter(|(key, _)| self.targets.get(*key).is_some_and(|(of, _)| of == plugin));
        let (Key { namespace, name }, reason) = failed.next()?;
        let (count, all) = (failed.count() + 1, self.in_use.get(plugin).copied().unwrap_or_default());
        Some(format!("it finds no endpoints for {count} of {all} services: {namespace}/{name}: {reason}"))
    }

    /// The targets whose endpoints could not be found.
    pub fn failures(&self) -> impl Iterator<Item = (&Key, &str)> {
        self.failures.iter().map(|(key, reason)| (key, reason.as_str()))
    }
}
