//! Content that goes out over a stream, piece by piece, as far as the windows let it. So no more than a piece and the library's buffer wait for a slow reader.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::Meter;
use crate::h1::Part;

/// A piece of content counts as cut short if the receiver's window leaves less of it than this, in bytes.
const SHORT: usize = 512;

pub(crate) struct Outgoing {
    stream: SendStream<Bytes>,
    meter: Rc<Meter>,
    piece: Bytes,
    /// Whether the piece is the last.
    last: bool,
    ended: bool,
}

/// Why nothing more can be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSent {
    /// The receiver wants no more of it, or the connection has ended.
    #[error("the stream takes no more")]
    Closed,
    #[error(transparent)]
    Failed(#[from] h2::Error),
}

impl Outgoing {
    /// `ended`: there is nothing after the head; `meter`: the connection's.
    pub(crate) fn new(stream: SendStream<Bytes>, ended: bool, meter: Rc<Meter>) -> Self {
        Self { stream, meter, piece: Bytes::new(), last: false, ended }
    }

    /// Whether all was sent.
    pub(crate) fn is_end(&self) -> bool {
        self.ended
    }

    /// Whether the next part may be pushed.
    pub(crate) fn has_room(&self) -> bool {
        self.piece.is_empty() && !self.ended
    }

    /// Pushes a part. There must be [room](Self::has_room). `last`: no other part follows, which saves an empty frame.
    pub(crate) fn push(&mut self, part: Part, last: bool) -> Result<(), NotSent> {
        match part {
            Part::Data(data) if data.is_empty() && !last => Ok(()),
            Part::Data(data) if data.is_empty() => self.finish(),
            Part::Data(data) => {
                self.stream.reserve_capacity(data.len());
                (self.piece, self.last) = (data, last);
                Ok(())
            }
            Part::Trailers(trailers) => {
                self.ended = true;
                Ok(self.stream.send_trailers(trailers)?)
            }
        }
    }

    /// Ends the content. There must be [room](Self::has_room).
    pub(crate) fn finish(&mut self) -> Result<(), NotSent> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        Ok(self.stream.send_data(Bytes::new(), true)?)
    }

    /// Sends the piece, as far as windows and buffers let it.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), NotSent>> {
        while !self.piece.is_empty() {
            // `poll_capacity` tells only of increases.
            let capacity = match self.stream.capacity() {
                0 => match ready!(self.stream.poll_capacity(context)) {
                    None => return Poll::Ready(Err(NotSent::Closed)),
                    Some(capacity) => capacity?,
                },
                capacity => capacity,
            };
            let data = self.piece.split_to(capacity.min(self.piece.len()));
            if capacity < SHORT && !self.piece.is_empty() {
                self.meter.cut_short();
            }
            self.ended = self.last && self.piece.is_empty();
            self.stream.send_data(data, self.ended)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Is ready when the receiver has ended the stream, for whatever reason.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(context).map(drop)
    }

    pub(crate) fn reset(&mut self, reason: Reason) {
        self.ended = true;
        self.stream.send_reset(reason);
    }
}
