//! How a new gateway takes the place of a running one, with no connection lost: the same sockets go on, in another process.
//!
//! The new process binds nothing that the old one has. It asks for the sockets themselves, over `takeover.sock` in the state folder, and gets them
//! by `SCM_RIGHTS` (unix(7)), with their queues: a socket closes only when its last holder closes it, so whatever the kernel accepts at any moment
//! is in a queue that one of the two serves. Sockets of its own beside the old ones, which SO_REUSEPORT would allow, could not promise that: a
//! listener that closes resets the handshakes and connections in its own queue, unless `net.ipv4.tcp_migrate_req` is set.
//!
//! ```text
//! new                                  old
//!  │── "take over 1" ──────────────────►│  holds changes of the configuration back
//!  │◄── the sockets, then the lock ─────│  and both serve from here
//!  │── "serving" ──────────────────────►│  accepts no more,
//!  │◄── "left" ─────────────────────────│  drains and ends
//! ```
//! When the new one ends or errs before "serving", the old one goes on as if nothing had been asked.
//!
//! Who may ask: whoever may open the state folder's socket (its mode is 0600), and only a process of the same user.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_seqpacket::ancillary::{AncillaryMessageWriter, OwnedAncillaryMessage};
use tokio_seqpacket::{UCred, UnixSeqpacket, UnixSeqpacketListener};

const NAME: &str = "takeover.sock";
const ASK: &[u8] = b"take over 1";
const SOCKETS: &[u8] = b"sockets";
const LOCK: &[u8] = b"lock";
const SERVING: &[u8] = b"serving";
const LEFT: &[u8] = b"left";
/// Descriptors in one message; the kernel takes 253 (unix(7)).
const AT_ONCE: usize = 128;
/// More than a control message with so many needs.
const ANCILLARY: usize = 1024;
/// For a message that needs no work.
const ANSWER: Duration = Duration::from_secs(10);
/// For a successor to compile its plugins, find its endpoints, and serve.
const SERVE: Duration = Duration::from_secs(120);
/// After an accept fails for want of descriptors, trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What a predecessor hands over.
pub(crate) struct Handed {
    /// Of TCP, which listen, and of UDP.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Of the state folder: held by both until the old one ends.
    pub(crate) lock: File,
    predecessor: UnixSeqpacket,
}

/// Asks the gateway that runs with this state folder; none: there is none.
pub(crate) async fn ask(folder: &Path) -> Result<Option<Handed>> {
    let predecessor = match UnixSeqpacket::connect(folder.join(NAME)).await {
        Ok(connected) => connected,
        // Not there, or left behind by one that was killed.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error),
    };
    predecessor.send(ASK).await?;
    let mut sockets = Vec::new();
    loop {
        let (word, descriptors) = timeout(ANSWER, receive(&predecessor)).await??;
        match (word.as_slice(), descriptors) {
            (SOCKETS, descriptors) => sockets.extend(descriptors),
            (LOCK, mut descriptors) => {
                let lock = File::from(descriptors.pop().ok_or(ErrorKind::InvalidData)?);
                return Ok(Some(Handed { sockets, lock, predecessor }));
            }
            _ => return Err(Error::new(ErrorKind::InvalidData, "the running gateway hands over in another way")),
        }
    }
}

