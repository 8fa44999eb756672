//! One request and its response over `wasi:http`.

use super::url::Url;
use super::{Error, Request, Response};
use crate::bindings::discovery::wasi::http::outgoing_handler;
use crate::bindings::discovery::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, HeaderError, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    http_error_code,
};
use crate::bindings::discovery::wasi::io::poll::Pollable;
use crate::bindings::discovery::wasi::io::streams::{InputStream, StreamError};

/// How many bytes are read at a time.
const PIECE: u64 = 64 << 10;
/// How many bytes `blocking-write-and-flush` takes at most.
const WRITE: usize = 4096;

/// A request that was sent. The stream is dropped before its body, as the contract demands.
pub(super) enum Underway {
    Head(FutureIncomingResponse),
    Body { stream: InputStream, _body: IncomingBody, read: Response },
}

/// Sends a request, and its body.
pub(super) fn begin(request: &Request, url: &Url) -> Result<Underway, Error> {
    let fields: Vec<_> = request.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
    let fields = Fields::from_list(&fields).map_err(|error| {
        Error::Invalid(match error {
            HeaderError::Forbidden => "a field that the gateway sets itself, or as many fields".to_owned(),
            HeaderError::InvalidSyntax | HeaderError::Immutable => "a field with such a name or value".to_owned(),
        })
    })?;
    let outgoing = OutgoingRequest::new(fields);
    let method = match request.method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        other => Method::Other(other.to_owned()),
    };
    let invalid = |()| Error::Invalid(format!("\"{} {url}\"", request.method));
    outgoing.set_method(&method).map_err(invalid)?;
    outgoing.set_scheme(Some(if url.tls { &Scheme::Https } else { &Scheme::Http })).map_err(invalid)?;
    outgoing.set_authority(Some(&url.authority)).map_err(invalid)?;
    outgoing.set_path_with_query(Some(&url.path)).map_err(invalid)?;
    let options = RequestOptions::new();
    let nanos = request.timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    options.set_first_byte_timeout(nanos).map_err(invalid)?;
    options.set_between_bytes_timeout(nanos).map_err(invalid)?;
    let body = request.body.as_ref().map(|content| Ok((content, outgoing.body().map_err(invalid)?))).transpose()?;
    let failed = |code| error(code, &url.authority);
    let answer = outgoing_handler::handle(outgoing, Some(options)).map_err(failed)?;
    if let Some((content, body)) = body {
        write(content, body, url)?;
    }
    Ok(Underway::Head(answer))
}

impl Underway {
    /// Returns the response once all of it has come. It must not be called again after that.
    pub(super) fn poll(&mut self, request: &Request, url: &Url) -> Option<Result<Response, Error>> {
        if let Self::Head(answer) = self {
            let response = match answer.get()? {
                Ok(Ok(response)) => response,
                Ok(Err(code)) => return Some(Err(error(code, &url.authority))),
                Err(()) => return Some(Err(Error::Failed("the gateway has no answer".to_owned()))),
            };
            let read = Response { status: response.status(), headers: response.headers().entries(), body: Vec::new() };
            let body = response.consume().and_then(|body| Ok((body.stream()?, body)));
            let Ok((stream, body)) = body else { return Some(Err(Error::Failed("the response has no body to read".to_owned()))) };
            *self = Self::Body { stream, _body: body, read };
        }
        let Self::Body { stream, read, .. } = self else { return None };
        loop {
            match stream.read(PIECE) {
                Ok(piece) if piece.is_empty() => return None,
                Ok(piece) if read.body.len() + piece.len() > request.limit => return Some(Err(Error::TooLarge(request.limit))),
                Ok(piece) => read.body.extend_from_slice(&piece),
                Err(StreamError::Closed) => return Some(Ok(std::mem::take(read))),
                Err(error) => return Some(Err(stream_error(error, url))),
            }
        }
    }

    pub(super) fn pollable(&self) -> Pollable {
        match self {
            Self::Head(answer) => answer.subscribe(),
            Self::Body { stream, .. } => stream.subscribe(),
        }
    }
}

fn write(content: &[u8], body: OutgoingBody, url: &Url) -> Result<(), Error> {
    {
        let stream = body.write().map_err(|()| Error::Failed("the request's body cannot be written".to_owned()))?;
        for piece in content.chunks(WRITE) {
            stream.blocking_write_and_flush(piece).map_err(|error| stream_error(error, url))?;
        }
    }
    OutgoingBody::finish(body, None).map_err(|code| error(code, &url.authority))
}

fn stream_error(failed: StreamError, url: &Url) -> Error {
    match failed {
        StreamError::Closed => Error::Failed("the connection was closed".to_owned()),
        StreamError::LastOperationFailed(io) => match http_error_code(&io) {
            Some(code) => error(code, &url.authority),
            None => Error::Failed(io.to_debug_string()),
        },
    }
}

fn error(code: ErrorCode, host: &str) -> Error {
    match code {
        ErrorCode::HttpRequestDenied => Error::Refused(host.to_owned()),
        ErrorCode::DestinationIpProhibited => Error::Prohibited(host.to_owned()),
        ErrorCode::DnsError(_) | ErrorCode::DnsTimeout => Error::Unresolved(host.to_owned()),
        ErrorCode::ConnectionRefused => Error::Unreachable(format!("{host} refuses connections")),
        ErrorCode::ConnectionTimeout => Error::Unreachable(format!("{host} accepts no connection in time")),
        ErrorCode::DestinationUnavailable | ErrorCode::DestinationIpUnroutable | ErrorCode::DestinationNotFound => {
            Error::Unreachable(format!("{host} cannot be reached"))
        }
        ErrorCode::HttpResponseTimeout | ErrorCode::ConnectionReadTimeout => Error::Timeout,
        ErrorCode::HttpResponseBodySize(limit) => Error::TooLarge(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0)),
        ErrorCode::HttpRequestBodySize(_) => Error::Invalid("a body that large".to_owned()),
        ErrorCode::HttpRequestUriInvalid => Error::Invalid(format!("a request to {host}")),
        ErrorCode::ConnectionLimitReached => Error::Busy,
        ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => Error::Failed(format!("{host} cut the connection")),
        ErrorCode::HttpProtocolError => Error::Failed(format!("{host} does not answer in HTTP/1.1")),
        ErrorCode::TlsCertificateError => Error::Failed(format!("the certificate of {host} is not trusted")),
        ErrorCode::TlsProtocolError => Error::Failed(format!("no TLS with {host}")),
        ErrorCode::InternalError(Some(what)) => Error::Failed(what),
        other => Error::Failed(format!("{host}: {other:?}")),
    }
}
