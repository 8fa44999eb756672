//! Time is an argument here, so no test waits for anything but sockets.

use std::net::SocketAddr;

use sluicegate_model::health::{Checked, Condition, Outcome, Probed, Reason};
use sluicegate_model::settings::{ActiveCheck, HealthSettings, Passive, Probe, ProxyVersion, SlowStart};

use sluicegate_model::route::{Protocol, ServiceRef};

use super::probe::Failure;
use super::*;

const MS: Duration = Duration::from_millis(1);

fn check() -> ActiveCheck {
    ActiveCheck {
        probe: Probe::Tcp { send: Vec::new(), receive: Vec::new() },
        timeout: Duration::from_secs(1),
        interval: Duration::from_secs(3),
        initial_jitter: Duration::ZERO,
        interval_jitter: Duration::ZERO,
        unhealthy_threshold: 3,
        healthy_threshold: 2,
    }
}

fn passive() -> Passive {
    Passive {
        split_local_errors: false,
        interval: Duration::from_secs(3),
        consecutive_5xx: 2,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(70),
        max_ejection_percent: 10,
        always_eject_one: true,
        failure_percentage: Some(50),
        success_rate_stdev_factor: None,
        latency_percentage: None,
        minimum_endpoints: 2,
        request_volume: 10,
    }
}

/// A service port with endpoints 10.0.0.1 and up.
struct Bench {
    health: Health,
    settings: Arc<BackendSettings>,
    stats: Arc<ServiceStats>,
    all: Vec<Endpoint>,
    now: Instant,
}

fn service() -> PortId {
    (ServiceRef { namespace: "default".into(), name: "s".into(), port: 80 }, Protocol::Tcp)
}

fn endpoint(last: u8) -> Endpoint {
    Endpoint::new(SocketAddr::from(([10, 0, 0, last], 80)))
}

impl Bench {
    fn new(settings: HealthSettings, endpoints: u8) -> Self {
        let mut bench = Self {
            health: Health::default(),
            settings: Arc::new(BackendSettings { health: settings, ..BackendSettings::default() }),
            stats: Arc::default(),
            all: (1..=endpoints).map(endpoint).collect(),
            now: Instant::now(),
        };
        bench.admit();
        bench
    }

    fn admit(&mut self) {
        self.health.admit(&service(), &self.settings, &EndpointTls::Off, &self.stats, &self.all, self.now);
    }

    fn condition(&self, index: usize) -> Condition {
        self.all[index].stats.health.condition()
    }

    fn probe(&mut self, index: usize, passed: bool) -> Condition {
        let result = if passed { Ok(()) } else { Err(Failure { kind: Probed::Wrong, why: "HTTP 500, expected 200".to_owned() }) };
        let watched = self.health.services.get_mut(&service()).expect("it is watched");
        watched.probed(&service(), self.all[index].address, &result, self.now, &mut self.health.lines);
        self.condition(index)
    }

    fn exchange(&self, index: usize, outcome: Outcome) {
        self.stats.observe(self.settings.health.passive.as_ref(), &self.all[index].stats, outcome, MS);
    }

    /// Lets time pass, with ticks. Returns whether pools were to be made anew.
    fn pass(&mut self, time: Duration) -> bool {
        let (end, mut changed) = (self.now + time, false);
        while self.now < end {
            self.now += TICK.min(end - self.now);
            self.health.tick(self.now);
            changed |= !self.health.take_changed(self.now).is_empty();
        }
        changed
    }
}

