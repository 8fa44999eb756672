//! `wasi:http`'s outgoing request, its options and its body. A body is collected, up to [`MAX_BODY`], and sent once it is finished.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method};
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{DynOutputStream, OutputStream, StreamError, StreamResult};

use super::Wasi;
use super::fields::Fields;
use crate::bindings::discovery::wasi::http::types::{self, ErrorCode, HostOutgoingBody, HostOutgoingRequest, HostRequestOptions, Scheme};

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 1 << 20;
/// The largest number of bytes of one write.
const WRITE: usize = 64 << 10;
/// The longest path with its query, in bytes.
const MAX_PATH: usize = 16 << 10;

/// A request that is being made.
pub struct Request {
    pub(super) method: Method,
    pub(super) scheme: Option<Scheme>,
    pub(super) authority: Option<Authority>,
    pub(super) path: Option<PathAndQuery>,
    pub(super) headers: HeaderMap,
    /// The request's body; none: there is none.
    pub(super) body: Option<oneshot::Receiver<Bytes>>,
}

/// Deadlines that the guest asks for.
#[derive(Clone, Copy, Default)]
pub struct Options {
    pub(super) connect: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    pub(super) between_bytes: Option<Duration>,
}

/// A body that is being written.
pub struct OutgoingBody {
    written: Arc<Mutex<BytesMut>>,
    stream_taken: bool,
    finished: oneshot::Sender<Bytes>,
}

struct Writer(Arc<Mutex<BytesMut>>);

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() + bytes.len() > MAX_BODY {
            return Err(StreamError::LastOperationFailed(ErrorCode::HttpRequestBodySize(Some(MAX_BODY as u64)).into()));
        }
        written.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

impl HostOutgoingRequest for Wasi {
    fn new(&mut self, headers: Resource<Fields>) -> wasmtime::Result<Resource<Request>> {
        let headers = self.table.delete(headers)?.map;
        Ok(self.table.push(Request { method: Method::GET, scheme: None, authority: None, path: None, headers, body: None })?)
    }

    fn body(&mut self, request: Resource<Request>) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
        let request = self.table.get_mut(&request)?;
        if request.body.is_some() {
            return Ok(Err(()));
        }
        let (finished, body) = oneshot::channel();
        request.body = Some(body);
        Ok(Ok(self.table.push(OutgoingBody { written: Arc::default(), stream_taken: false, finished })?))
    }

    fn method(&mut self, request: Resource<Request>) -> wasmtime::Result<types::Method> {
        Ok(match self.table.get(&request)?.method.as_str() {
            "GET" => types::Method::Get,
            "HEAD" => types::Method::Head,
            "POST" => types::Method::Post,
            "PUT" => types::Method::Put,
            "DELETE" => types::Method::Delete,
            "OPTIONS" => types::Method::Options,
            "TRACE" => types::Method::Trace,
            "PATCH" => types::Method::Patch,
            other => types::Method::Other(other.to_owned()),
        })
    }

    fn set_method(&mut self, request: Resource<Request>, method: types::Method) -> wasmtime::Result<Result<(), ()>> {
        let method = match method {
            types::Method::Get => Method::GET,
            types::Method::Head => Method::HEAD,
            types::Method::Post => Method::POST,
            types::Method::Put => Method::PUT,
            types::Method::Delete => Method::DELETE,
            types::Method::Options => Method::OPTIONS,
            types::Method::Trace => Method::TRACE,
            types::Method::Patch => Method::PATCH,
            // A tunnel is a socket by another name.
            types::Method::Connect => return Ok(Err(())),
            types::Method::Other(other) => match Method::from_bytes(other.as_bytes()) {
                Ok(method) if method != Method::CONNECT && other.len() <= 32 => method,
                _ => return Ok(Err(())),
            },
        };
        self.table.get_mut(&request)?.method = method;
        Ok(Ok(()))
    }

    fn path_with_query(&mut self, request: Resource<Request>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&request)?.path.as_ref().map(ToString::to_string))
    }

    fn set_path_with_query(&mut self, request: Resource<Request>, path: Option<String>) -> wasmtime::Result<Result<(), ()>> {
        let path = match path {
            None => None,
            Some(path) if path.len() <= MAX_PATH && path.starts_with('/') => match path.parse() {
                Ok(path) => Some(path),
                Err(_) => return Ok(Err(())),
            },
            Some(_) => return Ok(Err(())),
        };
        self.table.get_mut(&request)?.path = path;
        Ok(Ok(()))
    }

    fn scheme(&mut self, request: Resource<Request>) -> wasmtime::Result<Option<Scheme>> {
        Ok(self.table.get(&request)?.scheme.clone())
    }

    fn set_scheme(&mut self, request: Resource<Request>, scheme: Option<Scheme>) -> wasmtime::Result<Result<(), ()>> {
        if matches!(scheme, Some(Scheme::Other(_))) {
            return Ok(Err(()));
        }
        self.table.get_mut(&request)?.scheme = scheme;
        Ok(Ok(()))
    }

    fn authority(&mut self, request: Resource<Request>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&request)?.authority.as_ref().map(ToString::to_string))
    }

    fn set_authority(&mut self, request: Resource<Request>, authority: Option<String>) -> wasmtime::Result<Result<(), ()>> {
        let authority = match authority {
            None => None,
            // User information would get into the field `Host` (RFC 9110 §4.2.4).
            Some(authority) if authority.len() <= 300 && !authority.contains('@') => match authority.parse() {
                Ok(authority) => Some(authority),
                Err(_) => return Ok(Err(())),
            },
            Some(_) => return Ok(Err(())),
        };
        self.table.get_mut(&request)?.authority = authority;
        Ok(Ok(()))
    }

    fn headers(&mut self, request: Resource<Request>) -> wasmtime::Result<Resource<Fields>> {
        let fields = Fields::of(self.table.get(&request)?.headers.clone());
        Ok(self.table.push(fields)?)
    }

    fn drop(&mut self, request: Resource<Request>) -> wasmtime::Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

