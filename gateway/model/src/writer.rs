//! Writes lines to a reader that may be slow, stand still or be gone: there is a bounded queue, and one thread that writes. Nobody who has a line to write
//! waits: lines for which there is no room are dropped and counted.

use std::io::{ErrorKind, Result, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::time::{Duration, Instant};

use crate::stats::{LogStats, add};

/// How many bytes may wait for a writer.
pub const MOST_WAITING: usize = 8 << 20;
/// How many bytes that wait are written together.
const TOGETHER: usize = 64 << 10;
/// How often a sink is asked to look after itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often dropped lines are told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long the writer has at the end to write what waits.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// After how much time a descriptor is tried again that another process made non-blocking, and that takes nothing now.
const FULL: Duration = Duration::from_millis(10);

/// The place that lines are written to.
pub trait Sink: Send + 'static {
    /// Writes whole lines. It may take its time.
    ///
    /// # Errors
    /// Some lines cannot be written. Later ones are tried nevertheless.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Is called before lines are written, and about once a second.
    fn look(&mut self) {}

    /// Is called when lines are written again, after so many had been dropped.
    fn recovered(&mut self, dropped: u64);
}

enum Message {
    Lines { bytes: Vec<u8>, lines: u64 },
    End,
}

/// An end of the queue, which is cloned for each that has lines to write.
#[derive(Clone, Debug)]
pub struct Queue {
    to: Sender<Message>,
    waiting: Arc<AtomicUsize>,
    stats: Arc<LogStats>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Queue {
    /// Hands whole lines over, or drops them.
    pub fn put(&self, bytes: Vec<u8>, lines: u64) {
        let size = bytes.len();
        if self.waiting.fetch_add(size, Ordering::Relaxed) + size > MOST_WAITING || self.to.send(Message::Lines { bytes, lines }).is_err() {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            add(&self.stats.dropped, lines);
        }
    }
}

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    queue: Queue,
    ended: Receiver<()>,
}

impl Writer {
    /// Starts a thread of this name.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(name: &str, stats: Arc<LogStats>, sink: impl Sink) -> Result<Self> {
        let (to, from) = channel();
        let (end, ended) = sync_channel(1);
        let waiting = Arc::new(AtomicUsize::new(0));
        let queue = Queue { to, waiting: waiting.clone(), stats: stats.clone() };
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            write(&from, &waiting, &stats, sink);
            // The receiver may have stopped waiting.
            let _ = end.send(());
        })?;
        Ok(Self { queue, ended })
    }

    /// Another end of the queue.
    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// Writes what waits, and ends. A reader that has stopped reading does not hold up the end. Returns false if there was not enough time, or the thread has
    /// panicked.
    pub fn end(self) -> bool {
        let _ = self.queue.to.send(Message::End);
        self.ended.recv_timeout(LAST_WORDS).is_ok()
    }
}

fn write(from: &Receiver<Message>, waiting: &AtomicUsize, stats: &LogStats, mut sink: impl Sink) {
    let mut told = (0, None::<Instant>);
    let mut ending = false;
    while !ending {
        let (mut bytes, mut lines) = match from.recv_timeout(LOOK_EVERY) {
            Ok(Message::Lines { bytes, lines }) => (bytes, lines),
            Err(RecvTimeoutError::Timeout) => {
                sink.look();
                continue;
            }
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
        };
        while bytes.len() < TOGETHER {
            match from.try_recv() {
                Ok(Message::Lines { bytes: more, lines: count }) => {
                    bytes.extend_from_slice(&more);
                    lines += count;
                }
                Ok(Message::End) => {
                    ending = true;
                    break;
                }
                Err(_) => break,
            }
        }
        sink.look();
        let written = sink.write(&bytes).is_ok();
        waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
        add(if written { &stats.lines } else { &stats.dropped }, lines);
        let dropped = stats.dropped.load(Ordering::Relaxed);
        if written && dropped > told.0 && told.1.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            sink.recovered(dropped - told.0);
            told = (dropped, Some(Instant::now()));
        }
    }
}

/// Writes all bytes, even to a pipe or terminal that another process has made non-blocking.
///
/// # Errors
/// Those of `write_all`.
pub fn write_all(to: &mut impl Write, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::SyncSender;

    use super::*;

    /// A sink that writes only when it is allowed to.
    struct Gate {
        allowed: Receiver<Result<()>>,
        written: SyncSender<String>,
    }

    impl Sink for Gate {
        fn write(&mut self, bytes: &[u8]) -> Result<()> {
            self.allowed.recv().unwrap_or(Ok(()))?;
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(())
        }

        fn recovered(&mut self, dropped: u64) {
            let _ = self.written.send(format!("{dropped} dropped"));
        }
    }

    #[test]
    fn a_reader_that_stalls_or_fails_costs_lines_and_no_time_and_is_told_when_it_reads_again() {
        let (allow, allowed) = sync_channel(4);
        let (written, lines) = sync_channel(1_000);
        let stats = Arc::new(LogStats::default());
        let writer = Writer::start("test", stats.clone(), Gate { allowed, written }).unwrap();
        let queue = writer.queue();
        queue.put(b"lost\n".to_vec(), 1);
        allow.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while stats.dropped.load(Ordering::Relaxed) < 1 {
            assert!(Instant::now() < deadline, "a failed write is counted");
            std::thread::yield_now();
        }
        // This is twice as much as may wait.
        let piece = vec![b'x'; 1 << 20];
        (0..16).for_each(|_| queue.put(piece.clone(), 10));
        let dropped = stats.dropped.load(Ordering::Relaxed) - 1;
        assert!((70..=90).contains(&dropped), "{dropped}");
        drop(allow);
        let first = lines.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first.len(), 1 << 20);
        assert_eq!(lines.recv_timeout(Duration::from_secs(10)).unwrap(), format!("{} dropped", dropped + 1));
        queue.put(b"last\n".to_vec(), 1);
        assert!(writer.end());
        assert_eq!(lines.iter().last().as_deref(), Some("last\n"));
        assert_eq!(stats.lines.load(Ordering::Relaxed) + dropped, 161);
        queue.put(b"after the end\n".to_vec(), 1);
    }

    #[test]
    fn a_reader_that_never_reads_does_not_hold_up_the_end() {
        let (_allow, allowed) = sync_channel(1);
        let (written, _lines) = sync_channel(1);
        let writer = Writer::start("test", Arc::default(), Gate { allowed, written }).unwrap();
        writer.queue().put(b"x\n".to_vec(), 1);
        let begun = Instant::now();
        assert!(!writer.end());
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
