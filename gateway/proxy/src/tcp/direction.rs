//! One direction of a relayed connection: bytes are copied, or spliced while many move; then the end is passed on.
//!
//! Copying goes through one buffer, which all connections of a worker share. What is read is written at once, and only what the receiver does not take is kept, in
//! a buffer of the direction's own. So a silent connection holds no memory, and the shared buffer stays in the processor's cache.

use std::io::{ErrorKind, Result};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipe::{Pipe, Pipes};

/// How many bytes are read at a time when copying.
const BUFFER: usize = 64 << 10;
/// After so many bytes in reads of at least [`LARGE`] in a row, a direction is spliced.
const BULK: usize = 512 << 10;
const LARGE: usize = 16 << 10;
/// After so many fills of a pipe with less than [`LARGE`] in a row, it is copied again.
const SMALL_FILLS: u8 = 8;

/// What the directions of a worker share.
pub(crate) struct Tools {
    buffer: Box<[u8]>,
    pipes: Pipes,
}

impl Default for Tools {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER].into(), pipes: Pipes::default() }
    }
}

/// The side whose socket has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Sender,
    Receiver,
}

#[derive(Default)]
pub(super) struct Direction {
    /// What was read and not taken yet: the bytes from `sent` on.
    kept: Vec<u8>,
    sent: usize,
    /// The number of bytes that were read.
    pub(super) bytes: u64,
    pipe: Option<Pipe>,
    /// The number of bytes in large reads in a row.
    bulk: usize,
    small_fills: u8,
    /// Whether the sender has ended.
    ended: bool,
    /// Whether the sender's end was passed on.
    pub(super) done: bool,
}

impl Direction {
    /// A direction whose first bytes were read already.
    pub(super) fn after(first: &[u8]) -> Self {
        Self { kept: first.to_vec(), bytes: first.len() as u64, ..Self::default() }
    }

    /// Whether the sender is not read from, so that its reset would not be seen.
    pub(super) fn is_deaf(&self) -> bool {
        self.ended || !self.kept.is_empty() || self.pipe.is_some()
    }

    /// Moves what can be moved. Is ready when the sender's end has been passed on. `moved` is set if bytes have moved. `last`: the other direction has ended, so
    /// closing the sockets tells everything.
    pub(super) fn poll(
        &mut self,
        (from, to): (&TcpStream, &TcpStream),
        tools: &mut Tools,
        last: bool,
        moved: &mut bool,
        context: &mut Context<'_>,
    ) -> Poll<std::result::Result<(), Broken>> {
        while !self.done {
            ready!(self.poll_flush(to, moved, context)).map_err(|_| Broken::Receiver)?;
            if self.ended {
                if !last {
                    SockRef::from(to).shutdown(Shutdown::Write).map_err(|_| Broken::Receiver)?;
                }
                self.done = true;
                break;
            }
            if self.pipe.is_some() {
                ready!(self.poll_fill(from, tools, context)).map_err(|_| Broken::Sender)?;
            } else {
                ready!(self.poll_copy(from, to, tools, context))?;
            }
            *moved = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what was read before.
    fn poll_flush(&mut self, to: &TcpStream, moved: &mut bool, context: &mut Context<'_>) -> Poll<Result<()>> {
        while self.sent < self.kept.len() {
            self.sent += ready!(poll_write(to, &self.kept[self.sent..], context))?;
            *moved = true;
        }
        if !self.kept.is_empty() {
            (self.kept, self.sent) = (Vec::new(), 0);
        }
        while let Some(pipe) = self.pipe.as_mut().filter(|p| p.holds > 0) {
            // A short count says nothing here either, as it may end at a page.
            let count = ready!(poll_io(to, Interest::WRITABLE, 0, || pipe.drain(to), context))?;
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            *moved = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and writes once. After this the direction may be spliced.
    fn poll_copy(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        tools: &mut Tools,
        context: &mut Context<'_>,
    ) -> Poll<std::result::Result<(), Broken>> {
        if self.bulk >= BULK {
            (self.bulk, self.small_fills) = (0, 0);
            self.pipe = tools.pipes.take();
            if self.pipe.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
        let read = poll_io(from, Interest::READABLE, BUFFER, || Ok(rustix::io::read(from, &mut *tools.buffer)?), context);
        let read = ready!(read).map_err(|_| Broken::Sender)?;
        let read = &tools.buffer[..read];
        self.bytes += read.len() as u64;
        self.ended = read.is_empty();
        self.bulk = if read.len() >= LARGE { self.bulk + read.len() } else { 0 };
        let mut rest = read;
        while !rest.is_empty() {
            match poll_write(to, rest, context) {
                Poll::Ready(taken) => rest = &rest[taken.map_err(|_| Broken::Receiver)?..],
                Poll::Pending => break,
            }
        }
        self.kept.extend_from_slice(rest);
        Poll::Ready(Ok(()))
    }

    /// Fills the pipe once. A direction that waits gives the pipe back, and takes one again when more comes, so that a silent connection holds none.
    fn poll_fill(&mut self, from: &TcpStream, tools: &mut Tools, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(mut pipe) = self.pipe.take() else { return Poll::Ready(Ok(())) };
        if self.small_fills >= SMALL_FILLS {
            tools.pipes.put(pipe);
            return Poll::Ready(Ok(()));
        }
        // A short count says nothing, as a pipe may be full.
        match poll_io(from, Interest::READABLE, 0, || pipe.fill(from), context) {
            Poll::Pending => {
                tools.pipes.put(pipe);
                self.bulk = BULK;
                Poll::Pending
            }
            Poll::Ready(filled) => {
                let filled = filled?;
                self.bytes += filled as u64;
                self.ended = filled == 0;
                self.small_fills = if filled < LARGE { self.small_fills + 1 } else { 0 };
                if self.ended {
                    tools.pipes.put(pipe);
                } else {
                    self.pipe = Some(pipe);
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

fn poll_write(to: &TcpStream, bytes: &[u8], context: &mut Context<'_>) -> Poll<Result<usize>> {
    match ready!(poll_io(to, Interest::WRITABLE, bytes.len(), || Ok(rustix::io::write(to, bytes)?), context))? {
        0 => Poll::Ready(Err(ErrorKind::WriteZero.into())),
        count => Poll::Ready(Ok(count)),
    }
}

/// Makes one system call on a socket, when it is ready for it. A count below `whole` says that the next call would find nothing. So the readiness is given up at
/// once, as by tokio's own streams with epoll, which saves that call.
fn poll_io(
    stream: &TcpStream,
    interest: Interest,
    whole: usize,
    mut call: impl FnMut() -> Result<usize>,
    context: &mut Context<'_>,
) -> Poll<Result<usize>> {
    loop {
        ready!(if interest.is_readable() { stream.poll_read_ready(context) } else { stream.poll_write_ready(context) })?;
        let mut short = None;
        let done = stream.try_io(interest, || match call()? {
            count if (1..whole).contains(&count) => {
                short = Some(count);
                Err(ErrorKind::WouldBlock.into())
            }
            count => Ok(count),
        });
        match (short, done) {
            (Some(count), _) | (None, Ok(count)) => return Poll::Ready(Ok(count)),
            (None, Err(error)) if error.kind() == ErrorKind::WouldBlock => {}
            (None, Err(error)) if error.kind() == ErrorKind::Interrupted => {}
            (None, Err(error)) => return Poll::Ready(Err(error)),
        }
    }
}
