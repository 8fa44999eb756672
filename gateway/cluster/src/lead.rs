//! Asks the API server what the [election](crate::leader) wants to know, and tells everybody in this process whether it leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use sluicegate_control::sources::{Feed, Running, Source, SourceError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::client::{Answer, Cluster, ClusterError};
use crate::leader::{Ask, Election, Options, Times, Told};

/// For how long a watch of the Lease is asked for; half of it is left to chance.
const WATCH: Duration = Duration::from_secs(600);
/// How long giving the Lease up may take when the process stops.
const GIVE_UP: Duration = Duration::from_secs(2);

/// Whether this process leads. Copies tell the same.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: watch::Receiver<Option<Instant>>,
    begun: Arc<AtomicU64>,
}

/// Tells [`Leadership`].
#[derive(Debug)]
pub struct Tell {
    until: watch::Sender<Option<Instant>>,
    begun: Arc<AtomicU64>,
}

impl Leadership {
    /// Nobody leads yet.
    pub fn new() -> (Tell, Self) {
        let (tell, until) = watch::channel(None);
        let begun = Arc::<AtomicU64>::default();
        (Tell { until: tell, begun: begun.clone() }, Self { until, begun })
    }

    /// Until when this process leads if it does not renew; none if it does not lead.
    pub fn until(&self) -> Option<Instant> {
        self.until.borrow().filter(|until| Instant::now() < *until)
    }

