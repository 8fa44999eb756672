//! What clients may ask for, how large and how fast it may be, and peers that are hostile.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sluicegate_model::limiter::Limiter;
use sluicegate_model::settings::{ClientSettings, ClientTimeouts, Comparison, Condition, ConnectionLimits, HeadLimits, MinRate, Rate};
use sluicegate_model::snapshot::{Listener, ServicePort};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::*;

fn limited(address: SocketAddr, settings: ClientSettings) -> Arc<Listener> {
    let limiter = Limiter::new(&settings.rates).map(Arc::new);
    Arc::new(Listener { address, name: "limited".into(), front: http(to(0)), settings: Arc::new(settings), limiter })
}

async fn serving(settings: ClientSettings, service: ServicePort) -> (Running, SocketAddr) {
    let (proxy, at) = (start(2), free());
    proxy.serve(vec![limited(at, settings)], vec![service]).await;
    (proxy, at)
}

fn timeouts(timeouts: ClientTimeouts) -> ClientSettings {
    ClientSettings { timeouts, ..ClientSettings::default() }
}

fn a_second() -> Option<Duration> {
    Some(Duration::from_secs(1))
}

fn rate(requests: u32, conditions: Vec<Condition>) -> Rate {
    Rate { requests, unit: Duration::from_secs(3600), conditions }
}

