//! How a new gateway takes the place of a running one, with no connection lost: the same sockets go on, in another process.
//!
//! The new process binds nothing that the old one has. It asks for the sockets themselves, over `takeover.sock` in the state folder, and gets them
//! by `SCM_RIGHTS` (unix(7)), with their queues: a socket closes only when its last holder closes it, so whatever the kernel accepts at any moment
//! is in a queue that one of the two serves. Sockets of its own beside the old ones, which SO_REUSEPORT would allow, could not promise that: a
//! listener that closes resets the handshakes and connections in its own queue, unless `net.ipv4.tcp_migrate_req` is set.
//!
//! ```text
//! new                                  old
//!  │── "take over 2" ──────────────────►│  holds changes of the configuration back
//!  │◄── the sockets ────────────────────│
//!  │◄── the secrets of session tickets ─│
//!  │◄── the lock ───────────────────────│  and both serve from here
//!  │── "serving" ──────────────────────►│  accepts no more,
//!  │◄── "left" ─────────────────────────│  drains and ends
//! ```
//! When the new one ends or errs before "serving", the old one goes on as if nothing had been asked. Version 1, of earlier releases, is the same without
//! the secrets: whoever asks for it gets that, and a running gateway that closes at "take over 2" is asked for it. TLS sessions begin anew then.
//!
//! Who may ask: whoever may open the state folder's socket (its mode is 0600), and only a process of the same user.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_model::tls::{TicketSecret, TicketSecrets};
use sluicegate_proxy::AnySocket;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_seqpacket::ancillary::{AncillaryMessageWriter, OwnedAncillaryMessage};
use tokio_seqpacket::{UCred, UnixSeqpacket, UnixSeqpacketListener};
use zeroize::Zeroizing;

const NAME: &str = "takeover.sock";
const ASK: &[u8] = b"take over 2";
const ASK_FIRST: &[u8] = b"take over 1";
const SOCKETS: &[u8] = b"sockets";
/// The message that the secrets follow.
const TICKETS: &[u8] = b"tickets ";
const LOCK: &[u8] = b"lock";
const SERVING: &[u8] = b"serving";
const LEFT: &[u8] = b"left";
/// How many descriptors one message carries. The kernel takes 253 (unix(7)).
const AT_ONCE: usize = 128;
/// Room for a control message, which is more than that many descriptors need.
const ANCILLARY: usize = 1024;
/// The size of one message, in bytes. Earlier releases read 64, and are not sent longer ones.
const MESSAGE: usize = 1024;
/// How many secrets are sent: the newest, and all that still open a ticket. A message has room for more.
const MOST_SECRETS: usize = 16;
/// How long an answer that needs no work may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a successor may take to compile its plugins, find its endpoints, and serve.
const SERVE: Duration = Duration::from_secs(120);
/// How long to wait after an accept has failed for want of descriptors, as trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What a predecessor hands over.
pub(crate) struct Handed {
    /// Sockets of TCP, which listen, and of UDP.
    pub(crate) sockets: Vec<OwnedFd>,
    /// The lock of the state folder, which both hold until the old gateway ends.
    pub(crate) lock: File,
    /// The secrets of session tickets; a predecessor of an earlier release sends none.
    pub(crate) tickets: Vec<TicketSecret>,
    predecessor: UnixSeqpacket,
}

/// Asks the gateway that runs with this state folder to hand over; none: there is none.
pub(crate) async fn ask(folder: &Path) -> Result<Option<Handed>> {
    match ask_for(folder, ASK).await {
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            let handed = ask_for(folder, ASK_FIRST).await?;
            if handed.is_some() {
                tracing::warn!(
                    "the running gateway is of an earlier release and hands over no secrets of session tickets: TLS sessions begin anew"
                );
            }
            Ok(handed)
        }
        other => other,
    }
}

async fn ask_for(folder: &Path, version: &[u8]) -> Result<Option<Handed>> {
    let predecessor = match UnixSeqpacket::connect(folder.join(NAME)).await {
        Ok(connected) => connected,
        // The socket is not there, or was left behind by a process that was killed.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error),
    };
    predecessor.send(version).await?;
    let (mut sockets, mut tickets) = (Vec::new(), Vec::new());
    loop {
        let (word, descriptors) = timeout(ANSWER, receive(&predecessor)).await??;
        match (word.as_slice(), descriptors) {
            (SOCKETS, descriptors) => sockets.extend(descriptors),
            (LOCK, mut descriptors) => {
                let lock = File::from(descriptors.pop().ok_or(ErrorKind::InvalidData)?);
                return Ok(Some(Handed { sockets, lock, tickets, predecessor }));
            }
            (word, _) if word.starts_with(TICKETS) => {
                let secrets = word[TICKETS.len()..].chunks(TicketSecret::SIZE).map(TicketSecret::from_bytes);
                tickets = secrets.collect::<Option<_>>().ok_or(ErrorKind::InvalidData)?;
            }
            (b"", _) => return Err(ErrorKind::UnexpectedEof.into()),
            _ => return Err(Error::new(ErrorKind::InvalidData, "the running gateway hands over in another way")),
        }
    }
}