    /// How often this process has begun to lead.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Waits until this process leads.
    pub async fn begins(&mut self) {
        while self.until().is_none() {
            if self.until.changed().await.is_err() {
                // Nobody renews any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until this process does not lead.
    pub async fn ends(&mut self) {
        loop {
            let until = *self.until.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else { return };
            tokio::select! {
                () = sleep_until(until) => {}
                changed = self.until.changed() => if changed.is_err() { sleep_until(until).await },
            }
        }
    }
}

/// Has control look again at what it allocates whenever this process begins or ceases to lead.
pub struct Nudge(pub Leadership);

impl Source for Nudge {
    fn name(&self) -> String {
        "leadership".to_owned()
    }

    fn start(self: Box<Self>, feed: Feed) -> Result<Running, SourceError> {
        feed.synced();
        let mut leadership = self.0;
        let task = tokio::spawn(async move {
            loop {
                leadership.begins().await;
                feed.nudge();
                leadership.ends().await;
                feed.nudge();
            }
        });
        Ok(Box::new(Ended(task)))
    }
}

/// Ends a task when it is dropped.
struct Ended(tokio::task::JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes part in the election until `stop` is ready; then the Lease is given up, if this process has it.
pub async fn run(cluster: &Cluster, options: Options, tell: &Tell, stop: impl Future<Output = ()>) {
    let mut candidate =
        Candidate { path: path(&options), deadline: options.renew / 2, election: Election::new(options), said: String::new() };
    let mut stop = std::pin::pin!(stop);
    loop {
        let stopped = {
            let mut attempt = std::pin::pin!(candidate.attempt(cluster));
            tokio::select! {
                () = &mut attempt => false,
                () = &mut stop => {
                    // What is under way may be done already, and the next write has to know its version.
                    tell.until.send_replace(None);
                    let _ = timeout(GIVE_UP, attempt).await;
                    true
                }
            }
        };
        let now = Instant::now();
        let pause = candidate.election.pause(now, rand::rng().random());
        if !stopped {
            candidate.tell(tell, now);
            tokio::select! {
                () = candidate.wait(cluster, pause) => continue,
                () = &mut stop => {}
            }
        }
        tell.until.send_replace(None);
        if let Some(ask) = candidate.election.give_up(Instant::now(), jiff::Timestamp::now()) {
            let _ = timeout(GIVE_UP, candidate.ask(cluster, &ask)).await;
        }
        return;
    }
}

struct Candidate {
    path: String,
    /// How long one request may take.
    deadline: Duration,
    election: Election,
    /// What was logged last, so that a lasting error is logged once.
    said: String,
}

fn path(options: &Options) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", options.namespace)
}

impl Candidate {
    async fn attempt(&mut self, cluster: &Cluster) {
        let mut ask = Some(self.election.begin(Instant::now(), jiff::Timestamp::now()));
        while let Some(asking) = ask {
            let asked = Instant::now();
            let answer = self.ask(cluster, &asking).await;
            let told = match answer {
                Ok(answer) => Told::Lease(answer.body),
                Err(error) => {
                    let (told, usual) = match error.code() {
                        404 => (Told::Missing, asking == Ask::Read),
                        409 => (Told::Conflict, true),
                        _ => (Told::Failed, false),
                    };
                    self.log(if usual { String::new() } else { error.to_string() });
                    told
                }
            };
            if matches!(told, Told::Lease(_)) {
                self.log(String::new());
            }
            ask = self.election.told(&asking, told, Times { asked, answered: Instant::now(), wall: jiff::Timestamp::now() });
        }
    }

    async fn ask(&self, cluster: &Cluster, ask: &Ask) -> Result<Answer, ClusterError> {
        let one = format!("{}/{}", self.path, self.election.name());
        let asked = async {
            match ask {
                // From the server's cache, as thousands may ask: who writes by an old version is refused.
                Ask::Read => cluster.get(&format!("{one}?resourceVersion=0")).await,
                Ask::Create(lease) => cluster.post(&self.path, lease).await,
                Ask::Write(lease) => cluster.put(&one, lease).await,
            }
        };
        timeout(self.deadline, asked).await.unwrap_or(Err(ClusterError::Deadline(self.deadline)))
    }

    /// Waits until it is time for the next attempt. Whoever leads renews; the others watch the Lease, and ask only when it is to be had. Where it cannot be watched
    /// it is asked for from time to time.
    async fn wait(&mut self, cluster: &Cluster, pause: Duration) {
        if self.election.held_until(Instant::now()).is_none() || !self.watch(cluster).await {
            sleep(pause).await;
        }
    }

    /// Watches the Lease until it is to be had, and has been for a random while. False: it cannot be watched, or no longer.
    async fn watch(&mut self, cluster: &Cluster) -> bool {
        let Some(version) = self.election.version() else { return false };
        let seconds = WATCH.mul_f64(rand::rng().random_range(0.5..=1.0)).as_secs();
        let query =
            format!("watch=1&fieldSelector=metadata.name%3D{}&resourceVersion={version}&timeoutSeconds={seconds}", self.election.name());
        let begun = timeout(self.deadline, cluster.stream(&format!("{}?{query}", self.path))).await;
        let Ok(Ok(mut lines)) = begun else { return false };
        let spread = self.election.spread(rand::rng().random());
        let mut free: Option<Instant> = None;
        loop {
            let now = Instant::now();
            free = if self.election.held_until(now).is_some() { None } else { Some(free.unwrap_or(now + spread)) };
            let Some(until) = free.or_else(|| self.election.held_until(now)) else { continue };
            match timeout_at(until, lines.next()).await {
                Err(_) if free.is_some() => return true,
                // It has run out, unless the connection has. The attempt that follows asks the server.
                Err(_) => {}
                Ok(Ok(Some(mut event))) => match event["type"].as_str() {
                    Some("ADDED" | "MODIFIED") => self.election.watched(Some(event["object"].take()), Instant::now()),
                    Some("DELETED") => self.election.watched(None, Instant::now()),
                    _ => return false,
                },
                Ok(Ok(None) | Err(_)) => return false,
            }
        }
    }

    fn tell(&self, tell: &Tell, now: Instant) {
        let until = self.election.until(now);
        tell.until.send_if_modified(|known| {
            match (&known, until) {
                (None, Some(_)) => {
                    tell.begun.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(holder = self.election.holder(), "this gateway leads: it writes statuses and gives addresses");
                }
                (Some(_), None) => tracing::warn!(holder = self.election.holder(), "this gateway does not lead any more"),
                _ => {}
            }
            std::mem::replace(known, until) != until
        });
    }

    fn log(&mut self, error: String) {
        if error != self.said && !error.is_empty() {
            tracing::warn!(error, lease = self.election.name(), "the Lease of the leader cannot be had");
        }
        self.said = error;
    }
}
