//! The lines of a recording of requests: what decisions about them depend on. `sluicegate record requests` writes them, `sluicegate diff --trace` plays them to
//! two configurations. JSON, one object a line, each with one field that says what it is:
//!
//! | line | what |
//! | --- | --- |
//! | `begin` | the first one: version, what is sampled, which values are in it and which are hashed |
//! | `request` | an exchange, or with `protocol` `tcp`, `tls` or `udp` a connection or flow that is forwarded whole |
//! | `dropped` | how many were dropped so far, each time that there are more |
//! | `end` | the last one: counts, and why it ended. If it is missing, the recording was cut off |

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The version of the format, which `begin` names. Recordings of other versions are not read.
pub const VERSION: &str = "sluicegate.dev/requests/v1";

/// A line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Line {
    /// The first line.
    Begin(Begin),
    /// A request, or a connection.
    Request(Box<RequestLine>),
    /// So many were dropped so far.
    Dropped(Dropped),
    /// The last line.
    End(End),
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    /// The version of the format: [`VERSION`].
    pub version: String,
    /// Of how many requests one was sampled.
    pub every: u64,
    /// The largest number of requests that were recorded in a second.
    pub rate: u64,
    /// The header fields whose values are in it, in lower case.
    pub headers: Vec<String>,
    /// Those of them whose values are hashed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hashed: Vec<String>,
    /// What stands for clients' addresses: `full`, `truncated`, `hashed` or `none`.
    pub client: String,
    /// What stands for queries: `full`, `hashed` (the values of the parameters) or `none`.
    pub query: String,
}

/// How many were dropped so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// The number of requests that were wanted and are not in the recording, as too many came at once, or were too large.
    pub dropped: u64,
}

/// The end of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The number of requests that were recorded.
    pub requests: u64,
    /// The number of requests that were dropped, as too many came at once, or were too large.
    pub dropped: u64,
    /// Which limit ended the recording: `time`, `size` or `count`.
    pub why: String,
}

/// A request, or a connection that is forwarded whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestLine {
    /// When it came, in milliseconds since 1970.
    pub at: u64,
    /// The listener's name.
    pub listener: String,
    /// The address of the listener; none: it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// What it is: `http`, `grpc`, or the protocol that an `Upgrade` asks for; `tcp`, `tls` or `udp` is a connection or flow that is forwarded whole.
    pub protocol: String,
    /// The server name that the client's TLS asked for, empty if it named none; none: it came without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The client's address: who connected, or whom a trusted proxy names. Empty: it was not to be recorded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// The address of who connected, if that is not the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The method.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The host as the client wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The path and the query as the client wrote them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// The version of HTTP: `HTTP/1.1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The header fields whose values are kept, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The length of the content in bytes; none: it was not said before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_length: Option<u64>,
    /// What was decided then, for information: it is not what another configuration is compared with.
    #[serde(default)]
    pub decided: Decided,
}

impl RequestLine {
    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        !self.method.is_empty()
    }

    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        let fields: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.target.len() + self.host.len() + self.server_name.as_ref().map_or(0, String::len) + fields
    }
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// The name of the rule that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The service that it went to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The endpoint of the last try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// The status; none: there was no response, or it is a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why the gateway answered itself, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time until the response's head, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microseconds: Option<u64>,
}
