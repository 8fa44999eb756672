//! A worker's socket as the library sees it: packets of other workers' connections are handed over, and those that others hand over arrive as if they had
//! been received here.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::sync::mpsc::Receiver;

use super::post::{Packet, Post};
use crate::watched::{Watched, watch};

/// One socket, with what the kernel offers for it: several packets in one call, several segments in one packet.
struct One {
    socket: Watched<UdpSocket>,
    state: UdpSocketState,
}

/// The sockets of one address and worker. There are several if a predecessor with more workers has handed them over.
pub(super) struct Socket {
    sockets: Vec<One>,
    local: SocketAddr,
    worker: u16,
    post: Arc<Post>,
    queue: Mutex<Receiver<Packet>>,
    /// Whether nothing is received any more but what is handed over, as a successor receives from the same sockets.
    silent: AtomicBool,
}

impl Socket {
    /// `sockets` is not empty.
    pub(super) fn new(
        sockets: impl IntoIterator<Item = Arc<UdpSocket>>,
        local: SocketAddr,
        worker: u16,
        post: Arc<Post>,
        queue: Receiver<Packet>,
    ) -> io::Result<Self> {
        let one = |socket: Arc<UdpSocket>| {
            let state = UdpSocketState::new(UdpSockRef::from(&*socket))?;
            Ok(One { socket: watch(socket, Interest::READABLE | Interest::WRITABLE)?, state })
        };
        let sockets = sockets.into_iter().map(one).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { sockets, local, worker, post, queue: Mutex::new(queue), silent: AtomicBool::new(false) })
    }

    /// Receives nothing any more but what is handed over.
    pub(super) fn silence(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Takes what was handed over.
    fn poll_handed(&self, context: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Poll::Ready(Some(packet)) = queue.poll_recv(context) else { break };
            // A packet that is larger than one may be is dropped.
            let Some(room) = buffer.get_mut(..packet.bytes.len()) else { continue };
            room.copy_from_slice(&packet.bytes);
            let len = packet.bytes.len();
            *meta = RecvMeta::default();
            (meta.addr, meta.dst_ip, meta.ecn, meta.len, meta.stride) = (packet.from, packet.to, packet.ecn, len, len);
            taken += 1;
        }
        taken
    }

    /// Hands over what belongs to others. What is left stands at the beginning of the buffer.
    fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let (mut kept, mut at) = (0, 0);
        while at < meta.len {
            let end = (at + stride).min(meta.len);
            let Some(packet) = buffer.get(at..end) else { break };
            match self.post.other(packet, self.worker) {
                Some(other) => {
                    let packet = Packet { from: meta.addr, to: meta.dst_ip, ecn: meta.ecn, bytes: packet.into() };
                    self.post.hand_over(packet, other);
                }
                None if self.post.passes(self.local, packet, meta.addr, meta.dst_ip, meta.ecn) => {}
                None => {
                    if kept != at {
                        buffer.copy_within(at..end, kept);
                    }
                    kept += end - at;
                }
            }
            at = end;
        }
        meta.len = kept;
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(first) = self.sockets.first() else { return Err(io::ErrorKind::NotConnected.into()) };
        first.socket.try_io(Interest::WRITABLE, |socket| first.state.send(UdpSockRef::from(&**socket), transmit))
    }

    fn poll_recv(&self, context: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let handed = self.poll_handed(context, buffers, metas);
        if handed > 0 {
            return Poll::Ready(Ok(handed));
        }
        if self.silent.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        for one in &self.sockets {
            while let Poll::Ready(guard) = one.socket.poll_read_ready(context) {
                let mut guard = guard?;
                let Ok(received) = guard.try_io(|socket| one.state.recv(UdpSockRef::from(&**socket.get_ref()), buffers, metas)) else {
                    continue;
                };
                let received = received?;
                if received < metas.len() {
                    // The kernel had no more, so it need not be asked again: what arrives from now on makes the socket ready anew.
                    guard.clear_ready();
                }
                for (buffer, meta) in buffers.iter_mut().zip(&mut *metas).take(received) {
                    // A packet of which nothing is left is passed over by the library.
                    self.sort(buffer, meta);
                }
                return Poll::Ready(Ok(received));
            }
        }
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn may_fragment(&self) -> bool {
        self.sockets.iter().any(|one| one.state.may_fragment())
    }

    fn max_transmit_segments(&self) -> usize {
        self.sockets.first().map_or(1, |one| one.state.max_gso_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.sockets.iter().map(|one| one.state.gro_segments()).max().unwrap_or(1)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QUIC socket of worker {} at {}", self.worker, self.local)
    }
}

/// Waits until the socket takes packets again. Each connection has one, with a place of its own among those that wait.
struct Writable {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.clone();
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(async move {
                match socket.sockets.first() {
                    Some(first) => first.socket.writable().await.map(drop),
                    None => Ok(()),
                }
            })
        });
        let outcome = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} to be written", self.socket)
    }
}
