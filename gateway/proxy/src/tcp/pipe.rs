//! Moves bytes from socket to socket within the kernel, by `splice(2)` through a pipe: pages change hands, and nothing is copied.

use std::io::Result;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;

/// How many bytes are asked for at a time, which is more than a pipe holds.
const MOST: usize = 1 << 20;
/// How many pipes a worker keeps.
const KEPT: usize = 32;

pub(super) struct Pipe {
    reads: OwnedFd,
    writes: OwnedFd,
    /// The number of bytes in the pipe.
    pub(super) holds: usize,
}

impl Pipe {
    fn new() -> Result<Self> {
        let (reads, writes) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        Ok(Self { reads, writes, holds: 0 })
    }

    /// Takes what a socket has; 0: its end. As the pipe must be empty, `WouldBlock` means that the socket has nothing.
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
    /// Takes a pipe. None: there are no descriptors for one, and copying goes on.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        self.0.pop().or_else(|| Pipe::new().ok())
    }

    /// Gives a pipe back. One that holds bytes is of no use to others.
    pub(super) fn put(&mut self, pipe: Pipe) {
        if pipe.holds == 0 && self.0.len() < KEPT {
            self.0.push(pipe);
        }
    }
}
