//! An upgraded exchange: bytes in both directions. Each direction ends by itself, until both have ended, or neither has moved for too long.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use crate::h1::Part;
use crate::http::client::{Broke, Signal, Sink};
use crate::http::exchange::ResponseBody;
use crate::http::rules::upgrade::Idle;

/// Moves bytes until both directions have ended, or one of them has broken.
pub(in crate::http) async fn run(mut body: ResponseBody<'_>, end: &impl Sink, idle: Idle, signal: &Signal) {
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
        if !down && poll_down(&mut body, end, signal, context)?.is_ready() {
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

/// Moves bytes from the endpoint to the client. Is ready at the end.
fn poll_down(body: &mut ResponseBody<'_>, end: &impl Sink, signal: &Signal, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
    loop {
        let mut waiting = false;
        while !waiting && end.has_room() {
            match body.poll_tunnel(context) {
                Poll::Ready(Some(Ok(Part::Data(data)))) => {
                    signal.moved(data.len());
                    end.push(Part::Data(data))?;
                }
                // There is no place for trailers.
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
