//! The API server as a source of objects. One task follows each kind, or each single object of a kind of which only those count that others refer to
//! ([`follow`]): it lists, and watches what changes from there. [`served`] says which kinds there are, [`trim`] drops what nobody looks at, [`pause`] is how
//! long is waited after a failure, and [`view`] is what people are told about it all.
//!
//! It does so itself instead of using `kube_runtime::watcher`, as that needs a type for each kind, knows no objects by name, does not say what it asks, and hides
//! what the server said.

mod follow;
mod list;
mod pause;
mod served;
mod told;
mod trim;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sluicegate_config::object::ObjectKey;
use sluicegate_control::sources::{Change, Feed, Running, Source, SourceError, Wanted, What};
use sluicegate_model::status::sources::SourceState;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::client::{Cluster, ClusterError};
use crate::kinds::{KINDS, Kind, Watched};
use follow::Follower;
pub use pause::Pauses;
use served::Served;
use told::Key;
pub use view::View;

/// The name of the source. The names of its units begin with it.
pub const NAME: &str = "cluster";

/// How patient the source is.
#[derive(Clone, Debug)]
pub struct Timing {
    /// For how long a watch is asked for; half of it is left to chance.
    pub watch: Duration,
    /// After how long a silent watch is believed to be dead. Bookmarks come about once a minute.
    pub silence: Duration,
    /// How soon it is asked again whether a missing kind is there.
    pub missing: Duration,
    /// How long a start waits for the server if there is a saved copy.
    pub saved: Duration,
    /// How long is waited after failures.
    pub pauses: Pauses,
    /// After the server did not answer for so long, and answers again, it is asked at once, and watches in which nothing came meanwhile are begun anew: their
    /// connections may be dead, or the server may try only after a while to send again what was lost.
    pub outage: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let (watch, silence, missing, saved) = (seconds(600), seconds(100), seconds(30), seconds(5));
        Self { watch, silence, missing, saved, pauses: Pauses::default(), outage: seconds(10) }
    }
}

