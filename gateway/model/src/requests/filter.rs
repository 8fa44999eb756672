//! Which requests are sampled.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::line::RequestLine;

/// What is known of a request before it is decided, or of a connection that is forwarded whole.
#[derive(Clone, Copy, Debug)]
pub struct Early<'a> {
    /// Whether it is a request.
    pub request: bool,
    /// The method; empty: it is a connection.
    pub method: &'a str,
    /// The host as the client wrote it, or the server name of a connection.
    pub host: &'a str,
    /// The path and the query; empty: it is a connection.
    pub path: &'a str,
}

/// Which requests are sampled: those that are all of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The host, without its port and in any case; with `*.` before it all hosts below it.
    pub host: Option<String>,
    /// What the path begins with.
    pub path: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// The status.
    pub status: Option<StatusFilter>,
    /// The service, `NAMESPACE/NAME` or `NAMESPACE/NAME:PORT`.
    pub service: Option<String>,
    /// A part of the name of the rule that takes it.
    pub rule: Option<String>,
    /// The client's network.
    pub client: Option<IpNet>,
}

/// Which statuses are wanted: `404`, or `5xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// This one.
    Code(u16),
    /// All that begin with this digit.
    Class(u16),
}

impl FromStr for StatusFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let class = text.strip_suffix("xx").and_then(|digit| digit.parse().ok()).filter(|class| (1..=5).contains(class));
        let code = || text.parse().ok().filter(|code| (100..=599).contains(code));
        class.map(Self::Class).or_else(|| code().map(Self::Code)).ok_or_else(|| format!("{text:?} is no status: 404, or 5xx, is wanted"))
    }
}

impl fmt::Display for StatusFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl Filter {
    /// Whether it looks at what is known only when a request was decided.
    pub fn looks_at_outcome(&self) -> bool {
        self.status.is_some() || self.service.is_some() || self.rule.is_some() || self.client.is_some()
    }

    /// Whether a request passes, as far as is known before it is decided.
    pub fn begins(&self, early: &Early<'_>) -> bool {
        let host = |wanted: &str| {
            let host = without_port(early.host);
            match wanted.strip_prefix('*').filter(|suffix| suffix.starts_with('.')) {
                Some(suffix) => {
                    let start = host.len().checked_sub(suffix.len()).filter(|start| *start > 0);
                    start.and_then(|start| host.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
                }
                None => host.eq_ignore_ascii_case(wanted),
            }
        };
        self.host.as_deref().is_none_or(host)
            && self.path.as_deref().is_none_or(|path| early.path.starts_with(path))
            && self.method.as_deref().is_none_or(|method| early.method.eq_ignore_ascii_case(method))
    }

    /// Whether a request passes, by what became of it.
    pub fn ends(&self, line: &RequestLine) -> bool {
        let decided = &line.decided;
        let status = |wanted: StatusFilter| match wanted {
            StatusFilter::Code(code) => decided.status == Some(code),
            StatusFilter::Class(class) => decided.status.is_some_and(|status| status / 100 == class),
        };
        let service = |wanted: &str| {
            let service = decided.service.as_deref();
            service.is_some_and(|service| service == wanted || service.rsplit_once(':').is_some_and(|(name, _)| name == wanted))
        };
        let client = |wanted: &IpNet| line.client.parse::<IpAddr>().is_ok_and(|client| wanted.contains(&client.to_canonical()));
        self.status.is_none_or(status)
            && self.service.as_deref().is_none_or(service)
            && self.rule.as_deref().is_none_or(|wanted| decided.rule.as_deref().is_some_and(|rule| rule.contains(wanted)))
            && self.client.as_ref().is_none_or(client)
    }
}

/// A network, or an address that stands for itself.
///
/// # Errors
/// The text is neither.
pub fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address).ok_or_else(|| format!("{text:?} is no network: 192.0.2.0/24, or an address, is wanted"))
}

/// A host without its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::line::Decided;
    use super::*;

    #[test]
    fn a_request_passes_if_all_that_is_asked_for_is_so() {
        let early = Early { request: true, method: "GET", host: "Shop.Example:8080", path: "/a/b?c" };
        let begins = |filter: Filter| filter.begins(&early);
        let host = |host: &str| Filter { host: Some(host.to_owned()), ..Filter::default() };
        assert!(begins(host("shop.example")) && begins(host("*.example")) && begins(Filter::default()));
        assert!(!begins(host("*.shop.example")) && !begins(host("example")) && !begins(host("*p.example")));
        assert!(begins(Filter { path: Some("/a".to_owned()), method: Some("get".to_owned()), ..host("shop.example") }));
        assert!(!begins(Filter { path: Some("/b".to_owned()), ..Filter::default() }));
        assert!(!begins(Filter { method: Some("PUT".to_owned()), ..Filter::default() }));

        let decided = Decided {
            rule: Some("HTTPRoute a/b rules[0]".to_owned()),
            service: Some("a/s:80".to_owned()),
            status: Some(503),
            ..Decided::default()
        };
        let line = RequestLine { client: "192.0.2.7".to_owned(), decided, ..RequestLine::default() };
        let ends = |status: &str, service: &str, rule: &str, client: &str| {
            let filter = Filter {
                status: Some(status.parse().unwrap()),
                service: Some(service.to_owned()),
                rule: Some(rule.to_owned()),
                client: Some(client.parse().unwrap()),
                ..Filter::default()
            };
            filter.ends(&line)
        };
        assert!(ends("503", "a/s:80", "a/b", "192.0.2.0/24") && ends("5xx", "a/s", "a/b rules[0]", "192.0.2.7/32"));
        assert!(!ends("502", "a/s", "a/b", "0.0.0.0/0") && !ends("4xx", "a/s", "a/b", "0.0.0.0/0"));
        assert!(
            !ends("5xx", "a/s:81", "a/b", "0.0.0.0/0") && !ends("5xx", "a/s", "a/c", "0.0.0.0/0") && !ends("5xx", "a/s", "a/b", "::/0")
        );
        assert_eq!("6xx".parse::<StatusFilter>().unwrap_err(), "\"6xx\" is no status: 404, or 5xx, is wanted");
    }
}