#[test]
fn endpoints_there_from_the_start_are_healthy_until_probes_fail_often_enough() {
    let mut bench = Bench::new(HealthSettings { active: Some(check()), ..HealthSettings::default() }, 2);
    assert_eq!([bench.condition(0), bench.condition(1)], [Condition::Healthy; 2]);
    assert_eq!([bench.probe(0, false), bench.probe(0, false), bench.probe(0, true)], [Condition::Healthy; 3]);
    assert!(!bench.pass(TICK), "nothing has changed");
    assert_eq!([bench.probe(0, false), bench.probe(0, false)], [Condition::Healthy; 2], "a success between them begins anew");
    assert_eq!(bench.probe(0, false), Condition::Unhealthy);
    assert_eq!(bench.all[0].stats.health.detail().why, "HTTP 500, expected 200");
    assert!(bench.pass(TICK));
    assert_eq!([bench.probe(0, true), bench.probe(0, true)], [Condition::Unhealthy, Condition::Healthy]);
    assert_eq!(bench.stats.health.probes.each_ref().map(|n| n.load(std::sync::atomic::Ordering::Relaxed)), [3, 0, 0, 5]);
}

#[test]
fn an_endpoint_that_joins_shows_first_that_it_answers() {
    let mut bench = Bench::new(HealthSettings { active: Some(check()), ..HealthSettings::default() }, 1);
    bench.all.extend([endpoint(2), endpoint(3)]);
    bench.admit();
    assert_eq!([bench.condition(0), bench.condition(1), bench.condition(2)], [Condition::Healthy, Condition::Pending, Condition::Pending]);
    assert_eq!(bench.probe(1, true), Condition::Healthy, "one success is enough");
    assert_eq!(bench.probe(2, false), Condition::Unhealthy, "one failure too");
    // It stops being ready and comes back, which counts as joining again.
    bench.all[1].ready = false;
    bench.admit();
    bench.all[1].ready = true;
    bench.admit();
    assert_eq!(bench.condition(1), Condition::Pending);
}

#[test]
fn a_policy_that_goes_takes_its_marks_along() {
    let on = HealthSettings { active: Some(check()), passive: Some(passive()), ..HealthSettings::default() };
    let mut bench = Bench::new(on, 3);
    (0..3).for_each(|_| _ = bench.probe(0, false));
    (0..2).for_each(|_| bench.exchange(1, Outcome::ServerError));
    assert_eq!([bench.condition(0), bench.condition(1)], [Condition::Unhealthy, Condition::Ejected]);
    bench.settings = Arc::default();
    bench.admit();
    assert_eq!([bench.condition(0), bench.condition(1)], [Condition::Healthy; 2]);
    assert!(bench.health.services.is_empty());
}

#[test]
fn ejections_last_longer_each_time_and_shrink_while_it_serves() {
    let mut bench = Bench::new(HealthSettings { passive: Some(passive()), ..HealthSettings::default() }, 3);
    let eject = |bench: &mut Bench| {
        (0..2).for_each(|_| bench.exchange(0, Outcome::ServerError));
        assert_eq!(bench.condition(0), Condition::Ejected, "at once, by the worker");
        assert!(bench.pass(TICK), "and within a tick its pool is made anew");
    };
    let lasts = |bench: &mut Bench| {
        let begun = bench.now;
        while bench.condition(0) == Condition::Ejected {
            bench.pass(TICK);
        }
        (bench.now - begun).as_secs()
    };
    eject(&mut bench);
    assert_eq!(lasts(&mut bench), 30);
    eject(&mut bench);
    assert_eq!(lasts(&mut bench), 60);
    eject(&mut bench);
    assert_eq!(lasts(&mut bench), 70, "the longest");
    bench.pass(Duration::from_secs(3 * 4));
    eject(&mut bench);
    assert_eq!(lasts(&mut bench), 30, "it served well for four intervals");
}

#[test]
fn no_more_than_the_largest_share_is_ejected_and_a_place_is_free_again_later() {
    let rules = Passive { max_ejection_percent: 34, ..passive() };
    let mut bench = Bench::new(HealthSettings { passive: Some(rules), ..HealthSettings::default() }, 6);
    for index in 0..4 {
        (0..2).for_each(|_| bench.exchange(index, Outcome::ServerError));
    }
    let ejected = |bench: &Bench| (0..6).filter(|i| bench.condition(*i) == Condition::Ejected).collect::<Vec<_>>();
    assert_eq!(ejected(&bench), [0, 1], "34 % of six");
    bench.pass(Duration::from_secs(31));
    assert_eq!(ejected(&bench), [0; 0]);
    (0..2).for_each(|_| bench.exchange(3, Outcome::ServerError));
    assert_eq!(ejected(&bench), [3]);
    // An endpoint that leaves makes room, too.
    bench.pass(TICK);
    bench.all.remove(3);
    bench.admit();
    for index in 0..2 {
        (0..2).for_each(|_| bench.exchange(index, Outcome::ServerError));
    }
    assert_eq!((0..5).filter(|i| bench.condition(*i) == Condition::Ejected).count(), 1, "34 % of five");
}

