//! An API server that is away for as long as hours: in these tests pauses are a thousand times shorter than for users.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use sluicegate_tests::apart::{Process, Setup, play};
use sluicegate_tests::load::Load;
use sluicegate_tests::{eventually, http};

use super::world::{NODE_PORT, ready, service, world};

const TEST: &str = "cluster::outage::after_hours_without_the_server_all_comes_back_and_nothing_has_grown";
/// The longest pause: for users it is 30 s.
const PAUSE: Duration = Duration::from_millis(10);
/// How much more memory a gateway may have after failures without end, in KiB.
const MORE: u64 = 6 << 10;

fn requests(gateway: &Process) -> u64 {
    gateway.json("sources")[0]["requests"].as_u64().expect("a number")
}

fn reason(gateway: &Process, word: &str) {
    eventually(word, || gateway.seen("EndpointSlice")["reason"].as_str().is_some_and(|reason| reason.contains(word)));
}

/// For a while it fails as it does. Returns how many requests were made in that time, for which nothing may grow.
fn lasts(gateway: &Process, load: &Load, time: Duration) -> u64 {
    load.goes_on(10);
    let (before, memory, begun) = (requests(gateway), gateway.memory(), Instant::now());
    while begun.elapsed() < time {
        load.goes_on(5);
    }
    let (made, more, took) = (requests(gateway) - before, gateway.memory().saturating_sub(memory), begun.elapsed());
    println!("{made} requests in {took:?}, {more} KiB more");
    // Each of 24 kinds, the election, and what statuses wait for; a pause is at least half of the longest one.
    let most = 30.0 * took.as_secs_f64() / (PAUSE.as_secs_f64() / 2.0);
    assert!(made as f64 <= most, "{made} requests of at most {most}");
    assert!(more < MORE, "{more} KiB more");
    made
}

#[test]
fn after_hours_without_the_server_all_comes_back_and_nothing_has_grown() {
    play(TEST, "", || {
        let (mut server, backends) = world();
        http(backends.ip(2), "a");
        http(backends.ip(3), "b");
        server.put(service(&backends, NODE_PORT));
        server.put(ready(&backends, &[2]));
        let state = tempfile::tempdir().expect("a folder");
        let IpAddr::V4(address) = backends.ip(1) else { unreachable!("of IPv4") };
        let kubeconfig = server.kubeconfig();
        let setup = Setup { pause: PAUSE, ..Setup::new(TEST, address, Some(kubeconfig.clone()), state.path()) };
        let gateway = setup.start();
        eventually("one endpoint", || gateway.ready_endpoints() == 1);
        let load = Load::every((address, NODE_PORT).into(), Duration::from_millis(5));
        load.goes_on(20);
        let (memory, descriptors) = (gateway.memory(), gateway.descriptors());

        server.stop();
        eventually("it is away", || gateway.has_fault(&["does not answer"]));
        let made = lasts(&gateway, &load, Duration::from_millis(1500));
        assert!(made > 1_500, "as many as in half an hour: {made}");
        // Something before the server answers in its place.
        server.fail("*", 504, "upstream request timeout");
        server.start_again();
        reason(&gateway, "upstream request timeout");
        lasts(&gateway, &load, Duration::from_millis(700));
        // Now the server itself, which does not believe the token any more.
        server.fail("*", 0, "");
        server.set_tokens(&[("another", "gateway")]);
        reason(&gateway, "401");
        lasts(&gateway, &load, Duration::from_millis(700));
        // What has changed meanwhile is forgotten: watches that would go on are answered 410.
        server.put(ready(&backends, &[2, 3]));
        server.compact();
        std::fs::write(kubeconfig.with_file_name("token"), "another").expect("written");
        eventually("two endpoints", || gateway.ready_endpoints() == 2);
        eventually("all is well", || gateway.readiness() == (200, "ok\n".to_owned()) && gateway.has_no_fault());
        server.put(ready(&backends, &[3]));
        eventually("changes are followed", || gateway.ready_endpoints() == 1);
        load.goes_on(20);
        load.end();
        let holder = || server.get("Lease", "default", "sluicegate").unwrap_or_default()["spec"]["renewTime"].clone();
        let renewed = holder();
        eventually("it leads again", || holder() != renewed);
        let (more, open) = (gateway.memory().saturating_sub(memory), gateway.descriptors());
        println!("{more} KiB more at the end, {open} descriptors of {descriptors}");
        assert!(more < 2 * MORE, "{more} KiB more");
        assert!(open <= descriptors + 8, "{open} descriptors, {descriptors} before");
        gateway.stop();
    });
}