impl Handed {
    /// Tells the predecessor that this gateway serves. When this returns, the predecessor accepts no more, or has ended.
    pub(crate) async fn serving(predecessor: UnixSeqpacket) -> Result<()> {
        predecessor.send(SERVING).await?;
        let (word, _) = timeout(ANSWER, receive(&predecessor)).await??;
        if word.as_slice() == LEFT { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// The parts of what was handed over.
    pub(crate) fn split(self) -> (Vec<OwnedFd>, File, Vec<TicketSecret>, UnixSeqpacket) {
        (self.sockets, self.lock, self.tickets, self.predecessor)
    }
}

/// What there is to hand over.
pub(crate) struct Estate {
    /// Gives the sockets, when a successor asks.
    pub(crate) sockets: Box<dyn Fn() -> Vec<AnySocket> + Send + Sync>,
    /// The lock of the state folder. None: the folder could not be written, so there is no socket in it at which to ask either.
    pub(crate) lock: Option<File>,
    /// The secrets: those with which tickets are sealed, and earlier ones that still open some.
    pub(crate) tickets: Arc<TicketSecrets>,
    /// Is locked while the configuration or these secrets change. Whoever holds it keeps them as they are.
    pub(crate) turns: Arc<Mutex<()>>,
}

/// The socket at which successors ask.
pub(crate) struct Succession(UnixSeqpacketListener);

impl Succession {
    /// Opens the socket. The folder belongs to this process, so what stands there was left behind.
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

/// A successor that serves.
pub(crate) struct Successor(UnixSeqpacket);

impl Successor {
    /// Tells the successor that nothing is accepted here any more.
    pub(crate) async fn left(self) {
        // If it has ended meanwhile, this gateway has left nevertheless, as it was told.
        let _ = timeout(ANSWER, self.0.send(LEFT)).await;
    }
}

async fn hand_over(to: &UnixSeqpacket, estate: &Estate) -> Result<()> {
    if to.peer_cred()?.uid() != UCred::from_current_process().uid() {
        return Err(Error::new(ErrorKind::PermissionDenied, "it is another user's"));
    }
    let (version, _) = timeout(ANSWER, receive(to)).await??;
    match version.as_slice() {
        ASK => tracing::info!("a successor takes over"),
        ASK_FIRST => tracing::info!("a successor of an earlier release takes over: TLS sessions begin anew"),
        other => return Err(not_understood(other)),
    }
    let _held = estate.turns.lock().await;
    let sockets = (estate.sockets)();
    for some in sockets.chunks(AT_ONCE) {
        let some: Vec<BorrowedFd<'_>> = some.iter().map(|socket| socket.as_fd()).collect();
        timeout(ANSWER, send(to, SOCKETS, &some)).await??;
    }
    if version.as_slice() == ASK {
        let mut message = Zeroizing::new(Vec::with_capacity(MESSAGE));
        message.extend(TICKETS);
        estate.tickets.all().iter().take(MOST_SECRETS).for_each(|secret| message.extend(secret.to_bytes().iter()));
        timeout(ANSWER, to.send(&message)).await??;
    }
    let lock = estate.lock.as_ref().ok_or(ErrorKind::Unsupported)?;
    timeout(ANSWER, send(to, LOCK, &[lock.as_fd()])).await??;
    drop(sockets);
    expect(to, SERVING, SERVE).await
}

async fn expect(from: &UnixSeqpacket, wanted: &[u8], patience: Duration) -> Result<()> {
    let (word, _) = timeout(patience, receive(from)).await??;
    match word.as_slice() {
        word if word == wanted => Ok(()),
        other => Err(not_understood(other)),
    }
}

fn not_understood(word: &[u8]) -> Error {
    match word {
        b"" => ErrorKind::UnexpectedEof.into(),
        _ => Error::new(ErrorKind::InvalidData, "it says what is not understood"),
    }
}

async fn send(to: &UnixSeqpacket, word: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [0; ANCILLARY];
    let mut ancillary = AncillaryMessageWriter::new(&mut space);
    ancillary.add_fds(descriptors)?;
    to.send_with_ancillary(word, &mut ancillary).await.map(drop)
}

/// Receives a message, which is empty at the end, and the descriptors that it carries.
async fn receive(from: &UnixSeqpacket) -> Result<(Zeroizing<Vec<u8>>, Vec<OwnedFd>)> {
    let (mut word, mut space) = (Zeroizing::new(vec![0; MESSAGE]), [0; ANCILLARY]);
    let (info, ancillary) = from.recv_with_ancillary(&mut word, &mut space).await?;
    let mut descriptors = Vec::new();
    for message in ancillary.into_messages() {
        if let OwnedAncillaryMessage::FileDescriptors(some) = message {
            descriptors.extend(some);
        }
    }
    word.truncate(info.bytes_read());
    Ok((word, descriptors))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn estate(folder: &Path) -> (Estate, TcpListener) {
        let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
        let handed = socket.try_clone().expect("cloned");
        let sockets = Box::new(move || (0..300).map(|_| Arc::new(handed.try_clone().expect("cloned")) as AnySocket).collect());
        let lock = File::create(folder.join("lock")).expect("created");
        let tickets = Arc::new(TicketSecrets::fresh().expect("random bytes"));
        (Estate { sockets, lock: Some(lock), tickets, turns: Arc::default() }, socket)
    }

    #[tokio::test]
    async fn sockets_and_lock_are_handed_over_and_the_old_one_leaves_once_the_new_one_serves() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(ask(folder.path()).await.expect("asked").is_none(), "nobody is there");
        let succession = Succession::open(folder.path()).expect("opened");
        let (estate, socket) = estate(folder.path());
        estate.lock.as_ref().expect("a lock").try_lock().expect("free");
        let (turns, ours) = (estate.turns.clone(), estate.tickets.all());
        let old = tokio::spawn(succession.succeeded(estate));
        // One that asks and is gone.
        drop(ask(folder.path()).await.expect("asked").expect("there"));
        let (sockets, lock, tickets, old_end) = ask(folder.path()).await.expect("asked").expect("there").split();
        assert_eq!(sockets.len(), 300, "in several messages");
        assert_eq!(tickets[0].to_bytes(), ours[0].to_bytes());
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

    /// A successor of an earlier release asks, and reads, as this one does.
    #[tokio::test]
    async fn a_successor_of_an_earlier_release_is_sent_what_it_understands() {
        let folder = tempfile::tempdir().expect("a folder");
        let succession = Succession::open(folder.path()).expect("opened");
        let (estate, _socket) = estate(folder.path());
        let old = tokio::spawn(succession.succeeded(estate));
        let new = UnixSeqpacket::connect(folder.path().join(NAME)).await.expect("connected");
        new.send(b"take over 1").await.expect("sent");
        loop {
            let (mut word, mut space) = ([0; 64], [0; ANCILLARY]);
            let (info, _) = new.recv_with_ancillary(&mut word, &mut space).await.expect("received");
            match &word[..info.bytes_read()] {
                b"sockets" => {}
                b"lock" => break,
                other => panic!("{other:?}"),
            }
        }
        new.send(SERVING).await.expect("sent");
        old.await.expect("succeeded");
    }

    /// A predecessor of an earlier release closes at what it does not know.
    #[tokio::test]
    async fn a_predecessor_of_an_earlier_release_is_asked_in_its_own_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut listener = UnixSeqpacketListener::bind(folder.path().join(NAME)).expect("bound");
        let lock = File::create(folder.path().join("lock")).expect("created");
        let old = tokio::spawn(async move {
            loop {
                let new = listener.accept().await.expect("accepted");
                let mut word = [0; 64];
                let count = new.recv(&mut word).await.expect("received");
                if word[..count.bytes_read()] == *b"take over 1" {
                    send(&new, b"sockets", &[lock.as_fd()]).await.expect("sent");
                    send(&new, b"lock", &[lock.as_fd()]).await.expect("sent");
                    return new;
                }
            }
        });
        let handed = ask(folder.path()).await.expect("asked").expect("there");
        assert_eq!((handed.sockets.len(), handed.tickets.len()), (1, 0));
        old.await.expect("asked");
    }

    #[tokio::test]
    async fn what_a_killed_gateway_left_behind_is_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Succession::open(folder.path()).expect("opened"));
        assert!(folder.path().join(NAME).exists() && ask(folder.path()).await.expect("asked").is_none());
        Succession::open(folder.path()).expect("opened again");
    }
}