/// What the server says of an object, in full, for those who write to it.
#[derive(Clone, Copy, Debug)]
pub enum Said<'o> {
    /// The object is this.
    Applied(&'o Value),
    /// The object of this kind, namespace and name is gone.
    Gone(&'static str, Option<&'o str>, &'o str),
}

/// Is told what the server says of each object, before control is.
pub type Observer = Arc<dyn Fn(Said<'_>) + Send + Sync>;

/// A saved copy of what a server said: the objects of each unit, in JSON.
pub type Saved = BTreeMap<PathBuf, Arc<str>>;

/// The source.
pub struct ClusterSource {
    shared: Arc<Shared>,
    wanted: Wanted,
    runtime: Handle,
}

/// What all tasks share.
pub(crate) struct Shared {
    cluster: Cluster,
    timing: Timing,
    observer: Option<Observer>,
    view: Arc<View>,
    served: Served,
    /// Whether the server begins watches with what there is. Old ones do not.
    streams: AtomicBool,
    begun: Instant,
    /// What an earlier process saved, as far as nothing was told of it; none: nothing was saved.
    saved: Option<Mutex<Saved>>,
    /// What was told of that, until the server has answered.
    adopted: Mutex<BTreeMap<&'static str, BTreeSet<Key>>>,
    /// Why the server does not answer, as it was reported.
    unreached: Mutex<Option<String>>,
    start: Start,
}

/// What the start waits for.
#[derive(Default)]
struct Start {
    feed: std::sync::OnceLock<Feed>,
    /// The kinds of which nothing was told yet.
    waiting: Mutex<BTreeSet<&'static str>>,
}

impl ClusterSource {
    /// The source of this server's objects. Its tasks run on `runtime`.
    pub fn new(cluster: Cluster, runtime: Handle, wanted: Wanted) -> Self {
        let view = Arc::new(View::new(cluster.clone()));
        let shared = Shared {
            cluster,
            timing: Timing::default(),
            observer: None,
            view,
            served: Served::default(),
            streams: AtomicBool::new(true),
            begun: Instant::now(),
            saved: None,
            adopted: Mutex::default(),
            unreached: Mutex::default(),
            start: Start::default(),
        };
        Self { shared: Arc::new(shared), wanted, runtime }
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let Self { mut shared, wanted, runtime } = self;
        // Nobody else has it before the start.
        if let Some(shared) = Arc::get_mut(&mut shared) {
            change(shared);
        }
        Self { shared, wanted, runtime }
    }

    /// With another patience.
    #[must_use]
    pub fn with_timing(self, timing: Timing) -> Self {
        self.with(|shared| shared.timing = timing)
    }

    /// With somebody who is told what the server says.
    #[must_use]
    pub fn with_observer(self, observer: Observer) -> Self {
        self.with(|shared| shared.observer = Some(observer))
    }

    /// With what an earlier process saved, which is told if the server does not answer soon.
    #[must_use]
    pub fn with_saved(self, saved: Saved) -> Self {
        self.with(|shared| shared.saved = Some(Mutex::new(saved)))
    }

    /// What it sees.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.clone()
    }
}

impl Source for ClusterSource {
    fn name(&self) -> String {
        self.shared.cluster.name().to_owned()
    }

    fn start(self: Box<Self>, feed: Feed) -> Result<Running, SourceError> {
        let Self { shared, wanted, runtime } = *self;
        let always = || KINDS.iter().filter(|kind| kind.watched == Watched::All);
        let _ = shared.start.feed.set(feed);
        lock(&shared.start.waiting).extend(always().map(|kind| kind.kind));
        let all = always().map(|kind| Follower::new(shared.clone(), kind, None));
        let mut tasks = Tasks(all.map(|follower| runtime.spawn(follower.run()).abort_handle()).collect());
        tasks.0.push(runtime.spawn(use_saved(shared.clone())).abort_handle());
        tasks.0.push(runtime.spawn(follow_wanted(shared, wanted)).abort_handle());
        Ok(Box::new(tasks))
    }

    /// It waits for the server, unless there is a saved copy.
    fn is_awaited(&self) -> bool {
        true
    }
}

/// Ends with the source.
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Tells what was saved of those kinds of which the server has said nothing for too long.
async fn use_saved(shared: Arc<Shared>) {
    tokio::time::sleep_until(shared.begun + shared.timing.saved).await;
    let waiting = lock(&shared.start.waiting).clone();
    for kind in waiting.into_iter().filter_map(Kind::named) {
        if shared.adopt(kind, None) {
            shared.view.set(kind, "", SourceState::Saved, None);
            shared.told(kind);
        }
    }
}

/// Follows the objects that others refer to, and the kinds that somebody wants.
async fn follow_wanted(shared: Arc<Shared>, wanted: Wanted) {
    let mut news = wanted.follow();
    let mut following: BTreeMap<(&'static str, Option<ObjectKey>), AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wants = news.borrow_and_update().clone();
        let objects = wants.objects.iter().filter_map(|key| Some((Kind::named(&key.kind)?.kind, Some(key.clone()))));
        let kinds = wants.kinds.iter().filter_map(|kind| Kind::named(kind)).filter(|kind| kind.watched == Watched::Wanted);
        let all: BTreeSet<_> = objects.chain(kinds.map(|kind| (kind.kind, None))).collect();
        let mut first = Vec::new();
        following.retain(|wanted, task| {
            let stays = all.contains(wanted);
            if !stays {
                // What it has told is told to be gone when it is dropped.
                task.abort();
            }
            stays
        });
        for wanted in all {
            if following.contains_key(&wanted) {
                continue;
            }
            let Some(kind) = Kind::named(wanted.0) else { continue };
            let mut follower = Follower::new(shared.clone(), kind, wanted.1.clone());
            first.push(follower.first_answer());
            following.insert(wanted, tasks.spawn(follower.run()));
        }
        // Whoever waits for the answer has a deadline. What is wanted meanwhile comes first.
        let answered = async {
            for first in first {
                let _ = first.await;
            }
            wanted.answer(wants.version);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = answered => {}
            changed = news.changed() => if changed.is_err() { return },
        }
        while tasks.try_join_next().is_some() {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Reports changes.
    fn tell(&self, changes: Vec<Change>) {
        if let Some(feed) = self.start.feed.get().filter(|_| !changes.is_empty()) {
            feed.tell(changes);
        }
    }

    /// Notes that what there is of a kind was told. When that is so of all, the start is over.
    fn told(&self, kind: &'static Kind) {
        let mut waiting = lock(&self.start.waiting);
        if waiting.remove(kind.kind)
            && waiting.is_empty()
            && let Some(feed) = self.start.feed.get()
        {
            feed.synced();
        }
    }

    /// Tells what was saved of a kind, or of one object, unless that was done before. False: nothing was saved at all.
    fn adopt(&self, kind: &'static Kind, only: Option<&ObjectKey>) -> bool {
        let Some(saved) = &self.saved else { return false };
        let mut saved = lock(saved);
        let all = Path::new(NAME).join(kind.kind);
        let within = only.map_or_else(|| all.clone(), |key| unit(kind, Some(&key.namespace), &key.name));
        let names: Vec<PathBuf> =
            saved.range(within.clone()..).map(|(name, _)| name).take_while(|name| name.starts_with(&within)).cloned().collect();
        let found: Vec<(PathBuf, Arc<str>)> = names.into_iter().filter_map(|name| saved.remove_entry(&name)).collect();
        drop(saved);
        let keys = found.iter().filter_map(|(unit, _)| Some(unit.strip_prefix(&all).ok()?.to_str()?.into()));
        lock(&self.adopted).entry(kind.kind).or_default().extend(keys);
        self.tell(found.into_iter().map(|(unit, text)| Change { unit, what: What::Json(text) }).collect());
        true
    }

    /// What was told of the saved copy of a kind, or of one object, which is told no more from now on.
    fn adopted(&self, kind: &'static Kind, only: Option<&ObjectKey>) -> BTreeSet<Key> {
        let mut adopted = lock(&self.adopted);
        match (adopted.get_mut(kind.kind), only) {
            (None, _) => BTreeSet::new(),
            (Some(keys), None) => std::mem::take(keys),
            (Some(keys), Some(only)) => keys.take(&*format!("{}/{}", only.namespace, only.name)).into_iter().collect(),
        }
    }

    /// Whether there is a saved copy of a kind, be it told or not.
    fn has_saved(&self, kind: &'static Kind) -> bool {
        let within = Path::new(NAME).join(kind.kind);
        let untold = self
            .saved
            .as_ref()
            .is_some_and(|saved| lock(saved).range(within.clone()..).next().is_some_and(|(unit, _)| unit.starts_with(&within)));
        untold || lock(&self.adopted).get(kind.kind).is_some_and(|keys| !keys.is_empty())
    }

    /// Whether a kind has anything of the saved copy.
    fn has_adopted(&self, kind: &'static Kind) -> bool {
        lock(&self.adopted).contains_key(kind.kind)
    }

    /// Notes that the server answers.
    fn reached(&self) {
        if lock(&self.unreached).take().is_some() {
            tracing::info!(server = self.cluster.name(), "the API server answers again");
            self.hold(Path::new(NAME), None);
        }
    }

    /// Notes that the server does not answer.
    fn unreached(&self, error: &ClusterError) {
        let why = format!("the API server {} does not answer as it should: {error}", self.cluster.name());
        let mut told = lock(&self.unreached);
        // Connections fail in several ways at a time; the first one is told.
        if told.is_none() {
            let saved = !lock(&self.adopted).is_empty();
            self.hold(Path::new(NAME), Some(if saved { format!("{why}; what an earlier process saved serves") } else { why.clone() }));
            *told = Some(why);
        }
    }

    /// Reports, or reports no more, what is wrong with a kind or the server.
    fn hold(&self, about: &Path, why: Option<String>) {
        self.tell(vec![Change { unit: about.to_owned(), what: What::Held(why) }]);
    }
}

/// The name of an object's unit.
fn unit(kind: &Kind, namespace: Option<&str>, name: &str) -> PathBuf {
    let mut unit = Path::new(NAME).join(kind.kind);
    unit.extend(namespace.filter(|_| kind.namespaced));
    unit.push(name);
    unit
}

/// States that are no failure.
const fn is_well(state: SourceState) -> bool {
    matches!(state, SourceState::Synced | SourceState::Missing)
}