impl HostOutgoingBody for Wasi {
    fn write(&mut self, body: Resource<OutgoingBody>) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
        let body = self.table.get_mut(&body)?;
        if std::mem::replace(&mut body.stream_taken, true) {
            return Ok(Err(()));
        }
        let stream: DynOutputStream = Box::new(Writer(body.written.clone()));
        Ok(Ok(self.table.push(stream)?))
    }

    fn finish(&mut self, body: Resource<OutgoingBody>, trailers: Option<Resource<Fields>>) -> wasmtime::Result<Result<(), ErrorCode>> {
        let body = self.table.delete(body)?;
        if let Some(trailers) = trailers {
            self.table.delete(trailers)?;
            return Ok(Err(ErrorCode::InternalError(Some("trailers of requests are not sent".to_owned()))));
        }
        let written = std::mem::take(&mut *body.written.lock().unwrap_or_else(PoisonError::into_inner));
        // If nobody waits any more, the request has an error of its own.
        let _ = body.finished.send(written.freeze());
        Ok(Ok(()))
    }

    /// A body that is dropped without `finish` is not whole, so the request fails.
    fn drop(&mut self, body: Resource<OutgoingBody>) -> wasmtime::Result<()> {
        self.table.delete(body)?;
        Ok(())
    }
}

impl HostRequestOptions for Wasi {
    fn new(&mut self) -> wasmtime::Result<Resource<Options>> {
        Ok(self.table.push(Options::default())?)
    }

    fn connect_timeout(&mut self, options: Resource<Options>) -> wasmtime::Result<Option<u64>> {
        Ok(self.table.get(&options)?.connect.map(nanos))
    }

    fn set_connect_timeout(&mut self, options: Resource<Options>, timeout: Option<u64>) -> wasmtime::Result<Result<(), ()>> {
        self.table.get_mut(&options)?.connect = timeout.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn first_byte_timeout(&mut self, options: Resource<Options>) -> wasmtime::Result<Option<u64>> {
        Ok(self.table.get(&options)?.first_byte.map(nanos))
    }

    fn set_first_byte_timeout(&mut self, options: Resource<Options>, timeout: Option<u64>) -> wasmtime::Result<Result<(), ()>> {
        self.table.get_mut(&options)?.first_byte = timeout.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn between_bytes_timeout(&mut self, options: Resource<Options>) -> wasmtime::Result<Option<u64>> {
        Ok(self.table.get(&options)?.between_bytes.map(nanos))
    }

    fn set_between_bytes_timeout(&mut self, options: Resource<Options>, timeout: Option<u64>) -> wasmtime::Result<Result<(), ()>> {
        self.table.get_mut(&options)?.between_bytes = timeout.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn drop(&mut self, options: Resource<Options>) -> wasmtime::Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
