//! The bytes of one connection, plain or through TLS: HTTP and forwarding read and write them on either side.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::core::places::Places;

pub(crate) enum Stream {
    Tcp(TcpStream),
    /// TLS, after the handshake. It is boxed, as it holds rustls' whole state.
    Tls(Box<TlsStream<TcpStream>>),
    /// A connection that a circuit breaker counts as long as it is open.
    Counted(Box<(Stream, Box<Places>)>),
}

impl Stream {
    /// The socket, for its options.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Counted(counted) => counted.0.socket(),
        }
    }

    /// Whether both sides have agreed on HTTP/2 (ALPN, RFC 7301).
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Counted(counted) => counted.0.is_http2(),
        }
    }

    /// The same connection, counted while it is open.
    pub(crate) fn counted(self, places: Option<Box<Places>>) -> Self {
        match places {
            Some(places) => Self::Counted(Box::new((self, places))),
            None => self,
        }
    }

    /// The places that it takes, if it is counted.
    pub(crate) fn places(&self) -> Option<&Places> {
        if let Self::Counted(counted) = self { Some(&counted.1) } else { None }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Counted(counted) => Pin::new(&mut counted.0).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Counted(counted) => Pin::new(&mut counted.0).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Counted(counted) => Pin::new(&mut counted.0).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Counted(counted) => Pin::new(&mut counted.0).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Counted(counted) => Pin::new(&mut counted.0).poll_shutdown(context),
        }
    }
}
