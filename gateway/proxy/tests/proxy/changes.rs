//! A publication costs what it changes, which is counted here, not timed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy};
use sluicegate_model::settings::{ClientSettings, Keepalive};
use sluicegate_model::snapshot::{Front, Listener, ServicePort, Snapshot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

const WORKERS: u64 = 2;

impl Running {
    /// How many service ports and listeners workers took, and on how many sockets something was set.
    fn work(&self) -> [u64; 3] {
        let changes = &self.stats.changes;
        [&changes.services, &changes.listeners, &changes.socket_options].map(|n| n.swap(0, Ordering::Relaxed))
    }

    async fn publish(&self, snapshot: &Snapshot) {
        assert!(self.proxy.publish(Arc::new(snapshot.clone())).is_empty());
        self.proxy.served(snapshot.version).await;
    }
}

/// The service port with other endpoints.
fn moved(service: &ServicePort, endpoints: &[SocketAddr]) -> Arc<ServicePort> {
    let all: Vec<Endpoint> = endpoints.iter().map(|a| Endpoint::new(*a)).collect();
    let pool = Pool::select(service.internal.id, &all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50);
    let pool = Arc::new(pool);
    Arc::new(ServicePort { internal: pool.clone(), external: pool, ..service.clone() })
}

fn with_settings(listener: &Listener, settings: ClientSettings) -> Arc<Listener> {
    listener_with(listener.address, http(to(0)), settings)
}

/// A backend that answers with its name.
async fn named(name: &'static str) -> SocketAddr {
    backend(move |_| ok(name)).await.0
}

#[test]
fn one_changed_endpoint_of_ten_thousand_services_is_one_service_for_each_worker_and_no_call_for_a_socket() {
    run(async {
        let proxy = start(WORKERS as usize);
        let (a, b) = (named("a").await, named("b").await);
        let at: Vec<SocketAddr> = (0..40).map(|_| free()).collect();
        let listeners = at.iter().map(|at| listener(*at, http(to(4_711))));
        let mut snapshot = Snapshot::of(1, listeners, (0..10_000).map(|_| Arc::new(service(&[a]))));
        proxy.publish(&snapshot).await;
        assert_eq!(proxy.work(), [WORKERS * 10_000, WORKERS * 40, WORKERS * 40]);
        assert_eq!(get(at[0], "/").await.body, "a");
        let changed = moved(snapshot.services.get(&4_711).unwrap(), &[b]);
        snapshot.services.insert(4_711, changed);
        snapshot.version = 2;
        proxy.publish(&snapshot).await;
        assert_eq!(proxy.work(), [WORKERS, 0, 0]);
        assert_eq!(get(at[0], "/").await.body, "b");
    });
}

#[test]
fn settings_are_set_on_the_sockets_of_the_listener_whose_probes_changed() {
    run(async {
        let proxy = start(WORKERS as usize);
        let to_backend = named("a").await;
        let at: Vec<SocketAddr> = (0..5).map(|_| free()).collect();
        let mut snapshot = Snapshot::of(1, at.iter().map(|at| listener(*at, http(to(0)))), [Arc::new(service(&[to_backend]))]);
        proxy.publish(&snapshot).await;
        let mut idle = TcpStream::connect(at[3]).await.unwrap();
        let key = listener(at[3], http(to(0))).at();
        assert_eq!(proxy.work()[2], WORKERS * 5);
        let change = |snapshot: &mut Snapshot, settings| {
            let listener = with_settings(snapshot.listeners.get(&key).unwrap(), settings);
            snapshot.listeners.insert(key, listener);
            snapshot.version += 1;
        };
        change(&mut snapshot, ClientSettings { content: Some(1), ..ClientSettings::default() });
        proxy.publish(&snapshot).await;
        assert_eq!(proxy.work(), [0, WORKERS, 0], "it is another listener, but its sockets need nothing");
        // A connection from before has the new settings, too.
        idle.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nxx").await.unwrap();
        assert_eq!(message(&mut idle).await.unwrap().unwrap().status(), 413);
        let keepalive = Keepalive { idle: Duration::from_secs(7), ..ClientSettings::default().keepalive };
        change(&mut snapshot, ClientSettings { keepalive, ..ClientSettings::default() });
        proxy.publish(&snapshot).await;
        assert_eq!(proxy.work(), [0, WORKERS, WORKERS]);
        assert_eq!(get(at[3], "/").await.status(), 200);
    });
}

#[test]
fn workers_that_miss_publications_serve_the_last_one() {
    run(async {
        let proxy = start(WORKERS as usize);
        let (a, b) = (named("a").await, named("b").await);
        let (stays, comes_and_goes) = (free(), free());
        let mut snapshot = Snapshot::of(1, [listener(stays, http(to(1)))], (0..300).map(|_| Arc::new(service(&[a]))));
        proxy.publish(&snapshot).await;
        let extra = listener(comes_and_goes, http(to(1)));
        for version in 2..=101 {
            snapshot.version = version;
            let index = version as usize % 300;
            let changed = moved(snapshot.services.get(&index).unwrap(), &[b]);
            snapshot.services.insert(index, changed);
            match version % 2 {
                0 => _ = snapshot.listeners.insert(extra.at(), extra.clone()),
                _ => _ = snapshot.listeners.remove(&extra.at()),
            }
            // While a worker still has the socket, the address cannot be bound again: the next snapshot that has the listener tries again.
            proxy.proxy.publish(Arc::new(snapshot.clone()));
        }
        let changed = moved(snapshot.services.get(&1).unwrap(), &[b]);
        snapshot.services.insert(1, changed);
        snapshot.version = 102;
        proxy.publish(&snapshot).await;
        assert_eq!(get(stays, "/").await.body, "b");
        assert!(TcpStream::connect(comes_and_goes).await.is_err(), "its last word was that it is gone");
    });
}

#[test]
fn an_index_that_another_service_port_got_leads_to_that_one() {
    run(async {
        let proxy = start(1);
        let (a, b, at) = (named("a").await, named("b").await, free());
        let mut snapshot = Snapshot::of(1, [listener(at, http(to(0)))], [Arc::new(service(&[a]))]);
        proxy.publish(&snapshot).await;
        let mut kept = TcpStream::connect(at).await.unwrap();
        let ask = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        kept.write_all(ask).await.unwrap();
        assert_eq!(message(&mut kept).await.unwrap().unwrap().body, "a");
        snapshot.services.insert(0, Arc::new(service(&[b])));
        snapshot.version = 2;
        proxy.publish(&snapshot).await;
        kept.write_all(ask).await.unwrap();
        assert_eq!(message(&mut kept).await.unwrap().unwrap().body, "b");
    });
}

#[test]
fn an_address_that_was_taken_is_tried_again_though_its_listener_did_not_change() {
    run(async {
        let proxy = start(2);
        let to_backend = named("a").await;
        let taken = std::net::TcpListener::bind(free()).unwrap();
        let at = taken.local_addr().unwrap();
        let mut snapshot = Snapshot::of(1, [listener(at, http(to(0)))], [Arc::new(service(&[to_backend]))]);
        assert_eq!(proxy.proxy.publish(Arc::new(snapshot.clone())).len(), 1);
        snapshot.version = 2;
        assert_eq!(proxy.proxy.publish(Arc::new(snapshot.clone())).len(), 1, "it is said each time");
        drop(taken);
        snapshot.version = 3;
        proxy.publish(&snapshot).await;
        assert_eq!(get(at, "/").await.status(), 200);
    });
}

#[test]
fn idle_connections_to_an_endpoint_that_is_gone_are_closed_and_others_are_not() {
    run(async {
        let proxy = start(1);
        let (gone, stays, at) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), named("b").await, free());
        let front = |service| Front::Http(vec![sluicegate_model::snapshot::VirtualHost { hostname: None, target: to(service) }].into());
        let other = free();
        let listeners = [listener(at, front(0)), listener(other, front(1))];
        let services = [Arc::new(service(&[gone.local_addr().unwrap()])), Arc::new(service(&[stays]))];
        let mut snapshot = Snapshot::of(1, listeners, services);
        proxy.publish(&snapshot).await;
        let asking = tokio::spawn(async move { get(at, "/").await.status() });
        let (mut endpoint, _) = gone.accept().await.unwrap();
        assert!(message(&mut endpoint).await.unwrap().is_some());
        endpoint.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert_eq!(asking.await.unwrap(), 200);
        assert_eq!(get(other, "/").await.body, "b");
        let changed = moved(snapshot.services.get(&0).unwrap(), &[]);
        snapshot.services.insert(0, changed);
        snapshot.version = 2;
        proxy.publish(&snapshot).await;
        assert_eq!(endpoint.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
        assert_eq!(get(other, "/").await.body, "b");
    });
}
