//! The outcomes of a simulation.

use std::net::SocketAddr;

use serde::Serialize;

use super::settings::Settings;
use super::world::Server;

/// The outcome of one plugin in one scenario. Latencies are those of requests that were served, from arrival to answer, including tries that failed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The plugin's name.
    pub plugin: String,
    /// The version that the plugin names.
    pub version: String,
    /// The SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Requests that have ended, in whichever way.
    pub requests: u64,
    /// Requests that were not served: there was no endpoint, an error, or three tries in vain.
    pub errors: u64,
    /// Retries, after an endpoint could not be reached or broke off.
    pub retries: u64,
    /// Calls of the plugin that failed.
    pub failures: u64,
    /// Picks by a random choice in place of the plugin.
    pub fallbacks: u64,
    /// Why the first failed call failed.
    pub failure: Option<String>,
    /// The mean latency, in milliseconds.
    pub mean_ms: f64,
    /// The median of the latencies, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of the latencies, in milliseconds.
    pub p99_ms: f64,
    /// The 99.9th percentile of the latencies, in milliseconds.
    pub p999_ms: f64,
    /// The longest latency, in milliseconds.
    pub max_ms: f64,
    /// The share of time that the busiest endpoint is at work, over the mean of all: 1 is even.
    pub imbalance: f64,
    /// How many keys moved; only for balancers that go by the hash.
    pub moved: Option<Moved>,
    /// The endpoints, in the order in which they came.
    pub endpoints: Vec<Endpoint>,
    /// The time in sixty windows, one after another.
    pub windows: Vec<Window>,
    /// Percentiles with their latencies in milliseconds, for a curve: the higher they are, the more there are.
    pub percentiles: Vec<(f64, f64)>,
}

/// Keys that a change of the pool gave to another endpoint, on average over the changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// Changes of the pool.
    pub changes: u64,
    /// The part of all keys that moved at a change.
    pub each_change: f64,
    /// The part of all keys that moved from an endpoint that stayed to one that was there before.
    pub needlessly: f64,
}

/// What one endpoint did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The endpoint's address.
    pub address: SocketAddr,
    /// Picks that went to it.
    pub picks: u64,
    /// How busy it was, as a part of what it could do while it was in the pool.
    pub busy: f64,
}

/// A sixtieth of the time, by when requests arrived.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Requests that ended.
    pub requests: u64,
    /// Requests that were not served.
    pub errors: u64,
    /// The median latency of those that were served.
    pub p50_ms: Option<f64>,
    /// The 99th percentile of the latencies of those that were served.
    pub p99_ms: Option<f64>,
}

pub(super) const WINDOWS: usize = 60;

/// What is noted of each request.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    /// When the request arrived, in nanoseconds.
    pub(super) arrived: u64,
    pub(super) took: u64,
    pub(super) served: bool,
}

/// Where everything that ends is noted.
#[derive(Default)]
pub(super) struct Record {
    pub(super) ended: Vec<Ended>,
    pub(super) retries: u64,
}

fn ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// The value below which so large a part lies, by the nearest rank.
fn percentile(sorted: &[u64], part: f64) -> Option<u64> {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

impl Outcome {
    /// The share of errors among the requests that ended.
    pub fn error_share(&self) -> f64 {
        self.errors as f64 / self.requests.max(1) as f64
    }

    pub(super) fn of(settings: &Settings, mut record: Record, servers: &[Server], end: u64) -> Self {
        let duration = u64::try_from(settings.duration.as_nanos()).unwrap_or(u64::MAX);
        let mut by_window: Vec<Vec<u64>> = vec![Vec::new(); WINDOWS];
        let mut windows = vec![Window::default(); WINDOWS];
        for ended in &record.ended {
            let at = (ended.arrived.saturating_mul(WINDOWS as u64) / duration.max(1)).min(WINDOWS as u64 - 1) as usize;
            windows[at].requests += 1;
            if ended.served { by_window[at].push(ended.took) } else { windows[at].errors += 1 }
        }
        for (window, mut took) in windows.iter_mut().zip(by_window) {
            took.sort_unstable();
            window.p50_ms = percentile(&took, 0.5).map(ms);
            window.p99_ms = percentile(&took, 0.99).map(ms);
        }
        // The first twentieth does not count, as it begins without any requests.
        record.ended.retain(|ended| ended.arrived >= duration / 20);
        let mut took: Vec<u64> = record.ended.iter().filter(|e| e.served).map(|e| e.took).collect();
        took.sort_unstable();
        let at = |part: f64| percentile(&took, part).map_or(0.0, ms);
        let curve =
            [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999];
        let endpoints: Vec<Endpoint> = servers
            .iter()
            .map(|server| {
                let present = server.present + if server.member { end - server.since } else { 0 };
                let could = present as f64 * server.places as f64;
                Endpoint { address: server.address, picks: server.picks, busy: if could > 0.0 { server.worked / could } else { 0.0 } }
            })
            .collect();
        let mean_busy = endpoints.iter().map(|e| e.busy).sum::<f64>() / endpoints.len().max(1) as f64;
        let most_busy = endpoints.iter().map(|e| e.busy).fold(0.0, f64::max);
        Self {
            plugin: String::new(),
            version: String::new(),
            sha256: String::new(),
            requests: record.ended.len() as u64,
            errors: record.ended.len() as u64 - took.len() as u64,
            retries: record.retries,
            failures: 0,
            fallbacks: 0,
            failure: None,
            mean_ms: took.iter().map(|t| ms(*t)).sum::<f64>() / took.len().max(1) as f64,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: at(1.0),
            imbalance: if mean_busy > 0.0 { most_busy / mean_busy } else { 0.0 },
            moved: None,
            endpoints,
            windows,
            percentiles: curve.into_iter().map(|part| (part, at(part))).collect(),
        }
    }
}

#[cfg(test)]
mod unit {
    use super::percentile;

    #[test]
    fn the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([0.0, 0.5, 0.99, 0.999, 1.0].map(|part| percentile(&hundred, part)), [1, 50, 99, 100, 100].map(Some));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
