//! Connections and flows whose rule has no usable backend: reset, or dropped and counted.

use std::sync::atomic::Ordering;

use sluicegate_model::route::Rule;
use sluicegate_model::snapshot::Front;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::support::udp::{client, free_udp, until};
use crate::support::*;

/// A rule whose router chooses no backend, as `rules` does where the backend is invalid.
fn nowhere() -> Vec<Rule> {
    vec![Rule { name: Some(String::new()), ..Rule::default() }]
}

#[test]
fn a_connection_is_reset() {
    run(async {
        let (proxy, at) = (start(1), free());
        proxy.serve(vec![listener(at, Front::Tcp(router(nowhere())))], vec![]).await;
        // The reset may come before the client has looked whether it is connected.
        let error = match TcpStream::connect(at).await {
            Ok(mut stream) => stream.read_u8().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_datagram_is_dropped() {
    run(async {
        let (proxy, at) = (start(1), free_udp());
        proxy.serve(vec![listener(at, Front::Udp(udp_router(nowhere())))], vec![]).await;
        client(at).await.send(b"lost").await.unwrap();
        until(|| proxy.stats.unrouted_datagrams.load(Ordering::Relaxed) == 1).await;
    });
}
