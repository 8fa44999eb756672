//! An upgraded exchange: bytes both ways, each direction ended by itself, until both have ended or neither has moved for too long.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::body::ResponseBody;
use super::client::Client;
use super::closing::Signal;
use super::stream::Sender;
use crate::h1::Part;

/// A response's extension, with 101: how long it may be silent; none: for ever.
#[derive(Clone, Copy)]
pub(super) struct Idle(pub(super) Option<Duration>);

/// The client's end.
pub(super) enum End<'a> {
    Connection(&'a Client),
    Stream(&'a Sender),
}

/// It broke; the other side is told by what is dropped.
struct Broke;

impl End<'_> {
    fn has_room(&self) -> bool {
        match self {
            Self::Connection(client) => client.outgoing.borrow().has_room(),
            Self::Stream(sender) => sender.has_room(),
        }
    }

    fn push(&self, part: Part) -> Result<(), Broke> {
        match self {
            Self::Connection(client) => client.outgoing.borrow_mut().push(part).map_err(|_| Broke),
            Self::Stream(sender) => sender.push(part, false).map_err(|_| Broke),
        }
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        match self {
            Self::Connection(client) => client.poll_flush(context).map_err(|_| Broke),
            Self::Stream(sender) => sender.poll_flush(context).map_err(|_| Broke),
        }
    }

    fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        match self {
            Self::Connection(client) => client.poll_shutdown(context).map_err(|_| Broke),
            Self::Stream(sender) => {
                ready!(sender.poll_flush(context)).map_err(|_| Broke)?;
                Poll::Ready(sender.finish().map_err(|_| Broke))
            }
        }
    }

    /// Whether the client is gone, other than by ending its direction.
    fn is_gone(&self, context: &mut Context<'_>) -> bool {
        match self {
            // The next write tells.
            Self::Connection(_) => false,
            Self::Stream(sender) => sender.poll_gone(context).is_ready(),
        }
    }
}

/// Moves bytes until both directions have ended, or one of them has broken.
pub(super) async fn run(mut body: ResponseBody<'_>, end: End<'_>, idle: Idle, signal: &Signal) {
    signal.carry(idle.0);
    let (mut down, mut up) = (false, false);
    let moved: Result<(), Broke> = poll_fn(|context| {
        if !up {
            match body.poll_request(context) {
                Poll::Ready(Ok(())) => up = true,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broke)),
                Poll::Pending => {}
            }
        }
        if !down && poll_down(&mut body, &end, signal, context)?.is_ready() {
            down = true;
        }
        match (up && down, end.is_gone(context)) {
            (true, _) => Poll::Ready(Ok(())),
            (false, true) => Poll::Ready(Err(Broke)),
            (false, false) => Poll::Pending,
        }
    })
    .await;
    if moved.is_ok() {
        body.tunnelled();
    }
}

/// From the endpoint to the client; ready at the end.
fn poll_down(body: &mut ResponseBody<'_>, end: &End<'_>, signal: &Signal, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
    loop {
        let mut waiting = false;
        while !waiting && end.has_room() {
            match body.poll_tunnel(context) {
                Poll::Ready(Some(Ok(Part::Data(data)))) => {
                    signal.moved(data.len());
                    end.push(Part::Data(data))?;
                }
                // There is no place for them.
                Poll::Ready(Some(Ok(Part::Trailers(_)))) => {}
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "an upgraded connection broke");
                    return Poll::Ready(Err(Broke));
                }
                Poll::Ready(None) => return end.poll_shutdown(context),
                Poll::Pending => waiting = true,
            }
        }
        ready!(end.poll_flush(context))?;
        if waiting {
            return Poll::Pending;
        }
    }
}
