//! The task that makes, changes and deletes the Services, as long as this process leads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_config::object::ObjectKey;
use sluicegate_model::status::{ObjectStatus, Status};
use tokio::time::{Instant, sleep};

use super::wish::{self, Wish, owner};
use crate::client::{APPLY, ClusterError, MERGE};
use crate::counts::Part;
use crate::events::{Ask, Happened, Recorder, Regarding};
use crate::seen::made;
use crate::status::pace::Pace;
use crate::turn::{self, Duty, SHARE, Spacing, Writing, within};

/// Who writes, as `metadata.managedFields` says.
const MANAGER: &str = "sluicegate.dev%2Fgateway-infrastructure";
/// How long an answer to a write counts for more than what the watch has told.
const OWN_WORD: Duration = Duration::from_secs(10);
/// So many are written before it is looked again what is wished.
const ROUND: usize = 50;

/// Keeps the Services.
pub struct Keeper {
    with: Writing,
    spacing: Spacing,
    /// What the wishes were made of.
    of: Option<Arc<dyn ObjectStatus>>,
    wishes: Vec<Wish>,
    /// What is known of Services besides what the watch has told.
    known: HashMap<ObjectKey, Known>,
    recorder: Recorder,
}

#[derive(Default)]
struct Known {
    pace: Pace,
    /// What a write was answered, and until when it counts.
    answered: Option<(Word, Instant)>,
    /// What an Event has told.
    told: String,
}

/// What the server has said about a Service.
enum Word {
    Is(Arc<Value>),
    /// The one with this uid is gone.
    Gone(Value),
}

/// What a request came to.
enum Outcome {
    /// The Service is as it is to be, or is about to be.
    Done,
    /// It is not, and it is known when to try again.
    Noted,
    /// The server is to be left alone for a while.
    Pause(Duration),
}

impl Keeper {
    /// One that writes while this process leads.
    pub fn new(with: Writing) -> Self {
        let (spacing, recorder) = (Spacing::new(), Recorder::new(&with.identity, Instant::now()));
        Self { with, spacing, of: None, wishes: Vec::new(), known: HashMap::new(), recorder }
    }

    /// Keeps them until the future is dropped.
    pub async fn run(self) {
        turn::run(self).await;
    }

