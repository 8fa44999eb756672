//! What discovery plugins have published, on its way to control.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use sluicegate_model::discovery::{Found, Key, Publications, Publisher};
use tokio::sync::Notify;

/// Where a plugin leaves what it has found, and control takes it when it likes. Only the newest of each target waits.
pub(super) struct Outbox {
    waiting: Mutex<Publications>,
    taken: Notify,
    published: Arc<Notify>,
}

impl Outbox {
    /// Empty. `published` is told when something is added.
    pub(super) fn new(published: Arc<Notify>) -> Self {
        Self { waiting: Mutex::default(), taken: Notify::new(), published }
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

    fn add(&self, publications: Publications) -> Result<(), Publications> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).add(publications)
    }
}

impl Publisher for Outbox {
    fn publish(&self, mut publications: Publications) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            while let Err(refused) = self.add(publications) {
                publications = refused;
                // A permit is kept where control takes between the look and the wait.
                self.taken.notified().await;
            }
            self.published.notify_one();
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
