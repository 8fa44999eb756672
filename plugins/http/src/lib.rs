//! Discovery `http`: the endpoints that a URL lists, in the format of Prometheus' HTTP service discovery
//! (<https://prometheus.io/docs/prometheus/latest/http_sd/>): a JSON list of `{"targets": ["host:port"], "labels": {…}}`.
//!
//! While the source does not answer, or its answer is no such list, the last good set of endpoints stays.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::http::{Request, Response};
use sluicegate_sdk::{Ask, Discovery, Next, PublishedEndpoint, Reply, Service};
use sluicegate_targets::{Interval, Reading};

/// After how long the source is asked again after a failure, unless the refresh comes sooner.
const RETRY: Duration = Duration::from_secs(5);

/// The configuration of `http`: which URL lists the endpoints, and how often it is asked.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// The URL, which begins with `http://` or `https://`. Its host must be among the `capabilities.allowedHosts` of the `Plugin` object.
    pub url: String,
    /// How often the URL is asked, such as `30s`; at least 1s.
    #[serde(default)]
    pub refresh_interval: Interval,
    /// The longest wait for an answer, such as `10s`; at most 30s.
    #[serde(default = "ten_seconds")]
    pub timeout: Interval,
    /// Header fields of the requests.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The name of the service port that the endpoints serve. Without it, they serve all ports.
    pub port_name: Option<String>,
    /// The label that holds an endpoint's zone.
    pub zone_label: Option<String>,
    /// The label that holds an endpoint's weight. Endpoints without it have weight 1.
    pub weight_label: Option<String>,
}

fn ten_seconds() -> Interval {
    Interval(Duration::from_secs(10))
}

/// The endpoints of one service.
#[derive(Debug)]
pub struct Http {
    config: Config,
    failed: bool,
}

impl Discovery for Http {
    type Config = Config;
    const ASKS: bool = true;

    fn open(_: &Service, config: Config) -> Result<Self, String> {
        if !config.url.starts_with("http://") && !config.url.starts_with("https://") {
            return Err(format!("url: `{}` must begin with http:// or https://", config.url));
        }
        if config.refresh_interval.0 < Duration::from_secs(1) {
            return Err("refreshInterval: must be at least 1s".to_owned());
        }
        Ok(Self { config, failed: false })
    }

    fn concerns(&self, _: &Service, _: &sluicegate_sdk::Object) -> bool {
        false
    }

    fn refresh(&self) -> Option<Duration> {
        let interval = self.config.refresh_interval.0;
        Some(if self.failed { interval.min(RETRY) } else { interval })
    }

    fn ask(&mut self, _: &Service) -> Option<Ask> {
        let seconds = self.config.refresh_interval.0.as_secs().to_string();
        let request = Request::new("GET", &self.config.url)
            .header("accept", "application/json")
            .header("user-agent", concat!("sluicegate-http/", env!("CARGO_PKG_VERSION")))
            // Prometheus sends this field to its sources.
            .header("x-prometheus-refresh-interval-seconds", &seconds)
            .timeout(self.config.timeout.0);
        Some(Ask::Http(self.config.headers.iter().fold(request, |request, (name, value)| request.header(name, value))))
    }

    fn answered(&mut self, _: &Service, reply: Reply) -> Result<Next, String> {
        let Reply::Http(response) = reply else { return Err("an answer that was not asked for".to_owned()) };
        let found = response.map_err(|error| error.to_string()).and_then(|response| self.read(&response));
        self.failed = found.is_err();
        found.map(Next::Endpoints).map_err(|reason| format!("{}: {reason}", self.config.url))
    }
}

impl Http {
    fn read(&self, response: &Response) -> Result<Vec<PublishedEndpoint>, String> {
        if response.status != 200 {
            return Err(format!("answered {}, and 200 is wanted", response.status));
        }
        let json = response.header("content-type").is_some_and(|ty| ty.split(';').next().is_some_and(|ty| ty.trim() == "application/json"));
        if !json {
            return Err(format!(
                "answered {}, and application/json is wanted",
                response.header("content-type").unwrap_or("no content type")
            ));
        }
        let list = serde_json::from_str(response.text()?).map_err(|error| format!("the answer is not in HTTP SD format: {error}"))?;
        let reading = Reading {
            port_name: self.config.port_name.as_deref(),
            zone_label: self.config.zone_label.as_deref(),
            weight_label: self.config.weight_label.as_deref(),
        };
        sluicegate_targets::endpoints(&reading, vec![list])
    }
}

sluicegate_sdk::export_discovery!(Http);

#[cfg(test)]
mod tests;
