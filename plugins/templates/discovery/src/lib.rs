//! A discovery plugin that reads the endpoints of a service from one of its annotations, `10.0.0.1:80, 10.0.0.2:80`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Discovery, Objects, PublishedEndpoint, Service};

/// What a policy may set under `discovery.config`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    annotation: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { annotation: "example.com/endpoints".into() }
    }
}

struct Annotated(Config);

impl Discovery for Annotated {
    type Config = Config;
    // const WATCHES: &'static [&'static str] = &["Pod"]; would fill `Objects`.

    fn open(_: &Service, config: Config) -> Result<Self, String> {
        Ok(Self(config))
    }

    fn endpoints(&mut self, service: &Service, _: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
        let text = service.object["metadata"]["annotations"][&self.0.annotation].as_str().unwrap_or("");
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let endpoint = |entry: &str| {
            let address: SocketAddr = entry.parse().map_err(|_| format!("{entry:?} is not `ip:port`"))?;
            Ok(PublishedEndpoint::new(address.ip().to_string(), address.port()))
        };
        entries.map(endpoint).collect()
    }
}

sluicegate_sdk::export_discovery!(Annotated);

#[test]
fn endpoints_come_from_the_annotation() {
    let mut annotated = Annotated(Config::default());
    let mut find = |text: &str| {
        let object = sluicegate_sdk::serde_json::json!({"metadata": {"annotations": {"example.com/endpoints": text}}});
        annotated.endpoints(&Service { namespace: "default".into(), name: "web".into(), object }, &Objects::default())
    };
    assert_eq!(find("10.0.0.1:80, "), Ok(vec![PublishedEndpoint::new("10.0.0.1", 80)]));
    assert_eq!(find("nowhere"), Err("\"nowhere\" is not `ip:port`".into()));
}
