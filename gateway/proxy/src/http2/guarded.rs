//! The bytes of a connection, as the library reads and writes them: first what was read to recognize the protocol, and every frame metered.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::fragments::Paths;
use super::{Meter, PREFACE};
use crate::stream::Stream;

pub(crate) struct Guarded {
    stream: Stream,
    /// What was read already.
    ahead: Bytes,
    meter: Rc<Meter>,
    /// Looks for fragments in the requests of a client.
    paths: Option<Box<Paths>>,
}

impl Guarded {
    pub(crate) fn new(stream: Stream, ahead: Bytes, meter: Rc<Meter>) -> Self {
        Self { stream, ahead, meter, paths: None }
    }

    /// For the connection of a client, whose requests are refused if their path has a fragment.
    pub(crate) fn of_client(stream: Stream, ahead: Bytes, meter: Rc<Meter>) -> Self {
        Self { paths: Some(Box::new(Paths::new(PREFACE.len()))), ..Self::new(stream, ahead, meter) }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if self.meter.is_exceeded() || self.meter.is_turn_full() {
            // Nothing more is read. The task that drives the connection looks at the meter after each turn, and ends the connection or goes on.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        } else {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
        }
        self.meter.read(&buffer.filled()[before..]);
        if let Some(paths) = &mut self.paths {
            paths.pass(&mut buffer.filled_mut()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.meter.wrote(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, pieces))?;
        let mut left = count;
        for piece in pieces {
            let written = left.min(piece.len());
            self.meter.wrote(&piece[..written]);
            left -= written;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
