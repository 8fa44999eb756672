//! Watches memory and descriptors, and says when new work is to be refused, so that running work can finish. It has a thread of its own, which works some tens
//! of microseconds four times a second; workers read one flag.
//!
//! Of memory only what the kernel cannot take back counts: the pages of files can be dropped at any time. What the allocator keeps for later use does not
//! count, either: before anything is refused, and as long as it is, all threads are asked to return it ([`Release`]).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use sluicegate_model::stats::{ProxyStats, count};

const EVERY: Duration = Duration::from_millis(250);

/// When new connections and requests are refused.
#[derive(Clone, Copy, Debug)]
pub struct Overload {
    /// The memory that the process may use, in bytes; none: the limit of its control group.
    pub memory_limit: Option<u64>,
    /// The percentage of memory or descriptors in use from which on new work is refused; above 100: never.
    pub refuse_percent: u32,
    /// The percentage below which new work is taken again.
    pub resume_percent: u32,
}

impl Default for Overload {
    fn default() -> Self {
        Self { memory_limit: None, refuse_percent: 95, resume_percent: 90 }
    }
}

/// Returns to the system what the calling thread's heap has free.
#[derive(Clone, Copy)]
pub struct Release(pub fn());

impl Default for Release {
    fn default() -> Self {
        Self(|| {})
    }
}

impl std::fmt::Debug for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Release")
    }
}

/// When a thread returns its free memory: while memory is short, and after a crowd of connections has gone.
pub(crate) struct Returning {
    release: Release,
    /// The largest number of its client connections since it last did.
    most_open: usize,
}

/// The number of connections that counts as a crowd.
const CROWD: usize = 100;

impl Returning {
    pub(crate) fn new(release: Release) -> Self {
        Self { release, most_open: 0 }
    }

    /// Is called once a second. `open`: the number of connections now.
    pub(crate) fn second(&mut self, open: usize, stats: &ProxyStats) {
        self.most_open = self.most_open.max(open);
        let left = self.most_open - open;
        if is_short(stats) || (left >= CROWD && left >= self.most_open / 2) {
            (self.release.0)();
            self.most_open = open;
        }
    }
}

/// Whether memory is short, so that every thread is to return what it has free.
pub fn is_short(stats: &ProxyStats) -> bool {
    stats.overload.memory_is_short.load(Ordering::Relaxed) != 0
}

/// Whether new work is refused.
pub(crate) fn is_refusing(stats: &ProxyStats) -> bool {
    stats.overload.refusing.load(Ordering::Relaxed) != 0
}

/// The thread, which ends when this is dropped.
pub(crate) struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(crate) fn start(settings: Overload, release: Release, stats: &Arc<ProxyStats>) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let limit = settings.memory_limit.or_else(|| control_group_limit(Path::new("/sys/fs/cgroup/memory.max")));
        look(&settings, limit, release, stats);
        let stats = stats.clone();
        let watch = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
                look(&settings, limit, release, &stats);
            }
        };
        let thread = std::thread::Builder::new().name("overload".to_owned()).spawn(watch)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(settings: &Overload, memory_limit: Option<u64>, release: Release, stats: &ProxyStats) {
    let (mut memory, descriptors) = (unreclaimable().unwrap_or(0), descriptors().unwrap_or(0));
    let short = |memory| memory_limit.is_some_and(|limit| percent(memory, limit) >= settings.resume_percent.into());
    if short(memory) {
        (release.0)();
        memory = unreclaimable().unwrap_or(memory);
    }
    stats.overload.memory_is_short.store(short(memory).into(), Ordering::Relaxed);
    let descriptor_limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let of = &stats.overload;
    of.memory.store(memory, Ordering::Relaxed);
    of.memory_limit.store(memory_limit.unwrap_or(0), Ordering::Relaxed);
    of.descriptors.store(descriptors, Ordering::Relaxed);
    of.descriptor_limit.store(descriptor_limit, Ordering::Relaxed);
    let used = memory_limit.map_or(0, |limit| percent(memory, limit)).max(percent(descriptors, descriptor_limit));
    let was = is_refusing(stats);
    let refusing = refuses(was, used, settings);
    if refusing == was {
        return;
    }
    of.refusing.store(refusing.into(), Ordering::Relaxed);
    if refusing {
        count(&of.times);
        let listeners = of.listening.load(Ordering::Relaxed);
        tracing::warn!(
            memory,
            memory_limit,
            descriptors,
            listeners,
            descriptor_limit,
            "overloaded: new connections and requests are refused"
        );
    } else {
        tracing::warn!(memory, descriptors, "no longer overloaded: new connections and requests are taken again");
    }
}

