//! The admin API of a running gateway, as commands ask it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::uri::Authority;
use ureq::http::{Response, Uri};
use ureq::{Body, RequestBuilder};

use super::flags::default_admin_address;
use super::login::Login;

/// The variable that says where the admin API is, if no flag does.
pub(super) const VARIABLE: &str = "SLUICEGATE_ADMIN";
/// The field without which the admin API takes no order. Its value is of no importance.
const REQUEST: (&str, &str) = ("x-sluicegate-request", "1");
/// How long an answer may take that the gateway only has to write down.
const PROMPT: Duration = Duration::from_secs(30);
/// How long an order may take. It is longer than loading, as describe, configure and trials have deadlines of their own.
const ORDER: Duration = Duration::from_secs(60);
/// The largest answer that is read as a whole, in bytes: 100,000 endpoints are some 30 MB.
const MOST: u64 = 1 << 30;

/// The gateway that is asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct At {
    /// Address of the gateway's admin API: HOST:PORT, or a URL
    #[arg(long, value_name = "ADDRESS", env = VARIABLE, default_value_t)]
    pub(super) admin_address: Address,
    #[command(flatten)]
    pub(super) login: Login,
}

impl At {
    /// What the admin API answers at a path, which is JSON.
    pub(super) fn json(&self, path: &str) -> Result<Value, String> {
        self.json_within(path, PROMPT)
    }

    /// The same, if it has come within `patience`.
    pub(super) fn json_within(&self, path: &str, patience: Duration) -> Result<Value, String> {
        let mut answer = self.get(path, patience)?;
        let text = answer.body_mut().with_config().limit(MOST).read_to_string().map_err(|error| self.unreachable(path, &error))?;
        serde_json::from_str(&text).map_err(|error| self.unreachable(path, &error))
    }

    /// An answer that is still to be read. It must have ended within `patience`.
    pub(super) fn get(&self, path: &str, patience: Duration) -> Result<Response<Body>, String> {
        let request = self.login.agent(self.is_tls(), patience)?.get(self.url(path));
        self.answered(path, self.logged_in(request)?.call())
    }

    /// Gives an order whose answer is still to be read. It must have ended within `patience`.
    pub(super) fn post(&self, path: &str, patience: Duration) -> Result<Response<Body>, String> {
        let request = self.login.agent(self.is_tls(), patience)?.post(self.url(path)).header(REQUEST.0, REQUEST.1);
        self.answered(path, self.logged_in(request)?.send_empty())
    }

    /// Gives an order whose particulars are JSON, and returns what was done.
    pub(super) fn post_json(&self, path: &str, asked: &Value, patience: Duration) -> Result<String, String> {
        let request = self.login.agent(self.is_tls(), patience)?.post(self.url(path)).header(REQUEST.0, REQUEST.1);
        let request = self.logged_in(request)?.content_type("application/json");
        let mut answer = self.answered(path, request.send(asked.to_string()))?;
        let text = answer.body_mut().read_to_string().map_err(|error| self.unreachable(path, &error))?;
        Ok(text.trim_end().to_owned())
    }

