//! The admin API of a gateway.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::PATIENCE;

/// By which it lets in clients that do not come by the loopback, where it is told so.
pub(crate) const TOKEN: &str = "of-the-tests-of-the-tests-of-the-tests";

/// The admin API at an address.
#[derive(Clone, Copy, Debug)]
pub struct Admin(pub SocketAddr);

impl Admin {
    /// What `/readyz` answers: its status and its text.
    pub fn readiness(&self) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
        let mut response = agent.get(format!("http://{}/readyz", self.0)).call().expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("a body"))
    }

    /// What the admin API answers; none if the answer is not a success.
    pub fn get(&self, path: &str) -> Option<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
        agent
            .get(format!("http://{}{path}", self.0))
            .header("authorization", format!("Bearer {TOKEN}"))
            .call()
            .ok()?
            .body_mut()
            .read_to_string()
            .ok()
    }

    /// A list of the admin API.
    pub fn json(&self, what: &str) -> Value {
        serde_json::from_str(&self.get(&format!("/api/v1/{what}")).expect("answered")).expect("JSON")
    }

    /// A plugin as the admin API shows it.
    pub fn plugin(&self, name: &str) -> Value {
        let all = self.json("plugins");
        all.as_array().expect("a list").iter().find(|p| p["name"] == name).cloned().unwrap_or(Value::Null)
    }

    /// What is seen of a kind of the API server.
    pub fn seen(&self, kind: &str) -> Value {
        let sources = self.json("sources");
        let kinds = sources[0]["kinds"].as_array().cloned().unwrap_or_default();
        kinds.into_iter().find(|seen| seen["kind"] == kind).unwrap_or(Value::Null)
    }

    /// Whether one of the configuration's faults contains all these words.
    pub fn has_fault(&self, words: &[&str]) -> bool {
        let faults = self.json("faults");
        let mut messages = faults.as_array().expect("a list").iter().filter_map(|fault| fault["message"].as_str());
        messages.any(|message| words.iter().all(|word| message.contains(word)))
    }

    /// Whether the configuration has no fault.
    pub fn has_no_fault(&self) -> bool {
        self.json("faults").as_array().is_some_and(Vec::is_empty)
    }

    /// The addresses of all endpoints, sorted as text.
    pub fn addresses(&self) -> Vec<String> {
        let all = self.json("endpoints");
        let mut found: Vec<String> =
            all.as_array().expect("a list").iter().map(|e| e["address"].as_str().expect("text").to_owned()).collect();
        found.sort();
        found
    }

    /// How many endpoints take new connections.
    pub fn ready_endpoints(&self) -> usize {
        self.json("endpoints").as_array().expect("a list").iter().filter(|e| e["ready"] == true).count()
    }
}
