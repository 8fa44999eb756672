//! Where a collector is, and how it is reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap as Fields, Uri};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sluicegate_model::tls::{Authorities, Trust};

/// Fields that the request has already.
const RESERVED: [&str; 6] = ["host", "content-type", "content-length", "te", "transfer-encoding", "connection"];

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, over HTTP/2.
    Grpc,
    /// Requests of HTTP/1.1 with messages in protobuf's binary form.
    Http,
}

/// A collector as it is configured.
#[derive(Clone, Debug)]
pub struct TargetSettings {
    /// How OTLP is spoken.
    pub protocol: Protocol,
    /// Where: `http://host:port` or `https://host:port`, with a path if OTLP is spoken over HTTP.
    pub endpoint: String,
    /// Fields of each request: `name=value`, a line each or with commas between them.
    pub headers: Option<String>,
    /// A file with more of them.
    pub headers_file: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: Duration,
    /// How the collector is verified, and what it is shown.
    pub tls: Tls,
}

/// Files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that may have vouched for the collector; none: the system's.
    pub authorities: Option<PathBuf>,
    /// The certificate that the collector is shown, and the key to it.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What is wrong with a target. No message has a header's value.
#[derive(Debug, thiserror::Error)]
pub enum BadTarget {
    /// The endpoint is no such URL.
    #[error("endpoint {0:?} is not a URL such as \"http://collector:4317\"")]
    Endpoint(String),
    /// The endpoint has a user, which would be shown.
    #[error("an endpoint has a user or a password; credentials belong into the headers")]
    User,
    /// A file cannot be read.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// Why it cannot be used.
        why: String,
    },
    /// The headers cannot be read. Their number is told, as a value may be a secret.
    #[error("header {0} is not \"name=value\", or one that cannot be set")]
    Header(usize),
    /// TLS cannot be spoken so.
    #[error("TLS: {0}")]
    Tls(String),
}

/// A collector.
pub struct Target {
    pub(crate) protocol: Protocol,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authority: HeaderValue,
    pub(crate) scheme: Scheme,
    pub(crate) path: PathAndQuery,
    pub(crate) timeout: Duration,
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    headers: Fields,
    headers_file: Option<PathBuf>,
}

impl Target {
    /// Reads what is configured.
    ///
    /// # Errors
    /// Something of it cannot be used.
    pub fn new(settings: &TargetSettings) -> Result<Self, BadTarget> {
        let bad = || BadTarget::Endpoint(settings.endpoint.clone());
        if settings.endpoint.contains('@') {
            return Err(BadTarget::User);
        }
        let uri: Uri = settings.endpoint.parse().map_err(|_| bad())?;
        let (Some(scheme), Some(host)) = (uri.scheme().cloned(), uri.host()) else { return Err(bad()) };
        let secured = match scheme.as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(bad()),
        };
        let authority = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()).ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = if secured {
            let name = ServerName::try_from(host.clone()).map_err(|_| bad())?;
            Some((Arc::new(client(&settings.tls, settings.protocol)?), name))
        } else {
            None
        };
        let target = Self {
            protocol: settings.protocol,
            port: uri.port_u16().unwrap_or(if secured { 443 } else { 80 }),
            path: uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
            host,
            authority,
            scheme,
            timeout: settings.timeout,
            tls,
            headers: settings.headers.as_deref().map(fields).transpose()?.unwrap_or_default(),
            headers_file: settings.headers_file.clone(),
        };
        target.headers()?;
        Ok(target)
    }

    /// The fields of each request. Their file is read each time, as tokens are renewed.
    pub(crate) fn headers(&self) -> Result<HeaderMap, BadTarget> {
        let mut all = self.headers.clone();
        if let Some(file) = &self.headers_file {
            let text = String::from_utf8(read(file)?).map_err(|_| wrong(file, "it is not UTF-8"))?;
            all.extend(fields(&text)?);
        }
        Ok(all)
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        sluicegate_model::escape::line(&format!("{}:{}", self.host, self.port)).into_owned()
    }
}

