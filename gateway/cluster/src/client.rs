//! Asks an API server. Requests and answers are JSON without types: of objects by the thousand only a few fields count here, and generated types are compiled
//! for each use. Each request has a deadline, each answer a largest size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::{Connection, with_causes};
use crate::reach::{Back, Reach};

/// How long a request may take, and its answer until it is whole.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest answer, in bytes: a page of a list.
const LARGEST: usize = 64 << 20;
/// The largest event of a watch, in bytes. A server stores no object of more than about 1.5 MiB; JSON and what it adds take more.
const LARGEST_EVENT: usize = 8 << 20;
/// How much of a text that is no Status is shown, in characters.
const SHOWN: usize = 300;
/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How soon the connection's files are read again after the server did not believe the token.
const REFUSED_AGAIN: Duration = Duration::from_secs(1);
/// How soon they are read again when the server cannot be reached: it may have a certificate of another authority.
const UNREACHED_AGAIN: Duration = Duration::from_secs(2);

/// The type of a patch that server-side apply carries out.
pub const APPLY: &str = "application/apply-patch+yaml";
/// The type of a JSON merge patch (RFC 7386).
pub const MERGE: &str = "application/merge-patch+json";
/// The type of JSON.
pub const JSON: &str = "application/json";

/// An API server, and who asks it. Copies share their connections.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    from: Connection,
    name: String,
    namespace: String,
    client: RwLock<Client>,
    /// When the connection's files were read last. Whoever reads them holds this.
    read: Mutex<Instant>,
    requests: AtomicU64,
    bytes: AtomicU64,
    reach: Reach,
}

/// What an API server has answered: a success.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The object, or the list.
    pub body: Value,
    /// The size of the answer, in bytes.
    pub bytes: usize,
}

/// Why there is no answer, or which answer is none that helps.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClusterError {
    /// No connection, or one that broke.
    #[error("{0}")]
    Connection(String),
    /// The answer was not there in time.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The server refuses.
    #[error("{0}")]
    Refused(Refused),
    /// The answer cannot be understood.
    #[error("its answer cannot be used: {0}")]
    Damaged(String),
}

/// A refusal of the server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refused {
    /// The status code.
    pub code: u16,
    /// The reason of the Status, such as `Expired`; empty if the answer was not a Status.
    pub reason: String,
    /// The message of the Status, or the beginning of the text.
    pub message: String,
    /// After how long the server wants to be asked again.
    pub retry_after: Option<Duration>,
    /// The whole Status; null if the answer was not a Status.
    pub status: Value,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if !self.message.is_empty() { write!(f, ": {}", self.message) } else { Ok(()) }
    }
}

impl Refused {
    /// Reads a Status. None: it is something else.
    pub fn of_status(status: &Value) -> Option<Self> {
        (status["kind"] == "Status").then(|| {
            let text = |field: &str| shortened(status[field].as_str().unwrap_or_default());
            let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
            let pause = status["details"]["retryAfterSeconds"].as_u64().filter(|seconds| *seconds > 0).map(Duration::from_secs);
            let retry_after = pause.map(|pause| pause.min(LONGEST_PAUSE));
            Self { code, reason: text("reason"), message: text("message"), retry_after, status: status.clone() }
        })
    }

    fn new(code: u16, headers: &HeaderMap, bytes: &[u8]) -> Self {
        let text = || String::from_utf8_lossy(bytes);
        let status = serde_json::from_slice(bytes).ok().and_then(|status| Self::of_status(&status));
        let mut refused = status.unwrap_or_else(|| Self { message: shortened(text().trim()), ..Self::default() });
        refused.code = code;
        let header = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        refused.retry_after = header.map(Duration::from_secs).map(|pause| pause.min(LONGEST_PAUSE)).or(refused.retry_after);
        refused
    }
}

impl ClusterError {
    /// The refusal, if it is one.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// The status code of a refusal; 0 if there was no answer.
    pub fn code(&self) -> u16 {
        self.refused().map_or(0, |refused| refused.code)
    }

