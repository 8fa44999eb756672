//! Start-up, memory and swaps with a large configuration: 1,000 Services, each with four endpoints and a policy, balanced by 20 plugins.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::peers::{port, text, write};
use crate::process::Running;
use crate::report::median;

pub(crate) const NAME: &str = "Start-up, 1,000 services x 20 plugins";
const SERVICES: u16 = 1_000;
const PLUGINS: usize = 20;
const ENDPOINTS: [u8; 4] = [2, 3, 4, 5];
const PATIENCE: Duration = Duration::from_secs(60);
/// The highest values that are wanted: seconds until it is ready with compiled code in the cache, and MiB with one worker.
const WARM_GOAL: f64 = 2.0;
const MEMORY_GOAL: f64 = 150.0;
/// The range from which each Service has a cluster IP.
const CLUSTER_IPS: &str = "127.213.0.0/16";

/// Medians over the rounds.
#[derive(Serialize)]
pub(crate) struct Fleet {
    /// Seconds from the start of the process to `/readyz`, with nothing compiled.
    cold: f64,
    /// The same with all code in the cache.
    warm: f64,
    /// MiB resident, with one worker, after a connection to each Service.
    memory: f64,
    /// MiB that a second worker adds.
    worker: f64,
    /// Seconds from a rename over a plugin's file until its new version serves.
    swap: f64,
}

struct Setting {
    folder: PathBuf,
    state: PathBuf,
    gateway: PathBuf,
    log: PathBuf,
    admin: SocketAddr,
}

pub(crate) fn measure(gateway: &Path, rounds: usize) -> Result<Fleet, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let backends = backends()?;
    let at = |name: &str| folder.path().join(name);
    let setting = Setting {
        folder: at("objects"),
        state: at("state"),
        gateway: gateway.to_owned(),
        log: at("log"),
        admin: SocketAddr::from((Ipv4Addr::LOCALHOST, port()?)),
    };
    std::fs::create_dir_all(&setting.folder).map_err(|e| e.to_string())?;
    lay_down(&setting.folder, backends)?;
    let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut note = |what, value| figures.entry(what).or_default().push(value);
    for round in 1..=rounds {
        if setting.state.exists() {
            std::fs::remove_dir_all(&setting.state).map_err(|e| e.to_string())?;
        }
        let (cold, running) = setting.start(1)?;
        drop(running);
        let (warm, running) = setting.start(1)?;
        let memory = setting.used(&running)?;
        let swap = setting.swap(round)?;
        drop(running);
        let (_, running) = setting.start(2)?;
        let worker = setting.used(&running)? - memory;
        println!(
            "  round {round}: ready in {cold:.2} s, with compiled code in {warm:.2} s; {memory:.0} MiB, {worker:.0} more for a second worker; swapped in {swap:.3} s"
        );
        for (what, value) in [("cold", cold), ("warm", warm), ("memory", memory), ("worker", worker), ("swap", swap)] {
            note(what, value);
        }
    }
    let of = |what| median(figures.get(what).into_iter().flatten().copied()).ok_or("no rounds");
    Ok(Fleet { cold: of("cold")?, warm: of("warm")?, memory: of("memory")?, worker: of("worker")?, swap: of("swap")? })
}

/// Starts the endpoints, which accept and close; returns the port that they share.
fn backends() -> Result<u16, String> {
    let shared = port()?;
    for last in ENDPOINTS {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), shared)).map_err(|e| e.to_string())?;
        std::thread::spawn(move || listener.incoming().flatten().for_each(drop));
    }
    Ok(shared)
}

/// A plugin with content of its own, so that it is compiled by itself: a built-in balancer with one more custom section.
fn plugin(number: usize, version: usize) -> Vec<u8> {
    let balancers: Vec<_> =
        sluicegate_plugins::builtins().iter().filter(|plugin| plugin.kind == sluicegate_plugins::Kind::Balancer).collect();
    let name = format!("{number:04}{version:04}");
    let section = [&[0, 9, 8][..], name.as_bytes()].concat();
    [&balancers[number % balancers.len()].wasm()[..], &section].concat()
}

