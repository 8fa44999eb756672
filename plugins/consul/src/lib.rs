//! Discovery `consul`: the instances of a service in Consul's catalogue, with their health, by blocking queries
//! (<https://developer.hashicorp.com/consul/api-docs/features/blocking>): a query with the index of the last answer is answered when something has changed, or
//! when its time is over. While Consul does not answer, the last good set of endpoints stays.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::http::{Request, Response};
use sluicegate_sdk::{Ask, Discovery, Next, PublishedEndpoint, Reply, Service};
use sluicegate_targets::Interval;

mod instances;

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a server is asked that returns no index.
const POLL: Duration = Duration::from_secs(5);
/// How long a query may take beyond its `wait`: Consul adds up to a sixteenth, and the answer takes some time.
const GRACE: Duration = Duration::from_secs(2);
/// The longest `wait`: with the grace above, it stays within the 30 s that the gateway waits for an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(26);

/// The configuration of `consul`: which service to look for, and which Consul to ask.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// The URL of Consul's HTTP API, such as `http://127.0.0.1:8500`. Its host must be among the `capabilities.allowedHosts` of the `Plugin` object.
    pub url: String,
    /// The service's name in the catalogue.
    pub service: String,
    /// The datacenter of the service. Without it, this is the agent's own.
    pub datacenter: Option<String>,
    /// The namespace, in Consul Enterprise.
    pub namespace: Option<String>,
    /// The partition, in Consul Enterprise.
    pub partition: Option<String>,
    /// An expression of Consul's, such as `"v2" in Service.Tags`.
    pub filter: Option<String>,
    /// Whether instances with a warning get no traffic, as those that are critical never do.
    #[serde(default)]
    pub passing_only: bool,
    /// Whether any server may answer, and not only the leader. That is quicker, and may be some seconds behind.
    #[serde(default = "yes")]
    pub stale: bool,
    /// How long a query waits for a change, such as `25s`; from 1s to 26s.
    #[serde(default = "twenty_five_seconds")]
    pub wait: Interval,
    /// Header fields of the requests, such as `X-Consul-Token`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The name of the service port that the endpoints serve. Without it, they serve all ports.
    pub port_name: Option<String>,
    /// The key in the meta data of the instance, or of its node, that holds the zone; without it, the zone of Consul's locality.
    pub zone_meta: Option<String>,
}

fn yes() -> bool {
    true
}

fn twenty_five_seconds() -> Interval {
    Interval(Duration::from_secs(25))
}

/// The endpoints of one service.
#[derive(Debug)]
pub struct Consul {
    config: Config,
    /// The index of the last answer. `None`: the next query does not wait for a change.
    index: Option<u64>,
    /// The pause before the next question.
    pause: Duration,
    failures: u32,
}

impl Discovery for Consul {
    type Config = Config;
    const ASKS: bool = true;

    fn open(_: &Service, config: Config) -> Result<Self, String> {
        if !config.url.starts_with("http://") && !config.url.starts_with("https://") {
            return Err(format!("url: `{}` must begin with http:// or https://", config.url));
        }
        if config.service.is_empty() {
            return Err("service: must not be empty".to_owned());
        }
        if !(Duration::from_secs(1)..=LONGEST_WAIT).contains(&config.wait.0) {
            return Err("wait: must be from 1s to 26s".to_owned());
        }
        Ok(Self { config, index: None, pause: Duration::ZERO, failures: 0 })
    }

    fn concerns(&self, _: &Service, _: &sluicegate_sdk::Object) -> bool {
        false
    }

    fn refresh(&self) -> Option<Duration> {
        Some(self.pause)
    }

    fn ask(&mut self, _: &Service) -> Option<Ask> {
        let wait = self.config.wait.0;
        let request = Request::new("GET", &self.url())
            .header("accept", "application/json")
            .header("user-agent", concat!("sluicegate-consul/", env!("CARGO_PKG_VERSION")))
            .timeout(wait + wait / 16 + GRACE);
        Some(Ask::Http(self.config.headers.iter().fold(request, |request, (name, value)| request.header(name, value))))
    }

    fn answered(&mut self, _: &Service, reply: Reply) -> Result<Next, String> {
        let Reply::Http(response) = reply else { return Err("an answer that was not asked for".to_owned()) };
        let found = response.map_err(|error| error.to_string()).and_then(|response| self.take(&response));
        match found {
            Ok(found) => {
                self.failures = 0;
                Ok(Next::Endpoints(found))
            }
            Err(reason) => {
                // The next query must not wait, as a change that was missed meanwhile may have any index.
                self.index = None;
                self.pause = (FIRST_PAUSE * 2_u32.saturating_pow(self.failures)).min(LONGEST_PAUSE);
                self.failures = (self.failures + 1).min(16);
                Err(format!("{}: service `{}`: {reason}", self.config.url, self.config.service))
            }
        }
    }
}

impl Consul {
    fn url(&self) -> String {
        let config = &self.config;
        let mut query = Vec::new();
        let named = [("dc", &config.datacenter), ("ns", &config.namespace), ("partition", &config.partition), ("filter", &config.filter)];
        query.extend(named.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_ref()?)))));
        if config.stale {
            query.push("stale".to_owned());
        }
        if let Some(index) = self.index {
            query.push(format!("index={index}&wait={}ms", config.wait.0.as_millis()));
        }
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        format!("{}/v1/health/service/{}{query}", config.url.trim_end_matches('/'), escaped(&config.service))
    }

    fn take(&mut self, response: &Response) -> Result<Vec<PublishedEndpoint>, String> {
        if response.status != 200 {
            let said = String::from_utf8_lossy(&response.body);
            let said: String = said.lines().next().unwrap_or_default().chars().take(200).collect();
            return Err(format!("answered {}: {said}", response.status));
        }
        let found = instances::read(&self.config, response.text()?)?;
        let index = response.header("x-consul-index").and_then(|index| index.trim().parse::<u64>().ok()).filter(|index| *index > 0);
        (self.index, self.pause) = match (index, self.index) {
            // "Reset the index if it goes backwards": it does so after a snapshot was restored, and changes would be missed until it has caught up.
            (Some(new), Some(old)) if new < old => (None, Duration::ZERO),
            (Some(new), _) => (Some(new), Duration::ZERO),
            // "Sanity check index is greater than zero": a query with index 0 would not wait, and the plugin would spin.
            (None, _) => (None, POLL),
        };
        Ok(found)
    }
}

/// Percent-encodes all characters except for the unreserved ones (RFC 3986 §2.1).
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

sluicegate_sdk::export_discovery!(Consul);

#[cfg(test)]
mod tests;
