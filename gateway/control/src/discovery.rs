//! Runs the discovery plugins, one task each, tells them of targets and objects, and keeps what they published. A task that ends is started
//! anew after a pause that doubles from 100 ms to 30 s; what it published stays.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sluicegate_host::discovery::{Event, Found, FoundEndpoint, Key, WasmDiscovery};
use sluicegate_model::object::Object;
use sluicegate_model::plugin::PluginError;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A Service as its discovery plugin gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// The Service, JSON.
    pub service: Arc<str>,
    /// The plugin's configuration for it, JSON.
    pub config: Arc<str>,
}

/// All discovery tasks.
pub struct Runner {
    tasks: BTreeMap<String, Task>,
    sender: mpsc::Sender<(String, Message)>,
    receiver: mpsc::Receiver<(String, Message)>,
    /// What was published for each target, by the plugin that did.
    published: HashMap<Key, (String, Vec<FoundEndpoint>)>,
    failures: BTreeMap<Key, String>,
}

/// From a task.
pub enum Message {
    /// It found something.
    Found(Found),
    /// It ended and waits to be started anew.
    Ended(PluginError),
}

struct Task {
    generation: u64,
    events: mpsc::UnboundedSender<Event>,
    join: JoinHandle<()>,
    targets: HashMap<Key, Target>,
    objects: HashMap<(String, Key), Arc<Object>>,
    ended: Option<PluginError>,
    pause: Duration,
    /// Ends the pause before a task that ended is started anew.
    hurry: Arc<Notify>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.join.abort();
    }
}

impl Default for Runner {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(256);
        Self { tasks: BTreeMap::new(), sender, receiver, published: HashMap::new(), failures: BTreeMap::new() }
    }
}

impl Runner {
    /// Brings the tasks up to date: `plugins` are those in use with their targets, `objects` all there are. One of which no generation serves has
    /// no task; what it published stays.
    pub fn sync(&mut self, plugins: BTreeMap<String, (Option<Arc<WasmDiscovery>>, HashMap<Key, Target>)>, objects: &[Arc<Object>]) {
        self.tasks.retain(|name, _| plugins.get(name).is_some_and(|(plugin, _)| plugin.is_some()));
        let owners: HashMap<&Key, &String> =
            plugins.iter().flat_map(|(name, (_, targets))| targets.keys().map(move |key| (key, name))).collect();
        self.published.retain(|key, (owner, _)| owners.get(key).is_some_and(|name| *name == owner));
        self.failures.retain(|key, _| owners.contains_key(key));
        let running = plugins.iter().filter_map(|(name, (plugin, targets))| Some((name, plugin.as_ref()?, targets)));
        for (name, plugin, targets) in running {
            let id = plugin.generation().id;
            let fresh = self.tasks.get(name).is_none_or(|task| task.generation != id);
            if fresh {
                let task = start(name.clone(), plugin.clone(), self.sender.clone(), None, FIRST_PAUSE);
                self.tasks.insert(name.clone(), task);
            }
            if let Some(task) = self.tasks.get_mut(name) {
                let edited = task.tell(targets, objects);
                if edited && task.ended.is_some() {
                    // What made it end may have been mended: no reason to wait.
                    task.pause = FIRST_PAUSE;
                    task.hurry.notify_one();
                }
                if fresh {
                    task.send(Event::Synced);
                }
            }
        }
    }