    /// The Services that this gateway has made, by what the server said last: by the watch, or in an answer that the watch has not caught up with.
    /// And when such an answer does not count any more.
    fn present(&mut self) -> (HashMap<ObjectKey, Arc<Value>>, Option<Instant>) {
        let (mut present, mut again) = (self.with.seen.made(), None::<Instant>);
        let now = Instant::now();
        let version = |service: &Value| service["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse::<u64>().ok());
        for (key, known) in &mut self.known {
            let told = present.get(key);
            let counts = match &known.answered {
                None => continue,
                Some((_, until)) if now >= *until => false,
                Some((Word::Is(service), _)) => told.is_none_or(|told| version(told) < version(service)),
                Some((Word::Gone(uid), _)) => told.is_some_and(|told| told["metadata"]["uid"] == *uid),
            };
            match &known.answered {
                Some((word, until)) if counts => {
                    match word {
                        Word::Is(service) => drop(present.insert(key.clone(), service.clone())),
                        Word::Gone(_) => drop(present.remove(key)),
                    }
                    again = Some(again.map_or(*until, |again| again.min(*until)));
                }
                _ => known.answered = None,
            }
        }
        (present, again)
    }

    /// Makes a Service, or changes it.
    async fn write(&mut self, wish: &Wish, gateway: &str, service: Option<&Value>) -> Outcome {
        let path = path(&wish.key.namespace);
        let one = format!("{path}/{}", wish.key.name);
        let begun = service.is_none();
        let asked = match service {
            None => within(self.with.cluster.post(&format!("{path}?fieldManager={MANAGER}"), &wish.begun(gateway))).await,
            Some(service) => {
                let applied = wish.applied(gateway, &service["metadata"]["resourceVersion"]);
                within(self.with.cluster.patch(&format!("{one}?fieldManager={MANAGER}&force=true"), APPLY, &applied)).await
            }
        };
        self.with.counts.count("Service", Part::Object, &asked);
        let error = match asked {
            Ok(answer) => {
                self.heard(&wish.key, &answer.body);
                let known = self.known.entry(wish.key.clone()).or_default();
                if begun {
                    // What it is to be is applied at once.
                    return Outcome::Noted;
                }
                known.pace.written(Instant::now());
                known.told.clear();
                return Outcome::Done;
            }
            Err(error) => error,
        };
        let why = match error.code() {
            // There is one of the name, or somebody else has changed it: what is it now?
            409 => match within(self.with.cluster.get(&one)).await {
                // One that was made for a Gateway of the same name, which is gone, is deleted as others are.
                Ok(answer) if owner(&answer.body).is_some() && made(&answer.body).is_some() => {
                    self.heard(&wish.key, &answer.body);
                    self.known.entry(wish.key.clone()).or_default().pace.conflict(Instant::now());
                    return Outcome::Noted;
                }
                Ok(_) => format!("{} is another's: it stays as it is, and no Service stands for this Gateway", wish.key),
                Err(error) if error.code() == 404 => return Outcome::Noted,
                Err(error) => return Outcome::Pause(self.spacing.failed(&error, "Services of Gateways")),
            },
            // It is gone, or its namespace is.
            404 => {
                let known = self.known.entry(wish.key.clone()).or_default();
                known.answered = None;
                known.pace.refused(wish.print, Instant::now());
                return Outcome::Noted;
            }
            400..=499 if error.code() != 429 && error.code() != 401 => {
                format!("the API server refuses {}, which is to stand for this Gateway: {error}", wish.key)
            }
            _ => return Outcome::Pause(self.spacing.failed(&error, "Services of Gateways")),
        };
        self.known.entry(wish.key.clone()).or_default().pace.refused(wish.print, Instant::now());
        self.tell(wish, gateway, why).await;
        Outcome::Noted
    }

    /// Deletes a Service whose Gateway is gone, or is not this gateway's any more.
    async fn delete(&mut self, key: &ObjectKey, service: &Value) -> Outcome {
        let metadata = &service["metadata"];
        let only = json!({"preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}});
        let asked = within(self.with.cluster.delete(&format!("{}/{}", path(&key.namespace), key.name), &only)).await;
        self.with.counts.count("Service", Part::Object, &asked);
        let error = match asked {
            Ok(_) => None,
            // The server has done it itself, as the Gateway is gone.
            Err(error) if error.code() == 404 => None,
            Err(error) => Some(error),
        };
        let known = self.known.entry(key.clone()).or_default();
        match error {
            None => {
                known.answered = Some((Word::Gone(metadata["uid"].clone()), Instant::now() + OWN_WORD));
                Outcome::Done
            }
            // The watch tells what it is now.
            Some(error) if error.code() == 409 => {
                known.pace.conflict(Instant::now());
                Outcome::Noted
            }
            Some(error) if matches!(error.code(), 400..=499) && !matches!(error.code(), 401 | 429) => {
                tracing::warn!(service = %key, %error, "a Service that stood for a Gateway cannot be deleted");
                known.pace.refused(0, Instant::now());
                Outcome::Noted
            }
            Some(error) => Outcome::Pause(self.spacing.failed(&error, "Services of Gateways")),
        }
    }

    /// Notes what the server has answered.
    fn heard(&mut self, key: &ObjectKey, service: &Value) {
        if let Some(service) = made(service) {
            let known = self.known.entry(key.clone()).or_default();
            known.answered = Some((Word::Is(Arc::new(service)), Instant::now() + OWN_WORD));
        }
    }

    /// Says in the log, and by an Event on the Gateway, that it has no Service. It is said once.
    async fn tell(&mut self, wish: &Wish, gateway: &str, why: String) {
        let known = self.known.entry(wish.key.clone()).or_default();
        if known.told == why {
            return;
        }
        tracing::warn!(gateway = %wish.gateway, "{why}");
        known.told.clone_from(&why);
        let of = Regarding { key: &wish.gateway, api_version: "gateway.networking.k8s.io/v1", uid: gateway };
        let happened = Happened { warning: true, reason: "NoService".to_owned(), note: why };
        let told: Result<_, ClusterError> = match self.recorder.record(of, happened, Instant::now(), jiff::Timestamp::now()) {
            None => return,
            Some(Ask::Create(path, event)) => within(self.with.cluster.post(&path, &event)).await,
            Some(Ask::Again(path, patch)) => within(self.with.cluster.patch(&path, MERGE, &patch)).await,
        };
        self.with.counts.count("Event", Part::Object, &told);
        if let Err(error) = told {
            tracing::warn!(%error, "an Event cannot be written");
        }
    }

    /// Makes the wishes anew where what they are made of has changed. For many Gateways that is computing, so it is not done on the thread of control.
    async fn wish(&mut self, objects: &Arc<dyn ObjectStatus>) {
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, objects)) {
            return;
        }
        let (made_of, begun) = (objects.clone(), Instant::now());
        if let Ok(wishes) = tokio::task::spawn_blocking(move || wish::wishes(&*made_of)).await {
            (self.wishes, self.of) = (wishes, Some(objects.clone()));
        }
        sleep(begun.elapsed() * SHARE).await;
    }
}

impl Duty for Keeper {
    const PART: Part = Part::Object;

