//! A router that misbehaves as its configuration says, for tests of the host. With `mode: ok` it answers every request with 200 `ok`.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Answer, Choice, Configured, Decision, Listener, Request, Router, Rule};

/// What to do wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Do nothing wrong.
    #[default]
    Ok,
    /// Trap in `configure`.
    TrapConfigure,
    /// Trap in `route`.
    TrapRoute,
    /// Never return from `route`.
    LoopRoute,
    /// Allocate without end in `route`.
    MemoryRoute,
    /// Choose a rule that was not configured.
    OutOfRange,
}

/// What to do wrong, and when.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to do wrong.
    pub mode: Mode,
    /// Behave well for the requests of the host's trials, which are told by their host name.
    pub spare_trials: bool,
}

/// The table of one listener.
pub struct Hostile {
    config: Config,
}

impl Router for Hostile {
    type Config = Config;

    fn configure(config: Config, _: &Listener) -> Result<(Self, Configured), String> {
        if config.mode == Mode::TrapConfigure {
            panic!("hostile: configure");
        }
        let configured = Configured { rules: vec![Rule::default()], ..Configured::default() };
        Ok((Self { config }, configured))
    }

    fn route(&mut self, request: &Request) -> Decision {
        if !(self.config.spare_trials && request.host == "trial.invalid") {
            match self.config.mode {
                Mode::TrapRoute => panic!("hostile: route"),
                Mode::LoopRoute => spin(),
                Mode::MemoryRoute => exhaust(),
                Mode::OutOfRange => {
                    return Decision::Matched(Choice { rule: 1_000, backend: Some(1_000), matched_prefix: u32::MAX });
                }
                Mode::Ok | Mode::TrapConfigure => {}
            }
        }
        Decision::Answer(Answer { body: "ok".to_owned(), ..Answer::default() })
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

sluicegate_sdk::export_router!(Hostile);
