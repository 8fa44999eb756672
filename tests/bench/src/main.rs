//! `make bench`: CPU time per request, requests a second and p99 of Sluicegate, nginx and HAProxy, in alternating rounds of one run; and what
//! the wasm calls alone cost.
//!
//! Each proxy has one worker, bound to core 0; the load generator (wrk) and the backends (nginx, answering from memory) share core 1. CPU
//! time is the scheduler's own count (`/proc/PID/task/*/schedstat`) of all threads of all processes of the proxy, so that a control thread
//! counts as well. Ratios are to nginx in the same round; medians over the rounds are reported.

mod calls;
mod peers;
mod process;
mod report;
mod wrk;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use peers::Peers;
use report::{Measured, Report};

/// Compares Sluicegate with its peers.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Client connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Only proxies whose name has this in it, as in "L7"; may be repeated
    #[arg(long)]
    only: Vec<String>,
    /// The gateway's binary
    #[arg(long, default_value = "target/release/sluicegate")]
    gateway: PathBuf,
    /// Where bench.md and bench.json are written
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    println!("The wasm calls alone:");
    let calls = calls::measure()?;
    for call in &calls {
        println!("  {:<40} {:>6.0} ns, {} allocations", call.name, call.nanos, call.allocations);
    }
    println!("Starting the proxies and backends ...");
    let mut peers = Peers::start(&arguments.gateway)?;
    peers.all.retain(|peer| arguments.only.is_empty() || arguments.only.iter().any(|name| peer.name.contains(name.as_str())));
    let mut rounds: Vec<Vec<Measured>> = Vec::new();
    for peer in &peers.all {
        // Warm: connections open, plugins instantiated, pages touched.
        wrk::load(&peer.url, arguments.connections, 1)?;
    }
    for round in 1..=arguments.rounds {
        let mut row = Vec::new();
        for peer in &peers.all {
            let before = process::cpu(&peer.processes()?)?;
            let load = wrk::load(&peer.url, arguments.connections, arguments.seconds)?;
            let used = process::cpu(&peer.processes()?)?.saturating_sub(before);
            if load.failures > 0 {
                return Err(format!("{}: {} of {} requests failed", peer.name, load.failures, load.requests));
            }
            let micros = used.as_secs_f64() * 1e6 / load.requests as f64;
            println!(
                "  round {round}: {:<18} {micros:>6.2} µs CPU a request, {:>7.0} requests/s, p99 {:.2} ms",
                peer.name, load.rate, load.p99_ms
            );
            row.push(Measured { name: peer.name.clone(), layer: peer.layer, cpu_us: micros, rate: load.rate, p99_ms: load.p99_ms });
        }
        rounds.push(row);
    }
    let report = Report::of(&rounds, calls);
    std::fs::create_dir_all(&arguments.out).map_err(|e| format!("{}: {e}", arguments.out.display()))?;
    let write = |name: &str, text: String| std::fs::write(arguments.out.join(name), text).map_err(|e| format!("{name}: {e}"));
    write("bench.md", report.markdown())?;
    write("bench.json", serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?)?;
    println!("\n{}\nWritten to {}.", report.markdown(), arguments.out.display());
    Ok(())
}
