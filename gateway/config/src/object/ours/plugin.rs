//! `Plugin`: which code decides, and what it may use.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_model::plugin::PluginKind;

use super::values::{Bytes, Span};

/// Loads a plugin.
#[derive(Clone, Debug, Deserialize)]
pub struct Plugin {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The plugin's code, and what it may do.
    pub spec: PluginSpec,
}

/// A plugin's code, and what it may do.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginSpec {
    /// What the plugin decides.
    pub kind: PluginKind,
    /// Where the plugin's code is.
    pub source: PluginSource,
    /// How much memory and time the plugin's instances may use.
    #[serde(default)]
    pub limits: PluginLimits,
    /// Which hosts and files the plugin may reach.
    #[serde(default)]
    pub capabilities: PluginCapabilities,
    /// What happens to traffic when the plugin fails.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// Whether what the pools of a balancer know outlives the gateway.
    #[serde(default)]
    pub state: PluginState,
    /// How a new version of a balancer takes over. Default: at once.
    #[serde(default)]
    pub rollout: PluginRollout,
}

/// How a new version takes over: in the shadow of the one that serves, then for a share of the exchanges, then for all. Each is left out unless set.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginRollout {
    /// It is asked what the version that serves is asked, and nothing it says is used.
    pub shadow: Option<ShadowRollout>,
    /// It serves a share of the exchanges, and is promoted or rolled back by what comes of them.
    pub canary: Option<CanaryRollout>,
}

/// How long a new version is asked in the shadow of the one that serves, and what it must come to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShadowRollout {
    /// How long the new version is asked.
    pub duration: Span,
    /// The largest share of picks, in percent, in which it may differ; judged from 100 picks on. Default: any.
    pub max_disagreement: Option<f64>,
}

/// How long a new version serves a share of the exchanges, and what must come of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryRollout {
    /// The share of the exchanges that the new version serves, in percent, 1 to 99. Default 10.
    pub weight: Option<u32>,
    /// How long the new version serves that share: longer, if `minRequests` have not come.
    pub duration: Span,
    /// How much more of the new version's exchanges may fail than of the other's, in percent of all. Default 1.
    pub max_error_rate_increase: Option<f64>,
    /// How much longer the new version's exchanges may take on average, in percent. Default 50.
    pub max_latency_increase: Option<f64>,
    /// The number of exchanges from which on the new version is judged. Default 50.
    pub min_requests: Option<u32>,
}

/// What becomes of what a balancer's pools know. Over a swap it is handed over in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginState {
    /// Whether it is kept in the gateway's state folder, so that a restart goes on with it. Default: no.
    #[serde(default)]
    pub persist: bool,
}

/// What a plugin may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginCapabilities {
    /// Hosts a discovery plugin may look up and send HTTP requests to: `sd.example.com`, `*.example.com`, `10.0.0.1:8080`. Without a port: any
    /// port. Default: none.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// Files a discovery plugin may read, relative to the folder of this object's own file; the last part may be a pattern: `targets.yaml`,
    /// `sd/*.json`. Default: none.
    #[serde(default)]
    pub allowed_files: Vec<String>,
    /// Whether a discovery plugin may publish endpoints with loopback addresses, and so send clients to what listens for this host alone. Default: no.
    #[serde(default)]
    pub allow_loopback_endpoints: bool,
}

/// What happens to traffic when a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FailurePolicy {
    /// The failure ladder: the previous good generation, then a native choice.
    #[default]
    Fallback,
    /// The exchange fails.
    Fail,
}

/// Where a plugin's code is: exactly one of `builtin`, `file` and `configMap`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginSource {
    /// The name of a built-in plugin.
    pub builtin: Option<String>,
    /// A `.wasm` file; relative to the folder of this object's own file.
    pub file: Option<String>,
    /// A ConfigMap of this object's namespace that has the code in `binaryData`. Kubernetes limits it to 1 MiB.
    pub config_map: Option<ConfigMapKey>,
    /// Hex SHA-256 the code must have.
    pub sha256: Option<String>,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// The ConfigMap's name.
    pub name: String,
    /// The key in its `binaryData`. If plugins must be signed, the signature is at this key with `.minisig` behind it, in `data` or `binaryData`.
    pub key: String,
}

/// What a plugin's instances may use.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginLimits {
    /// Linear memory of one instance, a Kubernetes quantity (`64Mi`). Default 64Mi.
    pub memory: Option<Bytes>,
    /// Time of one call on the request path (`20ms`). Default 20ms.
    pub deadline: Option<Span>,
    /// Time of one call off the request path. Default 2s.
    pub configure_deadline: Option<Span>,
    /// What its instances share, all keys and values together (`4Mi`). Default 4Mi.
    pub shared_memory: Option<Bytes>,
    /// How many entries the instances share. Default 16384.
    pub shared_entries: Option<u32>,
    /// Requests and look-ups of a discovery plugin under way at once, from 1 to 4096. Default 64.
    pub requests: Option<usize>,
}
