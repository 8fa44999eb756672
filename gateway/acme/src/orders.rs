//! All orders: which names are asked for, what is kept of each, and which order is due next.
//!
//! A certificate that is there is shown until another one is issued, whatever becomes of orders meanwhile. Each name has an order of its own, and failures of its own:
//! a name that the CA refuses keeps no other one waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_config::object::ours::{AcmeIssuer, AcmeSpec};
use sluicegate_control::acme::Desk as Asked;
use sluicegate_model::tls::acme::{Named, Problem};
use sluicegate_model::tls::{Acme, Certificate};
use sluicegate_model::unix::seconds;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::kept::{Folder, Kept, is_name};
use super::order::{Desk, Issued, Issuer};
use super::problem::{Failure, Reason};
use super::schedule::{self, Timing};

/// How many orders of an issuer run at a time.
const AT_ONCE: usize = 4;
/// The longest sleep: the machine's clock may have been set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The shortest sleep.
const SHORTEST_SLEEP: Duration = Duration::from_millis(50);
/// How soon a CA is asked again when a certificate should be renewed, at least and at most (RFC 9773 §4.3.2).
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 60 * 60));
/// How soon it is asked again if it could not be asked.
const ASK_AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(60 * 60);

/// An issuer and a name.
type Key = (Arc<str>, String);

/// All orders of this process.
pub struct Orders {
    asked: Asked,
    issuers: BTreeMap<Arc<str>, Arc<Issuer>>,
    desk: Desk,
    names: BTreeMap<Key, Item>,
    jobs: JoinSet<Outcome>,
    /// What each job works on.
    running: HashMap<Id, Key>,
}

/// A name that is asked for.
struct Item {
    held: Option<Held>,
    /// How many orders have failed in a row.
    failures: u32,
    /// No order is made before this time.
    not_before: Instant,
    /// When the CA is to be asked when the certificate should be renewed.
    ask_at: Instant,
    busy: bool,
    problem: Option<Problem>,
    /// Whether an order may be made for it.
    admitted: bool,
}

/// A certificate that is there.
struct Held {
    kept: Kept,
    certificate: Arc<Certificate>,
    /// When it is renewed, in seconds since 1970.
    renew_at: i64,
    /// A time that was chosen within a window that the CA has suggested.
    chosen: Option<i64>,
}

/// What a job has brought.
enum Outcome {
    Ordered(Result<Issued, Failure>),
    Suggested(Result<Option<(i64, i64, Duration)>, Failure>),
}

impl Orders {
    /// Makes orders in the name of these issuers, and keeps what comes of them in the state folder.
    pub fn new(asked: Asked, spec: &AcmeSpec, state: &Path, timing: Timing) -> Self {
        let desk = Desk { acme: asked.acme().clone(), folder: Folder::new(state), timing };
        let issuers = spec.issuers.iter().map(|given| Arc::new(Issuer::new(given.clone()))).map(|issuer| (issuer.name.clone(), issuer));
        Self { asked, issuers: issuers.collect(), desk, names: BTreeMap::new(), jobs: JoinSet::new(), running: HashMap::new() }
    }

    /// Shows the certificates that an earlier process has left, so that they serve from the first connection on. It blocks, and changes no file.
    pub fn show_kept(spec: &AcmeSpec, state: &Path, acme: &Acme) {
        let folder = Folder::new(state);
        for issuer in &spec.issuers {
            let name: Arc<str> = issuer.name.as_str().into();
            for kept in folder.look(&name, most_names(issuer)) {
                match kept.certificate(&name) {
                    Ok(certificate) => {
                        acme.note(&name, &kept.name, Named { certificate: Some(Arc::new(certificate)), ..Named::default() });
                    }
                    Err(error) => tracing::warn!(issuer = &*name, name = kept.name, %error, "a certificate that was kept cannot be used"),
                }
            }
        }
    }

