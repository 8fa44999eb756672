//! TCP forwarding through a running proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sluicegate_model::pool::{Distribution, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::settings::{BackendSettings, BackendTimeouts, ClientSettings};
use sluicegate_model::snapshot::{Front, ServicePort};
use sluicegate_model::stats::Reset;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// Sends its name, then echoes until the client's half-close.
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
        let proxy = start_with(&Config { workers: 1, max_connections: Some(1), ..Config::default() });
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

/// A listener whose connections the test takes itself.
async fn endpoint() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A connection's two ends, with the proxy between.
async fn pair(proxy: &Running, settings: ClientSettings) -> (TcpStream, TcpStream) {
    let ((listener, address), at) = (endpoint().await, free());
    proxy.serve(vec![listener_with(at, Front::Tcp(to(0)), settings)], vec![service(&[address])]).await;
    let (client, taken) = tokio::join!(TcpStream::connect(at), listener.accept());
    (client.unwrap(), taken.unwrap().0)
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_reset_of_one_side_becomes_one_of_the_other_and_not_an_end() {
    run(async {
        let proxy = start(1);
        let (client, mut server) = pair(&proxy, ClientSettings::default()).await;
        reset(client);
        assert_eq!(server.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let (mut client, mut server) = pair(&proxy, ClientSettings::default()).await;
        // A reset right after the handshake would be a failed connect.
        server.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        reset(server);
        assert_eq!(client.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(proxy.stats.reset(Reset::Endpoint).load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_reset_is_seen_of_a_side_that_is_not_read_from() {
    run(async {
        let proxy = start(1);
        // The client has closed its side, so nothing more is read from it.
        let (mut client, mut server) = pair(&proxy, ClientSettings::default()).await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        reset(client);
        // The client's end has been read already: the reset shows when nothing can be written any more.
        while server.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
        // The connection is stalled: the server reads nothing, so all buffers on the way are full.
        let (client, server) = pair(&proxy, ClientSettings::default()).await;
        while let Ok(ready) = tokio::time::timeout(Duration::from_millis(200), client.writable()).await {
            ready.unwrap();
            let _ = client.try_write(&[0; 65_536]);
        }
        reset(client);
        while !server.ready(tokio::io::Interest::ERROR).await.unwrap().is_error() {}
    });
}

#[test]
fn bulk_arrives_whole_both_ways_at_once_and_small_messages_after_it() {
    run(async {
        let proxy = start(1);
        let (mut client, mut server) = pair(&proxy, ClientSettings::default()).await;
        // The pattern's period divides no buffer's size.
        let sent: Arc<Vec<u8>> = Arc::new((0..24_000_000_u32).map(|i| (i % 251) as u8).collect());
        for round in 0..2 {
            let mut got = [vec![0; sent.len()], vec![0; sent.len()]];
            let [from_client, from_server] = &mut got;
            {
                let ((mut cr, mut cw), (mut sr, mut sw)) = (client.split(), server.split());
                let (a, b, c, d) =
                    tokio::join!(cw.write_all(&sent), sw.write_all(&sent), cr.read_exact(from_server), sr.read_exact(from_client));
                a.and(b).unwrap();
                c.and(d).unwrap();
            }
            assert!(got.iter().all(|got| *got == *sent), "round {round}");
            for _ in 0..50 {
                client.write_all(b"ping").await.unwrap();
                server.read_exact(&mut [0; 4]).await.unwrap();
                server.write_all(b"pong").await.unwrap();
                client.read_exact(&mut [0; 4]).await.unwrap();
            }
        }
        let mut rest = Vec::new();
        let sending = async {
            server.write_all(&sent).await.unwrap();
            drop(server);
        };
        let (_, read) = tokio::join!(sending, client.read_to_end(&mut rest));
        read.unwrap();
        assert!(rest == *sent, "the end comes after all that was sent");
    });
}

#[test]
fn a_connection_in_which_nothing_moves_is_closed_after_its_time_and_not_before() {
    run(async {
        let proxy = start(1);
        let idle = Duration::from_millis(300);
        let settings = || ClientSettings { tcp_idle: Some(idle), ..ClientSettings::default() };
        let (mut client, mut server) = pair(&proxy, settings()).await;
        let begun = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(idle / 2).await;
            client.write_all(b"x").await.unwrap();
            server.read_u8().await.unwrap();
        }
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed, not reset");
        assert!(begun.elapsed() >= idle / 2 * 3 + idle, "{:?}", begun.elapsed());
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    });
}

#[test]
fn no_endpoint_on_this_node_is_a_reset_whose_reason_is_counted() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo("a").await);
        let mut s = service(&[]);
        let mut elsewhere = sluicegate_model::pool::Endpoint::new(to_echo);
        elsewhere.node = Some("other".into());
        let here = Here { node: Some("here".into()), zone: None };
        s.external = Arc::new(Pool::select(unique(), &[elsewhere], TrafficPolicy::Local, Distribution::Any, &here, 50));
        let stats = s.stats.clone();
        proxy.serve(vec![listener(at, Front::Tcp(to(0)))], vec![s]).await;
        assert!(exchange(at, "").await.is_err());
        assert_eq!(stats.no_local_endpoint.load(Ordering::Relaxed), 1);
        assert_eq!(proxy.stats.reset(Reset::NoLocalEndpoint).load(Ordering::Relaxed), 1);
        assert_eq!(proxy.stats.reset(Reset::NoEndpoint).load(Ordering::Relaxed), 0);
    });
}

#[test]
fn what_waits_in_the_accept_queue_is_served_when_the_proxy_stops() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo("a:").await);
        proxy.serve(vec![listener(at, Front::Tcp(to(0)))], vec![service(&[to_echo])]).await;
        // These connect at once, many of them before the worker has looked: this test's thread and the worker race for them.
        let clients: Vec<std::net::TcpStream> = (0..200).map(|_| std::net::TcpStream::connect(at).unwrap()).collect();
        let stats = proxy.stats.clone();
        let stopping = tokio::task::spawn_blocking(move || proxy.proxy.shutdown(DEADLINE));
        for client in clients {
            client.set_nonblocking(true).unwrap();
            let mut client = TcpStream::from_std(client).unwrap();
            client.write_all(b"x").await.unwrap();
            client.shutdown().await.unwrap();
            let mut got = String::new();
            client.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, "a:x");
        }
        stopping.await.unwrap();
        assert_eq!(stats.accepted.load(Ordering::Relaxed), 200);
        assert!(TcpStream::connect(at).await.is_err());
    });
}

