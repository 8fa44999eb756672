//! Rate limits: how many requests may come, and which of them a limit counts.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use regex::Regex;

/// A limit, and which requests it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// The number of requests, at least 1. So many may come at once, and so many come back over `unit`.
    pub requests: u32,
    /// The unit of time, which is not zero.
    pub unit: Duration,
    /// The conditions on a request, all of which must hold.
    pub conditions: Vec<Condition>,
}

/// A condition on a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A header field compares; or, if inverted, does not.
    Header {
        /// The field's name.
        name: HeaderName,
        /// What the field is compared with.
        with: Comparison,
        /// Whether the condition is inverted.
        invert: bool,
    },
    /// A header field is there, and requests with different values of it are counted apart.
    EachHeader(HeaderName),
    /// The method is one of these, each inverted or not.
    Method(Vec<(String, bool)>),
    /// The path compares; or, if inverted, does not.
    Path {
        /// What the path is compared with.
        with: Comparison,
        /// Whether the condition is inverted.
        invert: bool,
    },
    /// The client is in this network.
    Source(IpNet),
    /// The client is in this network, and each client is counted apart.
    EachSource(IpNet),
}

/// What a text is compared with.
#[derive(Clone, Debug)]
pub enum Comparison {
    /// The text is this one.
    Exact(String),
    /// The text begins with this one, element by element.
    Prefix(String),
    /// The text matches this expression.
    Matches(Regex),
}

impl PartialEq for Comparison {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Matches(a), Self::Matches(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Comparison {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => text == wanted,
            Self::Prefix(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                text.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Matches(pattern) => pattern.is_match(text),
        }
    }
}

/// What limits look at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RateView<'a> {
    /// The method.
    pub method: &'a str,
    /// The path without its query.
    pub path: &'a str,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// The client's address.
    pub client: IpAddr,
}

/// The part of an address that tells clients apart: of an IPv6 address the first 64 bits, as one host may have all others (RFC 7421).
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

impl Rate {
    /// Whether the request is counted. If so, `each` was given what tells it from those that are counted apart.
    pub fn counts(&self, request: &RateView<'_>, mut each: impl FnMut(&[u8])) -> bool {
        self.conditions.iter().all(|condition| match condition {
            Condition::Header { name, with, invert } => {
                request.headers.get_all(name).iter().any(|v| v.to_str().is_ok_and(|v| with.holds(v))) != *invert
            }
            Condition::EachHeader(name) => match request.headers.get(name) {
                Some(value) => {
                    each(value.as_bytes());
                    true
                }
                None => false,
            },
            Condition::Method(methods) => methods.iter().any(|(method, invert)| (request.method == method) != *invert),
            Condition::Path { with, invert } => with.holds(request.path) != *invert,
            Condition::Source(network) => network.contains(&request.client.to_canonical()),
            Condition::EachSource(network) => {
                let inside = network.contains(&request.client.to_canonical());
                if inside {
                    match client_of(request.client) {
                        IpAddr::V4(v4) => each(&v4.octets()),
                        IpAddr::V6(v6) => each(&v6.octets()),
                    }
                }
                inside
            }
        })
    }

    /// Whether the requests are counted in several buckets.
    pub fn has_each(&self) -> bool {
        self.conditions.iter().any(|c| matches!(c, Condition::EachHeader(_) | Condition::EachSource(_)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn counted(conditions: Vec<Condition>, path: &str, client: &str) -> Option<Vec<u8>> {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "ann".parse().unwrap());
        let view = RateView { method: "GET", path, headers: &headers, client: client.parse().unwrap() };
        let mut key = Vec::new();
        let rate = Rate { requests: 1, unit: Duration::from_secs(1), conditions };
        rate.counts(&view, |part| key.extend_from_slice(part)).then_some(key)
    }

    #[test]
    fn conditions_select_requests() {
        let header = |value: &str, invert| Condition::Header {
            name: HeaderName::from_static("x-user"),
            with: Comparison::Exact(value.into()),
            invert,
        };
        let path = |with, invert| Condition::Path { with, invert };
        let at = |conditions| counted(conditions, "/api/users", "10.0.0.9").is_some();
        assert!(at(vec![]));
        assert!(at(vec![header("ann", false)]) && !at(vec![header("bob", false)]) && at(vec![header("bob", true)]));
        assert!(at(vec![path(Comparison::Prefix("/api".into()), false)]) && at(vec![path(Comparison::Prefix("/".into()), false)]));
        assert!(!at(vec![path(Comparison::Prefix("/ap".into()), false)]), "a prefix ends with an element");
        assert!(at(vec![path(Comparison::Matches(Regex::new("^/[a-z]+/u").unwrap()), false)]));
        assert!(!at(vec![path(Comparison::Exact("/api".into()), false)]));
        assert!(at(vec![Condition::Method(vec![("POST".into(), false), ("GET".into(), false)])]));
        assert!(!at(vec![Condition::Method(vec![("GET".into(), true)])]));
        assert!(at(vec![Condition::Source("10.0.0.0/8".parse().unwrap())]) && !at(vec![Condition::Source("10.1.0.0/16".parse().unwrap())]));
    }

    #[test]
    fn clients_and_values_are_told_apart() {
        let each = |client| counted(vec![Condition::EachSource("::/0".parse().unwrap())], "/", client);
        assert_eq!(each("2001:db8::1"), each("2001:db8::2"), "one host has all of a /64");
        assert_ne!(each("2001:db8::1"), each("2001:db8:0:1::1"));
        assert_eq!(each("10.0.0.1"), None, "not in the network");
        assert_eq!(counted(vec![Condition::EachSource("10.0.0.0/8".parse().unwrap())], "/", "::ffff:10.0.0.1").unwrap(), [10, 0, 0, 1]);
        assert_eq!(counted(vec![Condition::EachHeader(HeaderName::from_static("x-user"))], "/", "10.0.0.1").unwrap(), b"ann");
        assert_eq!(counted(vec![Condition::EachHeader(HeaderName::from_static("x-none"))], "/", "10.0.0.1"), None);
    }
}
