//! A balancer that uses everything that a plugin may ask of the host, or too much of it, for tests of the contract. It is a round-robin, unless it is
//! told to stay with the endpoint that it chose first.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::metrics::{Counter, CounterSeries, Gauge, GaugeSeries, Histogram, HistogramSeries};
use sluicegate_sdk::{Balancer, Endpoint, Level, Pick, log, shared};

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Count picks.
    #[default]
    Count,
    /// Ask for far too many metrics, series and entries.
    Bombs,
    /// Stay with the endpoint that was chosen first, and hand it over to the next generation.
    Stick,
    /// Stay with the first endpoint, but trap in `save`.
    SaveTrap,
    /// Stay with the first endpoint, but never return from `save`.
    SaveLoop,
    /// Stay with the first endpoint, but allocate a gigabyte in `save`.
    SaveGigabyte,
    /// Stay with the first endpoint, but save more than is kept.
    SaveTooMuch,
    /// Stay with the first endpoint, but trap in `restore`.
    RestoreTrap,
    /// Stay with the first endpoint, but never return from `restore`.
    RestoreLoop,
    /// Stay with the first endpoint, but refuse in `restore`.
    RestoreRefuse,
    /// Forge lines: in the help text of a metric, the values of its labels, the log and its fields.
    Forge,
    /// Refuse to open, with a text that forges lines.
    ForgeOpen,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to do.
    pub mode: Mode,
}

/// A text that would add a line to `/metrics`, end that page, add a line to the log, clear a terminal's screen, reverse what follows, and hide it.
const FORGED: &str =
    "\"} 1\nsluicegate_forged_total 9\r\n# EOF\n2026  INFO fine\0\u{1b}[2J\u{9b}\u{85}\u{2028}\u{202e}\u{2066}\u{200b}\u{feff}\\";

fn forge() -> Result<(), String> {
    let metric = Gauge::new("forged", FORGED, &["text"])?;
    // The second and third would be the same if escapes were not told from text that looks like them.
    for value in [FORGED, "\u{202e}", r"\u{202e}", "\n"] {
        metric.series(&[value])?.set(1.0);
    }
    log(Level::Error, FORGED);
    sluicegate_sdk::log_with(Level::Warn, FORGED, vec![(FORGED.to_owned(), FORGED.into())]);
    Ok(())
}

/// The balancer of one pool.
pub struct Probe {
    config: Config,
    endpoints: usize,
    next: usize,
    picks: CounterSeries,
    shared: GaugeSeries,
    hashes: HistogramSeries,
    annotations: GaugeSeries,
    chosen: CounterSeries,
    addresses: Vec<String>,
    stuck: Option<String>,
}

impl Balancer for Probe {
    type Config = Config;
    const ANNOTATIONS: bool = true;
    const STATE: Option<u32> = Some(7);

    fn open(config: Config) -> Result<Self, String> {
        match config.mode {
            Mode::Forge => forge()?,
            Mode::ForgeOpen => return Err(format!("forged refusal{FORGED}")),
            _ => {}
        }
        Ok(Self {
            config,
            endpoints: 0,
            next: 0,
            picks: Counter::new("picks", "Picks.", &["side"])?.series(&["all"])?,
            shared: Gauge::new("shared_picks", "Picks of all workers.", &[])?.series(&[])?,
            hashes: Histogram::new("hashes", "Hashes.", &[], &[])?.series(&[])?,
            annotations: Gauge::new("annotations", "Annotations of all endpoints.", &[])?.series(&[])?,
            chosen: Counter::new("chosen", "Choices of an endpoint to stick to.", &[])?.series(&[])?,
            addresses: Vec::new(),
            stuck: None,
        })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        self.endpoints = endpoints.len();
        self.addresses = endpoints.iter().map(|endpoint| endpoint.address.clone()).collect();
        self.annotations.set(endpoints.iter().filter(|endpoint| endpoint.annotation("cost").is_some()).count() as f64);
        log!(Level::Info, "the pool has changed", endpoints = endpoints.len(), mode = format!("{:?}", self.config.mode));
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        self.picks.add(1.0);
        if let Ok(sum) = shared::add("picks", 1, None) {
            self.shared.set(sum as f64);
        }
        self.hashes.observe(if pick.hash.is_some() { 1.0 } else { 0.0 });
        if self.config.mode == Mode::Bombs {
            self.config.mode = Mode::Count;
            bombs();
        }
        if self.config.mode != Mode::Count {
            let known = self.stuck.as_ref().and_then(|stuck| self.addresses.iter().position(|address| address == stuck));
            return known.or_else(|| {
                self.chosen.add(1.0);
                let index = pick.below(self.endpoints.max(1));
                self.stuck = Some(self.addresses.get(index)?.clone());
                Some(index)
            });
        }
        self.next = self.next.wrapping_add(1);
        self.next.checked_rem(self.endpoints)
    }

    fn save(&self) -> Vec<u8> {
        match self.config.mode {
            Mode::SaveTrap => panic!("hostile: save"),
            Mode::SaveLoop => spin(),
            Mode::SaveGigabyte => vec![1; 1 << 30],
            Mode::SaveTooMuch => vec![1; 32 << 20],
            _ => self.stuck.clone().unwrap_or_default().into_bytes(),
        }
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), String> {
        match self.config.mode {
            Mode::RestoreTrap => panic!("hostile: restore"),
            Mode::RestoreLoop => spin(),
            Mode::RestoreRefuse => return Err("it will have none of it".to_owned()),
            _ if version != 7 => return Err(format!("version {version}")),
            _ => {}
        }
        let stuck = std::str::from_utf8(state).map_err(|error| error.to_string())?;
        self.stuck = Some(stuck.to_owned()).filter(|stuck| !stuck.is_empty());
        Ok(())
    }
}

/// A loop that the compiler must keep.
fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

/// Asks for far too much. All of it is refused, or from some number on; nothing may end the gateway.
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
