//! Places that are taken and given back, over all workers: for connections, exchanges and tries. A limit is kept exactly, as a place is taken by one
//! compare-and-swap. Those who wait for a place are woken in turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// The places, and who waits for one.
#[derive(Debug, Default)]
pub struct Slots {
    used: AtomicU32,
    waiting: AtomicU32,
    next: AtomicU64,
    queue: Mutex<VecDeque<(u64, Waker)>>,
}

impl Slots {
    /// Takes a place if fewer than `most` are taken.
    pub fn take(self: &Arc<Self>, most: u32) -> Option<Slot> {
        let more = |used: u32| (used < most).then(|| used + 1);
        // Sequentially consistent with `waiting`: a waiter looks here again after it has registered, and who gives back a place looks there afterwards.
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Slot(self.clone()))
    }

    /// How many places are taken.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// How many wait for a place.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Joins those who wait, if fewer than `most` do.
    pub fn wait(self: &Arc<Self>, most: u32) -> Option<Waiting> {
        let more = |waiting: u32| (waiting < most).then(|| waiting + 1);
        self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Waiting { slots: self.clone(), id: self.next.fetch_add(1, Ordering::Relaxed) })
    }

    /// Wakes the one who has waited longest.
    pub fn wake(&self) {
        if self.waiting() == 0 {
            return;
        }
        let first = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some((_, waker)) = first {
            waker.wake();
        }
    }
}

/// A place, which is given back when it is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

impl Slot {
    /// The places of which this is one.
    pub fn of(&self) -> &Arc<Slots> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::SeqCst);
        self.0.wake();
    }
}

/// A waiter, which waits no longer when it is dropped.
#[derive(Debug)]
pub struct Waiting {
    slots: Arc<Slots>,
    id: u64,
}

impl Waiting {
    /// Registers whom to wake when there may be a place. It is called before looking whether there is one. A waiter that was woken in vain keeps its turn.
    pub fn register(&self, waker: &Waker) {
        let mut queue = self.slots.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.iter_mut().find(|(id, _)| *id == self.id) {
            Some((_, known)) => known.clone_from(waker),
            None => {
                let at = queue.iter().position(|(id, _)| *id > self.id).unwrap_or(queue.len());
                queue.insert(at, (self.id, waker.clone()));
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut queue = self.slots.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = queue.iter().position(|(id, _)| *id == self.id).map(|at| queue.remove(at)).is_none();
        drop(queue);
        self.slots.waiting.fetch_sub(1, Ordering::SeqCst);
        // It was woken for a place that it may not have taken, so the next in turn has a look.
        if woken {
            self.slots.wake();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn no_more_than_the_limit_from_any_number_of_threads() {
        let slots = Arc::new(Slots::default());
        let most = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut most = 0;
                        for _ in 0..5_000 {
                            let taken = slots.take(3);
                            if taken.is_some() {
                                most = most.max(slots.used());
                            }
                        }
                        most
                    })
                })
                .collect();
            workers.into_iter().map(|w| w.join().unwrap()).max().unwrap()
        });
        assert!((1..=3).contains(&most), "{most} at once");
        assert_eq!(slots.used(), 0);
    }

    #[test]
    fn the_first_in_the_queue_is_woken() {
        let slots = Arc::new(Slots::default());
        let place = slots.take(1).unwrap();
        let (first, second) = (slots.wait(2).unwrap(), slots.wait(2).unwrap());
        assert!(slots.wait(2).is_none(), "the queue is full");
        let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
        let is_woken = |which: usize| woken[which].0.load(Ordering::SeqCst);
        second.register(&woken[1].clone().into());
        first.register(&woken[0].clone().into());
        assert!(slots.take(1).is_none());
        drop(place);
        assert!(is_woken(0) && !is_woken(1), "it came first, whenever it was polled");
        drop(first);
        assert!(is_woken(1), "the first went away with its turn");
        second.register(Waker::noop());
        assert!(slots.take(1).is_some());
        drop(second);
        assert_eq!((slots.waiting(), slots.queue.lock().unwrap().len()), (0, 0));
    }
}