    fn with(&self) -> &Writing {
        &self.with
    }

    fn forget(&mut self) {
        self.known.clear();
    }

    async fn round(&mut self, status: &Arc<Status>) -> Option<Instant> {
        let objects = status.objects.as_ref()?;
        self.wish(objects).await;
        let (present, mut again) = self.present();
        let mut asked = 0;
        let wished: HashMap<ObjectKey, Wish> = self.wishes.iter().map(|wish| (wish.key.clone(), wish.clone())).collect();
        self.known.retain(|key, known| known.answered.is_some() || present.contains_key(key) || wished.contains_key(key));
        let of = |wish: &Wish| self.with.seen.get(&wish.gateway).map(|gateway| gateway.uid.clone());
        let mut all = Vec::new();
        for (key, service) in &present {
            let gateway = wished.get(key).map(of);
            // Of a Gateway that the server has not told, nothing is known.
            let stays = gateway.is_some_and(|gateway| gateway.is_none() || gateway.as_deref() == owner(service));
            if !stays && service["metadata"]["deletionTimestamp"].is_null() {
                all.push((key.clone(), None, Some(service.clone())));
            }
        }
        for wish in wished.values() {
            let Some(gateway) = of(wish) else { continue };
            let service = present.get(&wish.key);
            let is = service.is_some_and(|service| owner(service) != Some(&*gateway) || wish.holds(service));
            if !is {
                all.push((wish.key.clone(), Some((wish.clone(), gateway)), service.cloned()));
            }
        }
        self.with.counts.set_pending(Part::Object, all.len());
        for (key, wish, service) in all {
            let print = wish.as_ref().map_or(0, |(wish, _)| wish.print);
            if let Some(after) = self.known.entry(key.clone()).or_default().pace.waits(print, Instant::now()) {
                again = Some(again.map_or(after, |again| again.min(after)));
                continue;
            }
            if asked == ROUND {
                return Some(Instant::now());
            }
            asked += 1;
            self.spacing.turn().await;
            let outcome = match (wish, service) {
                (Some((wish, gateway)), service) => self.write(&wish, &gateway, service.as_deref()).await,
                (None, Some(service)) => self.delete(&key, &service).await,
                (None, None) => Outcome::Done,
            };
            match outcome {
                Outcome::Done => {
                    self.with.counts.done(Part::Object);
                    self.spacing.answered();
                }
                Outcome::Noted => again = Some(Instant::now()),
                Outcome::Pause(pause) => {
                    sleep(pause).await;
                    return Some(Instant::now());
                }
            }
        }
        again
    }
}

fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services")
}
