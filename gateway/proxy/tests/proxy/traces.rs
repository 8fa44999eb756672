//! What a running proxy records of exchanges for traces, and what it tells endpoints.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use sluicegate_model::route::{Backend, Rule};
use sluicegate_model::settings::{BackendSettings, Retry, Trigger};
use sluicegate_model::snapshot::{AppProtocol, ServicePort};
use sluicegate_model::stats::SignalStats;
use sluicegate_model::telemetry::sampler::Sampler;
use sluicegate_model::telemetry::span::Exchange;
use sluicegate_model::telemetry::{Outlet, Tracer};
use sluicegate_model::trace_context::TraceContext;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::http2::{call, connect, h2_backend, post, speaking};
use crate::support::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

struct Traced {
    proxy: Running,
    spans: Receiver<Box<Exchange>>,
    stats: Arc<SignalStats>,
}

fn tracing(ratio: f64, by_parent: bool, room: usize) -> Traced {
    let stats = Arc::<SignalStats>::default();
    let (outlet, spans) = Outlet::new(room, stats.clone());
    let tracer = Some(Arc::new(Tracer::new(Sampler::new(ratio, by_parent), outlet)));
    Traced { proxy: start_with(&Config { workers: 1, tracer, ..Config::default() }), spans, stats }
}

impl Traced {
    /// The one exchange that has ended.
    async fn one(&self) -> Exchange {
        let mut found = None;
        eventually("spans", || {
            found = found.take().or_else(|| self.spans.try_recv().ok());
            found.is_some()
        })
        .await;
        *found.unwrap()
    }

    async fn serve(&self, services: Vec<ServicePort>) -> SocketAddr {
        let at = free();
        let backend = Backend { service: reference(), weight: 1, actions: Default::default() };
        let rule = Rule { name: Some("/shop".into()), backends: vec![backend], ..Rule::default() };
        self.proxy.serve(vec![listener(at, http(router(vec![rule])))], services).await;
        at
    }
}

/// What the endpoint saw, of a request that it sent back.
fn seen(answer: &str) -> Option<TraceContext> {
    let mut lines = answer.lines().filter_map(|line| line.to_lowercase().strip_prefix("traceparent: ").map(str::to_owned));
    let first = lines.next();
    assert_eq!(lines.next(), None, "there are two in {answer}");
    TraceContext::parse(first?.as_bytes())
}

async fn send(at: SocketAddr, fields: &str) -> Seen {
    let mut stream = TcpStream::connect(at).await.unwrap();
    ask(&mut stream, &format!("GET /shop/cart?secret=1 HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: test\r\n{fields}\r\n")).await
}

/// Closes a connection in a way that cannot be mistaken for the end of the client's sending.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn the_endpoint_is_a_child_of_the_try_and_the_try_of_the_client() {
    run(async {
        let (endpoint, _) = mirror_back().await;
        let traced = tracing(0.0, true, 8);
        let service = service(&[endpoint]);
        let stats = service.stats.clone();
        let at = traced.serve(vec![service]).await;
        let answer = send(at, &format!("TraceParent: {PARENT}\r\ntracestate: a=1\r\n")).await.body;
        assert!(answer.to_lowercase().contains("tracestate: a=1"), "{answer}");
        let told = seen(&answer).unwrap();
        let exchange = traced.one().await;
        let parent = TraceContext::parse(PARENT.as_bytes()).unwrap();
        assert_eq!((exchange.context.trace, exchange.parent, exchange.state.as_deref()), (parent.trace, Some(parent.span), Some("a=1")));
        let [only] = &exchange.tries[..] else { panic!("{exchange:?}") };
        assert_eq!(told, TraceContext { span: only.span, ..exchange.context });
        assert!(![parent.span, exchange.context.span].contains(&only.span) && exchange.context.span != parent.span);
        assert_eq!((only.endpoint, only.status, only.error), (endpoint, Some(200), None));
        let (asked, way) = (&exchange.request, exchange.way.as_ref().unwrap());
        assert_eq!((asked.method.as_str(), asked.path.as_str(), asked.scheme, asked.version), ("GET", "/shop/cart", "http", "1.1"));
        assert_eq!((asked.host.as_deref(), asked.user_agent.as_deref()), (Some("shop.example:8080"), Some("test")));
        assert_eq!((way.service.as_str(), way.rule.as_deref(), way.route.as_deref()), ("default/s:80", Some("/shop"), Some("/shop")));
        assert!(way.router.is_some() && way.balancer.is_some(), "{way:?}");
        assert_eq!((exchange.status, exchange.reason), (Some(200), None));
        let exemplars = stats.exchange_time.exemplars();
        assert_eq!(exemplars.iter().map(|(_, exemplar)| exemplar.trace).collect::<Vec<_>>(), [exchange.context]);
        let decided = exchange.decided.unwrap();
        assert!(decided <= only.from && only.from <= exchange.took, "{exchange:?}");
    });
}