    /// Gives an order, and returns what was done.
    pub(super) fn order(&self, path: &str) -> Result<String, String> {
        let mut answer = self.post(path, ORDER)?;
        let text = answer.body_mut().read_to_string().map_err(|error| self.unreachable(path, &error))?;
        Ok(text.trim_end().to_owned())
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_tls() { "https" } else { "http" }, self.admin_address)
    }

    /// Whether TLS is spoken: as the address says, or else if there are files for it.
    fn is_tls(&self) -> bool {
        self.admin_address.tls.unwrap_or_else(|| self.login.is_of_tls())
    }

    fn logged_in<B>(&self, request: RequestBuilder<B>) -> Result<RequestBuilder<B>, String> {
        let Some(token) = self.login.token()? else { return Ok(request) };
        if !self.is_tls() && !self.admin_address.is_loopback() && !self.login.token_without_tls {
            return Err(format!(
                "the token is not sent to http://{}, as whoever is on the way could read it: ask by https://, or tell so by --token-without-tls",
                self.admin_address
            ));
        }
        Ok(request.header("authorization", token.as_str()))
    }

    fn answered(&self, path: &str, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, String> {
        let mut answer = answer.map_err(|error| self.unreachable(path, &error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        // What an error says is short.
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        match text.trim_end() {
            "" => Err(format!("{}: {}", self.url(path), answer.status())),
            text => Err(text.to_owned()),
        }
    }

    fn unreachable(&self, path: &str, error: &dyn fmt::Display) -> String {
        format!("{}: {error}; is the gateway running, and is this its --admin-address?", self.url(path))
    }
}

/// Where an admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: Authority,
    /// Whether TLS is spoken there; none: nothing is said of that.
    tls: Option<bool>,
}

impl Address {
    /// The port, where an address has none.
    const PORT: u16 = 9901;

    fn is_loopback(&self) -> bool {
        let host = self.host.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// The address, if it is no name.
    pub(super) fn socket(&self) -> Option<std::net::SocketAddr> {
        self.host.as_str().parse().ok()
    }
}

impl Default for Address {
    fn default() -> Self {
        default_admin_address().into()
    }
}

impl From<std::net::SocketAddr> for Address {
    fn from(address: std::net::SocketAddr) -> Self {
        address.to_string().parse().unwrap_or_else(|_| Self { host: Authority::from_static("127.0.0.1:9901"), tls: None })
    }
}

impl FromStr for Address {
    type Err = String;

    /// Reads `HOST`, `HOST:PORT`, or a URL of these. An empty text, as of a variable that is set to nothing, stands for the default.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address such as \"127.0.0.1:9901\" or \"https://gateway.example:9901\"");
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (scheme, tls) = match text.split_once("://") {
            Some(("http", _)) => (true, Some(false)),
            Some(("https", _)) => (true, Some(true)),
            Some(_) => return Err(wrong()),
            None => (false, None),
        };
        let host = match scheme {
            true => {
                let uri: Uri = text.parse().map_err(|_| wrong())?;
                let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
                uri.authority().filter(|_| bare).cloned().ok_or_else(wrong)?
            }
            false => match text.parse::<IpAddr>() {
                Ok(ip) => std::net::SocketAddr::new(ip, Self::PORT).to_string().parse().map_err(|_| wrong())?,
                Err(_) => text.parse().map_err(|_| wrong())?,
            },
        };
        if host.host().is_empty() || host.as_str().contains('@') {
            return Err(wrong());
        }
        let host = match host.port_u16() {
            Some(_) => host,
            None if host.as_str().ends_with(':') => return Err(wrong()),
            None => format!("{host}:{}", Self::PORT).parse().map_err(|_| wrong())?,
        };
        Ok(Self { host, tls })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_and_urls() {
        let url = |text: &str| text.parse().map(|admin_address| At { admin_address, login: Login::default() }.url(""));
        for (text, wanted) in [
            ("", "http://127.0.0.1:9901"),
            ("127.0.0.1:1", "http://127.0.0.1:1"),
            ("10.0.0.1", "http://10.0.0.1:9901"),
            ("::1", "http://[::1]:9901"),
            ("[::1]:7", "http://[::1]:7"),
            ("gateway.example", "http://gateway.example:9901"),
            ("http://gateway.example:80/", "http://gateway.example:80"),
            ("https://gateway.example", "https://gateway.example:9901"),
        ] {
            assert_eq!(url(text).as_deref(), Ok(wanted), "{text}");
        }
        for text in ["ftp://a", "http://", "http://a/b", "http://a?b", "a b", "u@a", "a:b", "a:99999", "a:"] {
            assert!(url(text).is_err_and(|error| error.contains("is no address such as")), "{text}");
        }
    }
}
