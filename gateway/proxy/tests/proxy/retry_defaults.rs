//! What a service without a `retry` policy does, and how much more its endpoints get by tries after the first.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluicegate_model::settings::Trigger;
use sluicegate_model::settings::{BackendSettings, BackendTimeouts, Budget, Retry};
use sluicegate_model::snapshot::{AppProtocol, Front, ServicePort};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::*;

/// Answers this many requests of each connection, and closes it at the next one without an answer. Counts the requests.
async fn breaking(after: u32) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut answered = 0;
                while let Ok(Some(_)) = message(&mut stream).await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    if answered == after || stream.write_all(ok("here").as_bytes()).await.is_err() {
                        return;
                    }
                    answered += 1;
                }
            });
        }
    });
    (address, count)
}

async fn serving(endpoints: &[SocketAddr], settings: BackendSettings, protocol: AppProtocol) -> (Running, SocketAddr) {
    let (proxy, at) = (start(1), free());
    let front = if protocol == AppProtocol::Tcp { Front::Tcp(to(0)) } else { http(to(0)) };
    proxy.serve(vec![listener(at, front)], vec![ServicePort { settings: Arc::new(settings), protocol, ..service(endpoints) }]).await;
    (proxy, at)
}

#[test]
fn a_request_that_endpoints_break_is_sent_once_more_and_not_a_third_time() {
    run(async {
        let mut endpoints = Vec::new();
        let mut counts = Vec::new();
        for _ in 0..4 {
            let (address, count) = breaking(0).await;
            endpoints.push(address);
            counts.push(count);
        }
        let (_proxy, at) = serving(&endpoints, BackendSettings::default(), AppProtocol::Http).await;
        assert_eq!(get(at, "/").await.status(), 502);
        assert_eq!(counts.iter().map(|c| c.load(Ordering::Relaxed)).sum::<u64>(), 2);

        // A try on a kept connection counts as well.
        let (flaky, count) = breaking(1).await;
        let (_proxy, at) = serving(&[flaky, endpoints[0], endpoints[1]], BackendSettings::default(), AppProtocol::Http).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        let sent = || counts.iter().map(|c| c.load(Ordering::Relaxed)).sum::<u64>() + count.load(Ordering::Relaxed);
        for _ in 0..12 {
            let before = sent();
            let seen = ask(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert!(sent() - before <= 2, "{} times for one request, answered {}", sent() - before, seen.status());
        }
    });
}

/// An endpoint that answers one request, and then breaks all that come, on the connection that was kept and on new ones. The count is of those that it broke.
async fn dying() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, broken, is_dead) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let counted = broken.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (counted, is_dead) = (counted.clone(), is_dead.clone());
            tokio::spawn(async move {
                while let Ok(Some(_)) = message(&mut stream).await {
                    if is_dead.swap(true, Ordering::Relaxed) {
                        counted.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    stream.write_all(ok("here").as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, broken)
}

#[test]
fn an_endpoint_that_dies_with_connections_to_it_is_felt_by_nobody() {
    run(async {
        let (dying, broken) = dying().await;
        let (well, _) = backend(|_| ok("well")).await;
        let (_proxy, at) = serving(&[dying, well], BackendSettings::default(), AppProtocol::Http).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        let mut asked = 0;
        while broken.load(Ordering::Relaxed) < 3 {
            assert_eq!(ask(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200, "request {asked}");
            asked += 1;
            assert!(asked < 1_000, "the one that dies is asked");
        }
    });
}

#[test]
fn tries_are_a_share_of_what_is_asked_however_fast_endpoints_fail() {
    run(async {
        let mut endpoints = Vec::new();
        let mut logs = Vec::new();
        for _ in 0..5 {
            let (address, log) = backend(|_| "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
            endpoints.push(address);
            logs.push(log);
        }
        let on = [Trigger::ServerError].into_iter().collect();
        let budget = Some(Budget { percent: 20, least: 3, ..Budget::default() });
        for budget in [budget, None] {
            let retry = Retry { times: 5, on, statuses: vec![], per_try: None, back_off: None, buffer: 0 };
            let settings = BackendSettings { budget, retry: Some(retry), ..BackendSettings::default() };
            let (_proxy, at) = serving(&endpoints, settings, AppProtocol::Http).await;
            let before: u64 = logs.iter().map(|log| log.requests.load(Ordering::Relaxed)).sum();
            let (mut client, asked, begun) = (TcpStream::connect(at).await.unwrap(), 1_000, Instant::now());
            for _ in 0..asked {
                assert_eq!(ask(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 503);
            }
            let got = logs.iter().map(|log| log.requests.load(Ordering::Relaxed)).sum::<u64>() - before;
            // A fifth more, and ten for each second of a window of ten.
            let most = asked + asked / 5 + 100 * (1 + begun.elapsed().as_secs() / 10);
            assert!(got <= most && got > asked, "{got} requests at endpoints for {asked}, at most {most} are allowed");
        }
    });
}

/// An address that swallows packets: its queue is full, and the kernel drops what asks for more (listen(2)). Alive while the sockets are.
async fn swallowing() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        held.push(stream);
    }
    (address, held, listener)
}

#[test]
fn an_address_that_swallows_packets_costs_a_moment_where_there_are_others() {
    run(async {
        let (swallows, _held, _listener) = swallowing().await;
        let ((good, _), (other, _)) = (mirror_back().await, mirror_back().await);
        let timed = async |at: SocketAddr| {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            assert!(stream.read_u8().await.is_ok());
            begun.elapsed()
        };
        for protocol in [AppProtocol::Http, AppProtocol::Tcp] {
            let (_proxy, at) = serving(&[swallows, good, other], BackendSettings::default(), protocol).await;
            let mut longest = Duration::ZERO;
            for _ in 0..6 {
                longest = longest.max(timed(at).await);
            }
            let moment = Duration::from_millis(250)..Duration::from_secs(2);
            assert!(moment.contains(&longest), "{protocol:?}: {longest:?}, where the whole time-out is 5 s");
            // A time-out that the operator sets holds for each try.
            let patient = Duration::from_millis(600);
            let timeouts = BackendTimeouts { connect: patient, connect_elsewhere: patient, ..BackendTimeouts::default() };
            let settings = BackendSettings { timeouts, ..BackendSettings::default() };
            let (_proxy, at) = serving(&[swallows, good], settings, protocol).await;
            assert!(timed(at).await.max(timed(at).await) >= patient);
        }
        // The last endpoint that is left has the whole time-out.
        let timeouts = BackendTimeouts { connect: Duration::from_millis(700), ..BackendTimeouts::default() };
        let (_proxy, at) = serving(&[swallows], BackendSettings { timeouts, ..BackendSettings::default() }, AppProtocol::Http).await;
        let begun = Instant::now();
        assert_eq!(get(at, "/").await.status(), 502);
        assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
    });
}
