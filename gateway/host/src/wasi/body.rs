//! The body of a response. It is bounded in size, in the time between two pieces, and in time as a whole.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{DynInputStream, InputStream, StreamError, StreamResult};

use super::response::Trailers;
use super::{Wasi, Work};
use crate::bindings::discovery::wasi::http::types::{ErrorCode, HostIncomingBody};

/// The largest body, in bytes; a larger one is cut off with an error.
pub(super) const MAX_BODY: usize = 16 << 20;

/// A body that was not read yet. It holds its connection, and its place among the plugin's connections.
pub struct IncomingBody(pub(super) Option<Reader>);

pub(super) struct Reader {
    pub(super) body: Incoming,
    pub(super) _connection: Work<()>,
    pub(super) _permit: OwnedSemaphorePermit,
    pub(super) between_bytes: Duration,
    /// When the whole exchange must have ended.
    pub(super) deadline: Instant,
    pub(super) left: usize,
    pub(super) piece: Bytes,
    pub(super) end: Option<Result<(), ErrorCode>>,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, ErrorCode> {
        loop {
            let until = self.deadline.min(Instant::now() + self.between_bytes);
            let frame = match tokio::time::timeout_at(until, self.body.frame()).await {
                Err(_) => return Err(ErrorCode::ConnectionReadTimeout),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(ErrorCode::HttpResponseIncomplete),
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers are passed over.
            let Ok(piece) = frame.into_data() else { continue };
            if piece.len() > self.left {
                return Err(ErrorCode::HttpResponseBodySize(Some(MAX_BODY as u64)));
            }
            self.left -= piece.len();
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        if self.piece.is_empty() && self.end.is_none() {
            match self.next().await {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => self.end = Some(Ok(())),
                Err(code) => self.end = Some(Err(code)),
            }
        }
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if !self.piece.is_empty() {
            return Ok(self.piece.split_to(size.min(self.piece.len())));
        }
        match self.end.take() {
            None => Ok(Bytes::new()),
            Some(Err(code)) => {
                self.end = Some(Ok(()));
                Err(StreamError::LastOperationFailed(code.into()))
            }
            Some(Ok(())) => {
                self.end = Some(Ok(()));
                Err(StreamError::Closed)
            }
        }
    }
}

impl HostIncomingBody for Wasi {
    fn stream(&mut self, body: Resource<IncomingBody>) -> wasmtime::Result<Result<Resource<DynInputStream>, ()>> {
        let Some(reader) = self.table.get_mut(&body)?.0.take() else { return Ok(Err(())) };
        let stream: DynInputStream = Box::new(reader);
        Ok(Ok(self.table.push_child(stream, &body)?))
    }

    fn finish(&mut self, body: Resource<IncomingBody>) -> wasmtime::Result<Resource<Trailers>> {
        self.table.delete(body)?;
        Ok(self.table.push(Trailers::none())?)
    }

    fn drop(&mut self, body: Resource<IncomingBody>) -> wasmtime::Result<()> {
        self.table.delete(body)?;
        Ok(())
    }
}