/// Reads fields as `OTEL_EXPORTER_OTLP_HEADERS` has them, or one a line.
fn fields(text: &str) -> Result<Fields, BadTarget> {
    let mut found = Fields::new();
    let members = text.split([',', '\n']).map(str::trim).filter(|member| !member.is_empty());
    for (number, member) in members.enumerate() {
        let read = || {
            let (name, value) = member.split_once('=')?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok().filter(|name| !RESERVED.contains(&name.as_str()))?;
            let mut value = HeaderValue::from_bytes(&decoded(value.trim())?).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let (name, value) = read().ok_or(BadTarget::Header(number + 1))?;
        found.insert(name, value);
    }
    Ok(found)
}

/// Resolves percent-encoding, which the variable has as W3C Baggage does.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            out.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

fn read(file: &Path) -> Result<Vec<u8>, BadTarget> {
    std::fs::read(file).map_err(|error| wrong(file, &error.to_string()))
}

fn wrong(file: &Path, why: &str) -> BadTarget {
    BadTarget::File { file: file.display().to_string(), why: why.to_owned() }
}

fn client(tls: &Tls, protocol: Protocol) -> Result<ClientConfig, BadTarget> {
    let trust = match &tls.authorities {
        None => Trust::System,
        Some(file) => Trust::Only(Authorities::from_pem(&read(file)?).map_err(|why| wrong(file, &why))?),
    };
    let roots = trust.store().map_err(BadTarget::Tls)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let failed = |error: rustls::Error| BadTarget::Tls(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>();
            let chain = chain.map_err(|error| wrong(certificate, &error.to_string()))?;
            let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| wrong(key, "it has no private key in PEM"))?;
            builder.with_client_auth_cert(chain, key).map_err(failed)?
        }
    };
    config.alpn_protocols = match protocol {
        Protocol::Grpc => vec![b"h2".to_vec()],
        Protocol::Http => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn settings(endpoint: &str, headers: &str) -> TargetSettings {
        let (headers, timeout) = (Some(headers.to_owned()), Duration::from_secs(1));
        TargetSettings {
            protocol: Protocol::Http,
            endpoint: endpoint.to_owned(),
            headers,
            headers_file: None,
            timeout,
            tls: Tls::default(),
        }
    }

    #[test]
    fn endpoints_are_urls_without_credentials() {
        let target = Target::new(&settings("http://[::1]:4318/v1/traces", "")).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.path.as_str()), ("::1", 4318, "/v1/traces"));
        assert_eq!(Target::new(&settings("http://collector", "")).unwrap().port, 80);
        for bad in ["", "collector:4317", "/v1/traces", "ftp://collector", "http://", "http://user:secret@collector:4318"] {
            let error = Target::new(&settings(bad, "")).err().unwrap().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn headers_come_of_the_setting_and_of_a_file_and_are_never_shown() {
        let file = std::env::temp_dir().join(format!("sluicegate-headers-{}", std::process::id()));
        std::fs::write(&file, "authorization=Bearer new\nx-tenant=a%2Cb\n").unwrap();
        let with_file = TargetSettings { headers_file: Some(file.clone()), ..settings("http://c", "authorization=Bearer old, x-a=1") };
        let target = Target::new(&with_file).unwrap();
        let headers = target.headers().unwrap();
        assert_eq!((headers["authorization"].as_bytes(), headers["x-tenant"].as_bytes()), (&b"Bearer new"[..], &b"a,b"[..]));
        assert!(headers.values().all(HeaderValue::is_sensitive) && headers.len() == 3);
        std::fs::write(&file, "authorization=Bearer newer").unwrap();
        assert_eq!(target.headers().unwrap()["authorization"], "Bearer newer", "it is read each time");
        std::fs::remove_file(&file).unwrap();
        assert!(target.headers().err().unwrap().to_string().contains("sluicegate-headers"));
        for bad in ["secret", "x=1,se cret=2", "host=secret", "x=%zz", "x=secret\u{7}"] {
            let error = Target::new(&settings("http://c", bad)).err().unwrap().to_string();
            assert!(error.starts_with("header ") && !error.contains("secret"), "{error}");
        }
    }
}
