//! A router that sends requests with a certain header to one service, and all others to another.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Backend, Choice, Configured, Decision, Interests, Listener, Request, Router, Rule, ServiceRef};

/// What a policy may set under `router.config`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    header: String,
    with: String,
    without: String,
    port: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self { header: "x-canary".into(), with: "canary".into(), without: "stable".into(), port: 80 }
    }
}

struct ByHeader;

impl Router for ByHeader {
    type Config = Config;

    fn configure(config: Config, _: &Listener) -> Result<(Self, Configured), String> {
        if config.header.is_empty() {
            return Err("config: header: must not be empty".into());
        }
        let rule = |service| Rule { backends: vec![Backend::new(ServiceRef::new(service, config.port))], ..Rule::default() };
        let rules = vec![rule(config.with), rule(config.without)];
        // Only headers that are named here are passed to the plugin, in this order.
        let interests = Interests { headers: vec![config.header], ..Interests::default() };
        Ok((Self, Configured { rules, interests }))
    }

    fn route(&mut self, request: &Request) -> Decision {
        let present = request.headers.first().is_some_and(Option::is_some);
        Decision::Matched(Choice { rule: if present { 0 } else { 1 }, backend: Some(0), ..Choice::default() })
    }
}

sluicegate_sdk::export_router!(ByHeader);

#[test]
fn the_header_decides() {
    let (mut router, configured) = ByHeader::configure(Config::default(), &Listener::default()).unwrap();
    assert_eq!(configured.interests.headers, ["x-canary"]);
    for (header, rule) in [(Some("1".to_string()), 0), (None, 1)] {
        let decision = router.route(&Request { headers: vec![header], ..Request::default() });
        assert_eq!(decision, Decision::Matched(Choice { rule, backend: Some(0), matched_prefix: 0 }));
    }
}