#[test]
fn a_listener_counts_each_client_and_says_what_is_left() {
    run(async {
        let (backend, log) = mirror_back().await;
        let each = Condition::EachSource("0.0.0.0/0".parse().unwrap());
        let settings = ClientSettings { rates: vec![rate(3, vec![each])], ..ClientSettings::default() };
        let (proxy, at) = serving(settings, service(&[backend])).await;
        for left in ["2", "1", "0"] {
            let seen = get(at, "/").await;
            assert_eq!((seen.status(), seen.field("x-ratelimit-limit"), seen.field("x-ratelimit-remaining")), (200, Some("3"), Some(left)));
        }
        let refused = get(at, "/").await;
        assert_eq!((refused.status(), refused.field("x-sluicegate-reason")), (429, Some("rate-limited")));
        assert_eq!((refused.field("retry-after"), refused.field("x-ratelimit-remaining")), (Some("1200"), Some("0")));
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.7.7.7:0".parse().unwrap()).unwrap();
        let mut other = socket.connect(at).await.unwrap();
        assert_eq!(ask(&mut other, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200, "another client has its own");
        assert_eq!((log.requests.load(Ordering::Relaxed), proxy.stats.clients.rate.load(Ordering::Relaxed)), (4, 1));
    });
}

#[test]
fn a_service_counts_what_its_rules_select_and_the_limit_holds_over_workers() {
    run(async {
        let (backend, _) = mirror_back().await;
        let path = Condition::Path { with: Comparison::Prefix("/dear".into()), invert: false };
        let limiter = Limiter::new(&[rate(10, vec![path])]).map(Arc::new);
        let service = ServicePort { limiter, ..service(&[backend]) };
        let stats = service.stats.clone();
        let (_proxy, at) = serving(ClientSettings::default(), service).await;
        let mut passed = 0;
        for _ in 0..30 {
            passed += u32::from(get(at, "/dear/x").await.status() == 200);
        }
        assert_eq!((passed, stats.refused.rate.load(Ordering::Relaxed)), (10, 20));
        let seen = get(at, "/cheap").await;
        assert_eq!((seen.status(), seen.field("x-ratelimit-limit")), (200, None));
    });
}

#[test]
fn too_much_content_is_refused_without_reading_it() {
    run(async {
        let (backend, log) = mirror_back().await;
        let settings = ClientSettings { content: Some(1000), ..ClientSettings::default() };
        let (proxy, at) = serving(settings, service(&[backend])).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let seen = ask(&mut stream, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").await;
        assert_eq!(
            (seen.status(), seen.field("x-sluicegate-reason"), seen.field("connection")),
            (413, Some("large-content"), Some("close"))
        );
        assert_eq!(log.requests.load(Ordering::Relaxed), 0);
        let mut stream = TcpStream::connect(at).await.unwrap();
        let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
        let seen = ask(&mut stream, &format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}")).await;
        assert_eq!(seen.status(), 413);
        assert_eq!(proxy.stats.clients.large_content.load(Ordering::Relaxed), 2);
        let mut stream = TcpStream::connect(at).await.unwrap();
        let small = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(ask(&mut stream, small).await.status(), 200);
    });
}

#[test]
fn heads_have_the_listeners_bounds() {
    run(async {
        let (backend, _) = mirror_back().await;
        let settings = ClientSettings { head: HeadLimits { bytes: 300, fields: 5 }, ..ClientSettings::default() };
        let (_proxy, at) = serving(settings, service(&[backend])).await;
        let status = |fields: String| async move {
            let mut stream = TcpStream::connect(at).await.unwrap();
            ask(&mut stream, &format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).await.status()
        };
        assert_eq!(status("a: b\r\n".repeat(4)).await, 200);
        assert_eq!(status("a: b\r\n".repeat(5)).await, 431);
        assert_eq!(status(format!("a: {}\r\n", "b".repeat(300))).await, 431);
        let mut stream = TcpStream::connect(at).await.unwrap();
        let endless = format!("GET / HTTP/1.1\r\nhost: a\r\na: {}", "b".repeat(400));
        assert_eq!(ask(&mut stream, &endless).await.status(), 431, "before its end");
    });
}

#[test]
fn a_connection_takes_so_many_requests_and_says_when_it_ends() {
    run(async {
        let (backend, _) = mirror_back().await;
        let connections = ConnectionLimits { requests: Some(2), ..ConnectionLimits::default() };
        let (_proxy, at) = serving(ClientSettings { connections, ..ClientSettings::default() }, service(&[backend])).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(ask(&mut stream, request).await.field("connection"), None);
        assert_eq!(ask(&mut stream, request).await.field("connection"), Some("close"));
        assert!(message(&mut stream).await.unwrap().is_none());
    });
}

/// Sends one byte every 50 ms until the answer comes or the connection ends.
async fn drip(at: SocketAddr, begin: &str, bytes: &str) -> (Option<Seen>, Duration) {
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    to.write_all(begin.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let bytes = bytes.to_owned();
    let dripping = tokio::spawn(async move {
        for byte in bytes.bytes().cycle() {
            if to.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = from.read_to_end(&mut answer).await;
    dripping.abort();
    let head = String::from_utf8_lossy(&answer).into_owned();
    ((!head.is_empty()).then_some(Seen { head, body: String::new() }), begun.elapsed())
}

#[test]
fn a_head_that_drips_is_answered_408_in_time() {
    run(async {
        let (backend, log) = mirror_back().await;
        let (proxy, at) = serving(timeouts(ClientTimeouts { head: a_second(), ..ClientTimeouts::default() }), service(&[backend])).await;
        let (seen, took) = drip(at, "GET / HTTP/1.1\r\nx: ", "a").await;
        let seen = seen.expect("an answer");
        assert_eq!((seen.status(), seen.field("connection")), (408, Some("close")));
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!((log.requests.load(Ordering::Relaxed), proxy.stats.clients.slow_head.load(Ordering::Relaxed)), (0, 1));
    });
}

#[test]
fn content_that_drips_is_answered_408_in_time() {
    run(async {
        let (backend, _) = mirror_back().await;
        let (proxy, at) = serving(timeouts(ClientTimeouts { request: a_second(), ..ClientTimeouts::default() }), service(&[backend])).await;
        let (seen, took) = drip(at, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n", "a").await;
        let seen = seen.expect("an answer");
        assert_eq!((seen.status(), seen.field("x-sluicegate-reason")), (408, Some("slow-request")));
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(proxy.stats.clients.slow_request.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn who_sends_below_the_rate_is_ended_and_who_waits_for_a_slow_endpoint_is_not() {
    run(async {
        let (backend, _) = mirror_back().await;
        let rate = Some(MinRate { bytes_per_second: 1000, grace: Duration::from_secs(1) });
        let (proxy, at) = serving(timeouts(ClientTimeouts { rate, ..ClientTimeouts::default() }), service(&[backend])).await;
        let (seen, took) = drip(at, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n", "a").await;
        assert!(seen.is_none() && took < Duration::from_secs(6), "{took:?}");
        assert_eq!(proxy.stats.clients.slow_rate.load(Ordering::Relaxed), 1);
        let slow = stalling_for(Duration::from_secs(4)).await;
        let (proxy, at) = serving(timeouts(ClientTimeouts { rate, ..ClientTimeouts::default() }), service(&[slow])).await;
        assert_eq!(get(at, "/").await.status(), 200);
        assert_eq!(proxy.stats.clients.slow_rate.load(Ordering::Relaxed), 0);
    });
}

/// A backend that answers after a time.
async fn stalling_for(time: Duration) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = message(&mut stream).await;
                tokio::time::sleep(time).await;
                let _ = stream.write_all(ok("late").as_bytes()).await;
            });
        }
    });
    address
}

#[test]
fn a_client_that_never_reads_is_ended_and_its_endpoint_released() {
    run(async {
        let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", 64 << 20, "x".repeat(64 << 20));
        let (backend, _) = backend(move |_| large.clone()).await;
        let service = service(&[backend]);
        let endpoint = service.internal.endpoints[0].stats.clone();
        let (proxy, at) = serving(timeouts(ClientTimeouts { stalled: a_second(), ..ClientTimeouts::default() }), service).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        while proxy.stats.clients.stalled.load(Ordering::Relaxed) == 0 || endpoint.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(proxy.stats.clients.stalled.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_endpoint_that_stalls_after_its_head_is_cut_off() {
    run(async {
        let stalls = stalling("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await;
        let (proxy, at) = serving(timeouts(ClientTimeouts { stalled: a_second(), ..ClientTimeouts::default() }), service(&[stalls])).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(message(&mut stream).await.is_err(), "the missing end tells the client");
        assert_eq!(proxy.stats.clients.stalled.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_endpoint_that_closes_mid_body_leaves_an_end_that_shows() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = message(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
            }
        });
        let (_proxy, at) = serving(ClientSettings::default(), service(&[address])).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        let text = String::from_utf8(all).unwrap();
        assert!(text.ends_with("5\r\nhello\r\n") && !text.contains("0\r\n\r\n"), "{text}");
    });
}

#[test]
fn idle_and_old_connections_close() {
    run(async {
        let (backend, _) = mirror_back().await;
        let idle = timeouts(ClientTimeouts { idle: a_second(), ..ClientTimeouts::default() });
        let (proxy, at) = serving(idle, service(&[backend])).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200);
        assert!(message(&mut stream).await.unwrap().is_none());
        assert_eq!(proxy.stats.clients.idle.load(Ordering::Relaxed), 1);
        let (_proxy, at) = serving(timeouts(ClientTimeouts { age: a_second(), ..ClientTimeouts::default() }), service(&[backend])).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let begun = Instant::now();
        // The client is told in a response, or the connection closes between two.
        loop {
            assert!(begun.elapsed() < Duration::from_secs(10));
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            match message(&mut stream).await {
                Ok(Some(seen)) if seen.field("connection").is_none() => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(Some(_) | None) | Err(_) => break,
            }
        }
        assert!(begun.elapsed() >= Duration::from_millis(900));
    });
}
