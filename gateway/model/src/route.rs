//! What a router is asked, what it answers, and the static part of its rules, which the host prepares once. The shapes are those of `sdk/wit/plugin.wit`,
//! interface `routing`: a superset of HTTPRoute v1.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::config_text::ConfigText;
use crate::session::Session;
use crate::settings::Retry;

pub use crate::service::ServiceRef;
pub use crate::settings::HeaderChanges;

/// The listener a router is configured for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerInfo {
    /// The listener's name, for the operator.
    pub name: String,
    /// The port that clients connect to.
    pub port: u16,
    /// What arrives on the listener.
    pub transport: Transport,
    /// The host name that the listener is limited to.
    pub hostname: Option<String>,
    /// The namespace of the policy that attaches the router. References without a namespace are resolved in it.
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
    /// The protocol that carries this.
    pub fn protocol(self) -> Protocol {
        if self == Self::Udp { Protocol::Udp } else { Protocol::Tcp }
    }
}

/// What carries bytes to a listener and to a service port. The ports of the two are apart: TCP 53 and UDP 53 may be one Service's, or two's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum Protocol {
    /// TCP connections.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP datagrams.
    #[serde(rename = "UDP")]
    Udp,
}

/// The transport protocol of a Service's port. SCTP is known, and not forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum PortProtocol {
    /// TCP connections.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP datagrams.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP (RFC 9260).
    #[serde(rename = "SCTP")]
    Sctp,
}

impl PortProtocol {
    /// The protocol of this name, which stands in a Service that was checked. If no name is given, it is TCP.
    pub fn named(name: Option<&str>) -> Self {
        match name {
            Some("UDP") => Self::Udp,
            Some("SCTP") => Self::Sctp,
            _ => Self::Tcp,
        }
    }

    /// The protocol's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// What carries it, if it is forwarded.
    pub const fn forwarded(self) -> Option<Protocol> {
        match self {
            Self::Tcp => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Sctp => None,
        }
    }
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The static part of a configured router.
#[derive(Debug)]
pub struct RouteTable {
    /// A plugin keeps its compiled rules under this number. Tables of which one was made from the other by changing some rules have the same number.
    pub id: u64,
    /// The configuration that it was made from, JSON.
    pub config: ConfigText,
    /// The listener that it was made for.
    pub listener: ListenerInfo,
    /// The rules, in the order in which the plugin numbers them. Tables share the rules that they have in common.
    pub rules: Vec<Arc<Rule>>,
    /// What the router reads.
    pub interests: Interests,
    /// Where it was tried, to try the next one there that is made of it.
    pub trial: Trial,
}

/// Where a [`RouteTable`] was tried: whatever the generation puts there, whose own affair it is. It goes with the table.
#[derive(Default)]
pub struct Trial(Mutex<Option<Box<dyn Any + Send>>>);

impl Trial {
    /// Where it was tried.
    pub fn at(place: Box<dyn Any + Send>) -> Self {
        Self(Mutex::new(Some(place)))
    }

    /// Takes it away, if it is there still.
    pub fn take(&self) -> Option<Box<dyn Any + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trial")
    }
}

/// What a router reads of a request.
#[derive(Clone, Debug, Default)]
pub struct Interests {
    /// The names of header fields, in lower case.
    pub headers: Vec<HeaderName>,
    /// The names of cookies.
    pub cookies: Vec<String>,
    /// Whether the query string is read.
    pub query: bool,
    /// Whether the client's address is read.
    pub client: bool,
}

impl Interests {
    /// Whether nothing is read but method, host and path.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.cookies.is_empty() && !self.query && !self.client
    }
}

/// The static part of one rule.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The rule's name, for `explain`, logs and metrics.
    pub name: Option<String>,
    /// What to do with the exchange.
    pub actions: Actions,
    /// The backends that share the rule's exchanges.
    pub backends: Vec<Backend>,
    /// The time-out of the whole exchange; none: that of the service; zero: no limit.
    pub request_timeout: Option<Duration>,
    /// The time-out of one try at a backend; none: that of the service; zero: no limit.
    pub backend_timeout: Option<Duration>,
    /// When an exchange is tried again; none: as the service says.
    pub retry: Option<Box<Retry>>,
    /// How clients that come back stay with their endpoint; none: they need not.
    pub session: Option<Box<Session>>,
}

