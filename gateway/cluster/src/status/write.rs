//! The task that writes statuses, as long as this process leads.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluicegate_model::status::{ObjectStatus, Status};
use tokio::time::{Instant, sleep};

use super::due::{Due, Ledger, Times};
use super::wish::{self, Wish};
use crate::client::MERGE;
use crate::counts::Part;
use crate::events::{Ask, Recorder, Regarding};
use crate::turn::{self, Duty, SHARE, Spacing, Writing, within};

/// Who writes, as `metadata.managedFields` says.
const MANAGER: &str = "sluicegate.dev%2Fgateway-controller";
/// So many are written before it is looked again what is wished.
const ROUND: usize = 50;
/// How often it is looked whether the server has other features.
const FEATURES: Duration = Duration::from_secs(1);
/// How long a kind is left alone whose status may not be written.
const FORBIDDEN: Duration = Duration::from_secs(60);

/// Writes statuses.
pub struct Writer {
    with: Writing,
    ledger: Ledger,
    wishes: Wishes,
    hasher: RandomState,
    spacing: Spacing,
    /// Kinds that may not be written, and until when they are left alone.
    forbidden: HashMap<&'static str, Instant>,
    recorder: Recorder,
    /// Whether it was logged that no events can be written.
    no_events: bool,
}

/// What is wished.
#[derive(Default)]
struct Wishes {
    /// What the first `objects` of them were made of.
    of: Option<Arc<dyn ObjectStatus>>,
    /// The features that the server did not have then.
    not_had: Vec<&'static str>,
    objects: usize,
    all: Vec<Wish>,
}

/// What a write came to.
enum Outcome {
    /// It is written.
    Written,
    /// It is not, and what to do about it is in the ledger.
    Noted,
    /// The server is to be left alone for a while.
    Pause(Duration),
}

impl Writer {
    /// One that writes while this process leads.
    pub fn new(with: Writing) -> Self {
        let recorder = Recorder::new(&with.identity, Instant::now());
        let (ledger, wishes, hasher) = (Ledger::default(), Wishes::default(), RandomState::new());
        Self { with, ledger, wishes, hasher, spacing: Spacing::new(), forbidden: HashMap::new(), recorder, no_events: false }
    }

    /// Writes until the future is dropped.
    pub async fn run(self) {
        turn::run(self).await;
    }

    /// Writes one status.
    async fn one(&mut self, wish: &Wish, due: Due) -> Outcome {
        let path = wish.written.path(&wish.key);
        let patch = json!({"metadata": {"resourceVersion": &due.version}, "status": &due.change});
        let written = within(self.with.cluster.patch(&format!("{path}/status?fieldManager={MANAGER}"), MERGE, &patch)).await;
        self.with.counts.count(wish.written.kind, Part::Status, &written);
        let error = match written {
            Ok(answer) => {
                self.with.counts.done(Part::Status);
                self.spacing.answered();
                self.ledger.written(wish, &answer.body, Instant::now());
                self.tell(wish, &due).await;
                return Outcome::Written;
            }
            Err(error) => error,
        };
        match error.code() {
            // Somebody else was there first: what is there now?
            409 => match within(self.with.cluster.get(&path)).await {
                Ok(answer) => self.ledger.read(wish, &answer.body, Instant::now()),
                Err(error) if error.code() == 404 => self.ledger.refused(wish, Instant::now()),
                Err(error) => return Outcome::Pause(self.spacing.failed(&error, "statuses")),
            },
            403 => {
                tracing::warn!(kind = wish.written.kind, %error, "the status of a kind may not be written");
                self.forbidden.insert(wish.written.kind, Instant::now() + FORBIDDEN);
            }
            // It is gone, or its kind is.
            404 => self.ledger.refused(wish, Instant::now()),
            400 | 405 | 415 | 422 => {
                tracing::warn!(object = %wish.key, %error, "a status is refused");
                self.ledger.refused(wish, Instant::now());
            }
            _ => return Outcome::Pause(self.spacing.failed(&error, "statuses")),
        }
        Outcome::Noted
    }

    /// Writes Events of what was written. One that cannot be written is not tried again: the status says the same.
    async fn tell(&mut self, wish: &Wish, due: &Due) {
        let of = Regarding { key: &wish.key, api_version: wish.written.api_version(), uid: &due.uid };
        for happened in &due.happened {
            let told = match self.recorder.record(of, happened.clone(), Instant::now(), jiff::Timestamp::now()) {
                None => continue,
                Some(Ask::Create(path, event)) => within(self.with.cluster.post(&path, &event)).await,
                Some(Ask::Again(path, patch)) => within(self.with.cluster.patch(&path, MERGE, &patch)).await,
            };
            self.with.counts.count("Event", Part::Object, &told);
            match told {
                Ok(_) => self.no_events = false,
                Err(error) if !self.no_events => {
                    tracing::warn!(%error, "an Event cannot be written");
                    self.no_events = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Makes the wishes anew where what they are made of has changed. That is computing, for thousands of objects, so it is not done on the thread of control.
    async fn wish(&mut self, status: &Arc<Status>) {
        let Wishes { of, not_had, objects, all } = &mut self.wishes;
        let lacks = wish::not_had(&self.with.has);
        let same = *not_had == lacks && of.as_ref().zip(status.objects.as_ref()).is_some_and(|(of, now)| Arc::ptr_eq(of, now));
        if !same {
            let (made_of, hasher, begun) = (status.clone(), self.hasher.clone(), Instant::now());
            not_had.clone_from(&lacks);
            // If it is made to stop, nothing is wished.
            *all = tokio::task::spawn_blocking(move || wish::objects(&made_of, &lacks, &hasher)).await.unwrap_or_default();
            (*objects, *of) = (all.len(), status.objects.clone());
            sleep(begun.elapsed() * SHARE).await;
        }
        all.truncate(*objects);
        all.extend(wish::plugins(status, &self.with.fleet, &self.hasher));
    }
}

impl Duty for Writer {
    const PART: Part = Part::Status;

    fn with(&self) -> &Writing {
        &self.with
    }

    fn forget(&mut self) {
        self.ledger.clear();
        self.forbidden.clear();
    }

    async fn round(&mut self, status: &Arc<Status>) -> Option<Instant> {
        self.wish(status).await;
        self.ledger.keep(&self.with.seen);
        let now = Instant::now();
        self.forbidden.retain(|_, until| now < *until);
        let allowed = |wish: &Wish| !self.forbidden.contains_key(wish.written.kind);
        let (due, mut again, pending) = self.ledger.due(&self.wishes.all, allowed, &self.with.seen, Times { now, written: &time() }, ROUND);
        self.with.counts.set_pending(Part::Status, pending);
        again = again.into_iter().chain(self.forbidden.values().min().copied()).min();
        for due in due {
            let wish = self.wishes.all[due.at].clone();
            if self.forbidden.contains_key(wish.written.kind) {
                continue;
            }
            self.spacing.turn().await;
            match self.one(&wish, due).await {
                Outcome::Written => {}
                Outcome::Noted => again = Some(Instant::now()),
                Outcome::Pause(pause) => {
                    sleep(pause).await;
                    return Some(Instant::now());
                }
            }
        }
        again
    }

    /// The server may have other features.
    async fn differs(&self) {
        loop {
            sleep(FEATURES).await;
            if wish::not_had(&self.with.has) != self.wishes.not_had {
                return;
            }
        }
    }
}

/// The present time, as conditions have it.
fn time() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
