//! Steady traffic.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{eventually, fetch};

/// One request after another until it is ended; every answer must be 200.
pub struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    worst: Arc<Mutex<Duration>>,
    failed: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Begins.
    pub fn on(address: SocketAddr) -> Self {
        let load = Self { stop: Arc::default(), requests: Arc::default(), worst: Arc::default(), failed: Arc::default(), thread: None };
        let (stop, requests, worst, failed) = (load.stop.clone(), load.requests.clone(), load.worst.clone(), load.failed.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let (status, body) = fetch(address);
                if status != 200 {
                    failed.lock().expect("not poisoned").get_or_insert(format!("{status}: {body}"));
                }
                let mut worst = worst.lock().expect("not poisoned");
                *worst = (*worst).max(begun.elapsed());
                requests.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { thread: Some(thread), ..load }
    }

    /// Waits for `more` requests to end.
    pub fn goes_on(&self, more: usize) {
        let until = self.requests.load(Ordering::Relaxed) + more;
        eventually("the load goes on", || self.requests.load(Ordering::Relaxed) >= until);
    }

    /// Ends, and says how long the longest request took.
    pub fn end(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("running").join().expect("the load ends");
        assert_eq!(*self.failed.lock().expect("not poisoned"), None);
        *self.worst.lock().expect("not poisoned")
    }
}
