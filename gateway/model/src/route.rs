//! What a router is asked, what it answers, and the static part of its rules, which the host prepares once. The same shapes as
//! `sdk/wit/plugin.wit`, interface `routing`; a superset of HTTPRoute v1.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::session::Session;
use crate::settings::Retry;

pub use crate::service::ServiceRef;
pub use crate::settings::HeaderChanges;

/// The listener a router is configured for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerInfo {
    /// Its name, for the operator.
    pub name: String,
    /// The port clients connect to.
    pub port: u16,
    /// What arrives on it.
    pub transport: Transport,
    /// The host name it is limited to.
    pub hostname: Option<String>,
    /// The namespace of the policy that attaches the router; references without one are resolved in it.
    pub namespace: String,
}

/// What arrives on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// HTTP requests.
    Http,
    /// TLS client hellos.
    Tls,
    /// TCP connections.
    Tcp,
    /// UDP flows.
    Udp,
}

impl Transport {
    /// What carries it.
    pub fn protocol(self) -> Protocol {
        if self == Self::Udp { Protocol::Udp } else { Protocol::Tcp }
    }
}

/// What carries bytes to a listener and to a service port. Ports of the two are apart: TCP 53 and UDP 53 may be one Service's, or two's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum Protocol {
    /// Connections.
    #[serde(rename = "TCP")]
    Tcp,
    /// Datagrams.
    #[serde(rename = "UDP")]
    Udp,
}

/// What a Service says that its port carries. SCTP is known, and not forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum PortProtocol {
    /// Connections.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// Datagrams.
    #[serde(rename = "UDP")]
    Udp,
    /// RFC 9260.
    #[serde(rename = "SCTP")]
    Sctp,
}

impl PortProtocol {
    /// By its name, as it stands in a Service that was checked. What is left out is TCP.
    pub fn named(name: Option<&str>) -> Self {
        match name {
            Some("UDP") => Self::Udp,
            Some("SCTP") => Self::Sctp,
            _ => Self::Tcp,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// What is listened for. None: it is not forwarded.
    pub const fn forwarded(self) -> Option<Protocol> {
        match self {
            Self::Tcp => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Sctp => None,
        }
    }
}

impl std::fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The static part of one configured router.
#[derive(Debug)]
pub struct RouteTable {
    /// Unique in the process; a plugin keeps its compiled rules under it.
    pub id: u64,
    /// The configuration it was made from, JSON.
    pub config: Arc<str>,
    /// The listener it was made for.
    pub listener: ListenerInfo,
    /// The rules, in the order the plugin numbers them.
    pub rules: Vec<Rule>,
    /// What the router reads.
    pub interests: Interests,
}

/// What a router reads of a request.
#[derive(Clone, Debug, Default)]
pub struct Interests {
    /// Header names, lower case.
    pub headers: Vec<HeaderName>,
    /// Cookie names.
    pub cookies: Vec<String>,
    /// The query string.
    pub query: bool,
    /// The client's address.
    pub client: bool,
}

impl Interests {
    /// Whether method, host and path are all that is read.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.cookies.is_empty() && !self.query && !self.client
    }
}

/// One rule's static part.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// For `explain`, logs and metrics.
    pub name: Option<String>,
    /// What to do with the exchange.
    pub actions: Actions,
    /// The backends that share the rule's exchanges.
    pub backends: Vec<Backend>,
    /// For the whole exchange; none: as the service says; zero: no limit.
    pub request_timeout: Option<Duration>,
    /// For one try at a backend, likewise.
    pub backend_timeout: Option<Duration>,
    /// When an exchange is tried again; none: as the service says.
    pub retry: Option<Box<Retry>>,
    /// Clients that come back stay with their endpoint.
    pub session: Option<Box<Session>>,
}

impl Rule {
    /// All its mirrors, in the order of [`RouterRung::mirrors`](crate::snapshot::RouterRung::mirrors): its own, then those of each backend, with the
    /// backend's index.
    pub fn mirrors(&self) -> impl Iterator<Item = (Option<usize>, &Mirror)> {
        let own = self.actions.mirrors.iter().map(|mirror| (None, mirror));
        let of_backends = self.backends.iter().enumerate();
        own.chain(of_backends.flat_map(|(i, backend)| backend.actions.mirrors.iter().map(move |mirror| (Some(i), mirror))))
    }
}

