//! Our kinds, group `sluicegate.dev/v1alpha1`, in the shape of Gateway API policy attachment (GEP-713).

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::plugin::PluginKind;

/// All field names of our kinds, for hints.
pub(super) const FIELDS: &[&str] = &[
    "spec",
    "metadata",
    "kind",
    "source",
    "builtin",
    "file",
    "sha256",
    "limits",
    "memory",
    "deadline",
    "configureDeadline",
    "capabilities",
    "allowedHosts",
    "failurePolicy",
    "targetRefs",
    "group",
    "name",
    "sectionName",
    "loadBalancer",
    "plugin",
    "config",
    "hash",
    "type",
    "header",
    "cookie",
    "discovery",
    "timeout",
    "tcp",
    "connectTimeout",
    "http",
    "requestTimeout",
    "router",
    "workers",
    "maxConnections",
    "adminAddress",
    "stateDir",
    "nodePortRange",
    "nodePortAddresses",
    "serviceClusterIPRange",
    "loadBalancerAddresses",
    "nodeName",
    "zone",
    "logFormat",
    "logLevel",
    "gracePeriod",
];

/// Loads a plugin.
#[derive(Clone, Debug, Deserialize)]
pub struct Plugin {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What to load.
    pub spec: PluginSpec,
}

/// What to load.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginSpec {
    /// What it decides.
    pub kind: PluginKind,
    /// Where its code is.
    pub source: PluginSource,
    /// What its instances may use.
    #[serde(default)]
    pub limits: PluginLimits,
    /// What it may reach.
    #[serde(default)]
    pub capabilities: PluginCapabilities,
    /// What happens to traffic when it fails.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
}

/// What a plugin may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginCapabilities {
    /// Hosts a discovery plugin may send HTTP requests to. Default: none.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
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

/// Where a plugin's code is: exactly one of `builtin` and `file`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginSource {
    /// The name of a built-in plugin.
    pub builtin: Option<String>,
    /// A `.wasm` file; relative to the folder of this object's own file.
    pub file: Option<String>,
    /// Hex SHA-256 the file must have.
    pub sha256: Option<String>,
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
}

/// How traffic to Services is balanced, and how their endpoints are found.
#[derive(Clone, Debug, Deserialize)]
pub struct BackendTrafficPolicy {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The policy.
    pub spec: BackendTrafficPolicySpec,
}

/// See [`BackendTrafficPolicy`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTrafficPolicySpec {
    /// Services of this namespace.
    pub target_refs: Vec<TargetRef>,
    /// Which balancer, with which configuration.
    pub load_balancer: Option<LoadBalancer>,
    /// Which discovery plugin, with which configuration.
    pub discovery: Option<PluginUse>,
    /// Time-outs.
    #[serde(default)]
    pub timeout: Timeout,
}

/// What a policy attaches to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Empty for Service, `gateway.networking.k8s.io` for Gateway.
    #[serde(default)]
    pub group: String,
    /// `Service` or `Gateway`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// A port's or listener's name; none: all of them.
    pub section_name: Option<String>,
}

/// A plugin and its configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginUse {
    /// The name of a `Plugin` object or of a built-in plugin.
    pub plugin: String,
    /// Checked by the plugin.
    #[serde(default)]
    pub config: serde_json::Value,
}

/// A balancer, its configuration, and what to hash.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// The name of a `Plugin` object or of a built-in balancer. Default `least-request`.
    pub plugin: Option<String>,
    /// Checked by the plugin.
    #[serde(default)]
    pub config: serde_json::Value,
    /// What consistent-hash balancers hash.
    pub hash: Option<Hash>,
}

/// What to hash.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Hash {
    /// The client's address.
    SourceIP,
    /// A header's value.
    Header {
        /// Which.
        header: Named,
    },
    /// A cookie's value.
    Cookie {
        /// Which.
        cookie: Named,
    },
    /// The path without its query.
    Path,
}

