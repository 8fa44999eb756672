//! HTTP requests, for discovery plugins. They may only go to the hosts that the `Plugin` object's `capabilities.allowedHosts` names, and the gateway limits
//! their time and size. Natively, [`testing::answer`](crate::testing::answer) provides the responses.

mod exchange;
mod url;
#[cfg(target_arch = "wasm32")]
mod wasi;

use std::fmt;
use std::time::Duration;

pub(crate) use exchange::Exchange;
pub(crate) use url::Url;

#[cfg(not(target_arch = "wasm32"))]
use crate::testing as wasi;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// The largest body of a response in bytes, unless [`Request::limit`] says otherwise.
const DEFAULT_LIMIT: usize = 4 << 20;

/// A response with its whole body.
///
/// ```
/// use sluicegate_sdk::http::Response;
/// let response = Response { status: 200, headers: vec![("etag".into(), b"1".to_vec())], body: b"ok".to_vec() };
/// assert_eq!((response.header("etag"), response.text()), (Some("1"), Ok("ok")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields, with their names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Returns the value of the first field of this name, which is in lower case, if the value is text.
    ///
    /// ```
    /// # use sluicegate_sdk::http::Response;
    /// assert_eq!(Response::default().header("etag"), None);
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|(field, _)| field == name)?;
        std::str::from_utf8(&field.1).ok()
    }

    /// Returns the body as text.
    ///
    /// ```
    /// # use sluicegate_sdk::http::Response;
    /// assert!(Response { body: vec![0xff], ..Response::default() }.text().is_err());
    /// ```
    ///
    /// # Errors
    /// The body is not UTF-8; the error says from which byte on.
    pub fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.body).map_err(|error| format!("the response is not UTF-8: {error}"))
    }
}

/// Why there is no response.
///
/// ```
/// use sluicegate_sdk::http::{self, Error};
/// assert!(matches!(http::get("ftp://sd.example/", &[]), Err(Error::Invalid(_))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The URL, a field or the method cannot be sent.
    Invalid(String),
    /// The host is not among `capabilities.allowedHosts`.
    Refused(String),
    /// The host resolves to the admin API or to a link-local address, which must be named by the address itself.
    Prohibited(String),
    /// The host's name does not resolve.
    Unresolved(String),
    /// There is no connection, or none within the time allowed.
    Unreachable(String),
    /// The response did not come, or stopped coming.
    Timeout,
    /// The response is larger than this many bytes.
    TooLarge(usize),
    /// There are more than five redirects.
    Redirects,
    /// There are too many requests at once.
    Busy,
    /// The answer is not HTTP, the connection broke, or the server's certificate is not trusted. This is what happened.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => write!(f, "{what} cannot be sent"),
            Self::Refused(host) => write!(f, "{host} is not among the plugin's capabilities.allowedHosts"),
            Self::Prohibited(host) => write!(f, "{host} resolves to an address that must be named itself in capabilities.allowedHosts"),
            Self::Unresolved(host) => write!(f, "the name {host} does not resolve"),
            Self::Unreachable(what) => f.write_str(what),
            Self::Timeout => f.write_str("the response did not come in time"),
            Self::TooLarge(limit) => write!(f, "the response is larger than {limit} bytes"),
            Self::Redirects => write!(f, "more than {MAX_REDIRECTS} redirects"),
            Self::Busy => f.write_str("too many requests at once"),
            Self::Failed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

/// A request that is being made.
///
/// ```
/// use sluicegate_sdk::{http, testing};
/// # testing::answer("http://sd.example/query", http::Response { status: 200, ..Default::default() });
/// let request = http::Request::new("POST", "http://sd.example/query").header("accept", "text/plain").body("web");
/// assert_eq!(request.send().unwrap().status, 200);
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: String,
    url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limit: usize,
}

/// Gets a URL. Redirects are followed, and each host on the way must be allowed.
///
/// ```
/// use sluicegate_sdk::{http, testing};
/// # testing::answer("http://sd.example/", http::Response { status: 404, ..Default::default() });
/// assert_eq!(http::get("http://sd.example/", &[("accept", "text/plain")]).unwrap().status, 404);
/// ```
///
/// # Errors
/// There is no response. One with a status such as 404 is a response.
pub fn get(url: &str, headers: &[(&str, &str)]) -> Result<Response, Error> {
    headers.iter().fold(Request::new("GET", url), |request, (name, value)| request.header(name, value)).send()
}

