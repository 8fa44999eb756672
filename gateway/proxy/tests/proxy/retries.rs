//! Exchanges that are tried again: when, where, how often; and what is never sent twice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluicegate_model::route::{Actions, Backend, Rule};
use sluicegate_model::settings::Trigger;
use sluicegate_model::settings::{BackOff, BackendSettings, BackendTimeouts, Breaker, Budget, Retry, Spread};
use sluicegate_model::snapshot::ServicePort;
use sluicegate_model::stats::ServiceStats;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::*;

fn policy(triggers: &[Trigger]) -> Retry {
    let on = triggers.iter().copied().collect();
    Retry { times: 2, on, statuses: vec![429], per_try: None, back_off: None, buffer: 1024 }
}

fn with(endpoints: &[SocketAddr], settings: BackendSettings) -> ServicePort {
    ServicePort { settings: Arc::new(settings), ..service(endpoints) }
}

fn retrying(endpoints: &[SocketAddr], retry: Retry) -> ServicePort {
    with(endpoints, BackendSettings { retry: Some(retry), ..BackendSettings::default() })
}

fn within(endpoints: &[SocketAddr], budget: Option<Budget>, retry: Retry) -> ServicePort {
    with(endpoints, BackendSettings { retry: Some(retry), budget, ..BackendSettings::default() })
}

async fn serving(service: ServicePort) -> (Running, SocketAddr, Arc<ServiceStats>) {
    let (proxy, at, stats) = (start(1), free(), service.stats.clone());
    proxy.serve(vec![listener(at, http(to(0)))], vec![service]).await;
    (proxy, at, stats)
}

fn of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn answer(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno")
}

