//! A gateway that runs with a folder.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::process::{self, Cpu, Memory};
use super::world::CLUSTER_IPS;
use crate::client::Client;
use crate::peers::{port, text};
use crate::process::Running;

/// How long a gateway may take to serve everything: much longer than it should need.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often the gateway is asked whether it serves everything: seldom, since its answer is long until then.
const LOOK: Duration = Duration::from_millis(100);

/// A gateway that runs.
pub(super) struct Gateway {
    running: Running,
    admin: SocketAddr,
    /// The CPU time until everything was served.
    pub(super) start: Cpu,
    /// The time until everything was served.
    pub(super) took: Duration,
}

impl Gateway {
    /// Starts a gateway with one worker, and waits until it serves everything in its folder. `state` keeps compiled code from one start to the next.
    pub(super) fn start(binary: &Path, folder: &Path, state: &Path) -> Result<Self, String> {
        Self::start_from(binary, &[text(folder)?], state)
    }

    /// The same with objects from the API server of a kubeconfig.
    pub(super) fn in_cluster(binary: &Path, kubeconfig: &Path, state: &Path) -> Result<Self, String> {
        // What an earlier one has saved is not for this one.
        let _ = std::fs::remove_dir_all(state.join("cluster"));
        Self::start_from(binary, &["--cluster", "--kubeconfig", text(kubeconfig)?], state)
    }

    fn start_from(binary: &Path, objects: &[&str], state: &Path) -> Result<Self, String> {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, port()?));
        let (told, log) = (admin.to_string(), PathBuf::from(format!("{}.log", state.display())));
        let arguments = ["run", "--workers", "1", "--admin-address", &told, "--state-dir", text(state)?];
        let network = ["--nodeport-addresses", "127.0.0.1/32", "--service-cluster-ip-range", CLUSTER_IPS];
        let begun = Instant::now();
        let running = Running::anywhere(text(binary)?, &[&arguments[..], objects, &network].concat(), &log)?;
        let mut gateway = Self { running, admin, start: Cpu::default(), took: Duration::ZERO };
        loop {
            let answer = gateway.ready();
            // The lines after the first are what is not served.
            if answer.as_ref().is_some_and(|(status, body)| *status == 200 && body.trim_end().lines().count() <= 1) {
                break;
            }
            let refused = answer.as_ref().is_some_and(|(_, body)| body.contains("not as configured: "));
            if gateway.running.ended() || refused || begun.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let (status, body) = answer.unwrap_or_default();
                let lines = |text: &str| text.lines().take(5).collect::<Vec<_>>().join("\n");
                return Err(format!(
                    "the gateway does not come to serve everything: /readyz says {status}, {}\n{}",
                    lines(&body),
                    lines(&log)
                ));
            }
            std::thread::sleep(LOOK);
        }
        gateway.took = begun.elapsed();
        gateway.start = gateway.cpu()?;
        Ok(gateway)
    }

    /// The status and body of `/readyz`.
    fn ready(&self) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.admin, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Requests that it has made to its API server so far, and bytes of answers.
    pub(super) fn asked(&self) -> Result<(u64, u64), String> {
        let answer = Client::new(self.admin).get("/api/v1/sources").map_err(|e| e.to_string())?;
        let sources: serde_json::Value = serde_json::from_str(&answer.body).map_err(|e| e.to_string())?;
        let count = |field: &str| sources[0][field].as_u64().ok_or_else(|| format!("the sources have no {field}"));
        Ok((count("requests")?, count("bytes")?))
    }

    pub(super) fn cpu(&self) -> Result<Cpu, String> {
        process::of_gateway(self.pid())
    }

    pub(super) fn memory(&self) -> Memory {
        process::memory(&[self.pid()])
    }
}

/// The CPU seconds that `check` takes for a folder.
pub(super) fn check(binary: &Path, folder: &Path, state: &Path, log: &Path) -> Result<f64, String> {
    let network = ["--service-cluster-ip-range", CLUSTER_IPS];
    // As for starts, compiled code is in the cache.
    let cache = format!("SLUICEGATE_CODE_CACHE={}", state.join("compiled").display());
    let running = Running::anywhere("env", &[&[&cache, text(binary)?, "check", text(folder)?][..], &network].concat(), log)?;
    let deadline = Instant::now() + PATIENCE;
    // The process is not waited for yet, so that its times can still be read.
    while !process::ended(running.pid()) {
        if Instant::now() > deadline {
            return Err("check does not end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let used = process::of_process(running.pid())?.as_secs_f64();
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let last = said.lines().last().unwrap_or_default();
    if last.starts_with("0 errors") { Ok(used) } else { Err(format!("check found errors: {last}")) }
}