impl Request {
    /// Makes a request without fields and body.
    ///
    /// ```
    /// let request = sluicegate_sdk::http::Request::new("GET", "http://sd.example/");
    /// ```
    pub fn new(method: &str, url: &str) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: None, timeout: None, limit: DEFAULT_LIMIT }
    }

    /// Adds a header field.
    ///
    /// ```
    /// # use sluicegate_sdk::http::Request;
    /// let request = Request::new("GET", "http://sd.example/").header("accept", "text/plain");
    /// ```
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body. The gateway sends up to 1 MiB.
    ///
    /// ```
    /// # use sluicegate_sdk::http::Request;
    /// let request = Request::new("POST", "http://sd.example/").body("web");
    /// ```
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets how long to wait for the response's head, and for each piece of its body. By default this is 10 s; the gateway allows at most 30 s.
    ///
    /// ```
    /// # use sluicegate_sdk::http::Request;
    /// let request = Request::new("GET", "http://sd.example/").timeout(std::time::Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the largest body of a response, in bytes. By default this is 4 MiB; the gateway allows at most 16 MiB.
    ///
    /// ```
    /// use sluicegate_sdk::{http::{Error, Request, Response}, testing};
    /// testing::answer("http://sd.example/", Response { status: 200, body: vec![b'x'; 9], ..Default::default() });
    /// assert_eq!(Request::new("GET", "http://sd.example/").limit(8).send(), Err(Error::TooLarge(8)));
    /// ```
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Sends the request, follows redirects and reads the response. Other services wait meanwhile; for slow sources there is [`Ask::Http`](crate::Ask::Http).
    ///
    /// ```
    /// use sluicegate_sdk::{http::{Error, Request}, testing};
    /// testing::fail("http://sd.example/", Error::Busy);
    /// assert_eq!(Request::new("GET", "http://sd.example/").send(), Err(Error::Busy));
    /// ```
    ///
    /// # Errors
    /// There is no response.
    pub fn send(self) -> Result<Response, Error> {
        let mut exchange = Exchange::begin(self)?;
        loop {
            if let Some(ended) = exchange.poll() {
                return ended;
            }
            exchange.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn redirect(status: u16, to: &str) -> Response {
        Response { status, headers: vec![("location".into(), to.into())], body: Vec::new() }
    }

    fn ok(body: &str) -> Response {
        Response { status: 200, headers: Vec::new(), body: body.into() }
    }

    #[test]
    fn redirects_are_followed_and_bounded() {
        testing::answer("http://a/1", redirect(302, "/2?x"));
        testing::answer("http://a/2?x", redirect(308, "https://b:8443/3"));
        testing::answer("https://b:8443/3", ok("there"));
        assert_eq!(get("http://a/1", &[]).map(|response| response.body), Ok(b"there".to_vec()));
        testing::answer("http://a/loop", redirect(301, "loop"));
        assert_eq!(get("http://a/loop", &[]), Err(Error::Redirects));
        testing::answer("http://a/nowhere", redirect(301, "ftp://a/"));
        assert_eq!(get("http://a/nowhere", &[]), Err(Error::Invalid("\"ftp://a/\"".into())));
    }

    #[test]
    fn credentials_do_not_follow_to_another_origin() {
        testing::answer("http://a/", redirect(307, "http://b/"));
        testing::answer("http://b/", ok(""));
        let request = Request::new("GET", "http://a/").header("Authorization", "x").header("accept", "y");
        request.send().unwrap();
        assert_eq!(testing::last_request().unwrap().headers, [("accept".to_owned(), "y".to_owned())]);
    }

    #[test]
    fn see_other_turns_a_post_into_a_get() {
        testing::answer("http://a/", redirect(303, "/b"));
        testing::answer("http://a/b", ok(""));
        Request::new("POST", "http://a/").body("x").send().unwrap();
        let last = testing::last_request().unwrap();
        assert_eq!((last.method.as_str(), last.body), ("GET", None));
    }

    #[test]
    fn what_is_not_answered_and_what_is_too_large_are_errors() {
        assert_eq!(get("http://missing/", &[]), Err(Error::Unreachable("http://missing/ has no answer in this test".into())));
        testing::answer("http://a/", ok("12345"));
        assert_eq!(Request::new("GET", "http://a/").limit(4).send(), Err(Error::TooLarge(4)));
        assert_eq!(Error::Refused("a:80".into()).to_string(), "a:80 is not among the plugin's capabilities.allowedHosts");
    }
}
