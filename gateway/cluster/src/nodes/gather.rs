//! Gathers what nodes tell, while this process leads.

use std::time::Duration;

use rand::RngExt as _;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};

use super::path;
use crate::client::{ClusterError, Lines};
use crate::fleet::{LABEL, Report};
use crate::turn::{Spacing, Writing, within};

/// How often statuses are to say something else at most: a roll-out over many nodes is told in steps.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is looked whether nodes have fallen silent.
const SILENT: Duration = Duration::from_secs(30);
/// For how long a watch is asked for; half of it is left to chance.
const WATCH: Duration = Duration::from_secs(600);
/// After so long without a word the connection may be dead. Bookmarks come about once a minute.
const SILENCE: Duration = Duration::from_secs(100);

/// Gathers it.
pub struct Gatherer {
    with: Writing,
    namespace: String,
    /// What statuses were made of.
    shown: Vec<(String, Report)>,
}

impl Gatherer {
    /// One that gathers what is told in a namespace.
    pub fn new(with: Writing, namespace: &str) -> Self {
        Self { with, namespace: namespace.to_owned(), shown: Vec::new() }
    }

    /// Gathers until the future is dropped.
    pub async fn run(mut self) {
        let mut leadership = self.with.leadership.clone();
        loop {
            leadership.begins().await;
            tokio::select! {
                biased;
                () = leadership.ends() => {}
                () = self.gather() => {}
            }
            self.with.fleet.clear();
            self.shown.clear();
        }
    }

    async fn gather(&mut self) {
        let mut spacing = Spacing::new();
        loop {
            let pause = match self.follow().await {
                Ok(()) => {
                    spacing.answered();
                    Duration::from_secs(1)
                }
                Err(error) => spacing.failed(&error, "Plugins' statuses of all nodes"),
            };
            self.look();
            sleep(pause).await;
        }
    }

    /// Lists what was told, and watches it until the watch is over.
    async fn follow(&mut self) -> Result<(), ClusterError> {
        let of = format!("{}?labelSelector={}%3D{}", path(&self.namespace), LABEL.0.replace('/', "%2F"), LABEL.1);
        let list = within(self.with.cluster.get(&of)).await?.body;
        let leases = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.with.fleet.listed(leases, Instant::now());
        self.look();
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        let seconds = WATCH.mul_f64(rand::rng().random_range(0.5..=1.0)).as_secs();
        let watch = format!("{of}&watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}");
        let lines = within(self.with.cluster.stream(&watch)).await?;
        self.read(lines).await
    }

    async fn read(&mut self, mut lines: Lines) -> Result<(), ClusterError> {
        let mut looks = interval(SILENT);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut silent, mut changed, mut next_look) = (Instant::now() + SILENCE, false, Instant::now());
        loop {
            tokio::select! {
                () = sleep_until(next_look), if changed => {
                    self.look();
                    (changed, next_look) = (false, Instant::now() + LOOK);
                }
                _ = looks.tick() => {
                    self.look();
                    self.clear_away().await;
                }
                next = timeout_at(silent, lines.next()) => {
                    silent = Instant::now() + SILENCE;
                    let Ok(next) = next else { return Ok(()) };
                    let Some(event) = next? else { return Ok(()) };
                    let object = &event["object"];
                    changed = true;
                    match event["type"].as_str().unwrap_or_default() {
                        "ADDED" | "MODIFIED" => self.with.fleet.applied(object, Instant::now()),
                        "DELETED" => self.with.fleet.gone(object["metadata"]["name"].as_str().unwrap_or_default()),
                        "BOOKMARK" => {}
                        // It is listed anew.
                        _ => return Ok(()),
                    }
                }
            }
        }
    }

    /// Has statuses made anew, if they are to say something else.
    fn look(&mut self) {
        let now = self.with.fleet.print(Instant::now());
        if now != self.shown {
            self.shown = now;
            self.with.seen.touch();
        }
    }

    /// Deletes what nodes have told that are gone, one at a time. Nothing is lost with it: who tells again makes it anew.
    async fn clear_away(&self) {
        if let Some((name, version)) = self.with.fleet.forgotten(Instant::now()).into_iter().next() {
            let only = json!({"preconditions": {"resourceVersion": version}});
            let deleted = within(self.with.cluster.delete(&format!("{}/{name}", path(&self.namespace)), &only)).await;
            match deleted {
                Ok(_) => self.with.fleet.gone(&name),
                Err(error) => tracing::debug!(%error, lease = name, "what a node has told cannot be deleted"),
            }
        }
    }
}
