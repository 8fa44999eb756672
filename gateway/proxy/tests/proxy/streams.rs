//! HTTP/2 under the limits that HTTP/1.1 has: each stream is an exchange, and each connection may carry many.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use sluicegate_model::access_log::{Line, Pattern};
use sluicegate_model::limiter::Limiter;
use sluicegate_model::settings::Trigger;
use sluicegate_model::settings::{
    BackendHttp2, BackendSettings, BackendTimeouts, Breaker, Budget, ClientSettings, ClientTimeouts, Condition, ConnectionLimits, MinRate,
    ProxyVersion, Rate, Retry,
};
use sluicegate_model::snapshot::{AppProtocol, Listener, ServicePort};
use sluicegate_model::stats::ServiceStats;
use sluicegate_proxy::{AccessLog, AccessLogTarget};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::support::http2::*;
use crate::support::*;

fn of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

async fn serving(settings: ClientSettings, service: ServicePort) -> (Running, SocketAddr, Arc<ServiceStats>) {
    let (proxy, at, stats) = (start(1), free(), service.stats.clone());
    let limiter = Limiter::new(&settings.rates).map(Arc::new);
    let listener = Listener { address: at, name: "streams".into(), front: http(to(0)), settings: Arc::new(settings), limiter };
    proxy.serve(vec![Arc::new(listener)], vec![service]).await;
    (proxy, at, stats)
}

/// An endpoint of HTTP/2 that answers each stream when it is given a permit.
async fn gated(streams: u32) -> (SocketAddr, Log, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let shared = permits.clone();
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams);
    let (address, log) = h2_backend(builder, move |_, mut respond: SendResponse<Bytes>| {
        let permits = shared.clone();
        async move {
            permits.acquire().await.unwrap().forget();
            respond.send_response(Response::new(()), true).unwrap();
        }
    })
    .await;
    (address, log, permits)
}

fn broken_by(endpoint: SocketAddr, breaker: Breaker) -> ServicePort {
    let timeouts = BackendTimeouts { connect: DEADLINE, ..BackendTimeouts::default() };
    speaking(AppProtocol::H2c, &[endpoint], BackendSettings { breaker, timeouts, ..BackendSettings::default() })
}

#[test]
fn no_more_streams_than_a_breaker_has_exchanges() {
    run(async {
        let (endpoint, log, permits) = gated(100).await;
        let breaker = Breaker { requests: Some(3), ..Breaker::default() };
        let (_proxy, at, stats) = serving(ClientSettings::default(), broken_by(endpoint, breaker)).await;
        let client = connect(at).await;
        let running: Vec<_> = (0..3)
            .map(|_| {
                tokio::spawn({
                    let client = client.clone();
                    async move { fetch(&client, "/").await }
                })
            })
            .collect();
        eventually("three streams came", || of(&log.requests) == 3).await;
        let refused = fetch(&client, "/").await.unwrap();
        assert_eq!((refused.status(), refused.field("x-sluicegate-reason")), (503, Some("circuit-breaker")));
        permits.add_permits(4);
        for one in running {
            assert_eq!(one.await.unwrap().unwrap().status(), 200);
        }
        eventually("places were given back", || stats.load.requests.used() == 0).await;
        assert_eq!(fetch(&client, "/").await.unwrap().status(), 200);
        assert_eq!((of(&log.connections), of(&stats.refused.requests)), (1, 1));
    });
}

#[test]
fn streams_share_the_connections_that_a_breaker_allows_and_others_wait_for_a_place_on_them() {
    run(async {
        let (endpoint, log, permits) = gated(2).await;
        let breaker = Breaker { connections: Some(1), pending: 3, ..Breaker::default() };
        let (_proxy, at, stats) = serving(ClientSettings::default(), broken_by(endpoint, breaker)).await;
        let client = connect(at).await;
        let ask = || {
            tokio::spawn({
                let client = client.clone();
                async move { fetch(&client, "/").await }
            })
        };
        // With the first answer it has come through that the endpoint takes two streams at a time.
        let first = ask();
        eventually("the first came", || of(&log.requests) == 1).await;
        let mut running: Vec<_> = (0..4).map(|_| ask()).collect();
        running.push(first);
        eventually("two streams came, three wait", || of(&log.requests) == 2 && stats.load.connections.waiting() == 3).await;
        let refused = fetch(&client, "/").await.unwrap();
        assert_eq!((refused.status(), of(&stats.refused.pending)), (503, 1), "a fourth has no place to wait");
        permits.add_permits(100);
        for one in running {
            assert_eq!(one.await.unwrap().unwrap().status(), 200);
        }
        assert_eq!((of(&log.connections), stats.load.connections.waiting(), stats.load.connections.used()), (1, 0, 1));
    });
}