fn lay_down(folder: &Path, backends: u16) -> Result<(), String> {
    for number in 0..PLUGINS {
        let object = json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "Plugin", "metadata": {"name": format!("plugin-{number}")},
            "spec": {"kind": "balancer", "source": {"file": format!("plugin-{number}.wasm")}}});
        write(&folder.join(format!("plugin-{number}.json")), object.to_string())?;
        write(&folder.join(format!("plugin-{number}.wasm")), plugin(number, 0))?;
    }
    for number in 0..SERVICES {
        let name = format!("service-{number}");
        let addresses = ENDPOINTS.map(|last| json!({"addresses": [format!("127.0.0.{last}")], "conditions": {"ready": true}}));
        let objects: [Value; 3] = [
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
                "clusterIP": address(number).ip().to_string(), "ports": [{"port": 80, "targetPort": backends}]}}),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "endpoints": addresses, "ports": [{"port": backends, "protocol": "TCP"}]}),
            json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "BackendTrafficPolicy", "metadata": {"name": name}, "spec": {
                "targetRefs": [{"kind": "Service", "name": name}],
                "loadBalancer": {"plugin": format!("plugin-{}", usize::from(number) % PLUGINS)}}}),
        ];
        // Someone who deploys a service has its objects in one file.
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        write(&folder.join(format!("{name}.yaml")), documents.join("\n---\n"))?;
    }
    Ok(())
}

fn address(service: u16) -> SocketAddr {
    let [high, low] = (service + 256).to_be_bytes();
    SocketAddr::from(([127, 213, high, low], 80))
}

impl Setting {
    /// Starts the gateway. Returns the seconds until it is ready.
    fn start(&self, workers: usize) -> Result<(f64, Running), String> {
        let (admin, workers) = (self.admin.to_string(), workers.to_string());
        let arguments = ["run", text(&self.folder)?, "--workers", &workers, "--admin-address", &admin, "--state-dir", text(&self.state)?];
        let begun = Instant::now();
        let mut running =
            Running::anywhere(text(&self.gateway)?, &[&arguments[..], &["--service-cluster-ip-range", CLUSTER_IPS]].concat(), &self.log)?;
        while self.get("/readyz").is_none() {
            if running.ended() || begun.elapsed() > PATIENCE {
                return Err(format!("the gateway is not ready: {}", std::fs::read_to_string(&self.log).unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok((begun.elapsed().as_secs_f64(), running))
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// MiB resident once each worker has connected to each Service.
    fn used(&self, running: &Running) -> Result<f64, String> {
        for service in 0..SERVICES {
            // Workers share a port by a hash of the client's address: several connections reach both.
            for _ in 0..4 {
                let mut stream = TcpStream::connect_timeout(&address(service), Duration::from_secs(5))
                    .map_err(|e| format!("{}: {e}", address(service)))?;
                stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
                // The backend closes the connection; by then the gateway has picked an endpoint.
                let _ = stream.read(&mut [0]);
            }
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).map_err(|e| e.to_string())?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        Ok(resident.ok_or("VmRSS is missing")? / 1024.0)
    }

    /// Seconds from renaming the new version into place until the API shows the next generation.
    fn swap(&self, version: usize) -> Result<f64, String> {
        let generation = || -> Option<u64> {
            let all: Value = serde_json::from_str(&self.get("/api/v1/plugins")?).ok()?;
            all.as_array()?.iter().find(|plugin| plugin["name"] == "plugin-0")?["generation"]["number"].as_u64()
        };
        let before = generation().ok_or("plugin-0 is not loaded")?;
        let partial = self.folder.join("plugin-0.partial");
        write(&partial, plugin(0, version))?;
        let begun = Instant::now();
        std::fs::rename(&partial, self.folder.join("plugin-0.wasm")).map_err(|e| e.to_string())?;
        while generation() == Some(before) {
            if begun.elapsed() > PATIENCE {
                return Err("plugin-0 was not swapped".to_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

impl Fleet {
    pub(crate) fn markdown(&self) -> String {
        let Self { cold, warm, memory, worker, swap } = self;
        let mut text = String::from("\n| 1,000 services x 20 plugins | measured | goal |\n| --- | ---: | ---: |\n");
        for (what, measured, goal) in [
            ("ready, nothing compiled", format!("{cold:.2} s"), String::new()),
            ("ready, all code in the cache", format!("{warm:.2} s"), format!("{WARM_GOAL:.0} s")),
            ("memory, one worker", format!("{memory:.0} MiB"), format!("{MEMORY_GOAL:.0} MiB")),
            ("memory, a further worker", format!("{worker:.0} MiB"), String::new()),
            ("a plugin's file replaced until it serves", format!("{swap:.2} s"), String::new()),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {what} | {measured} | {goal} |");
        }
        text
    }
}
