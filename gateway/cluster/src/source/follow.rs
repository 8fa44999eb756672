//! Follows a kind, or one object of it: all there is, and then what changes, whatever the server and the network do meanwhile. What was told stays told until
//! the server says something else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt as _;
use serde_json::Value;
use sluicegate_config::object::ObjectKey;
use sluicegate_model::status::sources::SourceState;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::told::{Key, Told, key, parts};
use super::{NAME, Said, Shared, pause, unit};
use crate::client::{ClusterError, Lines, Refused};
use crate::kinds::{Kind, Watched};
use crate::reach::Back;

/// A watch that ends sooner has failed, even if it ended as it should.
const SHORTEST: Duration = Duration::from_secs(1);
/// After so long a start waits no more for a kind that the server refuses to tell.
const REFUSED: Duration = Duration::from_secs(30);
/// Within so long after the server is back everybody asks it again, not all at once.
const SPREAD: Duration = Duration::from_secs(2);
/// The annotation of the bookmark at the end of what there is.
const ALL_TOLD: &str = "k8s.io/initial-events-end";

/// Follows a kind, or one object of it.
pub(super) struct Follower {
    shared: Arc<Shared>,
    kind: &'static Kind,
    only: Option<ObjectKey>,
    /// The version of the kind.
    version: &'static str,
    told: Told,
    /// Where the next watch begins; none: everything is listed before.
    from: Option<String>,
    /// Whether everything was listed once.
    synced: bool,
    /// Since when the server says that it does not have the kind, though something of it is known.
    doubted: Option<Instant>,
    /// How often it has failed in a row.
    failures: u32,
    /// When the watch began that runs.
    opened: Option<Instant>,
    /// What is waited for.
    first: Option<oneshot::Sender<()>>,
    /// Tells that the server answers again.
    back: watch::Receiver<Option<Back>>,
    /// What is reported as wrong.
    held: Option<String>,
}

/// Why a watch is over.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server does not have the kind.
    Missing,
    /// The server does not know any more what has changed since.
    TooOld,
    /// Nothing came for so long that the connection may be dead.
    Silent,
    /// The server was away and is back, but nothing came.
    Returned,
    /// It failed.
    Failed(ClusterError),
}

/// Waits until the server answers again after it was away for so long; if `since` is given, since then.
async fn returned(back: &mut watch::Receiver<Option<Back>>, since: Option<Instant>, outage: Duration) {
    loop {
        // The sender lives as long as the client.
        if back.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let told = *back.borrow_and_update();
        let away = |back: Back| back.at.saturating_duration_since(since.map_or(back.since, |since| since.max(back.since)));
        if told.is_some_and(|back| away(back) >= outage) {
            return;
        }
    }
}

