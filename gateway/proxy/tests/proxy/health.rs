//! Ejection by the workers themselves, before there is a new pool, and how pools that control has made affect picks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluicegate_model::health::{Checked, Condition, Reason};
use sluicegate_model::plugin::{Balancer, BalancerGeneration, Generation, PickContext, PluginError};
use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::settings::{BackendSettings, HealthSettings, Passive};
use sluicegate_model::snapshot::{AppProtocol, Front, ServicePort};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

fn passive() -> Passive {
    Passive {
        split_local_errors: false,
        interval: Duration::from_secs(3),
        consecutive_5xx: 3,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 2,
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 50,
        always_eject_one: true,
        failure_percentage: None,
        success_rate_stdev_factor: None,
        latency_percentage: None,
        minimum_endpoints: 5,
        request_volume: 50,
    }
}

/// A service port of which this many endpoints may be ejected.
fn watched(endpoints: &[std::net::SocketAddr], rules: Passive, limit: u32) -> ServicePort {
    let mut service = service(endpoints);
    let health = HealthSettings { passive: Some(rules), ..HealthSettings::default() };
    service.settings = Arc::new(BackendSettings { health, ..BackendSettings::default() });
    service.stats.health.set_ejected(0, limit);
    service
}

fn condition(service: &ServicePort, address: std::net::SocketAddr) -> Condition {
    let found = service.internal.endpoints.iter().find(|e| e.address == address);
    found.expect("it is in the pool").stats.health.condition()
}

/// How often each body came in this many requests; answers with another status than 200 count under their number.
async fn bodies(address: std::net::SocketAddr, requests: usize) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..requests {
        let seen = get(address, "/").await;
        *counts.entry(if seen.status() == 200 { seen.body } else { seen.status().to_string() }).or_insert(0) += 1;
    }
    counts
}

async fn failing() -> (std::net::SocketAddr, Log) {
    backend(|_| "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_owned()).await
}

/// Resets each connection.
async fn resetting() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection that is dropped without lingering sends a reset.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    });
    address
}

async fn good() -> (std::net::SocketAddr, Log) {
    backend(|_| ok("good")).await
}