#[test]
fn one_of_two_may_be_ejected_and_the_only_one_may_not() {
    let settings = HealthSettings { passive: Some(passive()), ..HealthSettings::default() };
    for (endpoints, ejected) in [(1, false), (2, true)] {
        let bench = Bench::new(settings.clone(), endpoints);
        (0..4).for_each(|_| bench.exchange(0, Outcome::Unreachable));
        assert_eq!(bench.condition(0) == Condition::Ejected, ejected);
    }
}

#[test]
fn an_interval_s_failures_eject_the_one_that_stands_out() {
    let mut bench = Bench::new(HealthSettings { passive: Some(passive()), ..HealthSettings::default() }, 3);
    bench.pass(TICK);
    for turn in 0..40 {
        bench.exchange(0, Outcome::Served);
        bench.exchange(1, if turn % 2 == 0 { Outcome::ServerError } else { Outcome::Served });
        bench.exchange(2, Outcome::Served);
    }
    assert_eq!(bench.condition(1), Condition::Healthy, "never two in a row");
    assert!(bench.pass(Duration::from_secs(4)));
    assert_eq!(bench.all[1].stats.health.ejected_for(), Some(Reason::FailurePercentage));
    assert_eq!([bench.condition(0), bench.condition(2)], [Condition::Healthy; 2]);
}

#[test]
fn weights_grow_after_joining_and_after_an_ejection() {
    let slow = SlowStart { window: Duration::from_secs(10), min_weight_percent: 10 };
    let mut bench = Bench::new(HealthSettings { passive: Some(passive()), slow_start: Some(slow), ..HealthSettings::default() }, 2);
    assert_eq!(bench.condition(0), Condition::Healthy, "all begin alike: there is nothing to warm up against");
    bench.all.push(endpoint(3));
    bench.admit();
    let share = |bench: &Bench, index: usize| bench.all[index].stats.health.share();
    assert_eq!((bench.condition(2), share(&bench, 2)), (Condition::Warming, 10));
    assert!(bench.pass(Duration::from_secs(5)));
    assert_eq!(share(&bench, 2), 50);
    bench.pass(Duration::from_secs(5));
    assert_eq!((bench.condition(2), share(&bench, 2)), (Condition::Healthy, 100));
    assert!(!bench.pass(Duration::from_secs(1)), "then it is quiet");
    (0..2).for_each(|_| bench.exchange(0, Outcome::ServerError));
    bench.pass(Duration::from_secs(30) + TICK);
    assert_eq!((bench.condition(0), share(&bench, 0)), (Condition::Warming, 10));
}

#[test]
fn large_pools_are_made_anew_less_often() {
    let settings = HealthSettings {
        active: Some(ActiveCheck { unhealthy_threshold: 1, healthy_threshold: 1, ..check() }),
        ..HealthSettings::default()
    };
    let mut bench = Bench::new(settings, 0);
    for i in 0..10_000_u32 {
        let [_, _, high, low] = i.to_be_bytes();
        bench.all.push(Endpoint { address: SocketAddr::from(([10, 1, high, low], 80)), ..endpoint(1) });
        if let Some(endpoint) = bench.all.last_mut() {
            endpoint.stats = Arc::default();
        }
    }
    bench.admit();
    let mut made = 0;
    for flap in 0..20 {
        bench.probe(0, flap % 2 == 1);
        made += u32::from(bench.pass(TICK));
    }
    assert_eq!(made, 4, "one at once, then one each 550 ms, in two seconds");
}

