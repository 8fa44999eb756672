//! Steady traffic.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{eventually, fetch};

/// Sends one request after another until it is ended. Every answer must be 200.
pub struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    times: Arc<Mutex<Vec<Duration>>>,
    failed: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Begins to send requests.
    pub fn on(address: SocketAddr) -> Self {
        Self::every(address, Duration::ZERO)
    }

    /// The same, with a pause after each.
    pub fn every(address: SocketAddr, pause: Duration) -> Self {
        let load = Self { stop: Arc::default(), requests: Arc::default(), times: Arc::default(), failed: Arc::default(), thread: None };
        let (stop, requests, times, failed) = (load.stop.clone(), load.requests.clone(), load.times.clone(), load.failed.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let (status, body) = fetch(address);
                if status != 200 {
                    failed.lock().expect("not poisoned").get_or_insert(format!("{status}: {body}"));
                }
                times.lock().expect("not poisoned").push(begun.elapsed());
                requests.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(pause);
            }
        });
        Self { thread: Some(thread), ..load }
    }

    /// Waits for `more` requests to end.
    pub fn goes_on(&self, more: usize) {
        let until = self.requests.load(Ordering::Relaxed) + more;
        eventually("the load goes on", || self.requests.load(Ordering::Relaxed) >= until);
    }

    /// How long requests took since the beginning or the last call: the 99th percentile, and the longest.
    pub fn lap(&self) -> (Duration, Duration) {
        let mut times = std::mem::take(&mut *self.times.lock().expect("not poisoned"));
        times.sort_unstable();
        let longest = times.last().copied().unwrap_or_default();
        (times.get(times.len() * 99 / 100).copied().unwrap_or_default(), longest)
    }

    /// Ends the load. Returns how long the longest request took since the last call of [`Self::lap`].
    pub fn end(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("running").join().expect("the load ends");
        assert_eq!(*self.failed.lock().expect("not poisoned"), None);
        self.lap().1
    }
}