#[test]
fn errors_in_a_row_keep_the_next_request_away_at_once() {
    run(async {
        let ((bad, bad_log), (good, _)) = (failing().await, good().await);
        let service = watched(&[bad, good], passive(), 1);
        let (address, proxy) = (free(), start(1));
        proxy.serve(vec![listener(address, http(to(0)))], vec![service.clone()]).await;
        let counts = bodies(address, 40).await;
        assert_eq!((counts.get("500"), counts.get("good")), (Some(&3), Some(&37)), "{counts:?}");
        assert_eq!(bad_log.requests.load(Ordering::Relaxed), 3);
        assert_eq!(condition(&service, bad), Condition::Ejected);
        assert_eq!(service.stats.health.ejections[Reason::Consecutive5xx as usize - 1].load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_endpoint_that_resets_its_connections_is_ejected() {
    run(async {
        let (bad, good) = (resetting().await, good().await.0);
        let service = watched(&[bad, good], Passive { split_local_errors: true, ..passive() }, 1);
        let (address, proxy) = (free(), start(1));
        proxy.serve(vec![listener(address, http(to(0)))], vec![service.clone()]).await;
        // Requests without content go elsewhere, so that no client sees any of these resets.
        let counts = bodies(address, 40).await;
        assert_eq!(counts.get("good"), Some(&40), "{counts:?}");
        assert_eq!(condition(&service, bad), Condition::Ejected);
        assert_eq!(service.stats.health.ejections[Reason::ConsecutiveLocalOriginFailures as usize - 1].load(Ordering::Relaxed), 1);
    });
}

#[test]
fn the_largest_share_holds_under_traffic_on_several_workers() {
    run(async {
        let mut endpoints = Vec::new();
        for _ in 0..4 {
            endpoints.push(failing().await.0);
        }
        let service = watched(&endpoints, passive(), 2);
        let (address, proxy) = (free(), start(2));
        proxy.serve(vec![listener(address, http(to(0)))], vec![service.clone()]).await;
        bodies(address, 60).await;
        let ejected = endpoints.iter().filter(|e| condition(&service, **e) == Condition::Ejected).count();
        assert_eq!(ejected, 2);
        assert!(service.stats.health.ejections_refused.load(Ordering::Relaxed) > 0);
    });
}

#[test]
fn tcp_connections_that_are_refused_eject_too() {
    run(async {
        let bad = dead();
        let (good, _) = good().await;
        let mut service = watched(&[bad, good], passive(), 1);
        service.protocol = AppProtocol::Tcp;
        let (address, proxy) = (free(), start(1));
        proxy.serve(vec![listener(address, Front::Tcp(to(0)))], vec![service.clone()]).await;
        let counts = bodies(address, 20).await;
        assert_eq!(counts.get("good"), Some(&20), "{counts:?}");
        assert_eq!(condition(&service, bad), Condition::Ejected);
        assert_eq!(service.stats.connect_failures.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn tcp_connections_that_are_reset_before_a_byte_came_eject_too() {
    run(async {
        let (bad, good) = (resetting().await, good().await.0);
        let mut service = watched(&[bad, good], passive(), 1);
        service.protocol = AppProtocol::Tcp;
        let (address, proxy) = (free(), start(1));
        proxy.serve(vec![listener(address, Front::Tcp(to(0)))], vec![service.clone()]).await;
        let (mut answered, mut reset) = (0, 0);
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.expect("accepted");
            let asked = tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            match asked.and(message(&mut stream).await) {
                Ok(Some(_)) => answered += 1,
                _ => reset += 1,
            }
        }
        // A reset that comes while connecting counts too, and is tried at the other endpoint.
        assert!(answered + reset == 20 && reset <= 3, "{reset} were reset: three in a row, then no more");
        assert_eq!(condition(&service, bad), Condition::Ejected);
    });
}

#[test]
fn a_client_s_affinity_does_not_lead_to_an_ejected_endpoint() {
    run(async {
        let broken = Arc::new(AtomicBool::new(false));
        let mut endpoints = Vec::new();
        for name in ["a", "b"] {
            let broken = broken.clone();
            let answer = move |_: &Seen| {
                if name == "a" && broken.load(Ordering::Relaxed) {
                    "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".to_owned()
                } else {
                    ok(name)
                }
            };
            endpoints.push(backend(answer).await.0);
        }
        let mut service = watched(&endpoints, passive(), 1);
        service.affinity = affinity();
        // The client is bound to "a" by hand, since it is up to the balancer which endpoint comes first.
        let client = std::net::IpAddr::from([127, 0, 0, 1]);
        service.affinity.as_ref().expect("it has one").bind(client, endpoints[0], std::time::Instant::now());
        let (address, proxy) = (free(), start(1));
        proxy.serve(vec![listener(address, http(to(0)))], vec![service.clone()]).await;
        assert_eq!(bodies(address, 5).await.get("a"), Some(&5));
        broken.store(true, Ordering::Relaxed);
        let counts = bodies(address, 10).await;
        assert_eq!((counts.get("502"), counts.get("b")), (Some(&3), Some(&7)), "{counts:?}");
    });
}

/// A balancer that always picks the first endpoint, and knows nothing about health.
struct First(Arc<Generation>);
struct Firsts;

impl BalancerGeneration for First {
    fn generation(&self) -> &Arc<Generation> {
        &self.0
    }
    fn instantiate(&self) -> Result<Box<dyn Balancer>, PluginError> {
        Ok(Box::new(Firsts))
    }
}

impl Balancer for Firsts {
    fn pick(&mut self, pool: &Arc<Pool>, _: &Arc<str>, _: PickContext) -> Result<Option<usize>, PluginError> {
        Ok((!pool.endpoints.is_empty()).then_some(0))
    }
    fn retain(&mut self, _: &dyn Fn(u64) -> bool) {}
}

#[test]
fn a_balancer_unaware_of_health_profits_and_a_panic_uses_all() {
    run(async {
        let mut named: Vec<(std::net::SocketAddr, &str)> = Vec::new();
        for name in ["a", "b", "c"] {
            named.push((backend(move |_| ok(name)).await.0, name));
        }
        named.sort();
        let all: Vec<_> = named.iter().map(|(address, _)| Endpoint::new(*address)).collect();
        let with = |panic_threshold| {
            let pool = Pool::select(unique(), &all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), panic_threshold);
            let mut service = service(&[]);
            service.balancers = vec![Arc::new(First(generation()))];
            service.internal = Arc::new(pool);
            service.external = service.internal.clone();
            service
        };
        let (address, proxy) = (free(), start(1));
        let listeners = || vec![listener(address, http(to(0)))];
        proxy.serve(listeners(), vec![with(50)]).await;
        assert_eq!(get(address, "/").await.body, named[0].1);
        all[0].stats.health.set_checked(Checked::Failing);
        proxy.serve(listeners(), vec![with(50)]).await;
        assert_eq!(get(address, "/").await.body, named[1].1, "the first of those that are healthy");
        all[1].stats.health.set_checked(Checked::Failing);
        proxy.serve(listeners(), vec![with(50)]).await;
        assert_eq!(get(address, "/").await.body, named[0].1, "a third is less than a half: all are used");
        proxy.serve(listeners(), vec![with(0)]).await;
        assert_eq!(get(address, "/").await.body, named[2].1);
        all[2].stats.health.set_checked(Checked::Failing);
        proxy.serve(listeners(), vec![with(0)]).await;
        assert_eq!(get(address, "/").await.status(), 503);
    });
}

#[test]
fn without_rules_nothing_is_ejected() {
    run(async {
        let (bad, _) = failing().await;
        let service = service(&[bad]);
        service.stats.health.set_ejected(0, 1);
        let (address, proxy) = (free(), start(1));
        proxy.serve(vec![listener(address, http(to(0)))], vec![service.clone()]).await;
        bodies(address, 20).await;
        assert_eq!(condition(&service, bad), Condition::Healthy);
        drop(TcpStream::connect(address).await);
    });
}

/// Answers each request with a head and half of its content, and then resets the connection.
async fn half_answering() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if message(&mut stream).await.is_ok() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").await;
                    // The gateway takes it before the reset, which would discard it.
                    let _ = tokio::time::timeout(Duration::from_millis(20), stream.read_u8()).await;
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
            });
        }
    });
    address
}

