//! A balancer that misbehaves as its configuration says, for tests of the host. With `mode: ok` it is a plain round-robin, and with `mode: choosy` one
//! that only picks healthy endpoints.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Condition, Endpoint, Level, Pick, log};

/// What to do wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Do nothing wrong.
    #[default]
    Ok,
    /// Do nothing wrong: ask for each endpoint's condition, and pick healthy ones.
    Choosy,
    /// Trap in `open`.
    TrapOpen,
    /// Trap in `update`.
    TrapUpdate,
    /// Trap in `pick`.
    TrapPick,
    /// Pick an index that the pool does not have.
    OutOfRange,
    /// Never return from `open`.
    LoopOpen,
    /// Never return from `pick`.
    LoopPick,
    /// Allocate without end in `open`.
    MemoryOpen,
    /// Allocate without end in `pick`.
    MemoryPick,
    /// Log in `pick`, 10,000 lines of 1,000 bytes each time.
    LogFlood,
    /// Pick the first endpoint each time.
    Lead,
    /// Pick no endpoint.
    Nobody,
}

/// What to do wrong, and when.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to do wrong.
    pub mode: Mode,
    /// Behave well for the pools of the host's trials, which are told by their addresses (192.0.0.0/16).
    pub spare_trials: bool,
}

/// The balancer of one pool.
pub struct Hostile {
    config: Config,
    endpoints: usize,
    trial: bool,
    picks: usize,
}

/// Tests patch these bytes of the built file to get a second version that differs under the same configuration.
static DEFAULT: &[u8; 12] = b"default-good";

impl Balancer for Hostile {
    type Config = Config;

    fn open(mut config: Config) -> Result<Self, String> {
        let mode = match std::hint::black_box(DEFAULT) {
            b"default-good" => config.mode,
            b"default-loop" => Mode::LoopPick,
            b"default-lead" => Mode::Lead,
            b"default-none" => Mode::Nobody,
            _ => Mode::TrapPick,
        };
        if mode != config.mode {
            config = Config { mode, spare_trials: true };
        }
        match config.mode {
            Mode::TrapOpen => panic!("hostile: open"),
            Mode::LoopOpen => spin(),
            Mode::MemoryOpen => exhaust(),
            _ => Ok(Self { config, endpoints: 0, trial: false, picks: 0 }),
        }
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        if self.config.mode == Mode::TrapUpdate {
            panic!("hostile: update");
        }
        self.endpoints = endpoints.len();
        self.trial = endpoints.iter().all(|e| e.address.starts_with("192.0."));
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        let turn = self.picks;
        self.picks = turn.wrapping_add(1);
        if !(self.config.spare_trials && self.trial) {
            match self.config.mode {
                Mode::TrapPick => panic!("hostile: pick"),
                Mode::OutOfRange => return Some(self.endpoints + 1_000),
                Mode::LoopPick => spin(),
                Mode::MemoryPick => exhaust(),
                Mode::LogFlood => flood(),
                Mode::Choosy => return (0..self.endpoints).find(|i| pick.condition(*i) == Condition::Healthy),
                Mode::Lead => return Some(0),
                Mode::Nobody => return None,
                _ => {}
            }
        }
        turn.checked_rem(self.endpoints)
    }
}

/// A loop that the compiler must keep.
fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

fn exhaust() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

fn flood() {
    let line = "x".repeat(1_000);
    for _ in 0..10_000 {
        log(Level::Error, &line);
    }
}

sluicegate_sdk::export_balancer!(Hostile);
