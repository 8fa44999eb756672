//! A round-robin balancer that uses all that a plugin may ask of the host, or too much of it, for tests of the contract.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::metrics::{Counter, CounterSeries, Gauge, GaugeSeries, Histogram, HistogramSeries};
use sluicegate_sdk::{Balancer, Endpoint, Level, Pick, log, shared};

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Count.
    #[default]
    Count,
    /// Ask for far too many metrics, series and entries.
    Bombs,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Count, or what else.
    pub mode: Mode,
}

/// One pool.
pub struct Probe {
    config: Config,
    endpoints: usize,
    next: usize,
    picks: CounterSeries,
    shared: GaugeSeries,
    hashes: HistogramSeries,
    annotations: GaugeSeries,
}

impl Balancer for Probe {
    type Config = Config;
    const ANNOTATIONS: bool = true;

    fn open(config: Config) -> Result<Self, String> {
        Ok(Self {
            config,
            endpoints: 0,
            next: 0,
            picks: Counter::new("picks", "Picks.", &["side"])?.series(&["all"])?,
            shared: Gauge::new("shared_picks", "Picks of all workers.", &[])?.series(&[])?,
            hashes: Histogram::new("hashes", "Hashes.", &[], &[])?.series(&[])?,
            annotations: Gauge::new("annotations", "Annotations of all endpoints.", &[])?.series(&[])?,
        })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        self.endpoints = endpoints.len();
        self.annotations.set(endpoints.iter().filter(|endpoint| endpoint.annotation("cost").is_some()).count() as f64);
        log!(Level::Info, "the pool has changed", endpoints = endpoints.len(), mode = format!("{:?}", self.config.mode));
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        self.picks.add(1.0);
        if let Ok(sum) = shared::add("picks", 1, None) {
            self.shared.set(sum as f64);
        }
        self.hashes.observe(if pick.hash.is_some() { 1.0 } else { 0.0 });
        if std::mem::take(&mut self.config.mode) == Mode::Bombs {
            bombs();
        }
        self.next = self.next.wrapping_add(1);
        self.next.checked_rem(self.endpoints)
    }
}

/// All of it is refused, or too much at last; none of it may be the gateway's end.
fn bombs() {
    let Ok(done) = Gauge::new("bombs", "Done.", &[]).and_then(|done| done.series(&[])) else { return };
    let value = vec![7; 10_000];
    for i in 0..500 {
        let _ = shared::set(&format!("bomb{i}"), &value, None);
        let _ = shared::set(&"k".repeat(i), b"", None);
    }
    let _ = shared::set("large", &vec![0; 8 << 20], None);
    let Ok(bombs) = Counter::new("bombs_by", "Too many.", &["label"]) else { return };
    for i in 0..2_000 {
        if let Ok(series) = bombs.series(&[&format!("{i}\n\"\\{}", "x".repeat(100))]) {
            series.add(1.0);
        }
        let _ = bombs.series(&[&"y".repeat(1_000 + i)]);
        let _ = Gauge::new(&format!("bomb_{i}"), "Too many.", &[]);
    }
    done.add(1.0);
}

sluicegate_sdk::export_balancer!(Probe);
