//! Load at a fixed rate. Each connection has times at which its requests are due, and a request's time counts from when it was due, so that one which
//! waits for an earlier one counts as slow as its client sees it. It is a process of its own: the benchmark starts itself again as `fixed-load`.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::Client;

/// The result of a load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loaded {
    /// How many requests were answered with 200.
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// How many were sent again because a kept connection was closed.
    pub(crate) again: u64,
    /// How many were answered in a second.
    pub(crate) rate: f64,
    /// Percentiles in milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// A load that goes on until it is told to end.
pub(crate) struct Load(Child);

impl Load {
    /// Starts GETs of `path`, spread over the addresses.
    pub(crate) fn start(own: &Path, addresses: &[SocketAddr], path: &str, rate: u32, connections: usize) -> Result<Self, String> {
        Self::by(Command::new(own), addresses, path, rate, connections)
    }

    /// The same from core 1 alone.
    fn start_apart(address: SocketAddr, path: &str, rate: u32, connections: usize) -> Result<Self, String> {
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).arg(std::env::current_exe().map_err(|e| e.to_string())?);
        Self::by(command, &[address], path, rate, connections)
    }

    fn by(mut command: Command, addresses: &[SocketAddr], path: &str, rate: u32, connections: usize) -> Result<Self, String> {
        command.args(["fixed-load", "--rate", &rate.to_string(), "--connections", &connections.to_string(), "--path", path]);
        command.args(addresses.iter().map(SocketAddr::to_string)).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().map(Self).map_err(|e| format!("fixed-load: {e}"))
    }

    pub(crate) fn end(mut self) -> Result<Loaded, String> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        let read = self.0.stdout.take().map(|mut out| out.read_to_string(&mut text));
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [done, failed, again, rate, p50, p99, p999] => {
                Ok(Loaded { done: done as u64, failed: failed as u64, again: again as u64, rate, p50, p99, p999 })
            }
            _ => Err(format!("fixed-load said {text:?} ({read:?})")),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Loads an address at a rate for a number of seconds, from core 1. A proxy that does not manage that rate is seen by the rate that is reported, and by its percentiles.
pub(crate) fn load(address: SocketAddr, path: &str, rate: u32, connections: usize, seconds: u64) -> Result<super::Load, String> {
    let running = Load::start_apart(address, path, rate, connections)?;
    std::thread::sleep(Duration::from_secs(seconds));
    let loaded = running.end()?;
    Ok(super::Load {
        done: loaded.done,
        failures: loaded.failed,
        rate: loaded.rate,
        p50_ms: Some(loaded.p50),
        p99_ms: Some(loaded.p99),
        p999_ms: Some(loaded.p999),
    })
}

/// `fixed-load`: goes on until its input ends, then prints the result.
pub(crate) fn generate(addresses: &[SocketAddr], path: &str, rate: u32, connections: usize) -> Result<(), String> {
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let period = Duration::from_secs(1) * connections as u32 / rate;
    let parts: Vec<(Vec<Duration>, u64, u64)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|number| {
                let (stop, address) = (&stop, addresses[number % addresses.len()]);
                // The connections do not all begin at once.
                let first = begun + period * number as u32 / connections as u32;
                scope.spawn(move || client(address, path, first, period, stop))
            })
            .collect();
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().filter_map(|client| client.join().ok()).collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let (failed, again) = parts.iter().fold((0, 0), |(failed, again), part| (failed + part.1, again + part.2));
    let mut times: Vec<Duration> = parts.into_iter().flat_map(|part| part.0).collect();
    times.sort_unstable();
    let at = |permille: usize| times.get(times.len() * permille / 1000).map_or(0.0, |t| t.as_secs_f64() * 1e3);
    let (p50, p99, p999) = (at(500), at(990), at(999));
    let line = format!("{} {failed} {again} {:.1} {p50:.3} {p99:.3} {p999:.3}\n", times.len(), times.len() as f64 / seconds);
    std::io::stdout().write_all(line.as_bytes()).map_err(|e| e.to_string())
}

/// How long each request took, how many failed, and how many were sent again.
fn client(address: SocketAddr, path: &str, first: Instant, period: Duration, stop: &AtomicBool) -> (Vec<Duration>, u64, u64) {
    // A sleep is 50 µs too long otherwise.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let (mut client, mut times, mut failed, mut due) = (Client::new(address), Vec::new(), 0, first);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        match client.get(path) {
            Ok(answer) if answer.status == 200 => times.push(due.elapsed()),
            _ => failed += 1,
        }
        due += period;
    }
    (times, failed, client.again)
}
