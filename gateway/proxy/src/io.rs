//! The socket as hyper sees it. As `TokioIo`, but small writes of several pieces (a head and its short body) go out as one piece: gathering a
//! few hundred bytes here is cheaper than `writev`, whose vector the kernel must copy in and check.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Up to here pieces are gathered.
const SMALL: usize = 1024;

pub(crate) struct Io(TokioIo<TcpStream>);

impl Io {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(TokioIo::new(stream))
    }
}

impl Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        let inner = Pin::new(&mut self.0);
        if let [one] = pieces {
            return inner.poll_write(context, one);
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if total > SMALL {
            return inner.poll_write_vectored(context, pieces);
        }
        let mut gathered = [0; SMALL];
        let mut filled = 0;
        for piece in pieces {
            gathered[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        inner.poll_write(context, &gathered[..filled])
    }
}
