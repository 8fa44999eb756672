//! Requests: when they arrive, at which worker, with which key, and how much work they are. None of it depends on what becomes of them, so that all plugins are
//! given the same requests.

use std::time::Duration;

use rand::RngExt as _;

use super::settings::{Latency, Settings};
use crate::generate::{Random, stream};

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// When it arrives, in nanoseconds.
    pub(super) at: u64,
    pub(super) worker: usize,
    pub(super) key: usize,
    /// The work that it is, as a multiple of the mean.
    pub(super) size: f64,
}

pub(super) struct Traffic {
    random: Random,
    now: f64,
    end: f64,
    workers: usize,
    latency: Latency,
    /// The rate: seconds, and requests a second.
    rate: Vec<(f64, f64)>,
    most: f64,
    /// The running sums of the keys' shares.
    keys: Vec<f64>,
}

impl Traffic {
    pub(super) fn new(settings: &Settings, rate: &[(Duration, f64)]) -> Self {
        let shares = (1..=settings.keys).scan(0.0, |sum, rank| {
            *sum += (rank as f64).powf(-settings.skew);
            Some(*sum)
        });
        Self {
            random: stream(settings.seed, 20),
            now: 0.0,
            end: settings.duration.as_secs_f64(),
            workers: settings.workers,
            latency: settings.latency,
            rate: rate.iter().map(|(at, rate)| (at.as_secs_f64(), *rate)).collect(),
            most: rate.iter().map(|(_, rate)| *rate).fold(0.0, f64::max),
            keys: shares.collect(),
        }
    }

    fn rate(&self, at: f64) -> f64 {
        let next = self.rate.iter().position(|(from, _)| *from > at).unwrap_or(self.rate.len());
        match (next.checked_sub(1).map(|i| self.rate[i]), self.rate.get(next)) {
            (Some((from, a)), Some(&(to, b))) => a + (b - a) * (at - from) / (to - from),
            (Some((_, only)), None) | (None, Some(&(_, only))) => only,
            (None, None) => 0.0,
        }
    }
}

impl Iterator for Traffic {
    type Item = Request;

    /// A Poisson process whose rate changes, by thinning (Lewis and Shedler, 1979).
    fn next(&mut self) -> Option<Request> {
        loop {
            self.now += -(1.0 - self.random.random::<f64>()).ln() / self.most;
            if self.now >= self.end {
                return None;
            }
            let kept = self.random.random::<f64>() * self.most < self.rate(self.now);
            let worker = self.random.random_range(0..self.workers as u32) as usize;
            let key = self.random.random::<f64>() * self.keys.last().copied().unwrap_or(1.0);
            let key = self.keys.partition_point(|sum| *sum <= key).min(self.keys.len().saturating_sub(1));
            let size = self.latency.draw(self.random.random(), self.random.random());
            if kept {
                return Some(Request { at: (self.now * 1e9) as u64, worker, key, size });
            }
        }
    }
}