/// Does the same by HTTP/2, where a stream is reset and its connection goes on.
async fn half_answering_h2() -> std::net::SocketAddr {
    let (address, _) = crate::support::http2::h2_backend(h2::server::Builder::new(), |_, mut respond| async move {
        let head = ::http::Response::builder().header("content-length", 8).body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data(bytes::Bytes::from_static(b"half"), false).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.send_reset(h2::Reason::INTERNAL_ERROR);
    })
    .await;
    address
}

/// How many of this many requests, one after another, were answered completely. Each has a connection of its own.
async fn whole(address: std::net::SocketAddr, requests: usize) -> usize {
    let mut count = 0;
    for _ in 0..requests {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
        count += usize::from(matches!(message(&mut stream).await, Ok(Some(_))));
    }
    count
}

#[test]
fn an_endpoint_that_breaks_in_the_middle_of_its_responses_is_ejected() {
    run(async {
        let (http1, http2) = (half_answering().await, half_answering_h2().await);
        let (good, _) = good().await;
        let (good_h2, _) = crate::support::http2::h2_backend(h2::server::Builder::new(), crate::support::http2::echo).await;
        for (protocol, bad, good) in [(AppProtocol::Http, http1, good), (AppProtocol::H2c, http2, good_h2)] {
            for split_local_errors in [false, true] {
                let mut service = watched(&[bad, good], Passive { split_local_errors, ..passive() }, 1);
                service.protocol = protocol;
                let (address, proxy) = (free(), start(1));
                proxy.serve(vec![listener(address, http(to(0)))], vec![service.clone()]).await;
                let wanted = if split_local_errors { 2 } else { 3 };
                assert_eq!(whole(address, 20).await, 20 - wanted, "{protocol:?}, split: {split_local_errors}");
                assert_eq!(condition(&service, bad), Condition::Ejected);
                let reason = if split_local_errors { Reason::ConsecutiveLocalOriginFailures } else { Reason::Consecutive5xx };
                assert_eq!(service.stats.health.ejections[reason as usize - 1].load(Ordering::Relaxed), 1);
            }
        }
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_is_no_fault_of_the_endpoint() {
    run(async {
        // It never ends the content that it has begun.
        let (endless, _) = crate::support::http2::h2_backend(h2::server::Builder::new(), |_, mut respond| async move {
            let mut stream = respond.send_response(::http::Response::new(()), false).unwrap();
            stream.send_data(bytes::Bytes::from_static(b"half"), false).unwrap();
            std::future::poll_fn(|context| stream.poll_reset(context)).await.unwrap();
        })
        .await;
        let mut service = watched(&[endless], Passive { always_eject_one: true, ..passive() }, 1);
        service.protocol = AppProtocol::H2c;
        let (address, proxy) = (free(), start(1));
        proxy.serve(vec![listener(address, http(to(0)))], vec![service.clone()]).await;
        for _ in 0..10 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"half\r\n") {
                seen.push(stream.read_u8().await.unwrap());
            }
            // This is a reset: a client that only ends its own side may still want the rest.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        let ended = || service.stats.exchange_time.buckets().iter().map(|(_, count)| count).sum::<u64>();
        while ended() < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_ne!(condition(&service, endless), Condition::Ejected);
    });
}