#[test]
fn a_shared_connection_ends_after_its_count_of_exchanges() {
    run(async {
        let (endpoint, log) = h2_backend(h2::server::Builder::new(), echo).await;
        let breaker = Breaker { requests_per_connection: Some(3), connections: Some(2), ..Breaker::default() };
        let (_proxy, at, _) = serving(ClientSettings::default(), broken_by(endpoint, breaker)).await;
        let client = connect(at).await;
        for _ in 0..9 {
            assert_eq!(fetch(&client, "/").await.unwrap().status(), 200);
        }
        assert_eq!((of(&log.requests), of(&log.connections)), (9, 3));
    });
}

#[test]
fn a_shared_connection_that_told_of_a_client_carries_only_that_client_s_streams() {
    run(async {
        // Reads a line of version 1 and then speaks HTTP/2; answers with the connection's number and the line.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut line = Vec::new();
                    while !line.ends_with(b"\r\n") {
                        line.push(stream.read_u8().await.unwrap());
                    }
                    let told = format!("{number} {}", String::from_utf8(line).unwrap());
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let mut content = respond.send_response(Response::new(()), false).unwrap();
                        content.send_data(told.clone().into(), true).unwrap();
                    }
                });
            }
        });
        let settings = BackendSettings { proxy_protocol: Some(ProxyVersion::V1), ..BackendSettings::default() };
        let (_proxy, at, _) = serving(ClientSettings::default(), speaking(AppProtocol::H2c, &[endpoint], settings)).await;
        let mut told = std::collections::BTreeSet::new();
        for _ in 0..2 {
            let client = connect(at).await;
            for _ in 0..3 {
                told.insert(fetch(&client, "/").await.unwrap().body);
            }
        }
        let told: Vec<String> = told.into_iter().collect();
        assert_eq!(told.len(), 2, "a connection for each client, with all its streams: {told:?}");
        assert!(told[0].starts_with("0 PROXY TCP4 127.0.0.1 ") && told[1].starts_with("1 PROXY TCP4 127.0.0.1 "), "{told:?}");
    });
}

#[test]
fn streams_are_counted_by_rate_limits_one_by_one() {
    run(async {
        let (endpoint, log) = h2_backend(h2::server::Builder::new(), echo).await;
        let each = Condition::EachSource("0.0.0.0/0".parse().unwrap());
        let rates = vec![Rate { requests: 3, unit: Duration::from_secs(3600), conditions: vec![each] }];
        let service = speaking(AppProtocol::H2c, &[endpoint], BackendSettings::default());
        let (proxy, at, _) = serving(ClientSettings { rates, ..ClientSettings::default() }, service).await;
        let client = connect(at).await;
        // All of them begin at once, on one connection.
        let all: Vec<_> = (0..8)
            .map(|_| {
                tokio::spawn({
                    let client = client.clone();
                    async move { fetch(&client, "/").await }
                })
            })
            .collect();
        let (mut passed, mut refused) = (0, 0);
        for one in all {
            let answer = one.await.unwrap().unwrap();
            match answer.status() {
                200 => passed += 1,
                429 => {
                    assert_eq!((answer.field("retry-after"), answer.field("x-ratelimit-remaining")), (Some("1200"), Some("0")));
                    refused += 1;
                }
                other => panic!("{other}"),
            }
        }
        assert_eq!((passed, refused, of(&log.requests), of(&proxy.stats.clients.rate)), (3, 5, 3, 5));
        assert_eq!(fetch(&client, "/").await.unwrap().status(), 429, "the connection goes on");
    });
}

