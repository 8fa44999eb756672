//! How many flows there may be, and what becomes of them when memory is short, when a listener is removed, and when the proxy stops or is succeeded.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicegate_model::settings::{BackendSettings, ClientSettings, ConnectionLimit, ConnectionLimits, UdpSettings};
use sluicegate_model::snapshot::{Front, Listener, ServicePort};
use sluicegate_model::stats::UdpDrop;
use sluicegate_proxy::Proxy;
use tokio::net::{TcpListener, UdpSocket};

use crate::support::udp::{ask, ask_until_answered, client, echo, free_udp, receive, sink, udp, until};
use crate::support::*;

/// Second descriptors of its sockets, as a successor gets them.
fn handed(proxy: &Proxy) -> Vec<OwnedFd> {
    proxy.sockets().iter().map(|socket| socket.as_fd().try_clone_to_owned().unwrap()).collect()
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
            // Each is a flow of its own; the flows from before the stop have their answers.
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
    let connections = ConnectionLimits { listener: limit(all), client: limit(client), ..ConnectionLimits::default() };
    listener_with(at, Front::Udp(to(0)), ClientSettings { connections, ..ClientSettings::default() })
}

#[test]
fn a_client_has_no_more_flows_than_its_limit_and_gets_them_back() {
    run(async {
        let (proxy, at) = (start(2), free_udp());
        let (s, quick) = (service(&[echo("a").await]), UdpSettings { idle: Some(Duration::from_secs(1)) });
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
        // Another client's flows are counted separately; the existing ones go on.
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
        // There is one worker: two share the limit, but a flow is pushed out only by others of its own worker.
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
        // There are fewer workers than sockets, and then more.
        let mut before = old;
        for workers in [1, 3] {
            let after = start(workers);
            after.proxy.adopt(handed(&before.proxy));
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
        new.proxy.adopt(handed(&old.proxy));
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
