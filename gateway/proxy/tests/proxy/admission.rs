//! How many connections a listener, a client and the whole process may have.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicegate_model::settings::{ClientSettings, ConnectionLimit, ConnectionLimits};
use sluicegate_model::snapshot::Listener;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::*;

async fn from(client: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, 2, client)), 0))?;
    socket.connect(to).await
}

/// A connection on which a request was answered; none if it was refused.
async fn served(client: u8, to: SocketAddr) -> Option<TcpStream> {
    let mut stream = from(client, to).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.ok()?;
    let seen = message(&mut stream).await.ok()??;
    assert_eq!(seen.status(), 200);
    Some(stream)
}

fn limited(address: SocketAddr, connections: ConnectionLimits) -> Arc<Listener> {
    let settings = Arc::new(ClientSettings { connections, ..ClientSettings::default() });
    Arc::new(Listener { address, name: "limited".into(), front: http(to(0)), settings, limiter: None })
}

fn most(most: u32) -> Option<ConnectionLimit> {
    Some(ConnectionLimit { most, close_delay: None })
}

#[test]
fn a_listener_and_each_client_have_their_limits_over_all_workers() {
    run(async {
        let (backend, _) = mirror_back().await;
        let (proxy, at) = (start(3), free());
        let connections = ConnectionLimits { listener: most(5), client: most(3), ..ConnectionLimits::default() };
        proxy.serve(vec![limited(at, connections)], vec![service(&[backend])]).await;
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(served(1, at).await.expect("the first three"));
        }
        for _ in 0..4 {
            assert!(served(1, at).await.is_none(), "a fourth of one client");
        }
        for client in [2, 3] {
            open.push(served(client, at).await.expect("other clients"));
        }
        for client in 4..8 {
            assert!(served(client, at).await.is_none(), "a sixth of the listener");
        }
        assert_eq!(proxy.stats.clients.over_client.load(Ordering::Relaxed), 4);
        assert_eq!(proxy.stats.clients.over_listener.load(Ordering::Relaxed), 4);
        drop(open.remove(0));
        while served(1, at).await.is_none() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn the_limit_of_the_process_is_exact() {
    run(async {
        let (backend, _) = mirror_back().await;
        let proxy = start_with(&Config { workers: 3, max_connections: Some(4), ..Config::default() });
        let at = free();
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[backend])]).await;
        let (mut open, mut refused) = (Vec::new(), 0);
        for client in 1..=24 {
            match served(client, at).await {
                Some(stream) => open.push(stream),
                None => refused += 1,
            }
        }
        assert_eq!((open.len(), refused), (4, 20));
        assert_eq!(proxy.stats.refused.load(Ordering::Relaxed), 20);
    });
}

#[test]
fn a_refused_connection_may_be_held_before_it_is_closed() {
    run(async {
        let (backend, _) = mirror_back().await;
        let (proxy, at) = (start(1), free());
        let delay = Duration::from_millis(200);
        let listener = Some(ConnectionLimit { most: 0, close_delay: Some(delay) });
        proxy.serve(vec![limited(at, ConnectionLimits { listener, ..ConnectionLimits::default() })], vec![service(&[backend])]).await;
        let mut stream = from(1, at).await.unwrap();
        let begun = std::time::Instant::now();
        assert!(stream.read_u8().await.is_err());
        assert!(begun.elapsed() >= delay, "closed after {:?}", begun.elapsed());
    });
}
