//! `SluicegateConfiguration`: the process itself, named as `KubeProxyConfiguration` is.

use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use sluicegate_model::access_log::{AccessLogField, AccessLogFormat, DEFAULT_PATTERN, Line, Pattern, Piece};

use super::acme::AcmeSpec;
use super::telemetry::Telemetry;
use super::values::{Bytes, ClusterIpRanges, MinisignKey, Network, PortRange, Span};

/// The process's own settings; flags of `sluicegate run` count before them. What is written at a field here is what `--help` and the reference say of it
/// ([`crate::settings`]): what it means, and after "Default:" what counts where neither the field nor the flag is given.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SluicegateConfiguration {
    /// Threads that serve traffic. Default: one a core.
    pub workers: Option<usize>,
    /// Client connections open at a time; more are reset at once. Default: three eighths of the file descriptors that listeners leave.
    pub max_connections: Option<usize>,
    /// UDP flows at a time; more push out those that have seen no traffic both ways. Default: a quarter of the file descriptors that listeners leave, and
    /// at most 65536.
    pub max_flows: Option<usize>,
    /// Address of the admin API. Default: 127.0.0.1:9901.
    pub admin_address: Option<std::net::SocketAddr>,
    /// Who may use the admin API, and how.
    #[serde(default)]
    pub admin: Admin,
    /// The folder in which allocated ports and addresses are kept, and what plugins' code was compiled to. Default: `$XDG_STATE_HOME/sluicegate`, or
    /// `~/.local/state/sluicegate`.
    pub state_dir: Option<String>,
    /// Node ports to allocate from. Default: 30000-32767.
    pub node_port_range: Option<PortRange>,
    /// CIDRs of the local addresses that node ports are served on. Default: all, of IPv4 and IPv6.
    #[schemars(with = "Option<Vec<String>>")]
    pub node_port_addresses: Option<Vec<IpNet>>,
    /// Where virtual IPs of Services come from: a CIDR, or one of each IP family with a comma between them. Default: 127.96.0.0/16.
    #[serde(rename = "serviceClusterIPRange")]
    pub service_cluster_ip_range: Option<ClusterIpRanges>,
    /// Addresses and CIDRs for Services of type LoadBalancer, and for Gateways that leave their address open. Default: none.
    #[schemars(with = "Option<Vec<String>>")]
    pub load_balancer_addresses: Option<Vec<Network>>,
    /// This node's name, for traffic policies and topology. Default: none.
    pub node_name: Option<String>,
    /// This node's zone, for topology. Default: that of the Node `nodeName` in a cluster, else none.
    pub zone: Option<String>,
    /// How lines of the process's log look: human or json. Default: human.
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace; or directives such as `info,sluicegate_proxy=debug`. Default: info.
    pub log_level: Option<String>,
    /// How long running work may go on after a stop was asked for (SIGTERM). Default: 30s.
    pub grace_period: Option<Span>,
    /// What is done when a stop is asked for, before anything ends.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// A line for each exchange and connection.
    #[serde(default)]
    pub access_log: AccessLog,
    /// What is exported to collectors of OpenTelemetry.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// When new work is refused for want of memory or descriptors.
    #[serde(default)]
    pub overload: Overload,
    /// Whether Pods, EndpointSlices and the lists of `static` may name loopback addresses as endpoints. Default: true.
    pub allow_loopback_endpoints: Option<bool>,
    /// Whether virtual IPs that no interface has are made local: addresses of `loadBalancerAddresses` that are given out, and in a cluster the cluster IPs that
    /// are served. Each gets a route, as by `ip route add local A/32 dev lo`, of the protocol 142, which goes with the address, and with the process unless a
    /// successor has taken its place. That takes the capability CAP_NET_ADMIN. Default: false.
    pub manage_addresses: Option<bool>,
    /// Whether endpoints see the client's address.
    #[serde(default)]
    pub client_address: ClientAddress,
    /// The API server of a cluster, as a source of objects.
    #[serde(default)]
    pub cluster: FromCluster,
    /// Which plugin files are loaded.
    #[serde(default)]
    pub plugins: PluginTrust,
    /// By which clients resume TLS sessions.
    #[serde(default)]
    pub session_tickets: SessionTickets,
    /// Certificates that are ordered from ACME CAs, for gateways whose objects come of files.
    #[serde(default)]
    pub acme: AcmeSpec,
}

