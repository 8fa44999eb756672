//! HTTP to a CA: one connection for each request, within a time, over the gateway's own TLS. The library is given this client, as its own would bring another
//! way to find authorities.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use sluicegate_model::tls::{Authorities, Trust, provider};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::problem::{Failure, Reason};

/// The largest answer that is read, in bytes: a chain of certificates has some thousands.
const LARGEST_ANSWER: usize = 1 << 20;
/// The largest file of authorities, in bytes.
const LARGEST_FILE: u64 = 4 << 20;

/// A client of a CA, which notes how long the CA asks to be left alone.
#[derive(Clone)]
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
    patience: Duration,
    /// What the last `Retry-After` of a refusal said.
    wait: Arc<Mutex<Option<Duration>>>,
}

/// Something that a CA's server did.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("{0}: only https is asked (RFC 8555 §6.1)")]
    Plain(Uri),
    #[error("{0} does not answer in time")]
    Slow(Uri),
    #[error("{0} cannot be asked: {1}")]
    Broken(Uri, io::Error),
    #[error("{0} answers {1}")]
    Status(Uri, StatusCode),
}

impl Client {
    /// For a CA that the authorities of this file vouch for; without one, those of the system.
    pub(crate) fn new(authorities: Option<&Path>, patience: Duration) -> Result<Self, Failure> {
        let storage = |what: String| Failure::new(Reason::Storage, what);
        let trust = match authorities {
            None => Trust::System,
            Some(file) => {
                let shown = file.display();
                let pem =
                    sluicegate_control::acme::read(file, LARGEST_FILE).map_err(|error| storage(format!("caFile {shown}: {error}")))?;
                Trust::Only(Authorities::from_pem(&pem).map_err(|error| storage(format!("caFile {shown} {error}")))?)
            }
        };
        let config = ClientConfig::builder_with_provider(provider().clone()).with_safe_default_protocol_versions();
        let config = config.map_err(|error| storage(error.to_string()))?.with_root_certificates(trust.store().map_err(storage)?);
        Ok(Self { tls: Arc::new(config.with_no_client_auth()), patience, wait: Arc::default() })
    }

    /// How long the CA asked to be left alone when it refused something last.
    pub(crate) fn wait(&self) -> Option<Duration> {
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Unheard> {
        let uri = request.uri().clone();
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(|| Unheard::Plain(uri.clone()))?;
        let broken = |error: io::Error| Unheard::Broken(uri.clone(), error);
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let own = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));
        let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let agent = HeaderValue::try_from(format!("{own} {agent}")).map_err(|error| broken(io::Error::other(error)))?;
        let authority = HeaderValue::try_from(authority).map_err(|error| broken(io::Error::other(error)))?;
        request.headers_mut().insert(header::USER_AGENT, agent);
        request.headers_mut().insert(header::HOST, authority);
        *request.uri_mut() = uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        let asked = self.exchange(host, uri.port_u16().unwrap_or(443), request);
        let response = tokio::time::timeout(self.patience, asked).await.map_err(|_| Unheard::Slow(uri.clone()))?.map_err(broken)?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            if let Some(wait) = retry_after(response.headers(), SystemTime::now()) {
                *self.wait.lock().unwrap_or_else(PoisonError::into_inner) = Some(wait);
            }
            // Whatever stands before a CA's server answers in other words than the library can read.
            if !response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json")) {
                return Err(Unheard::Status(uri, status));
            }
        }
        Ok(response.into())
    }

    async fn exchange(&self, host: &str, port: u16, request: Request<BodyWrapper<Bytes>>) -> io::Result<Response<Full<Bytes>>> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect((host, port)).await?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends with this call.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let (parts, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}

impl HttpClient for Client {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let asked = self.clone().ask(request);
        Box::pin(async move { asked.await.map_err(|error| Error::Other(Box::new(error))) })
    }
}

/// How long a `Retry-After` asks to wait (RFC 9110 §10.2.3).
fn retry_after(headers: &http::HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_says_how_long_to_wait_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let of = |text: &'static str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!((of("Sun, 06 Nov 1994 08:00:00 GMT"), of("soon"), of("-1")), (None, None, None));
    }
}