/// Whether new work is refused. Between the two percentages nothing changes, so that it does not flutter.
fn refuses(was: bool, used: u64, settings: &Overload) -> bool {
    used >= settings.refuse_percent.into() || (was && used >= settings.resume_percent.into())
}

fn percent(used: u64, limit: u64) -> u64 {
    u64::try_from(u128::from(used) * 100 / u128::from(limit.max(1))).unwrap_or(u64::MAX)
}

/// Memory that the kernel cannot take back, in bytes: anonymous and shared memory (proc_pid_status(5), in KiB). Pages of files, such as those of the program
/// itself and of compiled plugins, do not count.
fn unreclaimable() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse::<u64>().ok();
    Some((of("RssAnon:")? + of("RssShmem:")?) << 10)
}

/// The number of descriptors in use. Since Linux 6.2 it is the size of the folder; before, they are counted.
fn descriptors() -> Option<u64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 { Some(size) } else { Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64) }
}

/// The limit in `memory.max` of control groups v2, as seen from inside a container; `max` means no limit.
fn control_group_limit(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_flutter_between_the_bounds() {
        let settings = Overload::default();
        let mut refusing = false;
        let states: Vec<bool> = [50, 94, 95, 94, 91, 90, 89, 94, 120]
            .map(|used| {
                refusing = refuses(refusing, used, &settings);
                refusing
            })
            .to_vec();
        assert_eq!(states, [false, false, true, true, true, true, false, false, true]);
    }

    #[test]
    fn usage_is_read() {
        assert!(unreclaimable().unwrap() > 100 << 10);
        let before = descriptors().unwrap();
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(descriptors().unwrap() >= before.min(3) + 50);
        drop(files);
        let folder = std::env::temp_dir().join(format!("sluicegate-cgroup-{}", std::process::id()));
        for (text, limit) in [("max\n", None), ("536870912\n", Some(536_870_912))] {
            std::fs::write(&folder, text).unwrap();
            assert_eq!(control_group_limit(&folder), limit);
        }
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(control_group_limit(&folder), None);
    }

    #[test]
    fn a_limit_below_what_is_in_use_refuses_at_once() {
        let stats = Arc::new(ProxyStats::default());
        let watcher = Watcher::start(Overload { memory_limit: Some(1 << 10), ..Overload::default() }, Release::default(), &stats).unwrap();
        assert!(is_refusing(&stats) && is_short(&stats) && stats.overload.memory.load(Ordering::Relaxed) > 1 << 10);
        drop(watcher);
    }

    /// Pages of a file are in memory, and need not be.
    #[test]
    fn the_pages_of_files_do_not_count() {
        const SIZE: u64 = 64 << 20;
        let file = std::env::temp_dir().join(format!("sluicegate-pages-{}", std::process::id()));
        std::fs::write(&file, vec![1_u8; SIZE as usize]).unwrap();
        let before = unreclaimable().unwrap();
        let text = std::fs::read(&file).unwrap();
        assert!(unreclaimable().unwrap() >= before + SIZE / 2, "a copy counts");
        drop(text);
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_thread_returns_its_memory_while_it_is_short_and_after_a_crowd() {
        static TIMES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let stats = ProxyStats::default();
        let mut returning = Returning::new(Release(|| {
            TIMES.fetch_add(1, Ordering::Relaxed);
        }));
        let mut after = |open, times, why| {
            returning.second(open, &stats);
            assert_eq!(TIMES.load(Ordering::Relaxed), times, "{why}");
        };
        after(1_000, 0, "a crowd is there");
        after(700, 0, "most of it still is");
        after(500, 1, "half has gone");
        after(450, 1, "no more than comes and goes");
        after(0, 2, "the rest has gone");
        after(60, 2, "few come");
        after(0, 2, "and go");
        stats.overload.memory_is_short.store(1, Ordering::Relaxed);
        after(0, 3, "memory is short");
        after(0, 4, "and stays so");
    }
}