/// A listener whose queue is full: the kernel answers no more handshakes (listen(2), tcp(7)).
async fn deaf() -> (std::net::SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (address, mut queued) = (listener.local_addr().unwrap(), Vec::new());
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    (address, queued, listener)
}

#[test]
fn an_endpoint_that_does_not_accept_in_time_is_passed_over() {
    run(async {
        let (proxy, tcp, http, lonely) = (start(1), free(), free(), free());
        let (deaf, _queued, _listener) = deaf().await;
        let timeouts = BackendTimeouts { connect: Duration::from_millis(100), ..BackendTimeouts::default() };
        let settings = Arc::new(BackendSettings { timeouts, ..BackendSettings::default() });
        let with = |endpoints: &[_]| ServicePort { settings: settings.clone(), ..service(endpoints) };
        let (to_mirror, _) = mirror_back().await;
        let services = vec![with(&[deaf, echo("a:").await]), with(&[deaf, to_mirror]), with(&[deaf])];
        let failures = services[0].stats.clone();
        let listeners = vec![
            listener(tcp, Front::Tcp(to(0))),
            listener(http, crate::support::http(to(1))),
            listener(lonely, crate::support::http(to(2))),
        ];
        proxy.serve(listeners, services).await;
        for _ in 0..4 {
            assert_eq!(exchange(tcp, "x").await.unwrap(), "a:x");
            assert_eq!(get(http, "/").await.status(), 200);
        }
        assert!(failures.connect_failures.load(Ordering::Relaxed) >= 2);
        let begun = Instant::now();
        let refused = get(lonely, "/").await;
        assert_eq!((refused.status(), refused.field("x-sluicegate-reason")), (502, Some("connect-failed")));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}
