//! Child processes bound to a core, and the CPU time they use.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that ends with this value.
pub(crate) struct Running(Child);

impl Running {
    /// Starts `program` on one core; its output goes to `log`.
    pub(crate) fn start(core: usize, program: &str, arguments: &[&str], log: &std::path::Path) -> Result<Self, String> {
        Self::anywhere("taskset", &[&["-c", &core.to_string(), program], arguments].concat(), log)
    }

    /// Starts a program without binding it to a core.
    pub(crate) fn anywhere(program: &str, arguments: &[&str], log: &std::path::Path) -> Result<Self, String> {
        let file = std::fs::File::create(log).map_err(|e| format!("{}: {e}", log.display()))?;
        let error = file.try_clone().map_err(|e| e.to_string())?;
        let mut command = Command::new(program);
        command.args(arguments);
        let child = command.stdin(Stdio::null()).stdout(file).stderr(error).spawn();
        child.map(Self).map_err(|e| format!("{program}: {e}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM lets nginx's master end its workers.
        let _ = Command::new("kill").arg(self.pid().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process and its children.
pub(crate) fn family(pid: u32) -> Result<Vec<u32>, String> {
    let mut all = vec![pid];
    let entries = std::fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?;
    for entry in entries.flatten() {
        let Some(other) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The line is `pid (name) state ppid …`. The name may contain anything, so only what follows its last parenthesis counts.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        if parent == Some(pid) {
            all.push(other);
        }
    }
    Ok(all)
}

/// The CPU time, user and system, of all threads of the processes.
pub(crate) fn cpu(pids: &[u32]) -> Result<Duration, String> {
    let mut nanos = 0;
    for pid in pids {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| format!("process {pid}: {e}"))?;
        for task in tasks.flatten() {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).map_err(|e| format!("schedstat of {pid}: {e}"))?;
            nanos += stat.split(' ').next().and_then(|n| n.parse::<u64>().ok()).ok_or("schedstat has another form")?;
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// Waits until something listens at an address.
pub(crate) fn wait_for(address: SocketAddr, who: &str) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if Instant::now() > deadline {
            return Err(format!("{who} does not listen on {address}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
