//! Health as YAML configures it: probes, ejection under traffic, panic, slow start, and a custom balancer that knows nothing of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use sluicegate_tests::{Gateway, HOSTILE_BALANCER, SERVICE, eventually, fetch, replace};

/// A mode of [`backend`]: it answers every request.
const WELL: u8 = 0;
/// Its probes fail, but its exchanges do not.
const SICK: u8 = 1;
/// It resets the connection.
const RESET: u8 = 2;
/// Every second exchange fails.
const HALF: u8 = 3;
/// It answers slowly.
const SLOW: u8 = 4;

/// An HTTP backend that answers with its name, in the way that its mode says.
fn backend(ip: IpAddr, name: &'static str) -> Arc<AtomicU8> {
    let listener = TcpListener::bind((ip, 80)).expect("port 80 of a loopback address: run as root, or allow unprivileged ports");
    let mode = Arc::new(AtomicU8::new(WELL));
    let seen = mode.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mode = seen.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut writer = stream.try_clone()?;
                let mut reader = BufReader::new(stream);
                let mut fails = false;
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head)? == 0 {
                            return Ok(());
                        }
                    }
                    let (status, mode) = ("200 OK", mode.load(Ordering::Relaxed));
                    if mode == RESET {
                        return socket2::SockRef::from(&writer).set_linger(Some(std::time::Duration::ZERO));
                    }
                    fails = mode == HALF && !fails || mode == SICK && head.starts_with("GET /healthz");
                    if mode == SLOW {
                        std::thread::sleep(std::time::Duration::from_millis(60));
                    }
                    let status = if fails { "500 Internal Server Error" } else { status };
                    writer.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}", name.len()).as_bytes())?;
                }
            });
        }
    });
    mode
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\nmetadata: {{name: mine}}\nspec: {{kind: balancer, source: {{file: mine.wasm}}}}\n---\n\
        apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: p}}\nspec:\n  targetRefs: [{{kind: Service, name: nginx-svc}}]\n{spec}"
    )
}

/// A gateway whose Service is HTTP, with a balancer from a file, and endpoints a, b, c on 127.B.C.2 and up.
fn gateway(spec: &str, names: &[&'static str]) -> (Gateway, SocketAddr, Vec<Arc<AtomicU8>>) {
    let service = SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http");
    let gateway = Gateway::new(&[("svc.yaml", &service)]);
    std::fs::write(gateway.path("mine.wasm"), sluicegate_plugins::builtin("random").expect("built in").wasm()).expect("written");
    gateway.write("policy.yaml", &policy(spec));
    let mut modes = Vec::new();
    let mut pods = String::new();
    for (last, name) in (2..).zip(names) {
        modes.push(backend(gateway.ip(last), name));
        pods.push_str(&format!("---\n{}", gateway.pod(name, last, true)));
    }
    gateway.write("pods.yaml", &pods);
    eventually("the plugin is loaded", || gateway.plugin("mine")["state"] == "active");
    eventually("all endpoints", || gateway.ready_endpoints() == names.len());
    let address = gateway.node_port();
    eventually("served", || fetch(address).0 == 200);
    (gateway, address, modes)
}

/// The state, and the reason for it, of the endpoint with this last number.
fn state(gateway: &Gateway, last: u8) -> (String, String) {
    let address = format!("{}:80", gateway.ip(last));
    let all = gateway.json("endpoints");
    let found = all.as_array().expect("a list").iter().find(|e| e["address"] == address.as_str()).cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn shares(address: SocketAddr, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let (status, body) = fetch(address);
        *shares.entry(if status == 200 { body } else { status.to_string() }).or_insert(0) += 1;
    }
    shares
}

fn metric(gateway: &Gateway, line: &str) -> Option<f64> {
    let text = gateway.get("/metrics")?;
    let words: Vec<&str> = line.split(' ').collect();
    let found = text.lines().filter(|l| !l.starts_with('#')).find(|l| words.iter().all(|word| l.contains(word)))?;
    found.rsplit(' ').next()?.parse().ok()
}

const ACTIVE: &str = "  loadBalancer: {plugin: mine}
  healthCheck:
    active: {type: HTTP, interval: 50ms, timeout: 2s, unhealthyThreshold: 2, healthyThreshold: 2, http: {path: /healthz, expectedStatuses: [200]}}
";

#[test]
fn probes_take_endpoints_out_and_bring_them_back_and_few_healthy_ones_are_a_panic() {
    let (gateway, address, modes) = gateway(ACTIVE, &["a", "b", "c"]);
    modes[1].store(SICK, Ordering::Relaxed);
    eventually("b is unhealthy", || state(&gateway, 3) == ("unhealthy".to_owned(), "HTTP 500, expected 200".to_owned()));
    eventually("the workers know", || !shares(address, 20).contains_key("b"));
    assert_eq!(shares(address, 40).keys().collect::<Vec<_>>(), ["a", "c"]);
    assert!(metric(&gateway, "sluicegate_service_probes_total result=\"wrong\"").is_some_and(|n| n >= 2.0));
    assert_eq!(metric(&gateway, "sluicegate_service_endpoint_conditions condition=\"unhealthy\""), Some(1.0));
    assert_eq!(metric(&gateway, "sluicegate_service_panic"), Some(0.0));
    modes[2].store(SICK, Ordering::Relaxed);
    eventually("one of three is too few", || metric(&gateway, "sluicegate_service_panic") == Some(1.0));
    eventually("all are used", || shares(address, 40).len() == 3);
    modes.iter().for_each(|m| m.store(WELL, Ordering::Relaxed));
    eventually("all are healthy again", || (2..5).all(|last| state(&gateway, last).0 == "ready"));
    eventually("no panic", || metric(&gateway, "sluicegate_service_panic") == Some(0.0));
    eventually("b is used", || shares(address, 40).contains_key("b"));
}

#[test]
fn an_endpoint_that_joins_sick_never_takes_traffic() {
    let (gateway, address, _) = gateway(ACTIVE, &["a"]);
    backend(gateway.ip(9), "new").store(SICK, Ordering::Relaxed);
    gateway.write("new.yaml", &gateway.pod("new", 9, true));
    eventually("it is unhealthy", || state(&gateway, 9).0 == "unhealthy");
    let shares = shares(address, 50);
    // A half is not below the panic threshold.
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["a"], "{shares:?}");
}

