//! Content whose length is limited.

use std::task::{Context, Poll};

use super::RequestBody;
use crate::h1::Part;
use crate::http::error::BodyError;

/// Content that may have so many more bytes.
pub(crate) struct Limited<'c> {
    pub(in crate::http) of: RequestBody<'c>,
    left: u64,
}

impl<'c> Limited<'c> {
    pub(in crate::http) fn new(of: RequestBody<'c>, most: u64) -> Self {
        Self { of, left: most }
    }
}

impl Limited<'_> {
    pub(in crate::http) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        let polled = self.of.poll_part(context);
        if let Poll::Ready(Some(Ok(Part::Data(data)))) = &polled {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        polled
    }
}
