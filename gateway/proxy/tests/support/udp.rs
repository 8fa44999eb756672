//! Clients, backends and services for UDP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::snapshot::{Front, Listener, ServicePort};
use sluicegate_model::stats::ServiceStats;
use tokio::net::UdpSocket;

use super::{free, listener, service, to};

/// Answers each datagram with its name, a colon and what it got.
pub async fn echo(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut got = vec![0; 1 << 16];
        loop {
            let (length, client) = socket.recv_from(&mut got).await.unwrap();
            let answer = [name.as_bytes(), b":", &got[..length]].concat();
            socket.send_to(&answer, client).await.unwrap();
        }
    });
    address
}

/// A backend that takes everything, answers nothing, and counts.
pub async fn sink() -> (SocketAddr, Arc<AtomicU64>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (socket.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut got = vec![0; 1 << 16];
        loop {
            socket.recv_from(&mut got).await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, count)
}

/// An address that nothing else uses for UDP.
pub fn free_udp() -> SocketAddr {
    let address = free();
    std::net::UdpSocket::bind((address.ip(), 0)).unwrap().local_addr().unwrap()
}

pub async fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

pub async fn ask(client: &UdpSocket, text: &str) -> String {
    client.send(text.as_bytes()).await.unwrap();
    receive(client).await
}

pub async fn receive(client: &UdpSocket) -> String {
    let mut got = vec![0; 1 << 16];
    let length = client.recv(&mut got).await.unwrap();
    String::from_utf8_lossy(&got[..length]).into_owned()
}

/// Asks again until there is an answer, as DNS clients do when something is lost.
pub async fn ask_until_answered(client: &UdpSocket, text: &str) -> String {
    loop {
        client.send(text.as_bytes()).await.unwrap();
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(100), receive(client)).await {
            return answer;
        }
    }
}

pub async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn udp(at: SocketAddr) -> Arc<Listener> {
    listener(at, Front::Udp(to(0)))
}

/// A service that keeps its counters over snapshots, as control does.
pub fn of(stats: &Arc<ServiceStats>, endpoints: &[Endpoint]) -> ServicePort {
    let pool = Arc::new(Pool::select(unique(), endpoints, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50));
    ServicePort { internal: pool.clone(), external: pool, stats: stats.clone(), ..service(&[]) }
}