    /// Runs until the future is dropped, or control has ended.
    pub async fn run(mut self) {
        loop {
            self.begin();
            let wake = self.wake();
            tokio::select! {
                changed = self.asked.changed() => match changed {
                    true => self.adopt().await,
                    false => return,
                },
                Some(done) = self.jobs.join_next_with_id() => match done {
                    Ok((id, outcome)) => self.finish(id, outcome),
                    Err(error) => {
                        let failure = Failure::new(Reason::Storage, format!("the order has ended: {error}"));
                        self.finish(error.id(), Outcome::Ordered(Err(failure)));
                    }
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Takes in which names are asked for now.
    async fn adopt(&mut self) {
        let asks = self.asked.asks();
        let wanted: BTreeSet<Key> = asks.iter().flat_map(|ask| ask.names.iter().map(|name| (ask.issuer.clone(), name.clone()))).collect();
        self.names.retain(|key, item| item.busy || wanted.contains(key));
        let new: Vec<Key> =
            wanted.iter().filter(|key| !self.names.contains_key(*key) && self.issuers.contains_key(&key.0)).cloned().collect();
        let (folder, asked, issuers) = (self.desk.folder.clone(), wanted.clone(), self.issuers.keys().cloned().collect::<Vec<_>>());
        let loaded = tokio::task::spawn_blocking(move || {
            for issuer in &issuers {
                folder.prune(issuer, now(), |name| asked.contains(&(issuer.clone(), name.to_owned())));
            }
            let load = |(issuer, name): Key| {
                let kept = if is_name(&name) { folder.load(&issuer, &name) } else { None };
                ((issuer, name), kept)
            };
            new.into_iter().map(load).collect::<Vec<_>>()
        });
        for (key, kept) in loaded.await.unwrap_or_default() {
            let item = Item::new(kept, &key);
            self.names.insert(key, item);
        }
        self.admit(&wanted);
        self.desk.acme.retain(|issuer, name| wanted.contains(&(issuer.into(), name.to_owned())));
        for key in &wanted {
            self.tell(key);
        }
        self.asked.tell();
    }

    /// Settles which names of each issuer are ordered, if there are more than it may have: those that were first stay.
    fn admit(&mut self, wanted: &BTreeSet<Key>) {
        for (name, issuer) in &self.issuers {
            let most = most_names(&issuer.given);
            let of = |key: &Key| key.0 == *name && wanted.contains(key);
            let mut there = self.names.iter().filter(|(key, item)| of(key) && item.admitted).count();
            let (with, without): (Vec<_>, Vec<_>) =
                self.names.iter_mut().filter(|(key, item)| of(key) && !item.admitted).partition(|(_, item)| item.held.is_some());
            for ((_, name), item) in with.into_iter().chain(without) {
                item.admitted = is_name(name) && there < most;
                there += usize::from(item.admitted);
                item.problem = match (item.admitted, is_name(name)) {
                    (true, _) => None,
                    (false, true) => {
                        let message = format!("the issuer has as many names as it may have: {most} (acme.issuers.maxNames)");
                        Some(Problem { reason: Reason::TooManyNames.label(), message, again: None })
                    }
                    (false, false) => {
                        let message = "it is no host name that a CA could validate".to_owned();
                        Some(Problem { reason: Reason::BadName.label(), message, again: None })
                    }
                };
            }
        }
    }

    /// Starts what is due.
    fn begin(&mut self) {
        let (now, today) = (Instant::now(), now());
        let mut busy: HashMap<Arc<str>, usize> = HashMap::new();
        self.names.iter().filter(|(_, item)| item.busy).for_each(|(key, _)| *busy.entry(key.0.clone()).or_default() += 1);
        for (key, item) in self.names.iter_mut().filter(|(_, item)| !item.busy && item.admitted) {
            let Some(issuer) = self.issuers.get(&key.0).cloned() else { continue };
            let busy = busy.entry(key.0.clone()).or_default();
            if *busy >= AT_ONCE {
                continue;
            }
            let (name, desk, kept) = (key.1.clone(), self.desk.clone(), item.held.as_ref().map(|held| held.kept.clone()));
            let due = item.is_due(&issuer, today);
            let id = if due && item.not_before <= now {
                let attempt = item.failures;
                tracing::info!(issuer = &*key.0, name, "a certificate is ordered");
                let order = async move { Outcome::Ordered(issuer.order(&name, kept.as_ref(), attempt, &desk).await) };
                self.jobs.spawn(order).id()
            } else if let Some(kept) = kept.filter(|_| !due && item.ask_at <= now) {
                self.jobs.spawn(async move { Outcome::Suggested(issuer.suggested(&kept, &desk).await) }).id()
            } else {
                continue;
            };
            item.busy = true;
            *busy += 1;
            self.running.insert(id, key.clone());
        }
    }

    /// When something is due next.
    fn wake(&self) -> Instant {
        let (now, today) = (Instant::now(), now());
        let next = self.names.iter().filter(|(_, item)| !item.busy && item.admitted).map(|((issuer, _), item)| {
            let due = self.issuers.get(issuer).is_none_or(|issuer| item.is_due(issuer, today));
            let Some(held) = item.held.as_ref().filter(|_| !due) else { return item.not_before };
            let until = Duration::from_secs(u64::try_from(held.renew_at.saturating_sub(today)).unwrap_or(0)).min(LONGEST_SLEEP);
            (now + until).max(item.not_before).min(item.ask_at)
        });
        // What is due and could not begin, as too many others run, waits for one of them to end.
        let soonest = now + SHORTEST_SLEEP;
        next.min().unwrap_or(now + LONGEST_SLEEP).clamp(soonest, now + LONGEST_SLEEP)
    }

    /// Takes in what a job has brought.
    fn finish(&mut self, id: Id, outcome: Outcome) {
        let Some(key) = self.running.remove(&id) else { return };
        let Some(item) = self.names.get_mut(&key) else { return };
        item.busy = false;
        let now = Instant::now();
        match outcome {
            Outcome::Ordered(Ok(Issued { kept, certificate })) => {
                tracing::info!(issuer = &*key.0, name = key.1, not_after = certificate.not_after(), "a certificate was issued");
                self.desk.acme.count(&key.0, "issued");
                let renew_at = schedule::renew_at(certificate.not_before(), certificate.not_after(), rand::random());
                item.held = Some(Held { kept, certificate, renew_at, chosen: None });
                (item.failures, item.problem) = (0, None);
                (item.not_before, item.ask_at) = (now, now);
            }
            Outcome::Ordered(Err(failure)) => {
                self.desk.acme.count(&key.0, failure.reason.label());
                item.failures = item.failures.saturating_add(1);
                let pause = self.desk.timing.pause(failure.reason, item.failures, failure.wait, rand::random());
                item.not_before = now + pause;
                let again = self::now().saturating_add(i64::try_from(pause.as_secs()).unwrap_or(i64::MAX));
                item.problem = Some(Problem { reason: failure.reason.label(), message: failure.message, again: Some(again) });
            }
            Outcome::Suggested(Ok(Some((start, end, again)))) => {
                item.ask_at = now + again.clamp(ASK_AGAIN.0, ASK_AGAIN.1);
                if let Some(held) = &mut item.held {
                    let chosen = schedule::within(start, end, held.chosen, rand::random());
                    (held.chosen, held.renew_at) = (Some(chosen), chosen);
                }
            }
            Outcome::Suggested(Ok(None)) => item.ask_at = now + ASK_AGAIN.1,
            Outcome::Suggested(Err(failure)) => {
                tracing::debug!(issuer = &*key.0, name = key.1, why = failure.message, "a CA could not be asked when to renew");
                item.ask_at = now + ASK_AGAIN_AFTER_FAILURE.max(failure.wait.unwrap_or_default()).min(ASK_AGAIN.1);
            }
        }
        if self.asked.asks().iter().any(|ask| ask.issuer == key.0 && ask.names.contains(&key.1)) {
            self.tell(&key);
            self.asked.tell();
        } else {
            self.names.remove(&key);
        }
    }

    /// Shows what has come of a name.
    fn tell(&self, key: &Key) {
        let Some(item) = self.names.get(key) else { return };
        let named = Named {
            certificate: item.held.as_ref().map(|held| held.certificate.clone()),
            renew_at: item.held.as_ref().map(|held| held.renew_at),
            problem: item.problem.clone(),
        };
        self.desk.acme.note(&key.0, &key.1, named);
    }
}

impl Item {
    /// Whether a certificate is to be ordered: there is none, it is to be renewed, or the issuer's CA is another one now.
    fn is_due(&self, issuer: &Issuer, today: i64) -> bool {
        self.held.as_ref().is_none_or(|held| held.renew_at <= today || held.kept.directory != issuer.given.directory)
    }

    fn new(kept: Option<Kept>, (issuer, name): &Key) -> Self {
        let held = kept.and_then(|kept| match kept.certificate(issuer) {
            Ok(certificate) => {
                let renew_at = schedule::renew_at(certificate.not_before(), certificate.not_after(), rand::random());
                Some(Held { kept, certificate: Arc::new(certificate), renew_at, chosen: None })
            }
            Err(error) => {
                tracing::warn!(issuer = &**issuer, name, %error, "a certificate that was kept cannot be used; another one is ordered");
                None
            }
        });
        let now = Instant::now();
        Self { held, failures: 0, not_before: now, ask_at: now, busy: false, problem: None, admitted: false }
    }
}

fn most_names(issuer: &AcmeIssuer) -> usize {
    issuer.max_names.unwrap_or(AcmeIssuer::MAX_NAMES) as usize
}

/// The time in seconds since 1970.
fn now() -> i64 {
    i64::try_from(seconds()).unwrap_or(i64::MAX)
}
