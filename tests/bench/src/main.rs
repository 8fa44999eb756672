//! `make bench`: CPU time, rate and p99 of Sluicegate, nginx and HAProxy for each of the ways traffic takes ([`scenario`]), in alternating
//! rounds of one run; and what the wasm calls alone cost. Two further tables are about large configurations: [`fleet`] and [`scale`].
//!
//! Each proxy has one worker, bound to core 0; the load generator (wrk, h2load, or our own for UDP) and the backends (nginx, our own echo)
//! share core 1. CPU time is the scheduler's own count (`/proc/PID/task/*/schedstat`) of all threads of all processes of the proxy, so that a
//! control thread counts as well. Ratios are to the scenario's reference in the same round; medians over the rounds are reported.

mod calls;
mod client;
mod fleet;
mod load;
mod peers;
mod process;
mod report;
mod scale;
mod scenario;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use load::Load;
use peers::Peers;
use report::{Measured, Report};
use scenario::Scenario;

/// Compares Sluicegate with its peers.
#[derive(Parser)]
struct Arguments {
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Client connections, or flows
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Only rows whose name has this in it, as in "HTTPS"; may be repeated
    #[arg(long)]
    only: Vec<String>,
    /// Only this proxy and the references; may be repeated
    #[arg(long)]
    proxy: Vec<String>,
    /// The gateway's binary
    #[arg(long, default_value = "target/release/sluicegate")]
    gateway: PathBuf,
    /// Also Envoy, Traefik and Caddy, in the rows of HTTP/1.1
    #[arg(long)]
    all: bool,
    /// Where Envoy, Traefik and Caddy are, which `make bench-tools` installs; the table "Scale" leaves out those that are missing
    #[arg(long, default_value = "target/tools/peers/bin")]
    tools: PathBuf,
    #[command(flatten)]
    sizes: scale::Sizes,
    /// Where bench.md and bench.json are written
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts of the benchmark that are processes of their own, for which it starts itself again.
#[derive(Subcommand)]
enum Part {
    #[command(hide = true)]
    UdpLoad { address: SocketAddr, flows: usize, seconds: u64 },
    #[command(hide = true)]
    UdpEcho { addresses: Vec<SocketAddr> },
    #[command(hide = true)]
    WebsocketLoad { address: SocketAddr, connections: usize, seconds: u64 },
    #[command(hide = true)]
    WebsocketEcho { addresses: Vec<SocketAddr> },
    #[command(hide = true)]
    FixedLoad {
        #[arg(long)]
        rate: u32,
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        path: String,
        addresses: Vec<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.part {
        None => run(&arguments),
        Some(Part::UdpLoad { address, flows, seconds }) => load::udp::generate(*address, *flows, *seconds),
        Some(Part::UdpEcho { addresses }) => load::udp::echo(addresses),
        Some(Part::WebsocketLoad { address, connections, seconds }) => load::websocket::generate(*address, *connections, *seconds),
        Some(Part::WebsocketEcho { addresses }) => load::websocket::echo(addresses),
        Some(Part::FixedLoad { rate, connections, path, addresses }) => load::fixed::generate(addresses, path, *rate, *connections),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let scenarios: Vec<&Scenario> = scenario::ALL.iter().filter(|s| wanted(s.name, &arguments.only)).collect();
    if !arguments.gateway.exists() {
        return Err(format!("{} does not exist: run `make build`", arguments.gateway.display()));
    }
    let calls = if scenarios.is_empty() { Vec::new() } else { calls(&arguments.gateway)? };
    let fleet = if wanted(fleet::NAME, &arguments.only) {
        println!("{}:", fleet::NAME);
        Some(fleet::measure(&arguments.gateway, arguments.rounds)?)
    } else {
        None
    };
    let of_scale = scale::NAMES.map(|name| wanted(name, &arguments.only));
    let scale = scale::measure(&arguments.gateway, &arguments.tools, &arguments.sizes, of_scale)?;
    let measured = if scenarios.is_empty() { Vec::new() } else { compare(arguments, &scenarios)? };
    let report = Report::of(&scenarios, measured, calls, fleet, scale);
    std::fs::create_dir_all(&arguments.out).map_err(|e| format!("{}: {e}", arguments.out.display()))?;
    let write = |name: &str, text: String| std::fs::write(arguments.out.join(name), text).map_err(|e| format!("{name}: {e}"));
    write("bench.md", report.markdown())?;
    write("bench.json", serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?)?;
    println!("\n{}\nWritten to {}.", report.markdown(), arguments.out.display());
    Ok(())
}

fn wanted(name: &str, filter: &[String]) -> bool {
    filter.is_empty() || filter.iter().any(|part| name.contains(part.as_str()))
}

fn calls(gateway: &Path) -> Result<Vec<calls::Call>, String> {
    println!("The wasm calls alone:");
    let calls = calls::measure(gateway)?;
    for call in &calls {
        println!("  {:<40} {:>6.0} ns, {:>6.0} instructions", call.name, call.nanos, call.instructions);
    }
    Ok(calls)
}

/// Measures each scenario with each proxy, in rounds.
fn compare(arguments: &Arguments, scenarios: &[&Scenario]) -> Result<Vec<Measured>, String> {
    println!("Starting the proxies and backends ...");
    let peers = Peers::start(&arguments.gateway, &arguments.tools, arguments.all)?;
    let mut measured = Vec::new();
    for scenario in scenarios {
        println!("{}:", scenario.name);
        let there = peers.all.iter().filter(|p| p.doors.contains_key(&scenario.door));
        let there: Vec<_> = there.filter(|p| p.name == scenario.reference || wanted(p.name, &arguments.proxy)).collect();
        for peer in &there {
            // This warms it up: connections are opened, plugins instantiated, pages touched.
            scenario.load(peer, &peers.call, arguments.connections, 1)?;
        }
        for round in 1..=arguments.rounds {
            for peer in &there {
                let before = process::cpu(&peer.processes()?)?;
                let load = scenario.load(peer, &peers.call, arguments.connections, arguments.seconds)?;
                let used = process::cpu(&peer.processes()?)?.saturating_sub(before);
                let cpu_us = used.as_secs_f64() * 1e6 / load.done as f64;
                let p99 = load.p99_ms.map_or_else(String::new, |ms| format!(", p99 {ms:.2} ms"));
                println!("  round {round}: {:<14} {cpu_us:>8.2} µs CPU a {}, {:>7.0} a second{p99}", peer.name, scenario.unit, load.rate);
                let (scenario, proxy) = (scenario.name, peer.name);
                let Load { rate, p50_ms, p99_ms, p999_ms, .. } = load;
                measured.push(Measured { scenario, proxy, round, cpu_us, rate, p50_ms, p99_ms, p999_ms });
            }
        }
    }
    Ok(measured)
}