    /// Waits for word from a task and takes it in, with all that follows at once.
    pub async fn next(&mut self, plugins: impl Fn(&str) -> Option<Arc<WasmDiscovery>>, objects: &[Arc<Object>]) {
        let Some(mut message) = self.receiver.recv().await else { return std::future::pending().await };
        loop {
            self.take(message, &plugins, objects);
            match self.receiver.try_recv() {
                Ok(next) => message = next,
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, (name, message): (String, Message), plugins: &impl Fn(&str) -> Option<Arc<WasmDiscovery>>, objects: &[Arc<Object>]) {
        let Some(task) = self.tasks.get_mut(&name) else { return };
        match message {
            Message::Found(Found::Endpoints(key, endpoints)) if task.targets.contains_key(&key) => {
                task.pause = FIRST_PAUSE;
                task.ended = None;
                self.failures.remove(&key);
                self.published.insert(key, (name, endpoints));
            }
            Message::Found(Found::Failed(key, reason)) if task.targets.contains_key(&key) => {
                self.failures.insert(key, reason);
            }
            Message::Found(_) => {}
            Message::Ended(error) => {
                tracing::error!(%error, pause = ?task.pause, "the discovery task ended; it is started anew after a pause");
                let Some(plugin) = plugins(&name) else { return };
                let pause = task.pause;
                let mut anew = start(name.clone(), plugin, self.sender.clone(), Some(pause), (pause * 2).min(LONGEST_PAUSE));
                let targets = std::mem::take(&mut task.targets);
                anew.tell(&targets, objects);
                anew.send(Event::Synced);
                anew.ended = Some(error);
                self.tasks.insert(name, anew);
            }
        }
    }

    /// What was published for a Service; none before the first word.
    pub fn endpoints(&self, key: &Key) -> Option<&[FoundEndpoint]> {
        self.published.get(key).map(|(_, endpoints)| endpoints.as_slice())
    }

    /// Whether every target has been answered, if only by a failure.
    pub fn complete(&self) -> bool {
        self.tasks.values().all(|task| {
            task.ended.is_some() || task.targets.keys().all(|key| self.published.contains_key(key) || self.failures.contains_key(key))
        })
    }

    /// Why a plugin's task ended last, if it has not published since.
    pub fn ended(&self, plugin: &str) -> Option<&PluginError> {
        self.tasks.get(plugin)?.ended.as_ref()
    }

    /// Why a Service's endpoints could not be found.
    pub fn failure(&self, key: &Key) -> Option<&str> {
        self.failures.get(key).map(String::as_str)
    }
}

fn start(
    name: String,
    plugin: Arc<WasmDiscovery>,
    sender: mpsc::Sender<(String, Message)>,
    after: Option<Duration>,
    pause: Duration,
) -> Task {
    let generation = plugin.generation().id;
    let (events, inbox) = mpsc::unbounded_channel();
    let hurry = Arc::new(Notify::new());
    let hurried = hurry.clone();
    let join = tokio::spawn(async move {
        if let Some(after) = after {
            tokio::select! { () = tokio::time::sleep(after) => {}, () = hurried.notified() => {} }
        }
        let (found, mut out) = mpsc::channel(64);
        let forward = async {
            while let Some(found) = out.recv().await {
                if sender.send((name.clone(), Message::Found(found))).await.is_err() {
                    return;
                }
            }
        };
        let (error, ()) = tokio::join!(plugin.run(inbox, found), forward);
        // Control is gone only together with the process.
        let _ = sender.send((name.clone(), Message::Ended(error))).await;
    });
    Task { generation, events, join, targets: HashMap::new(), objects: HashMap::new(), ended: None, pause, hurry }
}

impl Task {
    /// Sends what differs from what was sent. True if a target does.
    fn tell(&mut self, targets: &HashMap<Key, Target>, objects: &[Arc<Object>]) -> bool {
        let gone: Vec<Key> = self.targets.keys().filter(|key| !targets.contains_key(*key)).cloned().collect();
        let mut edited = !gone.is_empty();
        for key in gone {
            self.targets.remove(&key);
            self.send(Event::TargetGone(key));
        }
        for (key, target) in targets {
            if self.targets.get(key) != Some(target) {
                edited = true;
                self.targets.insert(key.clone(), target.clone());
                self.send(Event::Target(key.clone(), target.service.clone(), target.config.clone()));
            }
        }
        let mut seen = HashMap::with_capacity(objects.len());
        for object in objects.iter().filter(|o| o.key.kind != "Secret") {
            let key = Key { namespace: object.key.namespace.clone(), name: object.key.name.clone() };
            let id = (object.key.kind.clone(), key);
            let same = self.objects.get(&id).is_some_and(|known| Arc::ptr_eq(known, object) || known.value == object.value);
            if !same {
                self.send(Event::Object(id.0.clone(), id.1.clone(), object.value.to_string().into()));
            }
            seen.insert(id, object.clone());
        }
        let gone: Vec<(String, Key)> = self.objects.keys().filter(|id| !seen.contains_key(*id)).cloned().collect();
        self.objects = seen;
        for (kind, key) in gone {
            self.send(Event::ObjectGone(kind, key));
        }
        edited
    }

    fn send(&self, event: Event) {
        // A task that has ended has dropped its receiver; it is told everything when it is started anew.
        let _ = self.events.send(event);
    }
}
