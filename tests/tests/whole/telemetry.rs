//! What is exported to collectors: to a receiver of the protocol's messages, and by way of a collector of other people.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sluicegate::Settled;
use sluicegate_telemetry::settings::{Batch, Logs, Metrics, Traces};
use sluicegate_telemetry::{Protocol, TargetSettings, Tls};
use sluicegate_tests::collector::{Collector, Metric, Rotel, attribute, metric};
use sluicegate_tests::{Gateway, SERVICE, eventually, fetch, http};

fn target(protocol: Protocol, endpoint: String) -> TargetSettings {
    let timeout = Duration::from_secs(5);
    TargetSettings { protocol, endpoint, headers: Some("x-token=abc".to_owned()), headers_file: None, timeout, tls: Tls::default() }
}

/// How fast values go out in tests.
fn batch(room: usize) -> Batch {
    Batch { room, most: 512, delay: Duration::from_millis(50) }
}

fn to_http(settled: &mut Settled, [b, c]: [u8; 2]) {
    let to = target(Protocol::Http, format!("http://127.{b}.{c}.9:4318/v1/traces"));
    settled.telemetry.resource = vec![("deployment.environment.name".to_owned(), "test".to_owned())];
    settled.telemetry.traces = Some(Traces { to, ratio: 1.0, by_parent: true, queue: batch(2048) });
}

fn to_rotel(settled: &mut Settled, [b, c]: [u8; 2]) {
    to_http(settled, [b, c]);
    let to = target(Protocol::Grpc, format!("http://127.{b}.{c}.9:4317"));
    settled.telemetry.traces = settled.telemetry.traces.take().map(|traces| Traces { to, ..traces });
}

fn to_little_room(settled: &mut Settled, net: [u8; 2]) {
    to_http(settled, net);
    settled.telemetry.traces = settled.telemetry.traces.take().map(|traces| Traces { queue: batch(4), ..traces });
}

fn everything_to_rotel(settled: &mut Settled, [b, c]: [u8; 2]) {
    to_rotel(settled, [b, c]);
    let to = || target(Protocol::Grpc, format!("http://127.{b}.{c}.9:4317"));
    settled.telemetry.metrics = Some(Metrics { to: to(), interval: Duration::from_millis(200) });
    settled.telemetry.logs = Some(Logs { to: to(), queue: batch(64) });
}

/// A gateway with one endpoint that speaks HTTP.
fn serving(adjust: fn(&mut Settled, [u8; 2])) -> (Gateway, SocketAddr) {
    let service = SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http");
    let gateway = Gateway::with(&[("svc.yaml", &service)], adjust);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("an endpoint", || gateway.ready_endpoints() == 1);
    let at = gateway.node_port();
    (gateway, at)
}

fn collector_at(gateway: &Gateway, port: u16) -> SocketAddr {
    SocketAddr::new(gateway.ip(9), port)
}

/// A metric's value.
fn value(gateway: &Gateway, line: &str) -> u64 {
    let metrics = gateway.get("/metrics").expect("metrics");
    metrics.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or(0)
}

/// Checks the spans of one exchange that was begun by nobody else.
fn check(collector: &Collector, endpoint: IpAddr) {
    let trace = collector.trace(3);
    let [(server, resource), (decision, _), (attempt, _)] = &trace[..] else { panic!("{trace:?}") };
    let of = |span: &sluicegate_tests::collector::Span, key: &str| attribute(&span.attributes, key).unwrap_or_default();
    assert_eq!([&server.name, &decision.name, &attempt.name], ["GET", "decision", "GET"]);
    assert_eq!([server.kind, decision.kind, attempt.kind], [2, 1, 3], "server, internal, client");
    assert!(server.parent_span_id.is_empty());
    assert_eq!([&decision.parent_span_id, &attempt.parent_span_id], [&server.span_id; 2]);
    for (key, wanted) in [
        ("http.request.method", "GET"),
        ("url.path", "/x"),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("sluicegate.service", "default/nginx-svc:8080"),
    ] {
        assert_eq!(of(server, key), wanted, "{key} of {server:?}");
    }
    assert!(of(server, "user_agent.original").starts_with("ureq"), "{server:?}");
    assert_eq!((of(attempt, "server.address"), of(attempt, "server.port")), (endpoint.to_string(), "80".to_owned()));
    assert!(!of(decision, "sluicegate.balancer.plugin").is_empty() && of(decision, "sluicegate.balancer.generation") == "1");
    assert_eq!(attribute(resource, "service.name").as_deref(), Some("sluicegate"));
    assert_eq!(attribute(resource, "deployment.environment.name").as_deref(), Some("test"));
    let within = |span: &sluicegate_tests::collector::Span| {
        server.start_time_unix_nano <= span.start_time_unix_nano && span.end_time_unix_nano <= server.end_time_unix_nano
    };
    assert!(within(decision) && within(attempt) && decision.end_time_unix_nano <= attempt.start_time_unix_nano);
    assert_eq!(server.trace_state, "");
}