impl Handed {
    /// Tells the predecessor that its work is done here. It accepts no more when this returns, or it has ended.
    pub(crate) async fn serving(predecessor: UnixSeqpacket) -> Result<()> {
        predecessor.send(SERVING).await?;
        let (word, _) = timeout(ANSWER, receive(&predecessor)).await??;
        if word == LEFT { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Its parts.
    pub(crate) fn split(self) -> (Vec<OwnedFd>, File, UnixSeqpacket) {
        (self.sockets, self.lock, self.predecessor)
    }
}

/// What there is to hand over.
pub(crate) struct Estate {
    /// Called when somebody asks.
    pub(crate) sockets: Box<dyn Fn() -> Vec<OwnedFd> + Send + Sync>,
    pub(crate) lock: File,
    /// Held while the configuration changes: whoever holds it keeps it as it is.
    pub(crate) turns: Arc<Mutex<()>>,
}

/// Where successors ask.
pub(crate) struct Succession(UnixSeqpacketListener);

impl Succession {
    /// The folder is this process's alone: what stands there was left behind.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixSeqpacketListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self(listener))
    }

    /// Waits until a successor serves.
    pub(crate) async fn succeeded(mut self, estate: Estate) -> Successor {
        loop {
            let successor = match self.0.accept().await {
                Ok(successor) => successor,
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            match hand_over(&successor, &estate).await {
                Ok(()) => return Successor(successor),
                Err(error) => tracing::warn!(%error, "a successor did not come to serve; this gateway goes on"),
            }
        }
    }
}

/// One that serves.
pub(crate) struct Successor(UnixSeqpacket);

impl Successor {
    /// Tells it that nothing is accepted here any more.
    pub(crate) async fn left(self) {
        // If it is gone meanwhile, this gateway has left nevertheless: it was told so.
        let _ = timeout(ANSWER, self.0.send(LEFT)).await;
    }
}

async fn hand_over(to: &UnixSeqpacket, estate: &Estate) -> Result<()> {
    if to.peer_cred()?.uid() != UCred::from_current_process().uid() {
        return Err(Error::new(ErrorKind::PermissionDenied, "it is another user's"));
    }
    expect(to, ASK, ANSWER).await?;
    tracing::info!("a successor takes over");
    let _held = estate.turns.lock().await;
    let sockets = (estate.sockets)();
    for some in sockets.chunks(AT_ONCE) {
        let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
        timeout(ANSWER, send(to, SOCKETS, &some)).await??;
    }
    timeout(ANSWER, send(to, LOCK, &[estate.lock.as_fd()])).await??;
    drop(sockets);
    expect(to, SERVING, SERVE).await
}

async fn expect(from: &UnixSeqpacket, wanted: &[u8], patience: Duration) -> Result<()> {
    let (word, _) = timeout(patience, receive(from)).await??;
    match word.as_slice() {
        word if word == wanted => Ok(()),
        b"" => Err(ErrorKind::UnexpectedEof.into()),
        _ => Err(Error::new(ErrorKind::InvalidData, "it says what is not understood")),
    }
}

async fn send(to: &UnixSeqpacket, word: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [0; ANCILLARY];
    let mut ancillary = AncillaryMessageWriter::new(&mut space);
    ancillary.add_fds(descriptors)?;
    to.send_with_ancillary(word, &mut ancillary).await.map(drop)
}

/// A message, empty at the end, and the descriptors it carries.
async fn receive(from: &UnixSeqpacket) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut word, mut space) = ([0; 64], [0; ANCILLARY]);
    let (info, ancillary) = from.recv_with_ancillary(&mut word, &mut space).await?;
    let mut descriptors = Vec::new();
    for message in ancillary.into_messages() {
        if let OwnedAncillaryMessage::FileDescriptors(some) = message {
            descriptors.extend(some);
        }
    }
    Ok((word[..info.bytes_read()].to_vec(), descriptors))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn estate(folder: &Path) -> (Estate, TcpListener) {
        let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
        let handed = socket.try_clone().expect("cloned");
        let sockets = Box::new(move || (0..300).map(|_| handed.try_clone().expect("cloned").into()).collect());
        let lock = File::create(folder.join("lock")).expect("created");
        (Estate { sockets, lock, turns: Arc::default() }, socket)
    }

    #[tokio::test]
    async fn sockets_and_lock_are_handed_over_and_the_old_one_leaves_once_the_new_one_serves() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(ask(folder.path()).await.expect("asked").is_none(), "nobody is there");
        let succession = Succession::open(folder.path()).expect("opened");
        let (estate, socket) = estate(folder.path());
        estate.lock.try_lock().expect("free");
        let turns = estate.turns.clone();
        let old = tokio::spawn(succession.succeeded(estate));
        // One that asks, and is gone.
        drop(ask(folder.path()).await.expect("asked").expect("there"));
        let (sockets, lock, old_end) = ask(folder.path()).await.expect("asked").expect("there").split();
        assert_eq!(sockets.len(), 300, "in several messages");
        let last = TcpListener::from(sockets.into_iter().next_back().expect("300"));
        assert_eq!(last.local_addr().expect("bound"), socket.local_addr().expect("bound"));
        assert!(turns.try_lock().is_err(), "the configuration stays as it is");
        let new = tokio::spawn(Handed::serving(old_end));
        old.await.expect("succeeded").left().await;
        new.await.expect("told").expect("left");
        let other = File::open(folder.path().join("lock")).expect("opened");
        assert!(other.try_lock().is_err(), "the lock goes on with the successor");
        drop(lock);
        other.try_lock().expect("free");
    }

    #[tokio::test]
    async fn what_a_killed_gateway_left_behind_is_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Succession::open(folder.path()).expect("opened"));
        assert!(folder.path().join(NAME).exists() && ask(folder.path()).await.expect("asked").is_none());
        Succession::open(folder.path()).expect("opened again");
    }
}