/// A name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// Time-outs towards endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct Timeout {
    /// Of connecting.
    #[serde(default)]
    pub tcp: TcpTimeout,
    /// Of exchanges.
    #[serde(default)]
    pub http: HttpTimeout,
}

/// See [`Timeout`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpTimeout {
    /// Default 5s.
    pub connect_timeout: Option<Span>,
}

/// See [`Timeout`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTimeout {
    /// Until the response's head. Default: none.
    pub request_timeout: Option<Span>,
}

/// How clients' traffic is taken.
#[derive(Clone, Debug, Deserialize)]
pub struct ClientTrafficPolicy {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The policy.
    pub spec: ClientTrafficPolicySpec,
}

/// See [`ClientTrafficPolicy`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTrafficPolicySpec {
    /// Gateways and Services of this namespace.
    pub target_refs: Vec<TargetRef>,
    /// Which router, with which configuration.
    pub router: Option<PluginUse>,
}

/// The process's own settings; command-line flags override them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SluicegateConfiguration {
    /// Data plane threads. Default: one a core.
    pub workers: Option<usize>,
    /// Client connections open at a time. Default: half of the file descriptors the process may have.
    pub max_connections: Option<usize>,
    /// Of the admin API. Default 127.0.0.1:9901.
    pub admin_address: Option<std::net::SocketAddr>,
    /// Where allocated ports and addresses are kept.
    pub state_dir: Option<String>,
    /// Default 30000-32767.
    pub node_port_range: Option<PortRange>,
    /// CIDRs of local addresses node ports are served on. Default: all.
    #[schemars(with = "Option<Vec<String>>")]
    pub node_port_addresses: Option<Vec<IpNet>>,
    /// Default 127.96.0.0/16.
    #[serde(rename = "serviceClusterIPRange")]
    #[schemars(with = "Option<String>")]
    pub service_cluster_ip_range: Option<IpNet>,
    /// Addresses and CIDRs for Services of type LoadBalancer.
    #[schemars(with = "Option<Vec<String>>")]
    pub load_balancer_addresses: Option<Vec<Network>>,
    /// This node's name.
    pub node_name: Option<String>,
    /// This node's zone.
    pub zone: Option<String>,
    /// Default human.
    pub log_format: Option<LogFormat>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives as `info,sluicegate_proxy=debug`. Default info.
    pub log_level: Option<String>,
    /// How long running work may go on after a stop was asked for. Default 30s.
    pub grace_period: Option<Span>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is neither \"human\" nor \"json\"")),
        }
    }
}

/// A range of ports, `30000-32767`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct PortRange(pub RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('-').ok_or_else(|| format!("{text:?} is not a range such as \"30000-32767\""))?;
        let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| format!("{text:?} is not a port"));
        let (from, to) = (port(from)?, port(to)?);
        if from > to { Err(format!("{from} is above {to}")) } else { Ok(Self(from..=to)) }
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An address, or a CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| format!("{text:?} is neither an IP address nor a CIDR"))
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A time span, in Go's notation: `20ms`, `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_span(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a duration such as \"20ms\", \"5s\" or \"1m30s\"")))
    }
}

fn parse_span(mut text: &str) -> Option<Duration> {
    let mut span = Duration::ZERO;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..digits].parse().ok()?;
        text = &text[digits..];
        let unit = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        span = span.checked_add(match &text[..unit] {
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            "us" | "µs" => Duration::from_micros(number),
            _ => return None,
        })?;
        text = &text[unit..];
    }
    Some(span)
}

/// A size in bytes, a Kubernetes quantity: `64Mi`, `1G`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Bytes(pub usize);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(from)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        parse_bytes(&text).map(Self).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a size such as \"64Mi\"")))
    }
}

fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(parse_span("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_span("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(parse_span("5"), None);
        assert_eq!(parse_span(""), None);
        assert_eq!(parse_bytes("64Mi"), Some(64 << 20));
        assert_eq!(parse_bytes("64Q"), None);
    }
}
