//! UDP through a running proxy, with real sockets on both sides.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::route::{Backend, Rule};
use sluicegate_model::settings::{BackendSettings, ClientSettings, ConnectionLimit, ConnectionLimits, UdpSettings};
use sluicegate_model::snapshot::{Front, Listener, ServicePort};
use sluicegate_model::stats::{ServiceStats, UdpDrop};
use support::*;
use tokio::net::{TcpListener, UdpSocket};

/// Answers each datagram with its name, a colon and what it got.
async fn echo(name: &'static str) -> SocketAddr {
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

/// Takes everything, says nothing, and counts.
async fn sink() -> (SocketAddr, Arc<AtomicU64>) {
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

/// An address of UDP nothing else uses.
fn free_udp() -> SocketAddr {
    let address = free();
    std::net::UdpSocket::bind((address.ip(), 0)).unwrap().local_addr().unwrap()
}

async fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

async fn ask(client: &UdpSocket, text: &str) -> String {
    client.send(text.as_bytes()).await.unwrap();
    receive(client).await
}

async fn receive(client: &UdpSocket) -> String {
    let mut got = vec![0; 1 << 16];
    let length = client.recv(&mut got).await.unwrap();
    String::from_utf8_lossy(&got[..length]).into_owned()
}

/// Asks again until there is an answer: what was lost is asked anew, as DNS clients do.
async fn ask_until_answered(client: &UdpSocket, text: &str) -> String {
    loop {
        client.send(text.as_bytes()).await.unwrap();
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(100), receive(client)).await {
            return answer;
        }
    }
}

async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn udp(at: SocketAddr) -> Arc<Listener> {
    listener(at, Front::Udp(to(0)))
}

/// A service that keeps its counters over snapshots, as control does.
fn of(stats: &Arc<ServiceStats>, endpoints: &[Endpoint]) -> ServicePort {
    let pool = Arc::new(Pool::select(unique(), endpoints, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50));
    ServicePort { internal: pool.clone(), external: pool, stats: stats.clone(), ..service(&[]) }
}

#[test]
fn questions_are_answered_and_counted() {
    run(async {
        let (proxy, at) = (start(2), free_udp());
        let s = service(&[echo("a").await, echo("b").await]);
        let (stats, endpoints) = (s.stats.clone(), s.internal.endpoints.iter().map(|e| e.stats.clone()).collect::<Vec<_>>());
        proxy.serve(vec![udp(at)], vec![s]).await;
        let (mut names, mut clients) = (std::collections::BTreeSet::new(), Vec::new());
        for i in 0..40 {
            // Kept: the port of one that is gone may be given to the next, whose flow would be the same.
            clients.push(client(at).await);
            let answer = ask(&clients[i], &format!("{i}")).await;
            let (name, text) = answer.split_once(':').unwrap();
            assert_eq!(text, format!("{i}"));
            names.insert(name.to_owned());
        }
        assert_eq!(names.len(), 2, "flows are balanced");
        let u = &stats.udp;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((read(&u.flows), read(&u.open), read(&u.datagrams_in), read(&u.bytes_in)), (40, 40, 40, 70));
        until(|| (read(&u.datagrams_out), read(&u.bytes_out)) == (40, 150)).await;
        assert_eq!(endpoints.iter().map(|e| read(&e.picks)).sum::<u64>(), 40);
        until(|| endpoints.iter().all(|e| e.latency_us() > 0)).await;
    });
}

#[test]
fn a_flow_stays_with_its_endpoint_and_keeps_its_order() {
    run(async {
        let (proxy, at) = (start(2), free_udp());
        proxy.serve(vec![udp(at)], vec![service(&[echo("a").await, echo("b").await, echo("c").await])]).await;
        let client = client(at).await;
        let name = ask(&client, "0").await.split_once(':').unwrap().0.to_owned();
        for round in 0..20 {
            for i in 0..10 {
                client.send(format!("{round} {i}").as_bytes()).await.unwrap();
            }
            for i in 0..10 {
                assert_eq!(receive(&client).await, format!("{name}:{round} {i}"));
            }
        }
    });
}

#[test]
fn empty_and_the_largest_datagrams_pass() {
    run(async {
        let (proxy, at) = (start(1), free_udp());
        proxy.serve(vec![udp(at)], vec![service(&[echo("").await])]).await;
        let client = client(at).await;
        assert_eq!(ask(&client, "").await, ":");
        let long = "x".repeat(65_506);
        assert_eq!(ask(&client, &long).await, format!(":{long}"));
    });
}

#[test]
fn a_tcp_and_a_udp_listener_share_an_address() {
    run(async {
        let (proxy, at) = (start(2), free_udp());
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to_tcp = tcp.local_addr().unwrap();
        let listeners = vec![listener(at, Front::Tcp(to(1))), udp(at)];
        proxy.serve(listeners, vec![service(&[echo("udp").await]), service(&[to_tcp])]).await;
        assert_eq!(ask(&client(at).await, "x").await, "udp:x");
        let (_client, accepted) = tokio::join!(tokio::net::TcpStream::connect(at), tcp.accept());
        accepted.unwrap();
        // One goes, the other stays.
        proxy.serve(vec![udp(at)], vec![service(&[echo("udp").await])]).await;
        assert!(tokio::net::TcpStream::connect(at).await.is_err());
        assert_eq!(ask(&client(at).await, "x").await, "udp:x");
    });
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    run(async {
        let port = free_udp().port();
        let proxy = start(2);
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        proxy.serve(vec![udp(at)], vec![service(&[echo("a").await])]).await;
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for last in [1, 2, 3] {
            let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
            for _ in 0..3 {
                client.send_to(b"x", to).await.unwrap();
                let mut got = [0; 16];
                let (_, from) = client.recv_from(&mut got).await.unwrap();
                assert_eq!(from, to);
            }
        }
    });
}

#[test]
fn ipv6_listeners_answer_too() {
    run(async {
        let Ok(probe) = std::net::UdpSocket::bind("[::1]:0") else { return };
        let (proxy, port) = (start(1), probe.local_addr().unwrap().port());
        drop(probe);
        let at: SocketAddr = format!("[::]:{port}").parse().unwrap();
        proxy.serve(vec![udp(at)], vec![service(&[echo("a").await])]).await;
        let client = UdpSocket::bind("[::1]:0").await.unwrap();
        client.connect(format!("[::1]:{port}")).await.unwrap();
        for _ in 0..3 {
            assert_eq!(ask(&client, "x").await, "a:x");
        }
    });
}

#[test]
fn no_endpoint_is_a_counted_drop_and_ends_when_there_is_one() {
    run(async {
        let (proxy, at, stats) = (start(1), free_udp(), Arc::new(ServiceStats::default()));
        proxy.serve(vec![udp(at)], vec![of(&stats, &[])]).await;
        let client = client(at).await;
        client.send(b"lost").await.unwrap();
        until(|| stats.udp.dropped(UdpDrop::NoEndpoint) == 1).await;
        proxy.serve(vec![udp(at)], vec![of(&stats, &[Endpoint::new(echo("a").await)])]).await;
        assert_eq!(ask(&client, "x").await, "a:x");
        proxy.serve(vec![listener(at, Front::Udp(sluicegate_model::snapshot::Target::Nothing))], vec![]).await;
        client.send(b"lost").await.unwrap();
        until(|| proxy.stats.unrouted_datagrams.load(Ordering::Relaxed) == 1).await;
    });
}

#[test]
fn source_ranges_let_in_whom_they_name() {
    run(async {
        let (proxy, at, stats) = (start(1), free_udp(), Arc::new(ServiceStats::default()));
        let settings = ClientSettings { sources: vec!["127.0.0.9/32".parse().unwrap()], ..ClientSettings::default() };
        proxy.serve(vec![listener_with(at, Front::Udp(to(0)), settings)], vec![of(&stats, &[Endpoint::new(echo("a").await)])]).await;
        client(at).await.send(b"x").await.unwrap();
        until(|| stats.udp.dropped(UdpDrop::SourceRange) == 1).await;
        let named = UdpSocket::bind("127.0.0.9:0").await.unwrap();
        named.connect(at).await.unwrap();
        assert_eq!(ask(&named, "x").await, "a:x");
    });
}

#[test]
fn a_flow_moves_when_its_endpoint_stops_serving_and_loses_nothing() {
    run(async {
        let (proxy, at, stats) = (start(2), free_udp(), Arc::new(ServiceStats::default()));
        let (a, b) = (Endpoint::new(echo("a").await), Endpoint::new(echo("b").await));
        proxy.serve(vec![udp(at)], vec![of(&stats, std::slice::from_ref(&a))]).await;
        let client = client(at).await;
        assert_eq!(ask(&client, "1").await, "a:1");

        // It terminates, and still serves: new flows go elsewhere, this one stays.
        let leaving = Endpoint { ready: false, terminating: true, ..a.clone() };
        proxy.serve(vec![udp(at)], vec![of(&stats, &[leaving.clone(), b.clone()])]).await;
        assert_eq!(ask(&client, "2").await, "a:2");
        assert_eq!(ask(&self::client(at).await, "2").await, "b:2");

        // It serves no more: the very next datagram goes elsewhere.
        let gone = Endpoint { serving: false, ..leaving };
        proxy.serve(vec![udp(at)], vec![of(&stats, &[gone.clone(), b.clone()])]).await;
        assert_eq!(ask(&client, "3").await, "b:3");
        assert_eq!(stats.udp.moved.load(Ordering::Relaxed), 1);

        // Nothing serves: nothing is moved.
        let none = Endpoint { ready: false, serving: false, ..b };
        proxy.serve(vec![udp(at)], vec![of(&stats, &[gone, none])]).await;
        assert_eq!(ask(&client, "4").await, "b:4");
        assert_eq!(stats.udp.moved.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_answer_still_comes_from_the_endpoint_that_a_flow_has_left() {
    run(async {
        let (proxy, at, stats) = (start(1), free_udp(), Arc::new(ServiceStats::default()));
        let slow = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (a, b) = (Endpoint::new(slow.local_addr().unwrap()), Endpoint::new(echo("b").await));
        proxy.serve(vec![udp(at)], vec![of(&stats, &[a])]).await;
        let client = client(at).await;
        client.send(b"slow").await.unwrap();
        let mut got = [0; 16];
        let (_, from) = slow.recv_from(&mut got).await.unwrap();
        proxy.serve(vec![udp(at)], vec![of(&stats, &[b])]).await;
        assert_eq!(ask(&client, "x").await, "b:x");
        slow.send_to(b"late", from).await.unwrap();
        assert_eq!(receive(&client).await, "late");
    });
}

#[test]
fn an_unreachable_endpoint_is_left_for_another() {
    run(async {
        let (proxy, at) = (start(1), free_udp());
        let closed = free_udp();
        let s = service(&[closed, echo("live").await]);
        let stats = s.stats.clone();
        let failed = s.internal.endpoints.iter().find(|e| e.address == closed).unwrap().stats.clone();
        proxy.serve(vec![udp(at)], vec![s]).await;
        for _ in 0..6 {
            assert_eq!(ask_until_answered(&client(at).await, "x").await, "live:x");
        }
        assert!(stats.connect_failures.load(Ordering::Relaxed) >= 1);
        assert!(failed.success() < 1.0, "balancers see it");
        assert!(stats.udp.moved.load(Ordering::Relaxed) >= 1);
    });
}

#[test]
fn an_endpoint_that_comes_back_is_found_by_the_flow_that_had_it() {
    run(async {
        let (proxy, at) = (start(1), free_udp());
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let s = service(&[address]);
        let stats = s.stats.clone();
        proxy.serve(vec![udp(at)], vec![s]).await;
        let client = client(at).await;
        client.send(b"refused").await.unwrap();
        until(|| stats.connect_failures.load(Ordering::Relaxed) >= 1).await;
        let back = UdpSocket::bind(address).await.unwrap();
        client.send(b"x").await.unwrap();
        let mut got = [0; 16];
        let (length, from) = back.recv_from(&mut got).await.unwrap();
        assert_eq!(&got[..length], b"x");
        back.send_to(b"y", from).await.unwrap();
        assert_eq!(receive(&client).await, "y");
    });
}

#[test]
fn client_ip_affinity_binds_all_flows_of_a_client() {
    run(async {
        let (proxy, at) = (start(2), free_udp());
        let mut s = service(&[echo("a").await, echo("b").await, echo("c").await]);
        s.affinity = affinity();
        proxy.serve(vec![udp(at)], vec![s]).await;
        let first = ask(&client(at).await, "x").await;
        for _ in 0..20 {
            assert_eq!(ask(&client(at).await, "x").await, first);
        }
    });
}

#[test]
fn a_router_leads_flows_and_a_failing_balancer_stops_none() {
    run(async {
        let (proxy, at) = (start(1), free_udp());
        let mut s = service(&[echo("a").await]);
        s.balancers = vec![Arc::new(Turns(generation(), true))];
        let stats = s.stats.clone();
        let backend = Backend { service: reference(), weight: 1, actions: Default::default() };
        let rule = Rule { name: Some(String::new()), backends: vec![backend], ..Rule::default() };
        proxy.serve(vec![listener(at, Front::Udp(udp_router(vec![rule])))], vec![s]).await;
        let mut clients = Vec::new();
        for i in 0..4 {
            clients.push(client(at).await);
            assert_eq!(ask(&clients[i], "x").await, "a:x");
        }
        assert_eq!(stats.fallbacks.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn idle_flows_are_forgotten() {
    run(async {
        let (proxy, at) = (start(2), free_udp());
        let mut s = service(&[echo("a").await]);
        let udp_settings = UdpSettings { idle: Duration::from_millis(50) };
        s.settings = Arc::new(BackendSettings { udp: udp_settings, ..BackendSettings::default() });
        let (stats, endpoint) = (s.stats.clone(), s.internal.endpoints[0].stats.clone());
        proxy.serve(vec![udp(at)], vec![s]).await;
        let client = client(at).await;
        assert_eq!(ask(&client, "x").await, "a:x");
        assert_eq!((stats.udp.open.load(Ordering::Relaxed), endpoint.in_flight()), (1, 1));
        until(|| stats.udp.open.load(Ordering::Relaxed) == 0).await;
        until(|| endpoint.in_flight() == 0).await;
        assert_eq!(ask(&client, "x").await, "a:x");
        assert_eq!(stats.udp.flows.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_flood_of_flows_is_bounded_and_a_running_flow_goes_on() {
    run(async {
        let proxy = start_with(&Config { workers: 1, max_flows: Some(32), ..Config::default() });
        let at = free_udp();
        let (silent, counted) = sink().await;
        // Two services, so that the flood has endpoints of its own: the running flow shares only the table with it.
        let flooded = free_udp();
        let (live, flood) = (service(&[echo("a").await]), service(&[silent]));
        let (live_stats, stats) = (live.stats.clone(), flood.stats.clone());
        proxy.serve(vec![udp(at), listener(flooded, Front::Udp(to(1)))], vec![live, flood]).await;
        let client = client(at).await;
        assert_eq!(ask(&client, "0").await, "a:0");
        assert_eq!(ask(&client, "1").await, "a:1");
        for i in 0..2_000_u32 {
            let ip = Ipv4Addr::new(127, 77, (i / 250) as u8, (i % 250) as u8 + 1);
            let one = UdpSocket::bind((ip, 0)).await.unwrap();
            one.send_to(b"flood", flooded).await.unwrap();
            if i % 100 == 0 {
                assert_eq!(ask(&client, &format!("{i}")).await, format!("a:{i}"));
                assert!(stats.udp.open.load(Ordering::Relaxed) < 32);
            }
        }
        until(|| stats.udp.evicted.load(Ordering::Relaxed) > 1_900).await;
        assert_eq!(live_stats.udp.flows.load(Ordering::Relaxed), 1, "the running flow was never forgotten");
        assert!(counted.load(Ordering::Relaxed) > 1_900);
    });
}

#[test]
fn a_listener_that_goes_takes_its_flows_with_it() {
    run(async {
        let (proxy, at) = (start(1), free_udp());
        let s = service(&[echo("a").await]);
        let stats = s.stats.clone();
        proxy.serve(vec![udp(at)], vec![s]).await;
        assert_eq!(ask(&client(at).await, "x").await, "a:x");
        proxy.serve(vec![], vec![]).await;
        assert_eq!(stats.udp.open.load(Ordering::Relaxed), 0);
        UdpSocket::bind(at).await.expect("the address is free again");
    });
}

#[test]
fn stopping_waits_for_an_answer_and_takes_no_new_flow() {
    run(async {
        let (proxy, at) = (start(1), free_udp());
        let backend = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let s = service(&[backend.local_addr().unwrap()]);
        let stats = s.stats.clone();
        proxy.serve(vec![udp(at)], vec![s]).await;
        let client = client(at).await;
        client.send(b"question").await.unwrap();
        let mut got = [0; 16];
        let (_, from) = backend.recv_from(&mut got).await.unwrap();
        let Running { proxy, .. } = proxy;
        let stopping = tokio::task::spawn_blocking(move || proxy.shutdown(DEADLINE));
        while stats.udp.dropped(UdpDrop::Stopping) == 0 {
            // Each is a flow of its own; those that came before the stop have their answer.
            self::client(at).await.send(b"late").await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
            while let Ok((_, from)) = backend.try_recv_from(&mut got) {
                backend.send_to(b"in time", from).await.unwrap();
            }
        }
        assert!(!stopping.is_finished());
        backend.send_to(b"answer", from).await.unwrap();
        assert_eq!(receive(&client).await, "answer");
        stopping.await.unwrap();
    });
}

fn limited(at: SocketAddr, all: Option<u32>, client: Option<u32>) -> Arc<Listener> {
    let limit = |most: Option<u32>| most.map(|most| ConnectionLimit { most, close_delay: None });
    let connections = ConnectionLimits { listener: limit(all), client: limit(client), requests: None };
    listener_with(at, Front::Udp(to(0)), ClientSettings { connections, ..ClientSettings::default() })
}

#[test]
fn a_client_has_no_more_flows_than_its_limit_and_gets_them_back() {
    run(async {
        let (proxy, at) = (start(2), free_udp());
        let (s, quick) = (service(&[echo("a").await]), UdpSettings { idle: Duration::from_secs(1) });
        let s = ServicePort { settings: Arc::new(BackendSettings { udp: quick, ..BackendSettings::default() }), ..s };
        let stats = s.stats.clone();
        proxy.serve(vec![limited(at, None, Some(3))], vec![s]).await;
        let mut clients = Vec::new();
        for i in 0..3 {
            clients.push(client(at).await);
            assert_eq!(ask(&clients[i], "x").await, "a:x");
        }
        let fourth = client(at).await;
        fourth.send(b"x").await.unwrap();
        until(|| stats.udp.dropped(UdpDrop::Limit) == 1).await;
        // Another client's flows are its own; those that there are go on.
        let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        other.connect(at).await.unwrap();
        assert_eq!(ask(&other, "y").await, "a:y");
        assert_eq!(ask(&clients[0], "z").await, "a:z");
        // When one has been forgotten, there is a place again.
        assert_eq!(ask_until_answered(&fourth, "x").await, "a:x");
        assert_eq!(proxy.stats.clients.over_client.load(Ordering::Relaxed), stats.udp.dropped(UdpDrop::Limit));
    });
}

#[test]
fn beyond_a_listener_s_limit_invented_clients_push_out_each_other() {
    run(async {
        // One worker: two share the limit, but a flow is pushed out only by others of its own worker.
        let (proxy, at) = (start(1), free_udp());
        let (quiet, seen) = sink().await;
        let s = service(&[quiet]);
        let stats = s.stats.clone();
        proxy.serve(vec![limited(at, Some(3), None)], vec![s]).await;
        let mut flood = Vec::new();
        for i in 1..=50 {
            flood.push(client(at).await);
            flood.last().unwrap().send(b"x").await.unwrap();
            until(|| seen.load(Ordering::Relaxed) == i).await;
        }
        assert_eq!((stats.udp.open.load(Ordering::Relaxed), stats.udp.evicted.load(Ordering::Relaxed)), (3, 47));
        // Flows that have shown two-way traffic stay, and then there is no place.
        let s = service(&[echo("a").await]);
        let stats = s.stats.clone();
        let at = free_udp();
        proxy.serve(vec![limited(at, Some(2), None)], vec![s]).await;
        let (first, second, third) = (client(at).await, client(at).await, client(at).await);
        for client in [&first, &second, &first, &second] {
            assert_eq!(ask(client, "x").await, "a:x");
        }
        third.send(b"x").await.unwrap();
        until(|| stats.udp.dropped(UdpDrop::Limit) == 1).await;
        assert_eq!(ask(&first, "y").await, "a:y");
    });
}

#[test]
fn flows_go_on_and_none_begin_while_memory_is_short() {
    run(async {
        let (proxy, at) = (start(1), free_udp());
        let s = service(&[echo("a").await]);
        let stats = s.stats.clone();
        proxy.serve(vec![udp(at)], vec![s]).await;
        let (known, new) = (client(at).await, client(at).await);
        assert_eq!(ask(&known, "x").await, "a:x");
        let refusing = &proxy.stats.overload.refusing;
        // The watcher, a quarter of a second later, would take it back: until it is seen, it is set again.
        until(|| {
            refusing.store(1, Ordering::Relaxed);
            new.try_send(b"x").unwrap();
            stats.udp.dropped(UdpDrop::Overloaded) > 0
        })
        .await;
        assert_eq!(ask(&known, "y").await, "a:y");
        refusing.store(0, Ordering::Relaxed);
        assert_eq!(ask_until_answered(&new, "x").await, "a:x");
    });
}

#[test]
fn sockets_go_on_in_another_data_plane_and_no_datagram_is_lost() {
    run(async {
        let (old, at) = (start(2), free_udp());
        let endpoint = echo("a").await;
        old.serve(vec![udp(at)], vec![service(&[endpoint])]).await;
        let known = client(at).await;
        assert_eq!(ask(&known, "1").await, "a:1");
        // Fewer workers than sockets, and then more.
        let mut before = old;
        for workers in [1, 3] {
            let after = start(workers);
            after.proxy.adopt(before.proxy.sockets());
            after.serve(vec![udp(at)], vec![service(&[endpoint])]).await;
            assert_eq!(after.proxy.unused(false), []);
            for i in 0..20 {
                let new = client(at).await;
                assert_eq!(ask(&new, "both").await, "a:both");
                assert_eq!(ask(&known, &format!("{i}")).await, format!("a:{i}"));
            }
            let leaving = tokio::task::spawn_blocking(move || before.proxy.leave(Duration::from_secs(5)));
            for i in 0..200 {
                let new = client(at).await;
                assert_eq!(ask(&new, "one").await, "a:one");
                assert_eq!(ask(&known, &format!("{i}")).await, format!("a:{i}"));
            }
            leaving.await.unwrap();
            assert_eq!(ask(&known, "still").await, "a:still");
            before = after;
        }
        drop(before);
    });
}

#[test]
fn a_predecessor_that_still_drains_holds_no_address_that_its_successor_gave_up() {
    run(async {
        let (old, new, at) = (start(2), start(2), free_udp());
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (to_udp, to_tcp) = (service(&[echo("a").await]), service(&[backend.local_addr().unwrap()]));
        let stream = free();
        old.serve(vec![udp(at), listener(stream, Front::Tcp(to(1)))], vec![to_udp, to_tcp]).await;
        let known = client(at).await;
        assert_eq!(ask(&known, "x").await, "a:x");
        let held = tokio::net::TcpStream::connect(stream).await.unwrap();
        let accepted = backend.accept().await.unwrap();
        new.proxy.adopt(old.proxy.sockets());
        new.serve(vec![udp(at)], vec![service(&[echo("b").await])]).await;
        let leaving = tokio::task::spawn_blocking(move || old.proxy.leave(DEADLINE));
        // Both may receive until the predecessor has heard that it is to leave.
        let taken_over = async { while ask(&client(at).await, "y").await != "b:y" {} };
        tokio::time::timeout(DEADLINE, taken_over).await.expect("the successor answers");
        new.serve(vec![], vec![]).await;
        until(|| std::net::UdpSocket::bind(at).is_ok()).await;
        assert!(!leaving.is_finished(), "a connection is still open there");
        drop((held, accepted));
        leaving.await.unwrap();
    });
}
