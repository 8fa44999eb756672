//! What discovery plugins have published and control has not taken yet.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluicegate_model::discovery::{Found, Key, Publications, Publisher};
use tokio::sync::Notify;

use super::share::ENDPOINTS;

/// Where a plugin puts what it has found, until control takes it. Only the newest for each target waits.
pub(super) struct Outbox {
    waiting: Mutex<Publications>,
    taken: Notify,
    published: Arc<Notify>,
    /// The kinds whose objects the plugin watches; none if that was looked at since it changed.
    watched: Mutex<Option<BTreeSet<String>>>,
}

/// How many kinds a plugin may watch; of further ones nothing is asked for.
const MOST_KINDS: usize = 64;

impl Outbox {
    /// An empty outbox. `published` is notified when something is added.
    pub(super) fn new(published: Arc<Notify>) -> Self {
        Self { waiting: Mutex::default(), taken: Notify::new(), published, watched: Mutex::default() }
    }

    /// The kinds that the plugin watches now, if they were not looked at yet.
    pub(super) fn take_watched(&self) -> Option<BTreeSet<String>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes what was published for targets that are due.
    pub(super) fn take(&self, due: impl FnMut(&Key) -> bool) -> Vec<Found> {
        let taken = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take(due);
        if !taken.is_empty() {
            self.taken.notify_one();
        }
        taken
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn add(&self, publications: Publications) -> Result<usize, Publications> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).add(publications)
    }
}

impl Publisher for Outbox {
    fn watches(&self, kinds: &[String]) {
        let kinds = kinds.iter().take(MOST_KINDS).cloned().collect();
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(kinds);
        self.published.notify_one();
    }

    fn publish(&self, mut publications: Publications) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let untaken = loop {
                match self.add(publications) {
                    Ok(untaken) => break untaken,
                    Err(refused) => publications = refused,
                }
                // If control takes between the look and the wait, the permit is kept.
                self.taken.notified().await;
            };
            self.published.notify_one();
            // A plugin that replaces what nobody has taken works in vain, and takes a core from those who do not. So it waits: as long as control's share of that many
            // endpoints lasts, or until control has taken what is there.
            if let Some(pause) = vain(untaken) {
                let _ = tokio::time::timeout(pause, self.taken.notified()).await;
            }
        })
    }
}

/// How long a plugin waits that has replaced so many endpoints that control had not taken.
fn vain(untaken: usize) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousands")]
    let seconds = untaken as f64 / ENDPOINTS.1;
    (untaken > 0).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use sluicegate_model::discovery::FoundEndpoint;

    use super::*;

    #[test]
    fn who_publishes_more_than_control_takes_waits_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let found = |name: &str| {
            let mut found = Publications::default();
            let key = Key { namespace: "n".to_owned(), name: name.to_owned() };
            found.push(key, Err("x".repeat(100 << 20))).expect("room");
            found
        };
        runtime.block_on(async {
            let outbox = Outbox::new(Arc::default());
            outbox.publish(found("a")).await;
            outbox.publish(found("a")).await;
            assert!(tokio::time::timeout(Duration::from_millis(20), outbox.publish(found("b"))).await.is_err(), "there is no room");
            assert!(outbox.take(|target| target.name == "b").is_empty() && !outbox.is_empty());
            let (taken, ()) = tokio::join!(async { outbox.take(|_| true).len() }, outbox.publish(found("b")));
            assert_eq!((taken, outbox.take(|_| true).len(), outbox.is_empty()), (1, 1, true));
        });
    }

    #[test]
    fn who_publishes_in_vain_waits_as_long_as_its_share_of_that_lasts() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let found = |count: usize| {
            let mut found = Publications::default();
            let key = Key { namespace: "n".to_owned(), name: "a".to_owned() };
            found.push(key, Ok(vec![FoundEndpoint::new("10.0.0.1", 80); count])).expect("room");
            found
        };
        runtime.block_on(async {
            let outbox = Outbox::new(Arc::default());
            let took = async |publications| {
                let begun = std::time::Instant::now();
                outbox.publish(publications).await;
                begun.elapsed()
            };
            took(found(3_000)).await;
            let waited = took(found(500_000)).await;
            assert!(waited >= Duration::from_millis(30), "{waited:?}");
            let (waited, taken) = tokio::join!(took(found(1)), async { outbox.take(|_| true).len() });
            assert!(taken == 1 && waited < Duration::from_secs(4), "no longer than until control has taken: {waited:?}");
        });
        assert_eq!((vain(0), vain(10)), (None, Some(Duration::from_micros(100))), "a few endpoints are no flood");
    }
}
