//! Both directions of a connection, until both have ended, one side was reset, or nothing has moved for too long.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use sluicegate_model::stats::{ServiceStats, add};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::Tcp;
use super::direction::{Broken, Direction};

/// How a connection has ended. A reset of one side becomes one of the other, as an end would tell it that everything had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relay {
    Ended,
    Idle,
    ClientReset,
    EndpointReset,
    /// The endpoint has reset the connection before it had sent anything.
    EndpointRefused,
}

/// Relays a connection. The bytes from and to the client are counted in `stats` when it ends. `first` was read from the client already.
pub(crate) async fn relay(
    client: &TcpStream,
    first: &[u8],
    endpoint: &TcpStream,
    idle: Option<Duration>,
    stats: &ServiceStats,
    shared: &Tcp,
) -> (Relay, [u64; 2]) {
    let (mut up, mut down) = (Direction::after(first), Direction::default());
    let (mut client_breaks, mut endpoint_breaks) = (Breaks::default(), Breaks::default());
    let mut idle = idle.map(Idle::new);
    let end = poll_fn(|context| {
        let mut moved = false;
        let tools = &mut shared.tools.borrow_mut();
        let last = down.done;
        if let Poll::Ready(Err(broken)) = up.poll((client, endpoint), tools, last, &mut moved, context) {
            return Poll::Ready(if broken == Broken::Sender { Relay::ClientReset } else { Relay::EndpointReset });
        }
        let last = up.done;
        if let Poll::Ready(Err(broken)) = down.poll((endpoint, client), tools, last, &mut moved, context) {
            return Poll::Ready(if broken == Broken::Sender { Relay::EndpointReset } else { Relay::ClientReset });
        }
        if up.done && down.done {
            return Poll::Ready(Relay::Ended);
        }
        if up.is_deaf() && client_breaks.poll(client, context).is_ready() {
            return Poll::Ready(Relay::ClientReset);
        }
        if down.is_deaf() && endpoint_breaks.poll(endpoint, context).is_ready() {
            return Poll::Ready(Relay::EndpointReset);
        }
        match &mut idle {
            Some(idle) => idle.poll(moved, context).map(|()| Relay::Idle),
            None => Poll::Pending,
        }
    })
    .await;
    add(&stats.bytes_in, up.bytes);
    add(&stats.bytes_out, down.bytes);
    let end = if end == Relay::EndpointReset && down.bytes == 0 { Relay::EndpointRefused } else { end };
    (end, [up.bytes, down.bytes])
}

/// Tells of the reset of a socket that is not read from. It is made when it is first needed, which is never for most connections.
#[derive(Default)]
struct Breaks<'a>(Option<Pin<Box<dyn Future<Output = std::io::Result<tokio::io::Ready>> + 'a>>>);

impl<'a> Breaks<'a> {
    fn poll(&mut self, stream: &'a TcpStream, context: &mut Context<'_>) -> Poll<()> {
        let waiting = self.0.get_or_insert_with(|| Box::pin(stream.ready(Interest::ERROR)));
        waiting.as_mut().poll(context).map(drop)
    }
}

/// The timer of a connection, which is set anew only when it goes off.
struct Idle {
    time: Duration,
    moved: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    fn new(time: Duration) -> Self {
        Self { time, moved: Instant::now(), timer: Box::pin(sleep(time)) }
    }

    fn poll(&mut self, moved: bool, context: &mut Context<'_>) -> Poll<()> {
        if moved {
            self.moved = Instant::now();
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let until = self.moved + self.time;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until.into());
        }
        Poll::Pending
    }
}