/// Waits for a moment that is left to chance.
async fn spread(outage: Duration) {
    let pause = SPREAD.min(outage).mul_f64(rand::rng().random_range(0.0..=1.0));
    tokio::time::sleep(pause).await;
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, kind: &'static Kind, only: Option<ObjectKey>) -> Self {
        let version = kind.versions.first().copied().unwrap_or("v1");
        let (told, back) = (Told::new(kind), shared.cluster.back());
        Self {
            shared,
            kind,
            only,
            version,
            told,
            from: None,
            synced: false,
            doubted: None,
            failures: 0,
            opened: None,
            first: None,
            back,
            held: None,
        }
    }

    /// Is ready once it was answered for the first time, whatever the answer was, or has ended.
    pub(super) fn first_answer(&mut self) -> oneshot::Receiver<()> {
        let (first, answered) = oneshot::channel();
        self.first = Some(first);
        answered
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        self.set(SourceState::Waiting, None);
        loop {
            // If the server comes back while it is asked in vain, it is asked again at once.
            self.back.mark_unchanged();
            let over = self.round().await;
            let lasted = self.opened.take().is_some_and(|opened| opened.elapsed() >= SHORTEST);
            if lasted {
                self.failures = 0;
            }
            let trouble = match over {
                Ok(()) if lasted => continue,
                Ok(()) => Trouble::Failed(ClusterError::Damaged("the watch ended at once".to_owned())),
                Err(trouble) => trouble,
            };
            let pause = self.failed(trouble);
            let outage = self.shared.timing.outage;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = returned(&mut self.back, None, outage) => spread(outage).await,
            }
        }
    }

    /// Takes in why a watch is over. Returns after how long the server is asked again.
    fn failed(&mut self, trouble: Trouble) -> Duration {
        let missing = matches!(trouble, Trouble::Missing);
        self.failures = if missing { 0 } else { self.failures.saturating_add(1) };
        tracing::debug!(kind = self.kind.kind, ?trouble, failures = self.failures, "a watch is over");
        let (reason, asked_for) = match &trouble {
            Trouble::Missing => {
                self.listed(&BTreeSet::new(), String::new());
                self.from = None;
                self.set(SourceState::Missing, None);
                return self.shared.timing.missing.mul_f64(rand::rng().random_range(0.8..=1.2));
            }
            Trouble::Returned => {
                self.failures = 0;
                return Duration::ZERO;
            }
            Trouble::TooOld => (None, None),
            // Where nothing happens there may be no bookmarks.
            Trouble::Silent if self.failures == 1 => (None, None),
            Trouble::Silent => (Some(format!("nothing came for {:?}", self.shared.timing.silence)), None),
            Trouble::Failed(error) => (Some(error.to_string()), error.retry_after()),
        };
        if matches!(trouble, Trouble::TooOld) {
            self.from = None;
        }
        if let Trouble::Failed(error) = &trouble {
            // A server that does not believe who asks is of no more use than one that does not answer.
            let unreached = matches!(error, ClusterError::Connection(_) | ClusterError::Deadline(_)) || error.code() == 401;
            match error.code() {
                // Its definition may be gone: that is found out before anything else.
                404 => {
                    self.shared.served.forget();
                    self.from = None;
                }
                410 => self.from = None,
                _ => {}
            }
            let refused = matches!(error.code(), 400..=499) && !matches!(error.code(), 401 | 408 | 410 | 429);
            if !self.synced && (unreached || refused) {
                self.adopt();
            }
            if refused || (error.refused().is_some() && self.shared.begun.elapsed() > REFUSED) {
                self.shared.told(self.kind);
            }
            // A connection that breaks once is no news.
            if unreached && self.failures > 1 {
                self.shared.unreached(error);
            } else if !unreached && (refused || self.failures > 2) {
                self.hold(Some(error.to_string()));
            }
        }
        if let Some(reason) = reason {
            self.set(if self.synced { SourceState::Failing } else { SourceState::Waiting }, Some(reason));
        }
        self.answered();
        pause::after(self.failures, asked_for, self.shared.timing.pauses)
    }

    /// One watch, after a list if that is needed.
    async fn round(&mut self) -> Result<(), Trouble> {
        if self.from.is_none() {
            let served = self.shared.served.version(&self.shared.cluster, self.kind, self.shared.timing.missing / 2).await;
            match served.map_err(Trouble::Failed)? {
                Some(version) => (self.version, self.doubted) = (version, None),
                None => return Err(self.missing()),
            }
            self.set(SourceState::Listing, None);
        }
        let (lines, initial) = match &self.from {
            None if self.shared.streams.load(Ordering::Relaxed) => {
                let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
                match self.stream(query).await {
                    Ok(lines) => (lines, Some(BTreeSet::new())),
                    // The server does not know how to do that.
                    Err(error) if matches!(error.code(), 400 | 422) => {
                        self.shared.streams.store(false, Ordering::Relaxed);
                        self.list().await?;
                        (self.watch().await?, None)
                    }
                    Err(error) => return Err(Trouble::Failed(error)),
                }
            }
            None => {
                self.list().await?;
                (self.watch().await?, None)
            }
            Some(_) => (self.watch().await?, None),
        };
        self.shared.reached();
        self.opened = Some(Instant::now());
        if initial.is_none() {
            self.well();
        }
        self.read(lines, initial).await
    }

    /// The server does not have the kind. If something of it is known, that is believed only after a while: a server that begins does not have all kinds
    /// yet, and taking its word for it would end listeners.
    fn missing(&mut self) -> Trouble {
        let known = self.told.len() > 0 || self.shared.has_saved(self.kind);
        let since = *self.doubted.get_or_insert_with(Instant::now);
        if !known || since.elapsed() >= self.shared.timing.missing {
            return Trouble::Missing;
        }
        self.shared.served.forget();
        Trouble::Failed(ClusterError::Damaged("it does not have this kind any more".to_owned()))
    }

    async fn watch(&self) -> Result<Lines, Trouble> {
        let from = self.from.as_deref().unwrap_or("0");
        self.stream(&format!("resourceVersion={from}")).await.map_err(Trouble::Failed)
    }

    fn path(&self, query: &str) -> String {
        let namespace = self.only.as_ref().filter(|_| self.kind.namespaced).map(|key| key.namespace.as_str());
        let path = self.kind.path(self.version, namespace);
        let selector = self.only.as_ref().map(|key| format!("fieldSelector=metadata.name%3D{}", key.name)).unwrap_or_default();
        let both = if selector.is_empty() || query.is_empty() { "" } else { "&" };
        format!("{path}?{selector}{both}{query}")
    }

    /// Gets a page.
    pub(super) async fn get(&self, query: &str) -> Result<Value, ClusterError> {
        self.shared.view.asked(self.kind);
        let answer = self.shared.cluster.get(&self.path(query)).await?;
        self.shared.view.received(self.kind, answer.bytes as u64);
        Ok(answer.body)
    }

    async fn stream(&self, query: &str) -> Result<Lines, ClusterError> {
        // Watches that began together do not end together.
        let seconds = self.shared.timing.watch.mul_f64(rand::rng().random_range(0.5..=1.0)).as_secs().max(1);
        self.shared.view.asked(self.kind);
        self.shared.cluster.stream(&self.path(&format!("watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&{query}"))).await
    }

    /// Reads events until the watch is over. `initial`: what was there so far, until everything was.
    async fn read(&mut self, mut lines: Lines, mut initial: Option<BTreeSet<Key>>) -> Result<(), Trouble> {
        let mut received = 0;
        let over = loop {
            let outage = self.shared.timing.outage;
            let heard = Instant::now();
            let next = tokio::select! {
                next = tokio::time::timeout(self.shared.timing.silence, lines.next()) => next,
                () = returned(&mut self.back, Some(heard), outage) => {
                    spread(outage).await;
                    // It may have come meanwhile.
                    match tokio::time::timeout(Duration::ZERO, lines.next()).await {
                        Err(_) => break Err(Trouble::Returned),
                        next => next,
                    }
                }
            };
            self.shared.view.received(self.kind, lines.received() - received);
            received = lines.received();
            let event = match next {
                Err(_) => break Err(Trouble::Silent),
                Ok(Err(error)) => break Err(Trouble::Failed(error)),
                Ok(Ok(None)) if initial.is_some() => {
                    break Err(Trouble::Failed(ClusterError::Connection("the watch ended before all objects were told".to_owned())));
                }
                Ok(Ok(None)) => break Ok(()),
                Ok(Ok(Some(event))) => event,
            };
            if let Err(trouble) = self.events(event, &mut lines, &mut initial) {
                break Err(trouble);
            }
            // What there is at first is told together.
            if initial.is_none() {
                self.flush();
            }
        };
        self.flush();
        over
    }

    /// Takes in an event and those that have come with it.
    fn events(&mut self, first: Value, lines: &mut Lines, initial: &mut Option<BTreeSet<Key>>) -> Result<(), Trouble> {
        let mut next = Some(first);
        while let Some(event) = next {
            self.event(event, initial)?;
            next = lines.ready().map_err(Trouble::Failed)?;
        }
        Ok(())
    }

    fn event(&mut self, mut event: Value, initial: &mut Option<BTreeSet<Key>>) -> Result<(), Trouble> {
        let object = event["object"].take();
        let version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        match event["type"].as_str().unwrap_or_default() {
            "ADDED" | "MODIFIED" => self.apply(object, initial.as_mut()),
            "DELETED" => {
                if let Some(key) = key(self.kind, &object) {
                    self.remove(&key);
                }
            }
            "BOOKMARK" => {
                if object["metadata"]["annotations"][ALL_TOLD] == "true"
                    && let Some(there) = initial.take()
                {
                    self.listed(&there, version.clone().unwrap_or_default());
                    self.well();
                }
            }
            "ERROR" => {
                let refused = Refused::of_status(&object).unwrap_or_default();
                return Err(if refused.code == 410 { Trouble::TooOld } else { Trouble::Failed(ClusterError::Refused(refused)) });
            }
            _ => return Ok(()),
        }
        // What there is at first comes in no order, so that its versions are no place to go on from.
        if initial.is_none() {
            self.failures = 0;
            self.from = version.or(self.from.take());
        }
        Ok(())
    }

    /// Takes in an object. `there`: those of a list.
    pub(super) fn apply(&mut self, mut object: Value, there: Option<&mut BTreeSet<Key>>) {
        let Some(key) = key(self.kind, &object).filter(|key| self.is_followed(key)) else { return };
        if let Some(observer) = &self.shared.observer {
            // Items of lists do not say what they are.
            object["kind"] = self.kind.kind.into();
            object["apiVersion"] = self.kind.api_version(self.version).into();
            observer(Said::Applied(&object));
        }
        if let Some(there) = there {
            there.insert(key.clone());
        }
        self.told.apply(self.version, key, object);
    }

    fn remove(&mut self, key: &str) {
        if self.told.remove(key)
            && let Some(observer) = &self.shared.observer
        {
            let (namespace, name) = parts(key);
            observer(Said::Gone(self.kind.kind, namespace, name));
        }
    }

    /// Whether it is the one object, if there is only one.
    fn is_followed(&self, key: &str) -> bool {
        self.only.as_ref().is_none_or(|only| parts(key) == (Some(&only.namespace), &only.name))
    }

    /// Takes in that these are all objects there are: the others are gone.
    pub(super) fn listed(&mut self, there: &BTreeSet<Key>, version: String) {
        self.told.adopt(self.shared.adopted(self.kind, self.only.as_ref()));
        for gone in self.told.others(there) {
            self.remove(&gone);
        }
        (self.from, self.synced) = (Some(version).filter(|version| !version.is_empty()), true);
        self.flush();
        self.hold(None);
        self.shared.told(self.kind);
        self.answered();
    }

    /// Notes that it is watched.
    fn well(&mut self) {
        self.hold(None);
        self.set(SourceState::Synced, None);
    }

    /// Tells what an earlier process saved, if nothing was told yet.
    fn adopt(&self) {
        if self.shared.adopt(self.kind, self.only.as_ref()) {
            self.shared.told(self.kind);
        }
    }

    fn answered(&mut self) {
        if let Some(first) = self.first.take() {
            // Nobody may wait.
            let _ = first.send(());
        }
    }

    /// Reports what has changed.
    pub(super) fn flush(&mut self) {
        self.shared.tell(self.told.take());
        self.shared.view.count(self.kind, self.name(), self.told.len());
    }

    fn name(&self) -> &str {
        self.only.as_ref().map_or("", |only| &only.name)
    }

    fn set(&self, state: SourceState, reason: Option<String>) {
        let saved = !self.synced && self.shared.has_adopted(self.kind) && !super::is_well(state);
        self.shared.view.set(self.kind, self.name(), if saved { SourceState::Saved } else { state }, reason);
    }

    fn hold(&mut self, why: Option<String>) {
        if self.held != why {
            self.shared.hold(&self.place(), why.clone());
            self.held = why;
        }
    }

    /// What faults name.
    fn place(&self) -> PathBuf {
        match &self.only {
            Some(only) => unit(self.kind, Some(&only.namespace), &only.name),
            None => Path::new(NAME).join(self.kind.kind),
        }
    }
}

/// What is followed no more is known no more.
impl Drop for Follower {
    fn drop(&mut self) {
        if self.kind.watched == Watched::All {
            return;
        }
        for key in self.told.others(&BTreeSet::new()) {
            self.remove(&key);
        }
        self.flush();
        self.hold(None);
        self.shared.view.forget(self.kind, self.name());
    }
}