    /// After how long the server wants to be asked again, if it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refused().and_then(|refused| refused.retry_after)
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn made(config: kube::Config) -> Result<Client, String> {
    Client::try_from(config).map_err(|error| with_causes(&error))
}

impl Cluster {
    /// Reads where the server is and who asks. The server itself is not asked yet. This belongs on the runtime on which requests are made.
    ///
    /// # Errors
    /// The kubeconfig or the service account's files cannot be read, or contradict themselves.
    pub async fn connect(from: Connection) -> Result<Self, String> {
        let config = from.read().await?;
        let name = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = config.default_namespace.clone();
        let client = RwLock::new(made(config)?);
        let (requests, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner {
            from,
            name,
            namespace,
            client,
            read: Mutex::new(Instant::now()),
            requests,
            bytes,
            reach: Reach::default(),
        })))
    }

    /// The address of the server.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The namespace of this pod, or that of the kubeconfig's context.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// How many requests were made so far.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// How many bytes of answers came so far.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Tells whenever the server answers again after it did not.
    pub(crate) fn back(&self) -> tokio::sync::watch::Receiver<Option<Back>> {
        self.0.reach.back()
    }

    /// Gets an object, or a list or page of a list. `path`: with its query.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn get(&self, path: &str) -> Result<Answer, ClusterError> {
        self.whole(Method::GET, path, None).await
    }

    /// Creates an object.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn post(&self, path: &str, object: &Value) -> Result<Answer, ClusterError> {
        self.whole(Method::POST, path, Some((JSON, object.to_string()))).await
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn put(&self, path: &str, object: &Value) -> Result<Answer, ClusterError> {
        self.whole(Method::PUT, path, Some((JSON, object.to_string()))).await
    }

    /// Patches an object. `form`: the type of the patch, [`APPLY`] or [`MERGE`].
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn patch(&self, path: &str, form: &'static str, patch: &Value) -> Result<Answer, ClusterError> {
        self.whole(Method::PATCH, path, Some((form, patch.to_string()))).await
    }

    /// Deletes an object. `options`: fields of `DeleteOptions`, such as preconditions.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Answer, ClusterError> {
        let mut options = options.clone();
        (options["apiVersion"], options["kind"]) = ("v1".into(), "DeleteOptions".into());
        self.whole(Method::DELETE, path, Some((JSON, options.to_string()))).await
    }

    /// Asks for what comes little by little, such as a watch. Its beginning has a deadline; what follows has that of whoever reads it.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn stream(&self, path: &str) -> Result<Lines, ClusterError> {
        let response = self.ask(&Method::GET, path, None, Instant::now() + DEADLINE).await?;
        Ok(Lines { cluster: self.clone(), body: response.into_body(), read: Vec::new(), begin: 0, searched: 0, received: 0 })
    }

    async fn whole(&self, method: Method, path: &str, body: Option<(&'static str, String)>) -> Result<Answer, ClusterError> {
        let deadline = Instant::now() + DEADLINE;
        let response = self.ask(&method, path, body, deadline).await?;
        let code = response.status().as_u16();
        let bytes = self.collect(response, deadline).await?;
        let body = serde_json::from_slice(&bytes).map_err(|error| ClusterError::Damaged(error.to_string()))?;
        Ok(Answer { code, body, bytes: bytes.len() })
    }

    /// Asks, and once more if the token was not believed and there is another one. A refusal is an error.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<(&'static str, String)>,
        deadline: Instant,
    ) -> Result<Response<Body>, ClusterError> {
        let mut again = true;
        loop {
            let mut request = Request::builder().method(method).uri(path).header(ACCEPT, HeaderValue::from_static(JSON));
            if let Some((form, _)) = &body {
                request = request.header(CONTENT_TYPE, *form);
            }
            let content = body.as_ref().map_or_else(Vec::new, |(_, text)| text.clone().into_bytes());
            let request = request.body(Body::from(content)).map_err(|error| ClusterError::Damaged(format!("{path}: {error}")))?;
            let begun = Instant::now();
            let client = self.0.client.read().unwrap_or_else(PoisonError::into_inner).clone();
            self.0.requests.fetch_add(1, Ordering::Relaxed);
            // Whoever asks may have less patience, and drop this.
            let asked = self.0.reach.ask();
            let sent = tokio::time::timeout_at(deadline, client.send(request)).await;
            match &sent {
                Ok(Ok(_)) => asked.answered(),
                _ => asked.failed(),
            }
            let response = match sent {
                Err(_) => return Err(ClusterError::Deadline(DEADLINE)),
                Ok(Err(error)) => {
                    self.renew(begun, UNREACHED_AGAIN).await;
                    // The client's own word for it helps nobody.
                    return Err(ClusterError::Connection(with_causes(&error).trim_start_matches("ServiceError: ").to_owned()));
                }
                Ok(Ok(response)) if response.status().is_success() => return Ok(response),
                Ok(Ok(response)) => response,
            };
            let (code, headers) = (response.status().as_u16(), response.headers().clone());
            let bytes = self.collect(response, deadline).await?;
            // The token may have been rotated since its file was read.
            if code == 401 && again && self.renew(begun, REFUSED_AGAIN).await {
                again = false;
                continue;
            }
            return Err(ClusterError::Refused(Refused::new(code, &headers, &bytes)));
        }
    }

    async fn collect(&self, response: Response<Body>, deadline: Instant) -> Result<Vec<u8>, ClusterError> {
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        loop {
            let frame = tokio::time::timeout_at(deadline, body.frame()).await.map_err(|_| ClusterError::Deadline(DEADLINE))?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|error| ClusterError::Connection(with_causes(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            self.0.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            if bytes.len() + data.len() > LARGEST {
                return Err(ClusterError::Damaged(format!("it has more than {LARGEST} bytes")));
            }
            bytes.extend_from_slice(&data);
        }
    }

    /// Reads the connection's files again, unless that was done just now. `begun`: when the request was made that failed. True: they were read since.
    async fn renew(&self, begun: Instant, pause: Duration) -> bool {
        let mut read = self.0.read.lock().await;
        if *read > begun {
            return true;
        }
        if read.elapsed() < pause {
            return false;
        }
        *read = Instant::now();
        match self.0.from.read().await.and_then(made) {
            Ok(client) => {
                *self.0.client.write().unwrap_or_else(PoisonError::into_inner) = client;
                true
            }
            Err(error) => {
                tracing::warn!(error, "what says where the API server is cannot be read; requests go on with what was read before");
                false
            }
        }
    }
}

/// The lines of an answer that comes little by little, each of which is a JSON object.
pub struct Lines {
    cluster: Cluster,
    body: Body,
    read: Vec<u8>,
    /// Where the next line begins in `read`.
    begin: usize,
    /// Up to here there is no line break.
    searched: usize,
    received: u64,
}

impl Lines {
    /// How many bytes came so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next line, if it is there already.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn ready(&mut self) -> Result<Option<Value>, ClusterError> {
        let Some(at) = self.read[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.read.len();
            return Ok(None);
        };
        let end = self.searched + at;
        let parsed = serde_json::from_slice(&self.read[self.begin..end]);
        (self.begin, self.searched) = (end + 1, end + 1);
        parsed.map(Some).map_err(|error| ClusterError::Damaged(error.to_string()))
    }

    /// The next line; none if the answer ended as it should. Nothing is lost if this is dropped before it is ready.
    ///
    /// # Errors
    /// The connection broke, a line is too long or no JSON.
    pub async fn next(&mut self) -> Result<Option<Value>, ClusterError> {
        loop {
            if let Some(line) = self.ready()? {
                return Ok(Some(line));
            }
            self.read.drain(..self.begin);
            (self.begin, self.searched) = (0, self.read.len());
            if self.read.len() > LARGEST_EVENT {
                return Err(ClusterError::Damaged(format!("an event has more than {LARGEST_EVENT} bytes")));
            }
            match self.body.frame().await {
                None if self.read.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => return Err(ClusterError::Connection("it ended in the middle of an event".to_owned())),
                Some(Err(error)) => return Err(ClusterError::Connection(with_causes(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.cluster.0.reach.heard();
                        self.received += data.len() as u64;
                        self.cluster.0.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_says_what_the_server_said_whether_it_is_a_status_or_a_text() {
        let mut headers = HeaderMap::new();
        let text = Refused::new(404, &headers, b"404 page not found\n");
        assert_eq!((text.reason.as_str(), text.to_string().as_str()), ("", "404: 404 page not found"));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        let text = Refused::new(429, &headers, b"Too many requests, please try again later.\n");
        assert_eq!((text.retry_after, text.status), (Some(Duration::from_secs(1)), Value::Null));
        let status = json!({"kind": "Status", "status": "Failure", "reason": "Timeout", "code": 504, "message": "too large",
            "details": {"retryAfterSeconds": 2}});
        headers.clear();
        let refused = Refused::new(504, &headers, status.to_string().as_bytes());
        assert_eq!((refused.to_string().as_str(), refused.retry_after), ("504 Timeout: too large", Some(Duration::from_secs(2))));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("86400"));
        assert_eq!(Refused::new(503, &headers, b"").retry_after, Some(LONGEST_PAUSE), "no server makes this gateway wait for a day");
        let long = Refused::new(500, &headers, "ä".repeat(5000).as_bytes());
        assert_eq!(long.message.chars().count(), SHOWN + 1);
    }
}