#[test]
fn an_endpoint_that_resets_under_traffic_is_ejected_within_a_second_and_returns() {
    let spec = "  loadBalancer: {plugin: mine}
  healthCheck: {passive: {consecutive5XxErrors: 3, interval: 100ms, baseEjectionTime: 2s, maxEjectionPercent: 50}}\n";
    let (gateway, address, modes) = gateway(spec, &["a", "b"]);
    modes[0].store(RESET, Ordering::Relaxed);
    let begun = std::time::Instant::now();
    let mut requests = 0;
    while state(&gateway, 2).0 != "ejected" {
        // The request is sent again elsewhere, so nobody sees the resets.
        assert_eq!(fetch(address), (200, "b".to_owned()), "request {requests}");
        requests += 1;
        assert!(begun.elapsed() < std::time::Duration::from_secs(15), "not ejected after {requests} requests");
    }
    let (_, reason) = state(&gateway, 2);
    assert!(reason.starts_with("5xx responses in a row"), "{reason}");
    assert_eq!(metric(&gateway, "sluicegate_service_ejections_total reason=\"consecutive_5xx\""), Some(1.0));
    modes[0].store(WELL, Ordering::Relaxed);
    eventually("it returns", || state(&gateway, 2).0 == "ready");
    eventually("and is used", || shares(address, 20).contains_key("a"));
}

#[test]
fn endpoints_that_fail_or_answer_late_among_their_like_are_ejected() {
    let rules =
        "consecutive5XxErrors: 0, interval: 2s, baseEjectionTime: 300s, maxEjectionPercent: 50, minimumEndpoints: 4, requestVolume: 4";
    for (mode, rule, reason, counted) in [
        // The rates are 1, 1, 1, 1 and 0.5: their mean is 0.9, and their standard deviation 0.2.
        (HALF, "successRateStdevFactor: 1000", "success rate", "success_rate"),
        (HALF, "failurePercentageThreshold: 40", "failures", "failure_percentage"),
        (SLOW, "latencyPercentageThreshold: 300", "latency", "latency"),
    ] {
        let spec = format!("  loadBalancer: {{plugin: mine}}\n  healthCheck: {{passive: {{{rules}, {rule}}}}}\n");
        let (gateway, address, modes) = gateway(&spec, &["a", "b", "c", "d", "e"]);
        modes[3].store(mode, Ordering::Relaxed);
        eventually(rule, || {
            shares(address, 10);
            state(&gateway, 5).0 == "ejected"
        });
        let (_, told) = state(&gateway, 5);
        assert!(told.contains(reason), "{told}");
        assert_eq!(metric(&gateway, &format!("sluicegate_service_ejections_total reason=\"{counted}\"")), Some(1.0));
        assert!((2..7).filter(|last| *last != 5).all(|last| state(&gateway, last).0 == "ready"), "it alone");
        assert!(!shares(address, 40).contains_key("d"), "and gets no traffic");
    }
}

#[test]
fn an_endpoint_that_joins_takes_a_small_share_at_first() {
    let (gateway, address, _) = gateway("  loadBalancer: {plugin: mine, slowStart: {window: 600s, minWeightPercent: 10}}\n", &["a"]);
    backend(gateway.ip(9), "new");
    gateway.write("new.yaml", &gateway.pod("new", 9, true));
    eventually("it warms up", || state(&gateway, 9) == ("warming".to_owned(), "takes 10 % of its weight".to_owned()));
    eventually("it takes traffic", || shares(address, 20).contains_key("new"));
    let shares = shares(address, 300);
    // The share is 1 in 11: 27 of 300, and by chance between 8 and 55 (four standard deviations).
    assert!((6..=58).contains(&shares["new"]), "{shares:?}");
}

#[test]
fn a_balancer_may_ask_for_the_condition_that_probes_found() {
    let (gateway, address, modes) = gateway(ACTIVE, &["a", "b", "c"]);
    replace(&gateway.path("mine.wasm"), HOSTILE_BALANCER);
    eventually("another balancer", || gateway.plugin("mine")["generation"]["number"] == 2);
    gateway.write("policy.yaml", &policy(&ACTIVE.replace("{plugin: mine}", "{plugin: mine, config: {mode: choosy}}")));
    // So few are healthy that the pool has all of them: now only the balancer avoids the sick ones.
    modes[0].store(SICK, Ordering::Relaxed);
    modes[1].store(SICK, Ordering::Relaxed);
    eventually("a panic", || metric(&gateway, "sluicegate_service_panic") == Some(1.0));
    eventually("the workers know", || shares(address, 20).keys().eq(["c"]));
    assert!(shares(address, 60).keys().eq(["c"]), "never the sick ones");
}

#[test]
fn faults_of_the_policy_are_shown_and_the_last_good_one_serves() {
    let (gateway, _, _) = gateway(ACTIVE, &["a"]);
    gateway.write("policy.yaml", &policy("  healthCheck: {active: {type: HTTP, http: {path: healthz}}}\n"));
    eventually("reported", || gateway.json("faults").to_string().contains("must be a path that begins with a slash"));
}