#[test]
fn a_stream_has_its_bound_of_content_and_a_connection_its_count_of_streams() {
    run(async {
        let (endpoint, _) = h2_backend(h2::server::Builder::new(), echo).await;
        let service = || speaking(AppProtocol::H2c, &[endpoint], BackendSettings::default());
        let (proxy, at, _) = serving(ClientSettings { content: Some(1000), ..ClientSettings::default() }, service()).await;
        let client = connect(at).await;
        let mut long = post("/");
        long.headers_mut().insert("content-length", http::HeaderValue::from_static("1001"));
        let (response, _open) = client.clone().ready().await.unwrap().send_request(long, false).unwrap();
        assert_eq!(response.await.unwrap().status(), 413, "before any of it came");
        assert_eq!(call(&client, post("/"), &"x".repeat(1001), None).await.unwrap().status(), 413, "where nothing was said of a length");
        assert_eq!(call(&client, post("/"), &"x".repeat(1000), None).await.unwrap().status(), 200);
        assert_eq!(of(&proxy.stats.clients.large_content), 2);
        let connections = ConnectionLimits { requests: Some(2), ..ConnectionLimits::default() };
        let (_proxy, at, _) = serving(ClientSettings { connections, ..ClientSettings::default() }, service()).await;
        let mut stream = raw(at).await;
        for n in [1, 3] {
            stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, n, &head())).await.unwrap();
        }
        let (mut ended, mut goodbye) = (Vec::new(), None);
        while let Some(frame) = next(&mut stream).await {
            match frame.kind {
                DATA | HEADERS if frame.flags & END_STREAM != 0 => ended.push(frame.stream),
                GOAWAY => goodbye = Some(frame.code()),
                PING => stream.write_all(&self::frame(PING, 1, 0, &frame.payload)).await.unwrap(),
                _ => {}
            }
        }
        ended.sort_unstable();
        assert_eq!((ended, goodbye), (vec![1, 3], Some(0)), "both are served, and then it says goodbye");
    });
}

#[test]
fn each_stream_has_its_line_in_the_access_log() {
    run(async {
        let place = std::env::temp_dir().join(format!("sluicegate-streams-{}", std::process::id()));
        let pattern = "%method% %path% %protocol% %status% %reason% %bytesIn% %bytesOut% %attempts%";
        let log = AccessLog { line: Line::Text(pattern.parse::<Pattern>().unwrap().0), to: AccessLogTarget::File(place.clone()) };
        let (proxy, at) = (start_with(&Config { workers: 1, access_log: Some(log), ..Config::default() }), free());
        let (endpoint, _) =
            h2_backend(h2::server::Builder::new(), |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
                if request.uri().path() == "/silent" {
                    std::future::pending::<()>().await;
                }
                let (body, _) = content(&mut request.into_body()).await.unwrap();
                let mut sending = respond.send_response(Response::new(()), false).unwrap();
                sending.send_data(format!("{body}{body}").into(), true).unwrap();
            })
            .await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::H2c, &[endpoint], BackendSettings::default())]).await;
        let client = connect(at).await;
        assert_eq!(call(&client, post("/a"), "abc", None).await.unwrap().body, "abcabc");
        // Its client resets one stream, and begins another one on the same connection.
        let (response, mut stream) = client.clone().ready().await.unwrap().send_request(get_request("/silent"), true).unwrap();
        let service_has_it = || proxy.stats.requests.load(Ordering::Relaxed) == 2;
        eventually("it is under way", service_has_it).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        assert_eq!(fetch(&client, "/b").await.unwrap().status(), 200);
        let read = || std::fs::read_to_string(&place).unwrap_or_default();
        eventually("three lines", || read().lines().count() == 3).await;
        let lines = read();
        std::fs::remove_file(&place).unwrap();
        assert!(lines.contains("POST /a HTTP/2 200 - 3 6 1\n"), "{lines}");
        assert!(lines.contains("GET /silent HTTP/2 ") && lines.contains(" client-gone 0 "), "{lines}");
        assert!(lines.contains("GET /b HTTP/2 200 - 0 0 1\n"), "{lines}");
    });
}

/// Checks that connections to endpoints which were idle for long, or are old, serve no more requests.
fn no_more_after(timeouts: BackendTimeouts, protocol: AppProtocol) {
    run(async move {
        let (endpoint, log) = match protocol {
            AppProtocol::H2c => h2_backend(h2::server::Builder::new(), echo).await,
            _ => mirror_back().await,
        };
        let settings = BackendSettings { timeouts, ..BackendSettings::default() };
        let (_proxy, at, _) = serving(ClientSettings::default(), speaking(protocol, &[endpoint], settings)).await;
        let client = connect(at).await;
        for _ in 0..5 {
            assert_eq!(fetch(&client, "/").await.unwrap().status(), 200);
        }
        assert_eq!(of(&log.connections), 1, "within its time it serves");
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(fetch(&client, "/").await.unwrap().status(), 200);
        assert_eq!(of(&log.connections), 2);
    });
}

