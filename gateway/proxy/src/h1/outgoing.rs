//! What is to be written to a connection: a buffer for heads and small data, and one large piece of data, which is not copied.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::content::{Malformed, Part};
use super::write::Encoder;

/// Data up to this size is copied behind the head, which is cheaper than `writev`, whose vector the kernel must copy in and check.
const SMALL: usize = 2 << 10;
/// A buffer that has grown beyond this size is given back between exchanges.
const KEPT: usize = 4 << 10;

pub(crate) struct Outgoing {
    /// What is written first.
    bytes: Vec<u8>,
    /// What is written after `bytes`.
    data: Bytes,
    /// What is written after `data`.
    tail: &'static [u8],
    /// How many bytes of these have been written.
    written: usize,
    /// Whether all were written, while the stream may still hold some of them: TLS takes more than the socket does.
    held: bool,
    encoder: Encoder,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { bytes: Vec::new(), data: Bytes::new(), tail: b"", written: 0, held: false, encoder: Encoder::Length(0) }
    }
}

impl Outgoing {
    /// Begins a message. Returns where its head is to be written, after what is still to be sent. It must have [room](Self::has_room).
    pub(crate) fn begin(&mut self, encoder: Encoder) -> &mut Vec<u8> {
        self.encoder = encoder;
        &mut self.bytes
    }

    /// Whether more may be pushed.
    pub(crate) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.bytes.len() < SMALL * 4
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.is_taken() && !self.held
    }

    /// Whether the stream has taken all.
    fn is_taken(&self) -> bool {
        self.bytes.is_empty() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Whether some of it was written.
    pub(crate) fn is_begun(&self) -> bool {
        self.written > 0
    }

    /// Adds content. It must have [room](Self::has_room). An error says that it is more than the length.
    pub(crate) fn push(&mut self, part: Part) -> std::result::Result<(), Malformed> {
        let data = match part {
            Part::Data(data) => data,
            Part::Trailers(trailers) => {
                // Only chunked content has a place for trailers.
                if self.encoder == Encoder::Chunked {
                    self.bytes.extend_from_slice(b"0\r\n");
                    for (name, value) in &trailers {
                        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                            self.bytes.extend_from_slice(piece);
                        }
                    }
                    self.bytes.extend_from_slice(b"\r\n");
                    self.encoder = Encoder::Length(0);
                }
                return Ok(());
            }
        };
        match &mut self.encoder {
            Encoder::Length(left) => *left = left.checked_sub(data.len() as u64).ok_or(Malformed::Length)?,
            Encoder::Chunked if data.is_empty() => return Ok(()),
            Encoder::Chunked => self.bytes.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes()),
            Encoder::UntilClose => {}
        }
        let tail: &[u8] = if self.encoder == Encoder::Chunked { b"\r\n" } else { b"" };
        if data.len() <= SMALL {
            self.bytes.extend_from_slice(&data);
            self.bytes.extend_from_slice(tail);
        } else {
            (self.data, self.tail) = (data, tail);
        }
        Ok(())
    }

    /// Ends the content. It must have [room](Self::has_room). An error says that it is less than the length.
    pub(crate) fn finish(&mut self) -> std::result::Result<(), Malformed> {
        match std::mem::replace(&mut self.encoder, Encoder::Length(0)) {
            Encoder::Length(0) | Encoder::UntilClose => Ok(()),
            Encoder::Length(_) => Err(Malformed::Length),
            Encoder::Chunked => {
                self.bytes.extend_from_slice(b"0\r\n\r\n");
                Ok(())
            }
        }
    }

    /// Writes all that there is.
    pub(crate) fn poll_flush<W: AsyncWrite + Unpin>(&mut self, to: &mut W, context: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.is_taken() {
            let (head, data) = (self.bytes.len(), self.data.len());
            let rest = |piece: usize| self.written.saturating_sub(piece);
            let to = Pin::new(&mut *to);
            let count = if data == 0 && self.tail.is_empty() {
                to.poll_write(context, &self.bytes[self.written..])
            } else {
                let pieces = [
                    IoSlice::new(&self.bytes[self.written.min(head)..]),
                    IoSlice::new(&self.data[rest(head).min(data)..]),
                    IoSlice::new(&self.tail[rest(head + data)..]),
                ];
                let first = pieces.iter().position(|p| !p.is_empty()).unwrap_or_default();
                to.poll_write_vectored(context, &pieces[first..])
            };
            match ready!(count)? {
                0 => return Poll::Ready(Err(Error::from(ErrorKind::WriteZero))),
                count => self.written += count,
            }
            if self.written >= head + data + self.tail.len() {
                (self.data, self.tail, self.written) = (Bytes::new(), b"", 0);
                self.bytes.clear();
                self.bytes.shrink_to(KEPT);
                self.held = true;
            }
        }
        if self.held {
            ready!(Pin::new(to).poll_flush(context))?;
            self.held = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::task::Waker;

    use http::HeaderMap;

    use super::*;

    /// Takes so many bytes at each write.
    struct Narrow(usize, Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            let count = bytes.len().min(self.0);
            self.1.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn written(outgoing: &mut Outgoing, width: usize) -> String {
        let mut to = Narrow(width, Vec::new());
        assert!(matches!(outgoing.poll_flush(&mut to, &mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(()))));
        String::from_utf8(to.1).unwrap()
    }

    #[test]
    fn all_is_written_in_order_however_narrow_the_socket() {
        let large = "x".repeat(SMALL + 1);
        for width in [1, 2, 3, 7, SMALL, 1 << 20] {
            let mut outgoing = Outgoing::default();
            outgoing.begin(Encoder::Chunked).extend_from_slice(b"head;");
            outgoing.push(Part::Data(Bytes::from("abc"))).unwrap();
            outgoing.push(Part::Data(Bytes::from(large.clone()))).unwrap();
            assert!(!outgoing.has_room());
            assert_eq!(written(&mut outgoing, width), format!("head;3\r\nabc\r\n801\r\n{large}\r\n"), "{width}");
            let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x"), http::HeaderValue::from_static("1"))]);
            outgoing.push(Part::Trailers(trailers)).unwrap();
            outgoing.finish().unwrap();
            assert_eq!(written(&mut outgoing, width), "0\r\nx: 1\r\n\r\n");
        }
    }

    /// Takes everything, and sends it on only when it is flushed for the second time, as TLS over a full socket does.
    struct Holding(bool);

    impl AsyncWrite for Holding {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            if std::mem::replace(&mut self.0, true) { Poll::Ready(Ok(())) } else { Poll::Pending }
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_the_stream_still_holds_is_not_yet_written() {
        let mut outgoing = Outgoing::default();
        outgoing.begin(Encoder::Length(0)).extend_from_slice(b"head");
        let (mut to, mut context) = (Holding(false), Context::from_waker(Waker::noop()));
        assert!(outgoing.poll_flush(&mut to, &mut context).is_pending());
        assert!(!outgoing.is_empty());
        assert!(outgoing.poll_flush(&mut to, &mut context).is_ready());
        assert!(outgoing.is_empty());
    }

    #[test]
    fn a_length_is_kept_to() {
        let mut outgoing = Outgoing::default();
        outgoing.begin(Encoder::Length(3));
        outgoing.push(Part::Data(Bytes::from("ab"))).unwrap();
        assert_eq!(outgoing.push(Part::Data(Bytes::from("cd"))), Err(Malformed::Length));
        outgoing.begin(Encoder::Length(3));
        assert_eq!(outgoing.finish(), Err(Malformed::Length));
    }
}
