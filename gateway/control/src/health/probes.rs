//! The tasks that probe: there is one for each distinct endpoint and check, however many service ports and workers want its results.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use sluicegate_model::health::Probed;
use sluicegate_model::settings::{ActiveCheck, ProxyVersion};
use sluicegate_model::tls::UpstreamTls;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::port::PortId;

use super::probe::{self, Failure};

/// How many probes are under way at a time, as each holds a descriptor, and control is one thread. Others wait their turn, so that with very many silent
/// endpoints intervals become longer.
const AT_ONCE: usize = 512;
/// How many results wait for control.
const WAITING: usize = 1024;

/// What is probed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) address: SocketAddr,
    pub(super) check: Arc<ActiveCheck>,
    /// The id of the rules of TLS.
    pub(super) tls: u64,
    /// The PROXY header that connections begin with.
    pub(super) proxy: Option<ProxyVersion>,
}

/// Which service ports want the results, and the rules of TLS that the key names.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) tls: Option<Arc<UpstreamTls>>,
    pub(super) watchers: Vec<PortId>,
}

pub(super) type Found = (Key, Result<(), Failure>);

pub(super) struct Probes {
    tasks: HashMap<Key, Task>,
    permits: Arc<Semaphore>,
    sender: mpsc::Sender<Found>,
    receiver: mpsc::Receiver<Found>,
}

struct Task {
    watchers: Vec<PortId>,
    join: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.join.abort();
    }
}

impl Default for Probes {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { tasks: HashMap::new(), permits: Arc::new(Semaphore::new(AT_ONCE)), sender, receiver }
    }
}

impl Probes {
    /// Begins probes that are new and ends those that nobody wants. The others keep their rhythm.
    pub(super) fn sync(&mut self, wanted: HashMap<Key, Wanted>) {
        self.tasks.retain(|key, _| wanted.contains_key(key));
        for (key, Wanted { tls, watchers }) in wanted {
            if let Some(task) = self.tasks.get_mut(&key) {
                task.watchers = watchers;
                continue;
            }
            let join = tokio::spawn(run(key.clone(), tls, self.permits.clone(), self.sender.clone()));
            self.tasks.insert(key, Task { watchers, join });
        }
    }

    /// Waits for results, and returns all there are.
    pub(super) async fn next(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        if self.receiver.recv_many(&mut found, WAITING).await == 0 {
            // It cannot end, as `self` has a sender.
            std::future::pending::<()>().await;
        }
        found
    }

    /// The service ports that want the results.
    pub(super) fn watchers(&self, key: &Key) -> &[PortId] {
        self.tasks.get(key).map(|task| task.watchers.as_slice()).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.tasks.len()
    }
}

async fn run(key: Key, tls: Option<Arc<UpstreamTls>>, permits: Arc<Semaphore>, results: mpsc::Sender<Found>) {
    tokio::time::sleep(a_part_of(key.check.initial_jitter)).await;
    loop {
        let Ok(permit) = permits.acquire().await else { return };
        let probed = tokio::time::timeout(key.check.timeout, probe::probe(key.address, key.proxy, tls.as_deref(), &key.check.probe)).await;
        drop(permit);
        let result =
            probed.unwrap_or_else(|_| Err(Failure { kind: Probed::TimedOut, why: format!("no answer within {:?}", key.check.timeout) }));
        if results.send((key.clone(), result)).await.is_err() {
            return;
        }
        tokio::time::sleep(key.check.interval + a_part_of(key.check.interval_jitter)).await;
    }
}

/// A random part of a duration, uniformly distributed.
fn a_part_of(whole: Duration) -> Duration {
    if whole.is_zero() { whole } else { whole.mul_f64(rand::rng().random_range(0.0..1.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_part_that_differs_from_time_to_time() {
        let whole = Duration::from_secs(10);
        let parts: Vec<Duration> = (0..100).map(|_| a_part_of(whole)).collect();
        assert!(parts.iter().all(|part| *part < whole));
        // That all are in one half happens once in 2^99 times.
        assert!(parts.iter().any(|part| *part < whole / 2) && parts.iter().any(|part| *part >= whole / 2));
        assert_eq!(a_part_of(Duration::ZERO), Duration::ZERO);
    }
}