/// Where a rule sends an exchange.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The service port it names.
    pub service: ServiceRef,
    /// Its share, for `explain`; the router itself chooses.
    pub weight: u32,
    /// Done in addition when this backend was chosen.
    pub actions: Actions,
}

/// A rule's filters, sorted by what they do.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    /// Changes to the request's header fields.
    pub request_headers: HeaderChanges,
    /// Changes to the response's.
    pub response_headers: HeaderChanges,
    /// Changes to host and path.
    pub rewrite: Option<Rewrite>,
    /// Answers by sending the client elsewhere.
    pub redirect: Option<Redirect>,
    /// Answers at once.
    pub answer: Option<Answer>,
    /// Copies of the request.
    pub mirrors: Vec<Mirror>,
    /// Cross-origin rules (Fetch standard).
    pub cors: Option<Cors>,
}

impl Actions {
    /// Whether a request's fields are looked at or changed, or its host is.
    pub fn reads_or_changes_requests(&self) -> bool {
        !self.request_headers.is_empty() || self.rewrite.is_some() || !self.mirrors.is_empty()
    }
}

/// A change of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// ReplaceFullPath.
    Full(String),
    /// ReplacePrefixMatch.
    Prefix(String),
}

impl PathRewrite {
    /// The new path. `matched` is how many bytes of `path` the rule's prefix matched.
    pub fn apply(&self, path: &str, matched: usize) -> String {
        match self {
            Self::Full(new) => new.clone(),
            Self::Prefix(new) => {
                let rest = path.get(matched..).unwrap_or("").trim_start_matches('/');
                let new = new.trim_end_matches('/');
                if rest.is_empty() && !new.is_empty() { new.to_owned() } else { format!("{new}/{rest}") }
            }
        }
    }
}

/// URLRewrite.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// The new Host.
    pub hostname: Option<HeaderValue>,
    /// The new path.
    pub path: Option<PathRewrite>,
}

/// RequestRedirect. What is absent stays as the request had it.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The new host.
    pub hostname: Option<String>,
    /// The new path.
    pub path: Option<PathRewrite>,
    /// The new port.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// An answer by the gateway itself.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its content.
    pub body: String,
}

/// RequestMirror.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The service port that gets the copy.
    pub service: ServiceRef,
    /// The numerator of the share of requests that is copied.
    pub numerator: u32,
    /// The denominator, at least 1.
    pub denominator: u32,
}

/// CORS filter.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// `*`, exact origins, or `scheme://*.host`.
    pub allow_origins: Vec<String>,
    /// Methods, or `*`.
    pub allow_methods: Vec<String>,
    /// Request header fields, or `*`.
    pub allow_headers: Vec<String>,
    /// Response header fields, or `*`.
    pub expose_headers: Vec<String>,
    /// Whether credentials may be sent.
    pub allow_credentials: bool,
    /// How long a preflight may be kept, in seconds.
    pub max_age_seconds: u32,
}

/// What a router may read of a request.
pub struct RouteView<'a> {
    /// The method.
    pub method: &'a str,
    /// The host name, in lower case and without a port.
    pub host: &'a str,
    /// The path, without its query.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: &'a str,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// The client's address.
    pub client: IpAddr,
}

/// A router's answer.
#[derive(Clone, Debug)]
pub enum Decision {
    /// A rule takes it.
    Matched(Choice),
    /// The router answers itself.
    Answer(Answer),
    /// No rule takes it: 404, or a reset for TCP.
    NoMatch,
}

/// A rule and one of its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index in [`RouteTable::rules`]; in range.
    pub rule: usize,
    /// Index in [`Rule::backends`]; in range.
    pub backend: Option<usize>,
    /// Bytes of the path that the rule's prefix matched.
    pub matched_prefix: usize,
}
