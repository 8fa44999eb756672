//! Listeners and the limit of file descriptors. Each test is a process of its own, which has few of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::process::{Resource, Rlimit, setrlimit};
use sluicegate_model::snapshot::{Listener, Snapshot};
use support::udp::{ask, client, echo, udp};
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const WORKERS: usize = 4;
const ROLE: &str = "SLUICEGATE_TEST_DESCRIPTORS";

/// Runs this test in a process that may have at most `hard` descriptors and begins with `soft`. False: this is that process.
fn in_a_process_of_its_own(test: &str, soft: u64, hard: u64) -> bool {
    if std::env::var(ROLE).is_ok_and(|role| role == test) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: Some(hard) }).unwrap();
        return false;
    }
    let status = Command::new(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(ROLE, test).status().unwrap();
    assert!(status.success(), "see above: {status}");
    true
}

fn at(n: usize) -> SocketAddr {
    let pid = std::process::id();
    (Ipv4Addr::new(127, 40 + (pid % 50) as u8, (pid / 50 % 250) as u8, (n / 100) as u8 + 1), 20_000 + (n % 100) as u16).into()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn exchange(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// TCP listeners that answer by themselves, without an endpoint.
fn answering(addresses: impl Iterator<Item = usize>) -> Vec<Arc<Listener>> {
    let answer = sluicegate_model::route::Answer { status: ::http::StatusCode::OK, headers: ::http::HeaderMap::new(), body: "here".into() };
    let rule = || sluicegate_model::route::Rule {
        name: Some("/".into()),
        actions: sluicegate_model::route::Actions { answer: Some(answer.clone()), ..Default::default() },
        ..Default::default()
    };
    addresses.map(|n| listener(at(n), http(router(vec![rule()])))).collect()
}

#[test]
fn a_listener_has_one_descriptor_for_each_worker() {
    if in_a_process_of_its_own("a_listener_has_one_descriptor_for_each_worker", 200, 800) {
        return;
    }
    run(async {
        let proxy = start(WORKERS);
        // The workers have opened what they need for themselves.
        proxy.serve(Vec::new(), Vec::new()).await;
        let before = descriptors();
        proxy.serve(answering(0..90), vec![service(&[])]).await;
        assert_eq!(descriptors() - before, 90 * WORKERS, "the soft limit of 200 was raised");
        assert_eq!(proxy.stats.overload.listening.load(Ordering::Relaxed), 90 * WORKERS as u64);
        for n in 0..90 {
            assert!(exchange(at(n)).await.ends_with("here"));
        }
        proxy.serve(answering(0..10), vec![service(&[])]).await;
        assert_eq!(proxy.stats.overload.listening.load(Ordering::Relaxed), 10 * WORKERS as u64);
        assert!(descriptors() < before + 20 * WORKERS, "those that went are closed: {}", descriptors());
    });
}

#[test]
fn workers_share_sockets_where_descriptors_would_not_suffice() {
    if in_a_process_of_its_own("workers_share_sockets_where_descriptors_would_not_suffice", 400, 400) {
        return;
    }
    run(async {
        let proxy = start(WORKERS);
        // The workers have opened what they need for themselves.
        proxy.serve(Vec::new(), Vec::new()).await;
        let before = descriptors();
        let mut listeners = answering(0..60);
        let backend = echo("a").await;
        let datagrams: Vec<SocketAddr> = (0..10).map(|n| at(100 + n)).collect();
        listeners.extend(datagrams.iter().map(|at| udp(*at)));
        proxy.serve(listeners, vec![service(&[backend])]).await;
        assert_eq!(descriptors() - before, 70 + 1, "one each, and the echo's");
        // There are more connections than workers at once, so that several workers are woken for the same one.
        for n in 0..60 {
            let answers = futures_util::future::join_all((0..3).map(|_| exchange(at(n)))).await;
            assert!(answers.iter().all(|answer| answer.ends_with("here")), "{answers:?}");
        }
        for at in datagrams {
            let client = client(at).await;
            assert_eq!(ask(&client, "1").await, "a:1");
            assert_eq!(ask(&client, "2").await, "a:2");
        }
    });
}

#[test]
fn listeners_leave_a_quarter_to_traffic_and_say_which_are_not_bound() {
    if in_a_process_of_its_own("listeners_leave_a_quarter_to_traffic_and_say_which_are_not_bound", 400, 400) {
        return;
    }
    run(async {
        let proxy = start(1);
        let publish = |version, count| {
            let services = vec![Arc::new(service(&[]))];
            proxy.proxy.publish(Arc::new(Snapshot::of(version, answering(0..count), services)))
        };
        let failures = publish(1, 320);
        proxy.proxy.served(1).await;
        assert_eq!(failures.len(), 20, "three quarters of 400 are bound");
        let text = failures[0].to_string();
        assert!(text.contains("listeners have 300 of 400 file descriptors, and a quarter is kept for traffic"), "{text}");
        assert!(exchange(at(0)).await.ends_with("here") && exchange(at(299)).await.ends_with("here"));
        // When other listeners are gone, there is room again.
        assert!(publish(2, 300).is_empty());
        assert_eq!(publish(3, 301).len(), 1);
    });
}