/// Who may use the admin API, and how.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Admin {
    /// Host names by which the admin API may be asked, besides `localhost` and IP addresses. Requests for any other host are refused, as a page of another site may
    /// have sent them (DNS rebinding). Default: none.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// A file of tokens, by which people and programs log in: lines of `viewer:TOKEN` or `operator:TOKEN`, with a name if that is wanted (`operator:alice:TOKEN`).
    /// It is read again when it changes. Default: none.
    pub token_file: Option<String>,
    /// Speak TLS, and take logins by client certificates.
    #[serde(default)]
    pub tls: AdminTls,
}

/// TLS of the admin API. The files are read again when they change.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdminTls {
    /// The certificate chain of the admin API, in PEM. Default: none, and it speaks HTTP without TLS.
    pub certificate_file: Option<String>,
    /// The private key of that certificate, in PEM. Default: none.
    pub key_file: Option<String>,
    /// Authorities in PEM. Who shows a certificate of theirs has logged in. Default: none, and nobody is asked for a certificate.
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: Option<String>,
    /// Names of client certificates whose holders may give orders: a URI, host name or mail address of the subjectAltName, or the subject's common name; `*` stands
    /// for all. Default: none.
    #[serde(default)]
    pub operators: Vec<String>,
    /// Names of client certificates whose holders may look and give no order. Default: `*`, which stands for all.
    pub viewers: Option<Vec<String>>,
}

/// The API server of a cluster, as a source of objects.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FromCluster {
    /// Whether objects come from the API server of a Kubernetes cluster, beside those of files. Default: false.
    pub enabled: Option<bool>,
    /// A kubeconfig that says where the API server is and who asks it. Default: the files that `KUBECONFIG` names; else the service account of this pod, or
    /// outside of one `~/.kube/config`.
    pub kubeconfig: Option<String>,
    /// The context of the kubeconfig. Default: its current context.
    pub context: Option<String>,
}

/// By which clients resume TLS sessions.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionTickets {
    /// Whether the secrets that session tickets are sealed with are kept in the state folder, so that TLS sessions are resumed after a restart too.
    /// Default: false.
    pub persist: Option<bool>,
}

/// Whether endpoints see the client's address where bytes and datagrams are forwarded.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientAddress {
    /// Whether connections and flows to endpoints of Services with `externalTrafficPolicy: Local` come from the client's address, where bytes or datagrams are
    /// forwarded. That takes the capability CAP_NET_ADMIN, and routes that bring the answers back here. Default: false.
    pub keep: Option<bool>,
    /// CIDRs of clients of which that is not so, such as the node's own Pods, whose answers would go to them directly. Default: none.
    #[schemars(with = "Option<Vec<String>>")]
    pub except: Option<Vec<Network>>,
}

/// How a stop begins.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shutdown {
    /// How long everything goes on after SIGTERM, while `/readyz` and health check node ports answer 503; then listeners close, and the grace period
    /// begins. Default: 0s.
    pub delay: Option<Span>,
}

/// Whose plugin files are loaded.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginTrust {
    /// Public keys of minisign, one of which must have signed each plugin's file, in `NAME.wasm.minisig` beside it. Default: none, and files need no
    /// signature.
    #[serde(default)]
    pub trusted_keys: Vec<MinisignKey>,
}

/// When new work is refused, so that running work can finish.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overload {
    /// Memory that this process may use. Default: its control group's limit; without one, memory is not watched.
    pub memory_limit: Option<Bytes>,
    /// Percent of memory or of file descriptors in use from which on new connections, flows and requests are refused. Default: 95.
    pub refuse_percent: Option<u32>,
    /// Percent in use below which they are taken again. Default: 5 less than `refusePercent`.
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
    /// A line for each exchange, connection and flow: Off, Text or Json. Default: Off.
    pub format: Option<AccessLogFormat>,
    /// The file that the access log is appended to, or stdout. Default: stdout.
    pub path: Option<String>,
    /// What a JSON line has, and a text line without `text`, in this order. Default: all.
    pub fields: Option<Vec<AccessLogField>>,
    /// What a text line looks like: `%field%` for a field, `%%` for a percent sign. Default: `fields`, with a space between them, or all of them.
    pub text: Option<Pattern>,
}

impl AccessLog {
    /// What a line of the log has in this format; none if there is no log.
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
