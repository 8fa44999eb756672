//! L4 through a running proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::Ordering;

use sluicegate_model::snapshot::Front;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Says its name, then echoes until the client's half-close.
async fn echo(name: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut got = Vec::new();
                stream.write_all(name.as_bytes()).await.unwrap();
                stream.read_to_end(&mut got).await.unwrap();
                stream.write_all(&got).await.unwrap();
            });
        }
    });
    address
}

async fn exchange(address: std::net::SocketAddr, text: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut got = String::new();
    stream.read_to_string(&mut got).await?;
    Ok(got)
}

#[test]
fn half_close_is_kept() {
    run(async {
        let (proxy, at, to_echo) = (start(2), free(), echo("a:").await);
        let s = service(&[to_echo]);
        let (stats, endpoint) = (s.stats.clone(), s.internal.endpoints[0].stats.clone());
        proxy.serve(vec![listener(at, Front::Tcp(to(0)))], vec![s]).await;
        let long = "x".repeat(300_000);
        assert_eq!(exchange(at, &long).await.unwrap(), format!("a:{long}"));
        assert_eq!(stats.connections.load(Ordering::Relaxed), 1);
        assert_eq!(endpoint.picks.load(Ordering::Relaxed), 1);
        let Running { proxy, stats: stats_all, .. } = proxy;
        tokio::task::spawn_blocking(move || proxy.shutdown(DEADLINE)).await.unwrap();
        assert_eq!(endpoint.in_flight(), 0);
        assert_eq!(stats_all.open.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn no_endpoint_is_a_reset() {
    run(async {
        let (proxy, at) = (start(1), free());
        let s = service(&[]);
        let stats = s.stats.clone();
        proxy.serve(vec![listener(at, Front::Tcp(to(0)))], vec![s]).await;
        // The reset may come before the client has looked whether it is connected.
        let connected = TcpStream::connect(at).await;
        let error = match connected {
            Ok(mut stream) => stream.read_u8().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(stats.no_endpoint.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_dead_endpoint_is_passed_over() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo("live").await);
        let s = service(&[dead(), to_echo]);
        let stats = s.stats.clone();
        proxy.serve(vec![listener(at, Front::Tcp(to(0)))], vec![s]).await;
        for _ in 0..4 {
            assert_eq!(exchange(at, "").await.unwrap(), "live");
        }
        assert!(stats.connect_failures.load(Ordering::Relaxed) >= 1);
    });
}

#[test]
fn affinity_holds_over_workers() {
    run(async {
        let (proxy, at) = (start(2), free());
        let mut s = service(&[echo("a").await, echo("b").await, echo("c").await]);
        s.affinity = affinity();
        proxy.serve(vec![listener(at, Front::Tcp(to(0)))], vec![s]).await;
        let first = exchange(at, "").await.unwrap();
        for _ in 0..20 {
            assert_eq!(exchange(at, "").await.unwrap(), first);
        }
    });
}

#[test]
fn a_failing_balancer_stops_nothing() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo("live").await);
        let mut s = service(&[to_echo]);
        let stats = s.stats.clone();
        s.balancers = vec![std::sync::Arc::new(Turns(generation(), true))];
        proxy.serve(vec![listener(at, Front::Tcp(to(0)))], vec![s]).await;
        for _ in 0..8 {
            assert_eq!(exchange(at, "").await.unwrap(), "live");
        }
        assert_eq!(stats.fallbacks.load(Ordering::Relaxed), 8);
    });
}

#[test]
fn a_connection_outlives_its_endpoint_and_listener() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo("").await);
        proxy.serve(vec![listener(at, Front::Tcp(to(0)))], vec![service(&[to_echo])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"before ").await.unwrap();
        while proxy.stats.accepted.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        proxy.serve(vec![], vec![]).await;
        assert!(TcpStream::connect(at).await.is_err(), "the address is closed");
        stream.write_all(b"after").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = String::new();
        stream.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "before after");
    });
}

#[test]
fn connections_beyond_the_limit_are_reset_and_the_running_ones_go_on() {
    run(async {
        let proxy = start_with(&Config { workers: 1, max_connections: Some(1) });
        let (at, to_echo) = (free(), echo("a").await);
        proxy.serve(vec![listener(at, Front::Tcp(to(0)))], vec![service(&[to_echo])]).await;
        let mut first = TcpStream::connect(at).await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'a');
        assert!(exchange(at, "").await.is_err(), "the second is reset");
        assert_eq!(proxy.stats.refused.load(Ordering::Relaxed), 1);
        first.write_all(b"on").await.unwrap();
        first.shutdown().await.unwrap();
        let mut got = String::new();
        first.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "on");
        // Its place is free again once the worker has seen its end.
        while exchange(at, "").await.is_err() {
            tokio::task::yield_now().await;
        }
    });
}
