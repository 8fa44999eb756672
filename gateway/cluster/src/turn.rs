//! What those who write to the server have in common: when they look again, and how long they leave it alone.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use sluicegate_model::status::Status;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::{Cluster, ClusterError};
use crate::counts::{Counts, Part};
use crate::fleet::Fleet;
use crate::lead::Leadership;
use crate::seen::Seen;

/// Where the status of this process is to be read.
pub type Now = Arc<dyn Fn() -> Arc<Status> + Send + Sync>;

/// Whether the API server has a kind, as far as is known.
pub type Has = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What those who write need.
#[derive(Clone)]
pub struct Writing {
    /// The API server.
    pub cluster: Cluster,
    /// What it has said.
    pub seen: Seen,
    /// Which kinds it has.
    pub has: Has,
    /// What is served.
    pub now: Now,
    /// Whether this process is the one that writes.
    pub leadership: Leadership,
    /// The name of this process.
    pub identity: String,
    /// What is written is counted here.
    pub counts: Arc<Counts>,
    /// What each node runs.
    pub fleet: Fleet,
}

/// How often it is looked whether something else is wished.
const LOOK: Duration = Duration::from_millis(200);
/// How long changes are gathered before the first of them is written.
const GATHER: Duration = Duration::from_millis(100);
/// The shortest time between two writes: some tens a second.
const SPACING: Duration = Duration::from_millis(25);
/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// After wishes were made anew nothing happens for so many times as long as that took.
pub(crate) const SHARE: u32 = 10;
/// The first pause after the server could not be asked; it doubles each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest of these pauses.
const LONGEST: Duration = Duration::from_secs(30);

/// Something that is written as long as this process leads.
pub(crate) trait Duty {
    /// What of objects is written.
    const PART: Part;

    /// What it needs to write.
    fn with(&self) -> &Writing;

    /// Forgets what is known of the server: another process has written since this one led last.
    fn forget(&mut self);

    /// Writes what differs from what is wished, or some of it. Returns when to look again although nothing has changed.
    async fn round(&mut self, status: &Arc<Status>) -> Option<Instant>;

    /// Waits until something else is wished although what is served and what the server has said are the same.
    async fn differs(&self) {
        std::future::pending().await
    }
}

/// Does a duty whenever this process leads, until the future is dropped.
pub(crate) async fn run<D: Duty>(mut duty: D) {
    let mut leadership = duty.with().leadership.clone();
    let counts = duty.with().counts.clone();
    loop {
        leadership.begins().await;
        duty.forget();
        tokio::select! {
            biased;
            // What is under way is given up with it.
            () = leadership.ends() => {}
            () = rounds(&mut duty) => {}
        }
        counts.set_pending(D::PART, 0);
    }
}

async fn rounds(duty: &mut impl Duty) {
    let mut changes = duty.with().seen.changes();
    loop {
        changes.mark_unchanged();
        let status = (duty.with().now)();
        // Before all objects are known, some may seem not to be wished.
        let again = if status.complete { duty.round(&status).await } else { None };
        let now = duty.with().now.clone();
        tokio::select! {
            () = next(&now, &status, &mut changes, again) => {}
            () = duty.differs() => {}
        }
    }
}

/// Waits until what is served is no longer `status`, the server has said something else, or it is `again`.
async fn next(now: &Now, status: &Arc<Status>, changes: &mut watch::Receiver<u64>, again: Option<Instant>) {
    let looked = Instant::now();
    tokio::select! {
        () = sleep_until(again.unwrap_or(looked)), if again.is_some() => {}
        _ = changes.changed() => sleep(GATHER).await,
        () = async {
            while Arc::ptr_eq(status, &now()) {
                sleep(LOOK).await;
            }
        } => sleep(GATHER).await,
    }
}

/// A request, which may not take for ever.
pub(crate) async fn within<T>(asked: impl Future<Output = Result<T, ClusterError>>) -> Result<T, ClusterError> {
    timeout(DEADLINE, asked).await.unwrap_or(Err(ClusterError::Deadline(DEADLINE)))
}

/// Keeps some time between requests, and more if the server does not answer.
#[derive(Debug)]
pub(crate) struct Spacing {
    /// When the next write may be.
    slot: Instant,
    /// The pause after the last failure.
    pause: Duration,
}

impl Spacing {
    pub(crate) fn new() -> Self {
        Self { slot: Instant::now(), pause: Duration::ZERO }
    }

    /// Waits until the next write may be.
    pub(crate) async fn turn(&mut self) {
        sleep_until(self.slot).await;
        self.slot = Instant::now() + SPACING;
    }

    /// The server has answered.
    pub(crate) fn answered(&mut self) {
        self.pause = Duration::ZERO;
    }

    /// The server does not answer, or wants to be left alone. Returns for how long it is.
    pub(crate) fn failed(&mut self, error: &ClusterError, what: &str) -> Duration {
        if self.pause.is_zero() {
            tracing::warn!(%error, "{what} cannot be written; this is tried again");
        }
        self.pause = (self.pause * 2).clamp(PAUSE, LONGEST);
        let spread = self.pause.mul_f64(1.0 + rand::rng().random::<f64>() / 4.0);
        error.retry_after().map_or(spread, |asked| asked.max(SPACING))
    }
}
