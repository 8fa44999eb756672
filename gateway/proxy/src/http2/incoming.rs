//! Content that comes over a stream. Its window is given back when more is asked for, which is when what came before was taken. So a slow receiver slows its
//! sender, and holds no more than the window.

use std::task::{Context, Poll, ready};

use h2::RecvStream;

use crate::h1::Part;

pub(crate) struct Incoming {
    stream: RecvStream,
    /// How many bytes were handed over that still count in the window.
    unreleased: usize,
    /// Whether only trailers may follow.
    data_ended: bool,
    ended: bool,
}

impl Incoming {
    pub(crate) fn new(stream: RecvStream) -> Self {
        let ended = stream.is_end_stream();
        Self { stream, unreleased: 0, data_ended: ended, ended }
    }

    /// Whether everything was handed over.
    pub(crate) fn is_end(&self) -> bool {
        self.ended
    }

    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, h2::Error>>> {
        if self.unreleased > 0 {
            let taken = std::mem::take(&mut self.unreleased);
            // It fails only for more than was received.
            let _ = self.stream.flow_control().release_capacity(taken);
        }
        while !self.data_ended {
            match ready!(self.stream.poll_data(context)) {
                // An empty frame carries nothing; the meter limits them.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.unreleased = data.len();
                    self.ended = self.stream.is_end_stream();
                    return Poll::Ready(Some(Ok(Part::Data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.stream.poll_trailers(context));
        self.ended = true;
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => (!trailers.is_empty()).then_some(Ok(Part::Trailers(trailers))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        })
    }
}