#[test]
fn spans_reach_a_collector_over_http() {
    let (gateway, at) = serving(to_http);
    let collector = Collector::listen(collector_at(&gateway, 4318));
    let (status, body) = fetch(at);
    assert_eq!(status, 200);
    check(&collector, gateway.ip(2));
    let told = body.lines().find_map(|line| line.to_lowercase().strip_prefix("traceparent: ").map(str::to_owned)).expect("it is told");
    let attempt = &collector.trace(3)[2].0;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(told, format!("00-{}-{}-01", hex(&attempt.trace_id), hex(&attempt.span_id)));
    let head = collector.received().heads[0].to_lowercase();
    assert!(head.contains("content-type: application/x-protobuf\r\n") && head.contains("x-token: abc\r\n"), "{head}");
    eventually("counted", || value(&gateway, "sluicegate_telemetry_exported_total{signal=\"traces\"}") == 1);
}

#[test]
fn spans_pass_a_collector_of_other_people_that_takes_grpc() {
    let (gateway, at) = serving(to_rotel);
    let collector = Collector::listen(collector_at(&gateway, 5318));
    let _rotel = Rotel::start(collector_at(&gateway, 4317), collector_at(&gateway, 4318), collector_at(&gateway, 5318));
    assert_eq!(fetch(at).0, 200);
    check(&collector, gateway.ip(2));
}

#[test]
fn a_collector_that_is_gone_delays_nobody_and_is_found_again() {
    let (gateway, at) = serving(to_little_room);
    let begun = Instant::now();
    // The first exchange's spans leave the queue, and are sent again and again.
    assert_eq!(fetch(at).0, 200);
    eventually("a failure", || value(&gateway, "sluicegate_telemetry_failures_total{signal=\"traces\"}") > 0);
    (0..8).for_each(|_| assert_eq!(fetch(at).0, 200));
    eventually("drops", || value(&gateway, "sluicegate_telemetry_dropped_total{signal=\"traces\",reason=\"full\"}") == 4);
    assert!(begun.elapsed() < Duration::from_secs(10), "nobody waited");
    let collector = Collector::listen(collector_at(&gateway, 4318));
    eventually("all that had room", || collector.received().spans.len() == 5 * 3);
    assert_eq!(value(&gateway, "sluicegate_telemetry_exported_total{signal=\"traces\"}"), 5);
    assert_eq!(value(&gateway, "sluicegate_telemetry_dropped_total{signal=\"traces\",reason=\"failed\"}"), 0);
}

#[test]
fn the_last_spans_are_sent_when_the_gateway_ends() {
    let (mut gateway, at) = serving(|settled, net| {
        to_http(settled, net);
        let slow = Batch { delay: Duration::from_secs(60), ..batch(2048) };
        settled.telemetry.traces = settled.telemetry.traces.take().map(|traces| Traces { queue: slow, ..traces });
    });
    let collector = Collector::listen(collector_at(&gateway, 4318));
    assert_eq!(fetch(at).0, 200);
    gateway.stop();
    assert_eq!(collector.received().spans.len(), 3);
}

