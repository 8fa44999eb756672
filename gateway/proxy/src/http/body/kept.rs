//! Content that is kept while it is sent, so that it can be sent again.

use std::task::{Context, Poll};

use super::RequestBody;
use crate::h1::Part;
use crate::http::error::BodyError;

/// A request's content, and what of it was sent.
pub(crate) struct Kept<'c> {
    of: RequestBody<'c>,
    /// The parts that have come, in order.
    parts: Vec<Part>,
    /// How many of them were sent since it began from the beginning.
    sent: usize,
    /// The number of bytes in them.
    size: usize,
    most: usize,
    /// Whether it was more than is kept, so that what was sent is gone.
    lost: bool,
}

impl<'c> Kept<'c> {
    pub(in crate::http) fn new(of: RequestBody<'c>, most: usize) -> Self {
        Self { of, parts: Vec::new(), sent: 0, size: 0, most, lost: false }
    }

    pub(in crate::http) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        if let Some(part) = self.parts.get(self.sent) {
            self.sent += 1;
            return Poll::Ready(Some(Ok(part.clone())));
        }
        let polled = self.of.poll_part(context);
        if let (Poll::Ready(Some(Ok(part))), false) = (&polled, self.lost) {
            self.size += match part {
                Part::Data(data) => data.len(),
                Part::Trailers(fields) => fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum(),
            };
            if self.size > self.most {
                (self.lost, self.sent, self.parts) = (true, 0, Vec::new());
            } else {
                self.parts.push(part.clone());
                self.sent += 1;
            }
        }
        polled
    }

    /// Whether all of it can be sent again.
    pub(in crate::http) fn is_whole(&self) -> bool {
        !self.lost
    }

    /// Begins from the beginning. It must be [whole](Self::is_whole).
    pub(in crate::http) fn rewind(&mut self) {
        self.sent = 0;
    }

    pub(in crate::http) fn is_end(&self) -> bool {
        self.sent == self.parts.len() && self.of.is_end()
    }

    pub(in crate::http) fn of(&self) -> &RequestBody<'c> {
        &self.of
    }

    pub(in crate::http) fn of_mut(&mut self) -> &mut RequestBody<'c> {
        &mut self.of
    }

    /// It will not be sent again, so nothing need be kept.
    pub(in crate::http) fn release(mut self: Box<Self>) -> RequestBody<'c> {
        if self.sent < self.parts.len() {
            // What is left is sent from here, and what comes later is not kept.
            self.most = 0;
            return RequestBody::Kept(self);
        }
        self.of
    }
}
