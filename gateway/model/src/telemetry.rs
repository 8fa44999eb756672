//! What is told of exchanges to a collector: [`span`]s of traces, and [`record`]s of the access log. Workers make these plain values and hand them to a bounded
//! [`Outlet`], for which nobody waits; `sluicegate-telemetry` takes them from there and exports them.

pub mod metric;
pub mod record;
pub mod sampler;
pub mod span;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rand::RngExt as _;

use crate::stats::{SignalStats, count};
use crate::trace_context::TraceContext;
use sampler::Sampler;
use span::Exchange;

/// The longest value that is kept of what a client sent, in bytes; what is beyond is left out.
pub const MOST_VALUE: usize = 1024;

/// Where values of one kind go. There is room for a number of them; what there is no room for is dropped and counted.
#[derive(Debug)]
pub struct Outlet<T> {
    to: SyncSender<T>,
    stats: Arc<SignalStats>,
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self { to: self.to.clone(), stats: self.stats.clone() }
    }
}

impl<T> Outlet<T> {
    /// An outlet with room for so many values, and the end that they are taken from.
    pub fn new(room: usize, stats: Arc<SignalStats>) -> (Self, Receiver<T>) {
        let (to, from) = sync_channel(room);
        (Self { to, stats }, from)
    }

    /// Hands a value over, or drops it.
    pub fn put(&self, value: T) {
        if self.to.try_send(value).is_err() {
            count(&self.stats.dropped_full);
        }
    }
}

/// Decides which exchanges are traced, and takes their spans.
#[derive(Debug)]
pub struct Tracer {
    sampler: Sampler,
    outlet: Outlet<Box<Exchange>>,
}

/// What becomes of an exchange's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// It is not recorded, and endpoints see what came.
    Passed,
    /// It is not recorded, and endpoints are told so by this.
    Unrecorded(TraceContext),
    /// It is recorded: the context of the server's span.
    Recorded(TraceContext),
}

impl Tracer {
    /// A tracer whose spans go to an outlet.
    pub fn new(sampler: Sampler, outlet: Outlet<Box<Exchange>>) -> Self {
        Self { sampler, outlet }
    }

    /// Decides whether an exchange is recorded. `parent`: what came of its trace. The names of new traces and spans are random.
    pub fn sample(&self, parent: Option<TraceContext>) -> Sampling {
        let mut random = rand::rng();
        let trace = parent.map_or_else(|| random.random::<u128>().max(1), |parent| parent.trace);
        let sampled = self.sampler.takes(parent, trace);
        match parent {
            Some(parent) if !sampled && !parent.sampled => Sampling::Passed,
            Some(parent) if !sampled => Sampling::Unrecorded(TraceContext { sampled, ..parent }),
            _ => {
                let context = TraceContext { trace, span: random.random::<u64>().max(1), sampled };
                if sampled { Sampling::Recorded(context) } else { Sampling::Unrecorded(context) }
            }
        }
    }

    /// Takes the spans of an exchange that has ended.
    pub fn put(&self, exchange: Box<Exchange>) {
        self.outlet.put(exchange);
    }
}

/// The name of a new span.
pub fn new_span() -> u64 {
    rand::rng().random::<u64>().max(1)
}

/// As much of a text as is kept of what a client sent.
pub fn kept(text: &str) -> String {
    let mut end = text.len().min(MOST_VALUE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    fn tracer(ratio: f64, by_parent: bool) -> Tracer {
        Tracer::new(Sampler::new(ratio, by_parent), Outlet::new(1, Arc::default()).0)
    }

    #[test]
    fn what_there_is_no_room_for_is_dropped_and_counted() {
        let stats = Arc::<SignalStats>::default();
        let (outlet, taken) = Outlet::new(2, stats.clone());
        (0..5).for_each(|n| outlet.clone().put(n));
        assert_eq!((taken.try_iter().collect::<Vec<_>>(), stats.dropped_full.load(Ordering::Relaxed)), (vec![0, 1], 3));
        drop(taken);
        outlet.put(5);
        assert_eq!(stats.dropped_full.load(Ordering::Relaxed), 4, "nobody takes anything any more");
    }

    #[test]
    fn a_parent_decides_unless_it_is_not_to_be_believed() {
        let parent = |sampled| TraceContext { trace: u128::MAX, span: 7, sampled };
        let is_child =
            |sampling| matches!(sampling, Sampling::Recorded(TraceContext { trace: u128::MAX, span, sampled: true }) if span != 7);
        let believing = tracer(0.0, true);
        assert!(is_child(believing.sample(Some(parent(true)))));
        assert_eq!(believing.sample(Some(parent(false))), Sampling::Passed);
        assert!(matches!(believing.sample(None), Sampling::Unrecorded(TraceContext { sampled: false, .. })));
        let own = tracer(0.0, false);
        assert_eq!(own.sample(Some(parent(true))), Sampling::Unrecorded(parent(false)), "no endpoint records what we do not");
        assert_eq!(own.sample(Some(parent(false))), Sampling::Passed);
        assert!(is_child(tracer(1.0, false).sample(Some(parent(false)))));
        let names: Vec<_> = (0..2).map(|_| tracer(1.0, true).sample(None)).collect();
        assert!(matches!(names[..], [Sampling::Recorded(a), Sampling::Recorded(b)] if a.trace != b.trace && a.span != b.span && a.sampled));
    }

    #[test]
    fn what_clients_send_is_kept_up_to_a_length() {
        assert_eq!(kept("ä"), "ä");
        assert_eq!(kept(&"ä".repeat(MOST_VALUE)).len(), MOST_VALUE);
        assert_eq!(kept(&format!("x{}", "ä".repeat(MOST_VALUE))).len(), MOST_VALUE - 1);
    }
}
