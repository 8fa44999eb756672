//! What an operator asks of a running gateway about a request, and what he is told.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

/// A request that somebody asks about, as a client would write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The method.
    pub method: String,
    /// The URL, or the path alone.
    pub url: String,
    /// The port that the request arrives at.
    pub port: u16,
    /// Whether a UDP flow arrives, of which only the client's address counts.
    pub udp: bool,
    /// The local address that the request arrives at; none: the URL's host if that is an address, else any with the port.
    pub address: Option<IpAddr>,
    /// The header fields: names and values.
    pub headers: Vec<(String, String)>,
    /// The client's address.
    pub client: IpAddr,
}

/// What would become of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was found out, in the order of the request's way.
    pub lines: Vec<Line>,
    /// Why the request gets no further than that; none: the last line says where it goes, or how it is answered.
    pub end: Option<String>,
}

/// A line of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What the line is about, such as `listener` or `route`; empty: the same as the line before.
    pub topic: String,
    /// The text, in which everything can be seen.
    pub text: String,
}

/// Explains a request by what is served now. It asks the plugins, so it may take as long as they may, and must not be called on a thread that others wait for.
/// The error says what is wrong with the question.
pub type Explain = Arc<dyn Fn(&Question) -> Result<Explanation, String> + Send + Sync>;
