//! A discovery plugin that misbehaves as its configuration says, for tests of the host. With `mode: ok` every service has 127.0.0.1:9.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Discovery, Objects, PublishedEndpoint, Service};

/// What to do wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing.
    #[default]
    Ok,
    /// Trap.
    Trap,
    /// Never return.
    Loop,
    /// Allocate without end.
    Memory,
}

/// What to do wrong.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to do wrong when asked for endpoints.
    pub mode: Mode,
}

/// One service.
pub struct Hostile(Config);

impl Discovery for Hostile {
    type Config = Config;

    fn open(_: &Service, config: Config) -> Result<Self, String> {
        Ok(Self(config))
    }

    fn endpoints(&mut self, _: &Service, _: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
        match self.0.mode {
            Mode::Ok => Ok(vec![PublishedEndpoint::new("127.0.0.1", 9)]),
            Mode::Trap => panic!("hostile: endpoints"),
            Mode::Loop => loop {
                std::hint::black_box(());
            },
            Mode::Memory => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
                }
            }
        }
    }
}

sluicegate_sdk::export_discovery!(Hostile);