#[tokio::test]
async fn service_ports_share_the_probes_of_an_endpoint() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let accepts = tokio::spawn(async move {
        let (_stream, _) = listener.accept().await.expect("a probe");
        listener
    });
    let mut health = Health::default();
    let settings = Arc::new(BackendSettings {
        health: HealthSettings { active: Some(check()), ..HealthSettings::default() },
        ..BackendSettings::default()
    });
    let mut all_stats = Vec::new();
    for port in [80, 81] {
        let service = (ServiceRef { port, ..service().0 }, Protocol::Tcp);
        let stats = Arc::<ServiceStats>::default();
        health.admit(&service, &settings, &EndpointTls::Off, &stats, &[Endpoint { address, ..endpoint(1) }], Instant::now());
        all_stats.push(stats);
    }
    health.sync_probes();
    health.sync_probes();
    assert_eq!(health.probes.running(), 1);
    // There is one connection, and both service ports get its result.
    let all_know = async {
        while all_stats.iter().any(|s| s.health.probes[0].load(std::sync::atomic::Ordering::Relaxed) == 0) {
            tokio::select! {
                _ = health.next() => {}
                () = tokio::time::sleep(MS) => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_know).await.expect("in time");
    let listener = accepts.await.expect("accepted");
    assert!(tokio::time::timeout(50 * MS, listener.accept()).await.is_err(), "the next one comes after the interval");
    for port in [80, 81] {
        health.forget(&(ServiceRef { port, ..service().0 }, Protocol::Tcp));
    }
    health.sync_probes();
    assert_eq!(health.probes.running(), 0);
}

#[tokio::test]
async fn a_probe_that_is_not_answered_ends_at_its_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let probe = Probe::Tcp { send: b"PING".to_vec(), receive: b"PONG".to_vec() };
    let check = ActiveCheck { probe, timeout: 20 * MS, interval: 20 * MS, unhealthy_threshold: 2, ..check() };
    let settings = Arc::new(BackendSettings {
        health: HealthSettings { active: Some(check), ..HealthSettings::default() },
        ..BackendSettings::default()
    });
    let (mut health, stats, silent) = (Health::default(), Arc::<ServiceStats>::default(), Endpoint { address, ..endpoint(1) });
    health.admit(&service(), &settings, &EndpointTls::Off, &stats, std::slice::from_ref(&silent), Instant::now());
    health.sync_probes();
    let changed = tokio::time::timeout(Duration::from_secs(20), health.next()).await.expect("in time");
    assert_eq!(changed, HashSet::from([service()]));
    assert_eq!(silent.stats.health.checked(), Checked::Failing);
    assert_eq!(silent.stats.health.detail().why, "no answer within 20ms");
    assert!(stats.health.probes[2].load(std::sync::atomic::Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn probes_are_announced_where_connections_are() {
    let (mut health, silent) = (Health::default(), endpoint(1));
    let mut admit = |port, protocol, proxy_protocol| {
        let settings = HealthSettings { active: Some(check()), ..HealthSettings::default() };
        let settings = Arc::new(BackendSettings { health: settings, proxy_protocol, ..BackendSettings::default() });
        let service = (ServiceRef { port, ..service().0 }, protocol);
        health.admit(&service, &settings, &EndpointTls::Off, &Arc::default(), std::slice::from_ref(&silent), Instant::now());
        health.sync_probes();
        health.probes.running()
    };
    assert_eq!(admit(80, Protocol::Tcp, None), 1);
    assert_eq!(admit(81, Protocol::Tcp, Some(ProxyVersion::V1)), 2);
    assert_eq!(admit(82, Protocol::Tcp, Some(ProxyVersion::V2)), 3);
    assert_eq!(admit(83, Protocol::Udp, Some(ProxyVersion::V2)), 3, "datagrams are not announced");
    // The policy changes, so nobody wants the result of the probe before.
    assert_eq!(admit(82, Protocol::Tcp, Some(ProxyVersion::V1)), 2);
}