#[test]
fn what_is_not_sampled_is_not_recorded_and_endpoints_are_told_so() {
    run(async {
        let (endpoint, _) = mirror_back().await;
        let unsampled = PARENT.replace("-01", "-00");
        for (by_parent, fields, wanted) in [
            (true, format!("traceparent: {unsampled}\r\n"), TraceContext::parse(unsampled.as_bytes())),
            // What a client says is not believed, and its endpoints record no more than this gateway.
            (false, format!("traceparent: {PARENT}\r\n"), TraceContext::parse(unsampled.as_bytes())),
            (true, String::new(), None),
            (true, "traceparent: 00-zz\r\ntracestate: a=1\r\n".to_owned(), None),
        ] {
            let traced = tracing(0.0, by_parent, 8);
            let at = traced.serve(vec![service(&[endpoint])]).await;
            let answer = send(at, &fields).await.body;
            let told = seen(&answer).unwrap();
            assert!(!told.sampled && !answer.contains("tracestate"), "{answer}");
            if wanted.is_some() {
                assert_eq!(Some(told), wanted);
            }
            assert!(traced.spans.recv_timeout(Duration::from_millis(20)).is_err(), "{fields}");
        }
        let proxy = start(1);
        let at = free();
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[endpoint])]).await;
        assert_eq!(seen(&send(at, "").await.body), None, "without traces nothing is told");
    });
}

#[test]
fn each_try_has_a_span_of_its_own() {
    run(async {
        let (bad, _) = backend(|_| "HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno".to_owned()).await;
        let (good, _) = mirror_back().await;
        let retry = Retry {
            times: 2,
            on: [Trigger::GatewayError, Trigger::ConnectFailure].into_iter().collect(),
            statuses: Vec::new(),
            per_try: None,
            back_off: None,
            buffer: 1024,
        };
        for (failing, status, error) in [(bad, Some(503), None), (dead(), None, Some("connect-failed"))] {
            let settings = Arc::new(BackendSettings { retry: Some(retry.clone()), ..BackendSettings::default() });
            let traced = tracing(1.0, true, 8);
            let at = traced.serve(vec![ServicePort { settings, ..service(&[failing, good]) }]).await;
            loop {
                let told = seen(&send(at, "").await.body).unwrap();
                let exchange = traced.one().await;
                // Endpoints have turns, so one of two exchanges begins at the bad one.
                let [first, second] = &exchange.tries[..] else { continue };
                assert_eq!((first.endpoint, first.status, first.error), (failing, status, error));
                assert_eq!((second.endpoint, second.status, second.error), (good, Some(200), None));
                assert!(first.span != second.span && told.span == second.span);
                assert!(first.to.unwrap() <= second.from, "{exchange:?}");
                break;
            }
        }
    });
}

#[test]
fn refusals_and_what_ends_early_say_why() {
    run(async {
        let (endpoint, _) = mirror_back().await;
        let traced = tracing(1.0, true, 8);
        let at = traced.serve(vec![service(&[endpoint])]).await;
        assert_eq!(get(at, "/elsewhere").await.status(), 404);
        let exchange = traced.one().await;
        assert_eq!((exchange.status, exchange.reason), (Some(404), Some("no-route")));
        assert!(exchange.way.is_none() && exchange.tries.is_empty() && exchange.decided.is_none());

        let traced = tracing(1.0, true, 8);
        let at = traced.serve(vec![service(&[dead()])]).await;
        assert_eq!(get(at, "/shop").await.status(), 502);
        let exchange = traced.one().await;
        assert_eq!((exchange.status, exchange.reason), (Some(502), Some("connect-failed")));
        assert!(exchange.tries.iter().all(|one| one.error == Some("connect-failed") && one.to.is_some()), "{exchange:?}");

        let traced = tracing(1.0, true, 8);
        let at = traced.serve(vec![service(&[silent().await])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /shop HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        reset(stream);
        let exchange = traced.one().await;
        assert_eq!(exchange.reason, Some("client-gone"), "{exchange:?}");

        let traced = tracing(1.0, true, 8);
        let at = traced.serve(vec![service(&[stalling("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /shop HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        reset(stream);
        let exchange = traced.one().await;
        assert_eq!((exchange.status, exchange.reason), (Some(200), Some("client-gone")), "{exchange:?}");
    });
}

#[test]
fn a_call_has_the_status_of_its_trailers() {
    run(async {
        let (endpoint, log) = h2_backend(h2::server::Builder::new(), |request, mut respond| async move {
            let told = request.headers()["traceparent"].clone();
            let response = Response::builder().header("content-type", "application/grpc").header("told", told).body(()).unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("5"))])).unwrap();
        })
        .await;
        let traced = tracing(0.0, true, 8);
        let at = traced.serve(vec![speaking(AppProtocol::Grpc, &[endpoint], BackendSettings::default())]).await;
        let mut request = post("/shop.Cart/Add");
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers"), ("traceparent", PARENT)] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let answer = call(&connect(at).await, request, "", None).await.unwrap();
        let exchange = traced.one().await;
        assert_eq!((exchange.grpc_status, exchange.status, log.requests.load(Ordering::Relaxed)), (Some(5), Some(200), 1));
        assert!(exchange.request.is_call && exchange.request.version == "2");
        let told = TraceContext::parse(answer.field("told").unwrap().as_bytes()).unwrap();
        assert_eq!(told.span, exchange.tries[0].span);
    });
}

#[test]
fn nobody_waits_for_who_takes_spans() {
    run(async {
        let (endpoint, _) = mirror_back().await;
        let traced = tracing(1.0, true, 2);
        let at = traced.serve(vec![service(&[endpoint])]).await;
        for _ in 0..5 {
            assert_eq!(get(at, "/shop").await.status(), 200);
        }
        eventually("drops", || traced.stats.dropped_full.load(Ordering::Relaxed) == 3).await;
    });
}
