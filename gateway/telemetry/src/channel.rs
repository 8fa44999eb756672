//! One request at a time to a collector, over a connection that is kept: over HTTP/1.1, or as a gRPC call.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::target::{Protocol, Target};

/// The longest response that is read, in bytes. It says at most how much was refused, and why.
const MOST_ANSWER: usize = 64 << 10;
/// Who asks.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION"), " OTLP"));

/// Why a request was in vain.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is told of it.
    pub(crate) why: String,
    /// Whether the same request may succeed later.
    pub(crate) again: bool,
    /// How long the collector wants to be left alone.
    pub(crate) after: Option<Duration>,
}

impl Failure {
    fn passing(why: impl ToString) -> Self {
        Self { why: why.to_string(), again: true, after: None }
    }
}

/// A way to a collector.
pub(crate) struct Channel {
    pub(crate) target: Target,
    kept: Option<Kept>,
}

/// A connection.
enum Kept {
    Http(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Grpc(h2::client::SendRequest<Bytes>),
}

impl Channel {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, kept: None }
    }

    /// Sends a message, and returns the answer. A kept connection may have been closed meanwhile; then another one is tried at once. `path`: that of the gRPC
    /// method.
    pub(crate) async fn send(&mut self, path: &'static str, message: Bytes) -> Result<Bytes, Failure> {
        let was_kept = self.kept.is_some();
        let sent = self.send_once(path, message.clone()).await;
        match sent {
            Err(Failure { again: true, after: None, .. }) if was_kept && self.kept.is_none() => self.send_once(path, message).await,
            sent => sent,
        }
    }

    async fn send_once(&mut self, path: &'static str, message: Bytes) -> Result<Bytes, Failure> {
        let timeout = self.target.timeout;
        let sent = tokio::time::timeout(timeout, self.exchange(path, message)).await;
        sent.unwrap_or_else(|_| {
            self.kept = None;
            Err(Failure::passing(format!("no answer within {timeout:?}")))
        })
    }

    async fn exchange(&mut self, path: &'static str, message: Bytes) -> Result<Bytes, Failure> {
        let headers = self.target.headers().map_err(Failure::passing)?;
        let mut kept = match self.kept.take() {
            Some(kept) => kept,
            None => connect(&self.target).await?,
        };
        let answer = match &mut kept {
            Kept::Http(to) => over_http(to, &self.target, headers, message).await,
            Kept::Grpc(to) => over_grpc(to, &self.target, headers, path, message).await,
        };
        // What was answered at all leaves the connection as it should be.
        if !matches!(&answer, Err(Unanswered::Broke(_))) {
            self.kept = Some(kept);
        }
        answer.map_err(|unanswered| match unanswered {
            Unanswered::Broke(why) => Failure::passing(why),
            Unanswered::Said(failure) => failure,
        })
    }
}

/// Why there is no answer that means success.
enum Unanswered {
    /// The connection broke.
    Broke(String),
    /// The collector said so.
    Said(Failure),
}

fn broke(why: impl ToString) -> Unanswered {
    Unanswered::Broke(why.to_string())
}

async fn connect(target: &Target) -> Result<Kept, Failure> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(Failure::passing)?;
    // Requests are whole, and there is nothing to gather.
    let _ = stream.set_nodelay(true);
    match &target.tls {
        None => speak(stream, target.protocol).await,
        Some((config, name)) => {
            let connector = tokio_rustls::TlsConnector::from(config.clone());
            let stream = connector.connect(name.clone(), stream).await.map_err(Failure::passing)?;
            speak(stream, target.protocol).await
        }
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, protocol: Protocol) -> Result<Kept, Failure> {
    Ok(match protocol {
        Protocol::Http => {
            let (to, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Failure::passing)?;
            // Its end is seen by the next request.
            tokio::spawn(connection);
            Kept::Http(to)
        }
        Protocol::Grpc => {
            let (to, connection) = h2::client::handshake(stream).await.map_err(Failure::passing)?;
            tokio::spawn(connection);
            Kept::Grpc(to)
        }
    })
}

async fn over_http(
    to: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    target: &Target,
    headers: HeaderMap,
    message: Bytes,
) -> Result<Bytes, Unanswered> {
    to.ready().await.map_err(broke)?;
    let mut request = Request::new(Full::new(message));
    (*request.method_mut(), *request.headers_mut()) = (Method::POST, headers);
    *request.uri_mut() = Uri::from(target.path.clone());
    let fields = request.headers_mut();
    fields.insert(HOST, target.authority.clone());
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    fields.entry(USER_AGENT).or_insert(AGENT);
    let response = to.send_request(request).await.map_err(broke)?;
    let (status, after) = (response.status(), retry_after(response.headers()));
    let body = Limited::new(response.into_body(), MOST_ANSWER).collect().await.map_err(broke)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    // OTLP 1.x, "Failures": these alone may be repeated.
    let again = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    );
    Err(Unanswered::Said(Failure { why: format!("the collector answers {status}"), again, after }))
}

/// `Retry-After` in seconds; dates are not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// A unary call ("gRPC over HTTP2").
async fn over_grpc(
    to: &mut h2::client::SendRequest<Bytes>,
    target: &Target,
    headers: HeaderMap,
    path: &'static str,
    message: Bytes,
) -> Result<Bytes, Unanswered> {
    let ready = to.clone().ready().await.map_err(broke)?;
    *to = ready;
    let mut request = Request::new(());
    (*request.method_mut(), *request.version_mut(), *request.headers_mut()) = (Method::POST, Version::HTTP_2, headers);
    let authority = target.authority.as_bytes();
    *request.uri_mut() = Uri::builder().scheme(target.scheme.clone()).authority(authority).path_and_query(path).build().map_err(broke)?;
    let fields = request.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(TE, HeaderValue::from_static("trailers"));
    fields.entry(USER_AGENT).or_insert(AGENT);
    let (response, mut content) = to.send_request(request, false).map_err(broke)?;
    let length = u32::try_from(message.len()).map_err(broke)?;
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(length);
    framed.extend_from_slice(&message);
    content.send_data(framed.freeze(), true).map_err(broke)?;
    let response = response.await.map_err(broke)?;
    let (head, mut body) = response.into_parts();
    let mut answer = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(broke)?;
        let _ = body.flow_control().release_capacity(data.len());
        if answer.len() + data.len() > MOST_ANSWER {
            return Err(broke("the collector's answer is too long"));
        }
        answer.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.map_err(broke)?;
    let told = trailers.as_ref().filter(|trailers| trailers.contains_key("grpc-status")).unwrap_or(&head.headers);
    let code = told.get("grpc-status").and_then(|value| value.to_str().ok()?.parse::<u16>().ok());
    match code {
        Some(0) => Ok(answer.split_off(answer.len().min(5)).freeze()),
        // OTLP 1.x, "Failures": cancelled, deadline exceeded, aborted, out of range, unavailable and data loss may be repeated.
        Some(code) => {
            let again = matches!(code, 1 | 4 | 10 | 11 | 14 | 15);
            Err(Unanswered::Said(Failure { why: format!("the collector answers gRPC status {code}"), again, after: None }))
        }
        None => {
            let again = matches!(head.status.as_u16(), 429 | 502..=504);
            Err(Unanswered::Said(Failure {
                why: format!("the collector answers {} without a gRPC status", head.status),
                again,
                after: None,
            }))
        }
    }
}