#[test]
fn an_idle_connection_to_an_endpoint_serves_no_more_after_its_time() {
    let timeouts = BackendTimeouts { idle: Some(Duration::from_secs(1)), ..BackendTimeouts::default() };
    no_more_after(timeouts.clone(), AppProtocol::Http);
    no_more_after(timeouts, AppProtocol::H2c);
}

#[test]
fn an_old_connection_to_an_endpoint_serves_no_more_after_its_time() {
    let timeouts = BackendTimeouts { age: Some(Duration::from_secs(1)), ..BackendTimeouts::default() };
    no_more_after(timeouts.clone(), AppProtocol::Http);
    no_more_after(timeouts, AppProtocol::H2c);
}

/// What a client of a listener with these time-outs gets for a stream of which nothing more comes.
async fn stalled(timeouts: ClientTimeouts, service: ServicePort) -> (Running, Result<Answer, h2::Error>, Duration) {
    let (proxy, at, _) = serving(ClientSettings { timeouts, ..ClientSettings::default() }, service).await;
    let client = connect(at).await;
    let begun = Instant::now();
    let answer = fetch(&client, "/").await;
    assert_eq!(fetch(&client, "/quick").await.unwrap().status(), 200, "other streams of the connection go on");
    (proxy, answer, begun.elapsed())
}

/// An endpoint that sends a head and some content of one stream and then nothing; other streams it serves.
async fn stalls_after_its_head() -> SocketAddr {
    let (endpoint, _) =
        h2_backend(h2::server::Builder::new(), |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            let ended = request.uri().path() == "/quick";
            let mut content = respond.send_response(Response::new(()), ended).unwrap();
            if !ended {
                content.send_data("some".into(), false).unwrap();
                std::future::pending::<()>().await;
            }
        })
        .await;
    endpoint
}

