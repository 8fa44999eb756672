//! Relays connections of which one side, or both, speak TLS with the gateway. It does what [`relay`](super::relay()) does for sockets, by copying through rustls.

use std::cell::Cell;
use std::io::Result;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use sluicegate_model::stats::{ServiceStats, add};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::relay::Relay;
use crate::stream::Stream;

/// The size of the buffer for each direction: the largest content of a TLS record.
const BUFFER: usize = 16 << 10;

/// Relays a connection, of which `first` was read from the client already. It counts as idle if nothing has moved between two looks, `idle` apart.
pub(super) async fn relay_secured(
    client: &mut Stream,
    first: &[u8],
    endpoint: &mut Stream,
    idle: Option<Duration>,
    stats: &ServiceStats,
) -> (Relay, [u64; 2]) {
    let (of_client, of_endpoint) = (Watch::default(), Watch::default());
    let end = {
        let (mut client, mut endpoint) = (Watched(client, &of_client), Watched(endpoint, &of_endpoint));
        let copying = async {
            endpoint.write_all(first).await?;
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut endpoint, BUFFER, BUFFER).await
        };
        let mut copying = pin!(copying);
        let mut seen = None;
        loop {
            let copied = match idle {
                None => Some(copying.as_mut().await),
                Some(idle) => tokio::time::timeout(idle, copying.as_mut()).await.ok(),
            };
            match copied {
                Some(Ok(_)) => break Relay::Ended,
                // An error is one side's reset, or TLS that was cut short. The other side must not take that for an end.
                Some(Err(_)) if of_endpoint.broken.get() => break Relay::EndpointReset,
                Some(Err(_)) => break Relay::ClientReset,
                None => {
                    let moved = Some((of_client.read.get(), of_endpoint.read.get()));
                    if seen == moved {
                        break Relay::Idle;
                    }
                    seen = moved;
                }
            }
        }
    };
    let bytes = [of_client.read.get() + first.len() as u64, of_endpoint.read.get()];
    add(&stats.bytes_in, bytes[0]);
    add(&stats.bytes_out, bytes[1]);
    let end = if end == Relay::EndpointReset && bytes[1] == 0 { Relay::EndpointRefused } else { end };
    (end, bytes)
}

/// What a side has read, and whether it failed.
#[derive(Default)]
struct Watch {
    read: Cell<u64>,
    broken: Cell<bool>,
}

struct Watched<'a>(&'a mut Stream, &'a Watch);

impl Watched<'_> {
    fn note<T>(&self, polled: Poll<Result<T>>) -> Poll<Result<T>> {
        if matches!(polled, Poll::Ready(Err(_))) {
            self.1.broken.set(true);
        }
        polled
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *self.0).poll_read(context, buffer);
        self.1.read.set(self.1.read.get() + (buffer.filled().len() - before) as u64);
        self.note(polled)
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut *self.0).poll_write(context, bytes);
        self.note(polled)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = Pin::new(&mut *self.0).poll_flush(context);
        self.note(polled)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = Pin::new(&mut *self.0).poll_shutdown(context);
        self.note(polled)
    }
}
