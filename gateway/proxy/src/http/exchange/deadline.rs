//! The time that an exchange may take, from its head to the last byte of its response. If nothing limits it, there is no timer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// A point in time, and the timer for it.
pub(crate) struct Deadline(Pin<Box<Sleep>>);

impl Deadline {
    /// A deadline so long after the beginning; none: there is no limit.
    pub(in crate::http) fn new(begun: Instant, time: Option<Duration>) -> Option<Self> {
        let at = begun.checked_add(time?)?;
        Some(Self(Box::pin(tokio::time::sleep_until(at.into()))))
    }

    /// Whether the deadline has passed. If not, the task is woken when it does.
    pub(in crate::http) fn has_passed(&mut self, context: &mut Context<'_>) -> bool {
        self.0.as_mut().poll(context).is_ready()
    }
}

/// Waits for a future until the deadline at most; none: the deadline has passed. The future stays where it is, as it may be large.
pub(in crate::http) async fn by<F: Future>(deadline: &mut Option<Deadline>, mut future: Pin<&mut F>) -> Option<F::Output> {
    let Some(deadline) = deadline else { return Some(future.await) };
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if deadline.has_passed(context) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
