//! A socket that several have, as one worker's event loop knows it. tokio's own listeners own their descriptors, so that a second one would be needed wherever
//! a socket is also kept: for a successor, or for another worker.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) type Watched<S> = AsyncFd<Arc<S>>;

/// Has this thread's event loop tell when `interest` may succeed. The socket does not block. It stays open as long as what is returned lives.
///
/// Errors: the event loop takes no more sockets.
#[expect(unsafe_code, reason = "tokio asks its caller to see to it that the descriptor stays open, which the shared owner here does")]
pub(crate) fn watch<S: AsRawFd + Into<OwnedFd>>(socket: Arc<S>, interest: Interest) -> io::Result<Watched<S>> {
    // SAFETY: `S` owns its descriptor, as it can be turned into one, and it cannot close while `AsyncFd` holds the `Arc` (tests/{tcp,udp_limits}.rs).
    unsafe { Watched::register_with_interest(socket, interest) }.map_err(io::Error::from)
}