async fn post(at: SocketAddr, method: &str, body: &str) -> Seen {
    let mut stream = TcpStream::connect(at).await.unwrap();
    ask(&mut stream, &format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await
}

#[test]
fn a_bad_status_is_tried_at_the_other_endpoints() {
    run(async {
        let (bad, log) = backend(|_| answer("503 No")).await;
        let (worse, other_log) = backend(|_| answer("502 No")).await;
        let (good, _) = mirror_back().await;
        let (_proxy, at, stats) = serving(retrying(&[bad, worse, good], policy(&[Trigger::GatewayError]))).await;
        for _ in 0..20 {
            assert_eq!(get(at, "/").await.status(), 200);
        }
        let tries = of(&log.requests) + of(&other_log.requests);
        assert!(tries > 10, "the bad ones were tried {tries} times");
        assert_eq!(of(&stats.retries.tries), tries, "each bad answer led to another try");
        assert!(of(&stats.retries.succeeded) > 10 && of(&stats.retries.exhausted) == 0);
        assert!(of(&log.connections) == 1, "a connection whose answer was not wanted serves again: {:?}", log.connections);
    });
}

#[test]
fn no_endpoint_twice_while_there_are_others_and_no_more_tries_than_configured() {
    run(async {
        let (bad, log) = backend(|_| answer("503 No")).await;
        let (other, other_log) = backend(|_| answer("503 No")).await;
        let (third, third_log) = backend(|_| answer("503 No")).await;
        let (_proxy, at, stats) = serving(retrying(&[bad, other, third], policy(&[Trigger::GatewayError]))).await;
        let seen = get(at, "/").await;
        assert_eq!((seen.status(), seen.body.as_str()), (503, "no"), "the last answer is the endpoint's own");
        assert_eq!([&log, &other_log, &third_log].map(|l| of(&l.requests)), [1, 1, 1]);
        assert_eq!((of(&stats.retries.tries), of(&stats.retries.exhausted)), (2, 1));
    });
}

#[test]
fn a_single_endpoint_is_tried_again_after_a_pause() {
    run(async {
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        let (only, _) = backend(move |_| if counted.fetch_add(1, Ordering::Relaxed) < 2 { answer("429 Later") } else { ok("here") }).await;
        let mut policy = policy(&[Trigger::RetriableStatusCodes]);
        let (_proxy, at, _) = serving(retrying(&[only], policy.clone())).await;
        let begun = Instant::now();
        assert_eq!(get(at, "/").await.body, "here");
        assert!(begun.elapsed() >= Duration::from_millis(50), "two pauses of 25 ms, took {:?}", begun.elapsed());
        count.store(0, Ordering::Relaxed);
        policy.back_off = Some(BackOff { base: Duration::from_nanos(1), most: Duration::from_nanos(1), spread: Spread::Below });
        let (_proxy, at, _) = serving(retrying(&[only], policy)).await;
        assert_eq!(get(at, "/").await.body, "here");
    });
}

#[test]
fn content_is_sent_again_whole_and_only_with_idempotent_methods() {
    run(async {
        let (bad, log) = backend(|_| answer("503 No")).await;
        let (good, good_log) = mirror_back().await;
        let service = || retrying(&[bad, good], policy(&[Trigger::GatewayError]));
        let (_proxy, at, stats) = serving(service()).await;
        for _ in 0..6 {
            let seen = post(at, "PUT", "some content").await;
            assert_eq!(seen.status(), 200);
            assert!(seen.body.ends_with("\r\n\r\nsome content"), "{}", seen.body);
        }
        assert!(of(&log.requests) >= 3);
        let (before, good_before) = (of(&log.requests), of(&good_log.requests));
        let statuses = [post(at, "POST", "x").await.status(), post(at, "POST", "x").await.status()];
        assert!(statuses.contains(&503), "a POST may have had its effect: {statuses:?}");
        assert_eq!(of(&log.requests) + of(&good_log.requests), before + good_before + 2, "each was sent once");
        assert!(of(&stats.retries.not_replayable) >= 1);
    });
}

#[test]
fn chunked_content_is_kept_up_to_the_bound() {
    run(async {
        let (bad, log) = backend(|_| answer("503 No")).await;
        let (good, _) = mirror_back().await;
        let (_proxy, at, stats) = serving(retrying(&[bad, good], policy(&[Trigger::GatewayError]))).await;
        let put = |size: usize| async move {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let chunk = "x".repeat(size / 2);
            let head = "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            ask(&mut stream, &format!("{head}{:x}\r\n{chunk}\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n", size / 2, size / 2)).await.status()
        };
        for _ in 0..6 {
            assert_eq!(put(1000).await, 200);
        }
        assert!(of(&log.requests) >= 3 && of(&stats.retries.not_replayable) == 0);
        let statuses = [put(2000).await, put(2000).await];
        assert!(statuses.contains(&503), "more than 1 KiB is not kept: {statuses:?}");
        assert!(of(&stats.retries.not_replayable) >= 1);
    });
}

#[test]
fn a_response_that_says_when_to_come_again_is_passed_on() {
    run(async {
        let (bad, log) = backend(|_| "HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n".into()).await;
        let (_proxy, at, _) = serving(retrying(&[bad, bad], policy(&[Trigger::GatewayError]))).await;
        let seen = get(at, "/").await;
        assert_eq!((seen.status(), seen.field("retry-after"), of(&log.requests)), (503, Some("7"), 1));
    });
}

#[test]
fn a_try_has_its_time_and_the_next_one_its_own() {
    run(async {
        let silent = silent().await;
        let (good, _) = mirror_back().await;
        let retry = Retry { per_try: Some(Duration::from_millis(50)), ..policy(&[Trigger::Reset]) };
        let (_proxy, at, stats) = serving(retrying(&[silent, good], retry)).await;
        for _ in 0..4 {
            assert_eq!(get(at, "/").await.status(), 200);
        }
        assert!(of(&stats.retries.succeeded) >= 2);
        let (_proxy, at, _) = serving(retrying(&[silent], Retry { per_try: Some(Duration::from_millis(30)), ..policy(&[]) })).await;
        let seen = get(at, "/").await;
        assert_eq!((seen.status(), seen.field("x-sluicegate-reason")), (504, Some("timeout")));
    });
}

#[test]
fn the_whole_exchange_has_its_time_also_while_its_content_comes() {
    run(async {
        let stalls = stalling("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        let timeouts = BackendTimeouts { request: Some(Duration::from_millis(80)), ..BackendTimeouts::default() };
        let (_proxy, at, stats) = serving(with(&[stalls], BackendSettings { timeouts, ..BackendSettings::default() })).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let error = message(&mut stream).await.expect_err("cut off");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!(of(&stats.refused.cut_off), 1);
        let silent = silent().await;
        let timeouts = BackendTimeouts { stream: Some(Duration::from_millis(50)), ..BackendTimeouts::default() };
        let (_proxy, at, stats) = serving(with(&[silent], BackendSettings { timeouts, ..BackendSettings::default() })).await;
        assert_eq!(get(at, "/").await.status(), 504);
        assert_eq!(of(&stats.refused.timeout), 1);
    });
}

/// Rules over one service: what each prefix asks for.
async fn routed(rules: Vec<Rule>, service: ServicePort) -> (Running, SocketAddr, Arc<ServiceStats>) {
    let (proxy, at, stats) = (start(1), free(), service.stats.clone());
    proxy.serve(vec![listener(at, http(router(rules)))], vec![service]).await;
    (proxy, at, stats)
}

fn rule(prefix: &str, retry: Option<Retry>) -> Rule {
    let backends = vec![Backend { service: reference(), weight: 1, actions: Actions::default() }];
    Rule { name: Some(prefix.into()), backends, retry: retry.map(Box::new), ..Rule::default() }
}

#[test]
fn a_rule_that_says_when_to_try_again_counts_before_the_service() {
    run(async {
        let (bad, log) = backend(|_| answer("503 No")).await;
        let retry = |times, pause| Some(Retry::of_rule(Some(times), vec![503], pause));
        let rules = || {
            let pause = Duration::from_millis(20);
            vec![
                rule("/rule", retry(3, Some(pause))),
                rule("/never", retry(0, None)),
                rule("/other", Some(Retry::of_rule(None, vec![500], None))),
                rule("/", None),
            ]
        };
        let (_proxy, at, stats) = routed(rules(), retrying(&[bad], policy(&[Trigger::ConnectFailure]))).await;
        let begun = Instant::now();
        assert_eq!((get(at, "/rule").await.status(), of(&log.requests)), (503, 4));
        assert!(begun.elapsed() >= Duration::from_millis(20 + 40 + 80), "the pauses are never shorter: {:?}", begun.elapsed());
        assert_eq!((of(&stats.retries.tries), of(&stats.retries.exhausted)), (3, 1));
        assert_eq!((get(at, "/other").await.status(), of(&log.requests)), (503, 5), "another status");
        assert_eq!((get(at, "/service").await.status(), of(&log.requests)), (503, 6), "the service's own policy knows no status");
        // The other way round: the service would try again, but the rule does not.
        let (_proxy, at, _) = routed(rules(), retrying(&[bad], policy(&[Trigger::GatewayError]))).await;
        assert_eq!((get(at, "/never").await.status(), of(&log.requests)), (503, 7));
        assert_eq!((get(at, "/service").await.status(), of(&log.requests)), (503, 10));
        // What protects the service holds for every rule.
        let budget = Some(Budget { percent: 0, least: 1, ..Budget::default() });
        let (_proxy, at, stats) = routed(rules(), within(&[bad], budget, Retry { times: 0, ..policy(&[]) })).await;
        assert_eq!((get(at, "/rule").await.status(), of(&stats.retries.tries)), (503, 3));
        let budget = Some(Budget { percent: 0, least: 0, ..Budget::default() });
        let (_proxy, at, stats) = routed(rules(), within(&[bad], budget, Retry { times: 0, ..policy(&[]) })).await;
        assert_eq!((get(at, "/rule").await.status(), of(&stats.retries.tries), of(&stats.retries.over_budget)), (503, 0, 1));
    });
}

#[test]
fn a_rule_s_tries_are_cut_at_its_own_time_and_zero_means_none() {
    run(async {
        let (silent, (good, _)) = (silent().await, mirror_back().await);
        let quick = |retry| Rule { backend_timeout: Some(Duration::from_millis(300)), ..rule("/quick", retry) };
        let (_proxy, at, stats) = routed(vec![quick(Some(Retry::of_rule(Some(1), vec![], None)))], service(&[silent, good])).await;
        for _ in 0..4 {
            assert_eq!(get(at, "/quick").await.status(), 200, "a try that takes too long leads to another");
        }
        assert!(of(&stats.retries.succeeded) >= 2);
        // The service has a time-out, which the rule takes away for itself.
        let (late, _) = backend(|_| {
            std::thread::sleep(Duration::from_millis(500));
            ok("late")
        })
        .await;
        let timeouts = BackendTimeouts { request: Some(Duration::from_millis(40)), ..BackendTimeouts::default() };
        let service = with(&[late], BackendSettings { timeouts, ..BackendSettings::default() });
        let patient = Rule { request_timeout: Some(Duration::ZERO), ..rule("/patient", None) };
        let (_proxy, at, _) = routed(vec![patient, rule("/", None)], service).await;
        assert_eq!(get(at, "/patient").await.status(), 200);
        assert_eq!(get(at, "/hasty").await.status(), 504);
    });
}

#[test]
fn the_budget_bounds_the_tries_under_way() {
    run(async {
        // Everything is refused: each exchange would like two more tries.
        let (bad, log) = backend(|_| answer("503 No")).await;
        let budget = Some(Budget { percent: 0, least: 0, ..Budget::default() });
        let (_proxy, at, stats) = serving(within(&[bad], budget, policy(&[Trigger::GatewayError]))).await;
        assert_eq!(get(at, "/").await.status(), 503);
        assert_eq!((of(&log.requests), of(&stats.retries.over_budget)), (1, 1));
        let breaker = Breaker { retries: Some(0), ..Breaker::default() };
        let retry = Some(policy(&[Trigger::GatewayError]));
        let (_proxy, at, stats) = serving(with(&[bad], BackendSettings { retry, breaker, ..BackendSettings::default() })).await;
        assert_eq!(get(at, "/").await.status(), 503);
        assert_eq!((of(&log.requests), of(&stats.retries.over_budget)), (2, 1));
        let budget = Some(Budget { percent: 0, least: 1, ..Budget::default() });
        let (_proxy, at, stats) = serving(within(&[bad], budget, policy(&[Trigger::GatewayError]))).await;
        assert_eq!(get(at, "/").await.status(), 503);
        assert_eq!((of(&log.requests), of(&stats.retries.tries)), (5, 2), "an exchange's own place does not count against it");
        assert_eq!(stats.load.retries.used(), 0, "given back");
    });
}

#[test]
fn grpc_calls_are_repeated_on_the_statuses_their_owner_names() {
    run(async {
        let trailers_only = |status: &str| format!("HTTP/1.1 200 OK\r\ngrpc-status: {status}\r\ncontent-length: 0\r\n\r\n");
        let (bad, _) = backend(move |_| trailers_only("14")).await;
        let (good, _) = backend(move |_| trailers_only("0")).await;
        let (_proxy, at, _) = serving(retrying(&[bad, good], policy(&[Trigger::Unavailable]))).await;
        for _ in 0..4 {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let call = "POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 5\r\n\r\nframe";
            assert_eq!(ask(&mut stream, call).await.field("grpc-status"), Some("0"));
        }
    });
}
