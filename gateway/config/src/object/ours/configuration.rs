//! `SluicegateConfiguration`: the process itself, named as `KubeProxyConfiguration` is.

use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use sluicegate_model::access_log::{AccessLogField, AccessLogFormat, DEFAULT_PATTERN, Line, Pattern, Piece};

use super::values::{Bytes, ClusterIpRanges, MinisignKey, Network, PortRange, Span};

/// The process's own settings; command-line flags override them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SluicegateConfiguration {
    /// Data plane threads. Default: one a core.
    pub workers: Option<usize>,
    /// Client connections open at a time. Default: three eighths of the file descriptors the process may have.
    pub max_connections: Option<usize>,
    /// UDP flows at a time. Default: a quarter of the file descriptors, and at most 65536.
    pub max_flows: Option<usize>,
    /// Of the admin API. Default 127.0.0.1:9901.
    pub admin_address: Option<std::net::SocketAddr>,
    /// Where allocated ports and addresses are kept.
    pub state_dir: Option<String>,
    /// Default 30000-32767.
    pub node_port_range: Option<PortRange>,
    /// CIDRs of local addresses node ports are served on. Default: all.
    #[schemars(with = "Option<Vec<String>>")]
    pub node_port_addresses: Option<Vec<IpNet>>,
    /// One CIDR, or one of each IP family with a comma between them. Default 127.96.0.0/16.
    #[serde(rename = "serviceClusterIPRange")]
    pub service_cluster_ip_range: Option<ClusterIpRanges>,
    /// Addresses and CIDRs for Services of type LoadBalancer, and for Gateways that leave their address open.
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
    /// What is done when a stop is asked for, before anything ends.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// A line for each exchange and connection.
    #[serde(default)]
    pub access_log: AccessLog,
    /// When new work is refused for want of memory or descriptors.
    #[serde(default)]
    pub overload: Overload,
    /// Whether Pods, EndpointSlices and the lists of `static` may name loopback addresses as endpoints. Default: yes. Of other discovery plugins
    /// their `Plugin` objects say it.
    pub allow_loopback_endpoints: Option<bool>,
    /// Which plugin files are loaded.
    #[serde(default)]
    pub plugins: PluginTrust,
    /// By which clients resume TLS sessions.
    #[serde(default)]
    pub session_tickets: SessionTickets,
}

/// By which clients resume TLS sessions.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionTickets {
    /// Whether the secrets they are sealed with are kept in the state folder, so that they are good after a restart. Default: no; whoever gets
    /// them can open the tickets of the last twelve hours, and read what was recorded of these sessions.
    pub persist: Option<bool>,
}

/// How a stop begins.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shutdown {
    /// So long everything goes on, while `/readyz` and health check node ports say that it is about to end: load balancers go on sending until
    /// they have seen it. Default: none.
    pub delay: Option<Span>,
}

/// Whose plugin files are loaded.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginTrust {
    /// Public keys of minisign, one of which must have signed each plugin's file, in `NAME.wasm.minisig` beside it. Default: files need no signature.
    /// Built-in plugins need none in any case.
    #[serde(default)]
    pub trusted_keys: Vec<MinisignKey>,
}

/// When new work is refused, so that running work can finish.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overload {
    /// Memory this process may use. Default: its control group's limit; without one memory is not watched.
    pub memory_limit: Option<Bytes>,
    /// Percent of memory or of file descriptors in use from which on new connections and requests are refused. Default 95.
    pub refuse_percent: Option<u32>,
    /// Percent below which they are taken again. Default: 5 less than the other.
    pub resume_percent: Option<u32>,
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

/// A line for each exchange and connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// Default `Off`.
    pub format: Option<AccessLogFormat>,
    /// A file to append to, or `stdout`, the default.
    pub path: Option<String>,
    /// What a JSON line has, in this order; of a text line without `text`, what stands in it. Default: all.
    pub fields: Option<Vec<AccessLogField>>,
    /// What a text line looks like, `%field%` for each field.
    pub text: Option<Pattern>,
}

impl AccessLog {
    /// What a line says in `format`; none: there is no log.
    pub fn line(&self, format: AccessLogFormat) -> Option<Line> {
        match format {
            AccessLogFormat::Off => None,
            AccessLogFormat::Json => Some(Line::Json(self.fields.clone().unwrap_or_else(|| AccessLogField::ALL.to_vec()))),
            AccessLogFormat::Text => Some(Line::Text(match (&self.text, &self.fields) {
                (Some(pattern), _) => pattern.0.clone(),
                (None, Some(fields)) => {
                    let pieces = fields.iter().flat_map(|field| [Piece::Literal(" ".to_owned()), Piece::Field(*field)]);
                    pieces.skip(1).collect()
                }
                (None, None) => DEFAULT_PATTERN.parse::<Pattern>().unwrap_or(Pattern(Vec::new())).0,
            })),
        }
    }
}
