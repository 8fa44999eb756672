//! UDP through a running proxy, with real sockets on both sides.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluicegate_model::pool::Endpoint;
use sluicegate_model::route::{Backend, Rule};
use sluicegate_model::settings::{BackendSettings, ClientSettings, UdpSettings};
use sluicegate_model::snapshot::Front;
use sluicegate_model::stats::{ServiceStats, UdpDrop};
use tokio::net::{TcpListener, UdpSocket};

use crate::support::udp::{ask, ask_until_answered, client, echo, free_udp, of, receive, udp, until};
use crate::support::*;

#[test]
fn questions_are_answered_and_counted() {
    run(async {
        let (proxy, at) = (start(2), free_udp());
        let s = service(&[echo("a").await, echo("b").await]);
        let (stats, endpoints) = (s.stats.clone(), s.internal.endpoints.iter().map(|e| e.stats.clone()).collect::<Vec<_>>());
        proxy.serve(vec![udp(at)], vec![s]).await;
        let (mut names, mut clients) = (std::collections::BTreeSet::new(), Vec::new());
        for i in 0..40 {
            // The clients are kept: the port of one that is gone could be given to the next, whose flow would be the same.
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
        // One listener goes, the other stays.
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

        // The endpoint terminates and still serves: new flows go elsewhere, this one stays.
        let leaving = Endpoint { ready: false, terminating: true, ..a.clone() };
        proxy.serve(vec![udp(at)], vec![of(&stats, &[leaving.clone(), b.clone()])]).await;
        assert_eq!(ask(&client, "2").await, "a:2");
        assert_eq!(ask(&self::client(at).await, "2").await, "b:2");

        // It stops serving: the very next datagram goes elsewhere.
        let gone = Endpoint { serving: false, ..leaving };
        proxy.serve(vec![udp(at)], vec![of(&stats, &[gone.clone(), b.clone()])]).await;
        assert_eq!(ask(&client, "3").await, "b:3");
        assert_eq!(stats.udp.moved.load(Ordering::Relaxed), 1);

        // Nothing serves: there is nowhere to move, and the flow ends.
        let none = Endpoint { ready: false, serving: false, ..b };
        proxy.serve(vec![udp(at)], vec![of(&stats, &[gone, none])]).await;
        client.send(b"4").await.unwrap();
        until(|| stats.udp.dropped(UdpDrop::NoEndpoint) == 1).await;
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
fn flows_end_when_their_last_endpoint_goes() {
    run(async {
        let (proxy, at, stats) = (start(1), free_udp(), Arc::new(ServiceStats::default()));
        // The endpoint sends an answer when it is asked, and whenever the test wants.
        let endpoint = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = endpoint.local_addr().unwrap();
        let publish = async |endpoints: &[Endpoint]| proxy.serve(vec![udp(at)], vec![of(&stats, endpoints)]).await;
        publish(&[Endpoint::new(address)]).await;
        let (asks, listens) = (client(at).await, client(at).await);
        let mut gateways = Vec::new();
        for client in [&asks, &listens] {
            client.send(b"1").await.unwrap();
            let mut got = [0; 16];
            let (_, from) = endpoint.recv_from(&mut got).await.unwrap();
            endpoint.send_to(b"one", from).await.unwrap();
            assert_eq!(receive(client).await, "one");
            gateways.push(from);
        }
        publish(&[]).await;
        assert_eq!(stats.udp.open.load(Ordering::Relaxed), 2, "nothing has moved yet");
        // The address may be another pod's by now: nothing goes there,
        asks.send(b"2").await.unwrap();
        until(|| stats.udp.dropped(UdpDrop::NoEndpoint) == 1).await;
        // and nothing comes from there.
        endpoint.send_to(b"two", gateways[1]).await.unwrap();
        until(|| stats.udp.open.load(Ordering::Relaxed) == 0).await;
        assert!(listens.try_recv(&mut [0; 16]).is_err() && endpoint.try_recv(&mut [0; 16]).is_err());
        // The next endpoint that serves gets them all.
        publish(&[Endpoint::new(echo("b").await)]).await;
        assert_eq!((ask(&asks, "3").await, ask(&listens, "3").await), ("b:3".to_owned(), "b:3".to_owned()));
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
        let udp_settings = UdpSettings { idle: Some(Duration::from_millis(50)) };
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
