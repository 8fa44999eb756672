//! Bytes from socket to socket within the kernel, by `splice(2)` through a pipe: pages change hands, nothing is copied.

use std::io::Result;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;

/// Asked for at a time: more than any pipe holds.
const MOST: usize = 1 << 20;
/// Pipes a worker keeps for the next who needs one.
const KEPT: usize = 32;

pub(super) struct Pipe {
    reads: OwnedFd,
    writes: OwnedFd,
    /// Bytes within.
    pub(super) holds: usize,
}

impl Pipe {
    fn new() -> Result<Self> {
        let (reads, writes) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        Ok(Self { reads, writes, holds: 0 })
    }

    /// Takes what a socket has; 0: its end. Asked only while the pipe is empty, `WouldBlock` is the socket's.
    pub(super) fn fill(&mut self, from: &impl AsFd) -> Result<usize> {
        let count = splice(from, None, &self.writes, None, MOST, SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK)?;
        self.holds += count;
        Ok(count)
    }

    /// Gives a socket what it takes.
    pub(super) fn drain(&mut self, to: &impl AsFd) -> Result<usize> {
        let count = splice(&self.reads, None, to, None, self.holds, SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK)?;
        self.holds -= count.min(self.holds);
        Ok(count)
    }
}

/// A worker's empty pipes.
#[derive(Default)]
pub(super) struct Pipes(Vec<Pipe>);

impl Pipes {
    /// None: there are no descriptors for one, and copying goes on.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        self.0.pop().or_else(|| Pipe::new().ok())
    }

    /// One with bytes within is no use to anybody else.
    pub(super) fn put(&mut self, pipe: Pipe) {
        if pipe.holds == 0 && self.0.len() < KEPT {
            self.0.push(pipe);
        }
    }
}
