//! Circuit breakers: how much a service may have under way, and which requests wait.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluicegate_model::settings::{BackendSettings, BackendTimeouts, Breaker};
use sluicegate_model::snapshot::{Front, ServicePort};
use sluicegate_model::stats::ServiceStats;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::support::*;

fn limited(endpoints: &[SocketAddr], breaker: Breaker, connect: Duration) -> ServicePort {
    let timeouts = BackendTimeouts { connect, ..BackendTimeouts::default() };
    ServicePort { settings: Arc::new(BackendSettings { breaker, timeouts, ..BackendSettings::default() }), ..service(endpoints) }
}

async fn serving(workers: usize, front: Front, service: ServicePort) -> (Running, SocketAddr, Arc<ServiceStats>) {
    let (proxy, at, stats) = (start(workers), free(), service.stats.clone());
    proxy.serve(vec![listener(at, front)], vec![service]).await;
    (proxy, at, stats)
}

fn of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A backend that answers each request when it is given a permit, and knows how many connections there were at once.
struct Gated {
    address: SocketAddr,
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicU64>,
    most_open: Arc<AtomicU64>,
}

async fn gated() -> Gated {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (permits, waiting, open, most_open) =
        (Arc::new(Semaphore::new(0)), <Arc<AtomicU64>>::default(), <Arc<AtomicU64>>::default(), <Arc<AtomicU64>>::default());
    let gated = Gated { address, permits: permits.clone(), waiting: waiting.clone(), most_open: most_open.clone() };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (permits, waiting, open) = (permits.clone(), waiting.clone(), open.clone());
            most_open.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::spawn(async move {
                while let Ok(Some(_)) = message(&mut stream).await {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    permits.acquire().await.unwrap().forget();
                    if stream.write_all(ok("done").as_bytes()).await.is_err() {
                        break;
                    }
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    gated
}

#[test]
fn no_more_exchanges_than_the_limit_over_all_workers() {
    run(async {
        let backend = gated().await;
        let breaker = Breaker { requests: Some(3), ..Breaker::default() };
        let (_proxy, at, stats) = serving(2, http(to(0)), limited(&[backend.address], breaker, Duration::from_secs(5))).await;
        let running: Vec<_> = (0..3).map(|_| tokio::spawn(get(at, "/"))).collect();
        eventually("three requests arrived", || of(&backend.waiting) == 3).await;
        for _ in 0..4 {
            let seen = get(at, "/").await;
            assert_eq!((seen.status(), seen.field("x-sluicegate-reason")), (503, Some("circuit-breaker")));
            assert_eq!(seen.field("x-sluicegate-overloaded"), Some("true"));
        }
        assert_eq!(of(&stats.refused.requests), 4);
        backend.permits.add_permits(4);
        for one in running {
            assert_eq!(one.await.unwrap().status(), 200);
        }
        eventually("their places were given back", || stats.load.requests.used() == 0).await;
        assert_eq!(get(at, "/").await.status(), 200);
    });
}

#[test]
fn requests_wait_for_a_connection_in_a_bounded_queue() {
    run(async {
        let backend = gated().await;
        let breaker = Breaker { connections: Some(2), pending: 3, ..Breaker::default() };
        let (_proxy, at, stats) = serving(2, http(to(0)), limited(&[backend.address], breaker, DEADLINE)).await;
        let running: Vec<_> = (0..5).map(|_| tokio::spawn(get(at, "/"))).collect();
        eventually("two were sent and three wait", || of(&backend.waiting) == 2 && stats.load.connections.waiting() == 3).await;
        let seen = get(at, "/").await;
        assert_eq!((seen.status(), seen.field("x-sluicegate-reason")), (503, Some("circuit-breaker")), "a fourth has no place to wait");
        assert_eq!(of(&stats.refused.pending), 1);
        backend.permits.add_permits(100);
        for one in running {
            assert_eq!(one.await.unwrap().status(), 200, "those who waited are served");
        }
        for _ in 0..20 {
            assert_eq!(get(at, "/").await.status(), 200, "whichever worker has the connections");
        }
        assert_eq!(of(&backend.most_open), 2);
        assert_eq!(stats.load.connections.waiting(), 0);
    });
}

#[test]
fn a_kept_connection_goes_to_who_waits_for_it() {
    run(async {
        let backend = gated().await;
        backend.permits.add_permits(1000);
        let breaker = Breaker { connections: Some(1), pending: 64, ..Breaker::default() };
        let (_proxy, at, _) = serving(1, http(to(0)), limited(&[backend.address], breaker, DEADLINE)).await;
        let running: Vec<_> = (0..40).map(|_| tokio::spawn(get(at, "/"))).collect();
        for one in running {
            assert_eq!(one.await.unwrap().status(), 200);
        }
        assert_eq!(of(&backend.most_open), 1);
    });
}

#[test]
fn who_waits_too_long_is_refused_and_gives_up_its_place() {
    run(async {
        let backend = gated().await;
        let breaker = Breaker { connections: Some(1), pending: 3, ..Breaker::default() };
        let (_proxy, at, stats) = serving(1, http(to(0)), limited(&[backend.address], breaker, Duration::from_millis(50))).await;
        let first = tokio::spawn(get(at, "/"));
        eventually("it was sent", || of(&backend.waiting) == 1).await;
        assert_eq!(get(at, "/").await.status(), 503);
        assert_eq!((of(&stats.refused.pending_timeout), stats.load.connections.waiting()), (1, 0));
        backend.permits.add_permits(1);
        assert_eq!(first.await.unwrap().status(), 200);
    });
}

#[test]
fn an_endpoint_that_is_full_leaves_the_request_to_another() {
    run(async {
        let (full, free_one) = (gated().await, gated().await);
        free_one.permits.add_permits(100);
        let breaker = Breaker { endpoint_connections: Some(1), pending: 0, ..Breaker::default() };
        let (_proxy, at, _) = serving(1, http(to(0)), limited(&[full.address, free_one.address], breaker, DEADLINE)).await;
        // Each endpoint gets one request.
        let both = [tokio::spawn(get(at, "/")), tokio::spawn(get(at, "/"))];
        eventually("one request is held", || of(&full.waiting) == 1).await;
        for _ in 0..10 {
            assert_eq!(get(at, "/").await.status(), 200);
        }
        assert_eq!((of(&full.most_open), of(&full.waiting)), (1, 1));
        full.permits.add_permits(1);
        for one in both {
            assert_eq!(one.await.unwrap().status(), 200);
        }
    });
}

#[test]
fn a_connection_takes_so_many_requests() {
    run(async {
        let (backend, log) = mirror_back().await;
        let breaker = Breaker { requests_per_connection: Some(3), ..Breaker::default() };
        let (_proxy, at, _) = serving(1, http(to(0)), limited(&[backend], breaker, DEADLINE)).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..9 {
            assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200);
        }
        assert_eq!((of(&log.requests), of(&log.connections)), (9, 3));
    });
}

#[test]
fn connections_are_limited_at_l4_too() {
    run(async {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = backend.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = backend.accept().await {
                tokio::spawn(async move {
                    let _ = stream.write_all(b"!").await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                });
            }
        });
        let breaker = Breaker { connections: Some(2), ..Breaker::default() };
        let (_proxy, at, stats) = serving(2, Front::Tcp(to(0)), limited(&[address], breaker, DEADLINE)).await;
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(at).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'!');
            open.push(stream);
        }
        // The reset may come before the client knows that it is connected.
        if let Ok(mut refused) = TcpStream::connect(at).await {
            assert!(refused.read_u8().await.is_err(), "a third is reset");
        }
        assert_eq!(of(&stats.refused.connections), 1);
        drop(open);
        eventually("their places were given back", || stats.load.connections.used() == 0).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
    });
}
