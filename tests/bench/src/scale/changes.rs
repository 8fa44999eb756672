//! What changes cost, and how soon they are served.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::gateway::Gateway;
use super::process::Cpu;
use crate::client::Client;

/// A change that is not served within this time counts as not served.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two checks whether a change is served.
const LOOK: Duration = Duration::from_micros(500);
/// For how long an idle gateway is observed: it looks for changes every two seconds.
const IDLE: Duration = Duration::from_secs(6);
/// The shortest pause between two changes whose cost is measured. It is longer than the time within which changes are taken in together. If changes take
/// longer to be served, the pause is that time.
const PAUSE: Duration = Duration::from_millis(150);
const TIMES: f64 = 3.0;
/// As many changes are measured as fit into this time, but at least the given number.
const AT_MOST: Duration = Duration::from_secs(60);
const FEWEST: usize = 4;

/// The cost of one change, in milliseconds of CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) control: f64,
    /// The share of the one worker.
    pub(super) worker: f64,
}

impl Cost {
    /// The cost in the whole process.
    pub(super) fn all(self) -> f64 {
        self.control + self.worker
    }
}

/// What changes cost when nothing else is done.
pub(super) struct Measured {
    /// Milliseconds until each change was served, sorted.
    pub(super) served: Vec<f64>,
    pub(super) cost: Cost,
}

/// Makes an even number of changes twice: to see how soon each is served, and to see what they cost when nobody checks. `change` makes the change of a
/// number, and `seen` says whether it is served.
pub(super) fn measure(
    gateway: &Gateway,
    count: usize,
    mut change: impl FnMut(usize) -> Result<(), String>,
    seen: impl FnMut(usize) -> bool,
) -> Result<Measured, String> {
    let served = latencies(count, &mut change, seen)?;
    let pause = PAUSE.max(Duration::from_secs_f64(percentile(&served, 100) * TIMES / 1e3));
    let fit = (AT_MOST.as_secs_f64() / pause.as_secs_f64()) as usize / 2 * 2;
    let cost = cost(gateway, count.min(fit.max(FEWEST)), pause, change)?;
    Ok(Measured { served, cost })
}

/// The average cost of a change.
fn cost(gateway: &Gateway, count: usize, pause: Duration, mut change: impl FnMut(usize) -> Result<(), String>) -> Result<Cost, String> {
    let used = |during: &mut dyn FnMut() -> Result<(), String>| -> Result<(Cpu, f64), String> {
        let (begun, before) = (Instant::now(), gateway.cpu()?);
        during()?;
        Ok((gateway.cpu()? - before, begun.elapsed().as_secs_f64()))
    };
    let (idle, seconds) = used(&mut || {
        std::thread::sleep(IDLE);
        Ok(())
    })?;
    let (busy, took) = used(&mut || {
        for number in 0..count {
            let next = Instant::now() + pause;
            change(number)?;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    })?;
    let each = |busy: f64, idle: f64| ((busy - idle / seconds * took) * 1e3 / count as f64).max(0.0);
    Ok(Cost { control: each(busy.control, idle.control), worker: each(busy.workers, idle.workers) })
}

/// Milliseconds from each change until it is seen. `change` makes the change of a number, and `seen` says whether it is served.
pub(super) fn latencies(
    count: usize,
    mut change: impl FnMut(usize) -> Result<(), String>,
    mut seen: impl FnMut(usize) -> bool,
) -> Result<Vec<f64>, String> {
    let mut all = Vec::with_capacity(count);
    for number in 0..count {
        let begun = Instant::now();
        change(number)?;
        while !seen(number) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("change {number} is not served after {PATIENCE:?}"));
            }
            std::thread::sleep(LOOK);
        }
        all.push(begun.elapsed().as_secs_f64() * 1e3);
        // Discovery publishes at most every 20 ms: without this pause a change would wait for the one before.
        std::thread::sleep(Duration::from_millis(25));
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// A percentile of sorted values.
pub(super) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Whether a request is answered with this body.
pub(super) fn answers(client: &mut Client, path: &str, body: &str) -> bool {
    client.get(path).is_ok_and(|answer| answer.status == 200 && answer.body == body)
}

/// Whether something listens at an address.
pub(super) fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
