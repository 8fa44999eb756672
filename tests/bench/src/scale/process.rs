//! What processes use, by the kernel's count: CPU time of threads, and memory.

use std::time::Duration;

/// CPU time of a gateway, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    /// The time of all threads but the workers, including threads that have ended.
    pub(super) control: f64,
    /// The time of the workers together.
    pub(super) workers: f64,
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { control: self.control - before.control, workers: self.workers - before.workers }
    }
}

/// The CPU time of a gateway, whose workers are the threads `worker-0` and so on.
pub(super) fn of_gateway(pid: u32) -> Result<Cpu, String> {
    let all = of_process(pid)?.as_secs_f64();
    let mut workers = 0.0;
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| format!("process {pid}: {e}"))?;
    for task in tasks.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if read("comm").starts_with("worker-") {
            workers += read("schedstat").split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or_default() / 1e9;
        }
    }
    Ok(Cpu { control: (all - workers).max(0.0), workers })
}

/// The CPU time of a whole process, including threads that have ended, in ticks of 10 ms. The process itself may have ended, if it is not waited for.
pub(super) fn of_process(pid: u32) -> Result<Duration, String> {
    times(pid).map(|[own, _]| own)
}

/// The CPU time of processes and of their children that have ended.
pub(super) fn of_family(pids: &[u32]) -> Duration {
    pids.iter().filter_map(|pid| times(*pid).ok()).flatten().sum()
}

/// A process's own time, and that of children that it has waited for (proc_pid_stat(5), fields 14 to 17).
fn times(pid: u32) -> Result<[Duration; 2], String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| format!("process {pid}: {e}"))?;
    // The name may contain anything, so only what follows its last parenthesis counts: that begins with the third field.
    let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|n| n.parse::<u64>().ok()).ok_or("/proc/PID/stat has another form");
    let time = |at| Ok::<_, String>(Duration::from_millis(10 * (ticks(at)? + ticks(at + 1)?)));
    Ok([time(11)?, time(13)?])
}

/// Whether a process has ended and is not waited for.
pub(super) fn ended(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|s| s.rsplit_once(") ").map(|(_, r)| r.starts_with('Z')))
        .unwrap_or(true)
}

/// The memory of processes, in MiB.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Memory {
    pub(super) resident: f64,
    /// The memory where pages that several processes share are divided among them.
    pub(super) proportional: f64,
}

/// The memory of all these processes together.
pub(super) fn memory(pids: &[u32]) -> Memory {
    let mut sum = Memory::default();
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let of = |label: &str| {
            let kib = text.lines().find_map(|l| l.strip_prefix(label)?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            kib.unwrap_or_default() / 1024.0
        };
        sum.resident += of("Rss:");
        sum.proportional += of("Pss:");
    }
    sum
}