impl Rule {
    /// All mirrors of the rule, in the order of [`BoundRule::mirrors`](crate::snapshot::BoundRule::mirrors): the rule's own, then those of each backend, with
    /// the backend's index.
    pub fn mirrors(&self) -> impl Iterator<Item = (Option<usize>, &Mirror)> {
        let own = self.actions.mirrors.iter().map(|mirror| (None, mirror));
        let of_backends = self.backends.iter().enumerate();
        own.chain(of_backends.flat_map(|(i, backend)| backend.actions.mirrors.iter().map(move |mirror| (Some(i), mirror))))
    }
}

/// A backend: where a rule sends an exchange.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The service port of the backend.
    pub service: ServiceRef,
    /// The backend's share, for `explain`: the router itself chooses.
    pub weight: u32,
    /// What else is done if this backend was chosen.
    pub actions: Actions,
}

/// A rule's filters, sorted by what they do.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    /// Changes to the request's header fields.
    pub request_headers: HeaderChanges,
    /// Changes to the response's header fields.
    pub response_headers: HeaderChanges,
    /// Changes to the request's host and path.
    pub rewrite: Option<Rewrite>,
    /// A redirect, which sends the client elsewhere.
    pub redirect: Option<Redirect>,
    /// An answer that is given at once.
    pub answer: Option<Answer>,
    /// Mirrors, which get copies of the request.
    pub mirrors: Vec<Mirror>,
    /// Cross-origin rules (Fetch standard).
    pub cors: Option<Cors>,
}

impl Actions {
    /// Whether the header fields of a request are looked at or changed, or its host is changed.
    pub fn reads_or_changes_requests(&self) -> bool {
        !self.request_headers.is_empty() || self.rewrite.is_some() || !self.mirrors.is_empty()
    }
}

/// A change of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// Replaces the whole path (`ReplaceFullPath`).
    Full(String),
    /// Replaces the prefix that matched (`ReplacePrefixMatch`).
    Prefix(String),
}

impl PathRewrite {
    /// The new path. `matched`: how many bytes of `path` the rule's prefix matched.
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

/// A rewrite of a request (`URLRewrite`).
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// The new value of the field `Host`.
    pub hostname: Option<HeaderValue>,
    /// The new path.
    pub path: Option<PathRewrite>,
}

/// A redirect (`RequestRedirect`). What is absent stays as the request had it.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The new scheme: `http` or `https`.
    pub scheme: Option<String>,
    /// The new host.
    pub hostname: Option<String>,
    /// The new path.
    pub path: Option<PathRewrite>,
    /// The new port.
    pub port: Option<u16>,
    /// The status: 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// An answer by the gateway itself.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The content.
    pub body: String,
}

/// A mirror (`RequestMirror`).
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The service port that gets the copy.
    pub service: ServiceRef,
    /// The numerator of the share of requests that is copied.
    pub numerator: u32,
    /// The denominator, at least 1.
    pub denominator: u32,
}

/// The CORS filter.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Origins that are allowed: `*`, exact origins, or `scheme://*.host`.
    pub allow_origins: Vec<String>,
    /// Methods that are allowed, or `*`.
    pub allow_methods: Vec<String>,
    /// Header fields of requests that are allowed, or `*`.
    pub allow_headers: Vec<String>,
    /// Header fields of responses that scripts may read, or `*`.
    pub expose_headers: Vec<String>,
    /// Whether credentials may be sent.
    pub allow_credentials: bool,
    /// How long a client may keep the answer to a preflight, in seconds.
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
    /// A rule takes the request.
    Matched(Choice),
    /// The router answers the request itself.
    Answer(Answer),
    /// No rule takes the request: it is answered 404, and a TCP connection is reset.
    NoMatch,
}

/// A rule and one of its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The index of the rule in [`RouteTable::rules`], which is in range.
    pub rule: usize,
    /// The index of the backend in [`Rule::backends`], which is in range.
    pub backend: Option<usize>,
    /// The number of bytes of the path that the rule's prefix matched.
    pub matched_prefix: usize,
}