/// The points of a counter or of a histogram: a label's values, the count, and the traces of exemplars.
fn points(metrics: &[Metric], name: &str, label: &str) -> Vec<(String, u64, Vec<Vec<u8>>)> {
    use sluicegate_tests::collector::number_data_point::Value;
    let cumulative = 2;
    match metrics.iter().find(|metric| metric.name == name).and_then(|metric| metric.data.clone()) {
        Some(metric::Data::Sum(sum)) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == cumulative, "{sum:?}");
            let value =
                |value| if let Some(Value::AsInt(value)) = value { u64::try_from(value).expect("a count") } else { panic!("{value:?}") };
            sum.data_points.into_iter().map(|p| (attribute(&p.attributes, label).unwrap_or_default(), value(p.value), Vec::new())).collect()
        }
        Some(metric::Data::Histogram(histogram)) => {
            assert_eq!(histogram.aggregation_temporality, cumulative);
            let point = |p: sluicegate_tests::collector::HistogramDataPoint| {
                assert_eq!((p.bucket_counts.iter().sum::<u64>(), p.bucket_counts.len()), (p.count, p.explicit_bounds.len() + 1));
                let traces = p.exemplars.into_iter().map(|exemplar| exemplar.trace_id).collect();
                (attribute(&p.attributes, label).unwrap_or_default(), p.count, traces)
            };
            histogram.data_points.into_iter().map(point).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn metrics_and_the_access_log_pass_a_collector_of_other_people() {
    let (gateway, at) = serving(everything_to_rotel);
    let collector = Collector::listen(collector_at(&gateway, 5318));
    let _rotel = Rotel::start(collector_at(&gateway, 4317), collector_at(&gateway, 4318), collector_at(&gateway, 5318));
    assert_eq!(fetch(at).0, 200);
    let server = collector.trace(3)[0].0.clone();
    let of = |name: &str, label: &str| points(&collector.received().metrics, name, label);
    eventually("metrics", || !of("sluicegate_service_request_duration_seconds", "service").is_empty());
    let wanted = vec![("nginx-svc".to_owned(), 1, vec![server.trace_id.clone()])];
    assert_eq!(of("sluicegate_service_request_duration_seconds", "service"), wanted);
    assert_eq!(of("sluicegate_requests", ""), [(String::new(), 1, Vec::new())]);
    let responses = of("sluicegate_service_responses", "class");
    assert!(responses.contains(&("2xx".to_owned(), 1, Vec::new())), "{responses:?}");

    eventually("a record", || !collector.received().records.is_empty());
    let record = collector.received().records[0].clone();
    assert_eq!((&record.trace_id, &record.span_id, record.flags), (&server.trace_id, &server.span_id, 1));
    let of = |key: &str| attribute(&record.attributes, key).unwrap_or_default();
    for (key, wanted) in [
        ("http.request.method", "GET"),
        ("url.original", "/x"),
        ("http.response.status_code", "200"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("sluicegate.service", "default/nginx-svc:8080"),
        ("sluicegate.kind", "http"),
    ] {
        assert_eq!(of(key), wanted, "{key} of {record:?}");
    }
    let body = format!("{:?}", record.body);
    assert!(body.contains("http 127.0.0.1 \\\"GET /x HTTP/1.1\\\""), "{body}");
}

#[test]
fn exemplars_are_shown_to_who_asks_for_openmetrics_and_series_are_few() {
    let (gateway, at) = serving(to_http);
    let collector = Collector::listen(collector_at(&gateway, 4318));
    assert_eq!(fetch(at).0, 200);
    let server = collector.trace(3)[0].0.clone();
    let trace: String = server.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let page = |accept: &str| {
        let mut response = agent.get(format!("http://{}/metrics", gateway.admin())).header("accept", accept).call().expect("an answer");
        response.body_mut().read_to_string().expect("text")
    };
    let asked = page("application/openmetrics-text; version=1.0.0; charset=utf-8,text/plain;q=0.5");
    let shown: Vec<&str> = asked.lines().filter(|line| line.contains(" # {")).collect();
    let [line] = shown[..] else { panic!("{shown:?}") };
    assert!(line.starts_with("sluicegate_service_request_duration_seconds_bucket{le=") && line.contains(&trace), "{line}");
    let plain = page("text/plain");
    assert!(!plain.contains(" # {"));
    let series = plain.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1_000, "{series}");
    eprintln!("{series} series with one Service");
}