#[test]
fn a_stream_that_stalls_after_its_head_is_reset_and_its_endpoint_released() {
    run(async {
        let service = speaking(AppProtocol::H2c, &[stalls_after_its_head().await], BackendSettings::default());
        let endpoint = service.internal.endpoints[0].stats.clone();
        let timeouts = ClientTimeouts { stalled: Some(Duration::from_secs(1)), ..ClientTimeouts::default() };
        let (proxy, answer, took) = stalled(timeouts, service).await;
        assert!(answer.is_err_and(|error| error.is_reset()) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(of(&proxy.stats.clients.stalled), 1);
        eventually("the endpoint is released", || endpoint.in_flight() == 0).await;
    });
}

#[test]
fn a_stream_that_lasts_too_long_is_reset() {
    run(async {
        let service = speaking(AppProtocol::H2c, &[stalls_after_its_head().await], BackendSettings::default());
        let timeouts = ClientTimeouts { stream: Some(Duration::from_secs(1)), ..ClientTimeouts::default() };
        let (proxy, answer, took) = stalled(timeouts, service).await;
        assert!(answer.is_err_and(|error| error.is_reset()) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(of(&proxy.stats.clients.long), 1);
        // The bound is the service's own, and holds for exchanges of HTTP/1.1, too.
        let timeouts = BackendTimeouts { stream: Some(Duration::from_millis(100)), ..BackendTimeouts::default() };
        let settings = BackendSettings { timeouts, ..BackendSettings::default() };
        let service = speaking(AppProtocol::H2c, &[stalls_after_its_head().await], settings);
        let stats = service.stats.clone();
        let (_proxy, answer, _) = stalled(ClientTimeouts::default(), service).await;
        assert!(answer.is_err_and(|error| error.is_reset()));
        assert_eq!(of(&stats.refused.cut_off), 1);
    });
}

#[test]
fn an_old_connection_of_a_client_says_goodbye() {
    run(async {
        let (endpoint, _) = mirror_back().await;
        let timeouts = ClientTimeouts { age: Some(Duration::from_secs(1)), ..ClientTimeouts::default() };
        let (_proxy, at, _) = serving(ClientSettings { timeouts, ..ClientSettings::default() }, service(&[endpoint])).await;
        let mut stream = raw(at).await;
        let begun = Instant::now();
        assert_eq!(next_of(&mut stream, GOAWAY).await.unwrap().code(), 0);
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_client_of_one_byte_a_second_is_ended_however_it_speaks() {
    run(async {
        let (endpoint, log) = mirror_back().await;
        let times = |time| Some(Duration::from_secs(time));
        let rate = Some(MinRate { bytes_per_second: 100, grace: Duration::from_secs(2) });
        let timeouts = ClientTimeouts { head: times(2), rate, ..ClientTimeouts::default() };
        let (proxy, at, _) = serving(ClientSettings { timeouts, ..ClientSettings::default() }, service(&[endpoint])).await;
        let drip = |begin: Vec<u8>, more: Vec<u8>| async move {
            let stream = tokio::net::TcpStream::connect(at).await.unwrap();
            let (mut from, mut to) = stream.into_split();
            to.write_all(&begin).await.unwrap();
            let dripping = tokio::spawn(async move {
                while to.write_all(&more).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            let mut all = Vec::new();
            let _ = from.read_to_end(&mut all).await;
            dripping.abort();
            all
        };
        let posted = [&[0x83, 0x86, 0x84, 0x01, 9], &b"a.example"[..]].concat();
        let begun = Instant::now();
        let (head_, content, stream) = tokio::join!(
            drip(b"GET / HTTP/1.1\r\nx: ".to_vec(), b"a".to_vec()),
            drip(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n".to_vec(), b"a".to_vec()),
            async {
                let mut stream = raw(at).await;
                stream.write_all(&frame(HEADERS, END_HEADERS, 1, &posted)).await.unwrap();
                loop {
                    stream.write_all(&frame(DATA, 0, 1, b"a")).await.unwrap();
                    match tokio::time::timeout(Duration::from_secs(1), next_of(&mut stream, RST_STREAM)).await {
                        Ok(reset) => break reset,
                        Err(_) => continue,
                    }
                }
            },
        );
        assert!(head_.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&head_));
        assert_eq!(String::from_utf8_lossy(&content), "", "ended without an answer");
        assert_eq!(stream.unwrap().stream, 1);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!((of(&proxy.stats.clients.slow_head), of(&proxy.stats.clients.slow_rate)), (1, 2));
        assert_eq!(get(at, "/").await.status(), 200, "others are served on");
        assert_eq!(of(&log.requests), 1);
    });
}

#[test]
fn an_endpoint_that_resets_streams_as_fast_as_it_can_harms_nobody() {
    run(async {
        let (hostile, log) = h2_backend(h2::server::Builder::new(), |_, mut respond: SendResponse<Bytes>| async move {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
        })
        .await;
        let (good, _) = h2_backend(h2::server::Builder::new(), echo).await;
        // Half of the endpoints fail: more tries than a budget of 20 % allows.
        let retry =
            Retry { times: 2, on: [Trigger::Reset].into_iter().collect(), statuses: Vec::new(), per_try: None, back_off: None, buffer: 0 };
        let budget = Some(Budget { percent: 100, least: 100, ..Budget::default() });
        let settings = BackendSettings { http2: BackendHttp2::default(), retry: Some(retry), budget, ..BackendSettings::default() };
        let service = speaking(AppProtocol::H2c, &[hostile, good], settings);
        let endpoints: Vec<_> = service.internal.endpoints.iter().map(|e| e.stats.clone()).collect();
        let (_proxy, at, _) = serving(ClientSettings::default(), service).await;
        let client = connect(at).await;
        for round in 0..20 {
            // A request that is idempotent goes on to the other endpoint.
            let all: Vec<_> = (0..50)
                .map(|_| {
                    tokio::spawn({
                        let client = client.clone();
                        async move { fetch(&client, "/").await }
                    })
                })
                .collect();
            for one in all {
                assert_eq!(one.await.unwrap().unwrap().status(), 200, "round {round}");
            }
        }
        assert!(of(&log.requests) >= 100, "it was asked {} times", of(&log.requests));
        assert!(of(&log.connections) <= 100, "a stream that is reset does not cost its connection: {}", of(&log.connections));
        eventually("nothing is left under way", || endpoints.iter().all(|e| e.in_flight() == 0)).await;
        let once = call(&client, post("/"), "x", None).await.unwrap().status();
        let twice = call(&client, post("/"), "x", None).await.unwrap().status();
        assert!([once, twice].contains(&502) && [once, twice].contains(&200), "a POST is sent once: {once}, {twice}");
    });
}
