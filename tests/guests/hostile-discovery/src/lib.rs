//! A discovery plugin that misbehaves as its configuration says, for tests of the host. With `mode: ok` every service has 127.0.0.1:9.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Discovery, Objects, PublishedEndpoint, Service, clock, http};

/// What to do wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Do nothing wrong.
    #[default]
    Ok,
    /// Trap when asked for endpoints.
    Trap,
    /// Never return when asked for endpoints.
    Loop,
    /// Allocate without end when asked for endpoints.
    Memory,
    /// Not hostile: POST the wall clock's year and a body of 100,000 bytes to `url`, and publish the address that is answered.
    Post,
    /// Publish `addresses`.
    Publish,
    /// Wait for a tunnel, and for a request with another host's fields, both of which the host must refuse.
    Forbidden,
}

/// What to do wrong, and with what.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to do wrong when asked for endpoints.
    pub mode: Mode,
    /// The URL of the source that is asked.
    pub url: String,
    /// What to publish, each as `address port`.
    pub addresses: Vec<String>,
}

/// The discovery of one service.
pub struct Hostile(Config);

impl Discovery for Hostile {
    type Config = Config;

    fn open(_: &Service, config: Config) -> Result<Self, String> {
        Ok(Self(config))
    }

    fn endpoints(&mut self, _: &Service, _: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
        match self.0.mode {
            Mode::Ok => Ok(vec![PublishedEndpoint::new("127.0.0.1", 9)]),
            Mode::Publish => {
                let endpoint = |text: &String| {
                    let (address, port) = text.split_once(' ').unwrap_or((text, "0"));
                    PublishedEndpoint::new(address, port.parse().unwrap_or_default())
                };
                Ok(self.0.addresses.iter().map(endpoint).collect())
            }
            Mode::Post => {
                let days = clock::now().duration_since(std::time::UNIX_EPOCH).map_err(|e| e.to_string())?.as_secs() / 86_400;
                let request = http::Request::new("POST", &self.0.url).header("x-days", &days.to_string()).body(vec![b'x'; 100_000]);
                let response = request.send().map_err(|error| error.to_string())?;
                Ok(vec![PublishedEndpoint::new(response.text()?, 9)])
            }
            Mode::Forbidden => {
                let said = |request: http::Request| request.send().err().map_or_else(|| "sent".to_owned(), |error| error.to_string());
                let get = || http::Request::new("GET", &self.0.url);
                let all = [http::Request::new("CONNECT", &self.0.url), get().header("host", "other.example"), get().header("te", "x")];
                Err(all.map(said).join("; "))
            }
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
