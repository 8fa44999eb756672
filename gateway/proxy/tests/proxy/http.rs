//! HTTP requests through a running proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use sluicegate_model::route::{Actions, Answer, Backend, Cors, HeaderChanges, PathRewrite, Redirect, Rewrite, Rule};
use sluicegate_model::snapshot::{Front, Snapshot, VirtualHost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::http2::until;
use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";

fn rule(path: &str, actions: Actions) -> Rule {
    let backends = vec![Backend { service: reference(), weight: 1, actions: Actions::default() }];
    Rule { name: Some(path.to_owned()), actions, backends, ..Rule::default() }
}

#[test]
fn connections_are_kept_on_both_sides() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        let s = service(&[to_backend]);
        let stats = s.stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for n in 0..50 {
            let request = format!("POST /{n} HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n\r\nhi");
            let answer = ask(&mut stream, &request).await;
            assert_eq!(answer.status(), 200);
            assert!(answer.body.starts_with(&format!("POST /{n} ")) && answer.body.ends_with("hi"), "{}", answer.body);
        }
        assert_eq!(log.connections.load(Ordering::Relaxed), 1);
        assert_eq!(stats.responses[1].load(Ordering::Relaxed), 50);
    });
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = backend(|seen| {
            let body = seen.head.clone();
            format!("HTTP/1.1 200 OK\r\nconnection: x-own\r\nx-own: 1\r\nkeep-alive: timeout=5\r\nx-kept: 1\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        })
        .await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = "GET /x HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade, x-secret\r\nupgrade: h2c\r\nx-secret: 1\r\nte: trailers\r\nx-forwarded-for: 192.0.2.1\r\nx-forwarded-host: evil\r\n\r\n";
        let answer = ask(&mut stream, request).await;
        for gone in ["upgrade", "x-secret", "te:"] {
            assert!(!answer.body.contains(gone), "{gone} in {}", answer.body);
        }
        for there in
            ["x-forwarded-for: 127.0.0.1\r\n", "x-forwarded-proto: http\r\n", "x-forwarded-host: a.example\r\n", "host: a.example\r\n"]
        {
            assert!(answer.body.contains(there), "{there} not in {}", answer.body);
        }
        assert_eq!((answer.field("x-own"), answer.field("keep-alive"), answer.field("x-kept")), (None, None, Some("1")));
    });
}

#[test]
fn routes_and_their_actions() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = mirror_back().await;
        let changes = HeaderChanges {
            set: vec![(http::HeaderName::from_static("x-set"), HeaderValue::from_static("1"))],
            ..HeaderChanges::default()
        };
        let redirect = Redirect {
            scheme: Some("https".into()),
            hostname: None,
            path: Some(PathRewrite::Prefix("/new".into())),
            port: None,
            status: StatusCode::MOVED_PERMANENTLY,
        };
        let rewrite = Rewrite { hostname: Some(HeaderValue::from_static("inner")), path: Some(PathRewrite::Prefix("/in".into())) };
        let answer = Answer { status: StatusCode::IM_A_TEAPOT, headers: http::HeaderMap::new(), body: "tea".into() };
        let rules = vec![
            rule("/old", Actions { redirect: Some(redirect), ..Actions::default() }),
            rule(
                "/out",
                Actions { rewrite: Some(rewrite), request_headers: changes.clone(), response_headers: changes, ..Actions::default() },
            ),
            rule("/tea", Actions { answer: Some(answer), ..Actions::default() }),
            Rule { name: Some("/nowhere".into()), ..Rule::default() },
        ];
        let hosts = vec![VirtualHost { hostname: Some("a.example".into()), target: router(rules) }];
        proxy.serve(vec![listener(at, Front::Http(hosts.into()))], vec![service(&[to_backend])]).await;
        let moved = get(at, "/old/x?q=1").await;
        assert_eq!((moved.status(), moved.field("location")), (301, Some("https://a.example/new/x?q=1")));
        let rewritten = get(at, "/out/x?q=1").await;
        assert!(rewritten.body.starts_with("GET /in/x?q=1 HTTP/1.1\r\n"), "{}", rewritten.body);
        assert!(rewritten.body.contains("host: inner\r\n") && rewritten.body.contains("x-set: 1") && rewritten.field("x-set").is_some());
        let tea = get(at, "/tea").await;
        assert_eq!((tea.status(), tea.body.as_str()), (418, "tea"));
        let nowhere = get(at, "/nowhere").await;
        assert_eq!((nowhere.status(), nowhere.field("x-sluicegate-reason")), (500, Some("bad-backend")));
        let none = get(at, "/other").await;
        assert_eq!((none.status(), none.field("x-sluicegate-reason")), (404, Some("no-route")));
        let mut stream = TcpStream::connect(at).await.unwrap();
        let absolute = ask(&mut stream, "GET http://A.example/out HTTP/1.1\r\nhost: other\r\n\r\n").await;
        assert!(absolute.body.starts_with("GET /in HTTP/1.1"), "{}", absolute.body);
        let other = ask(&mut stream, "GET /out HTTP/1.1\r\nhost: b.example\r\n\r\n").await;
        assert_eq!((other.status(), other.field("x-sluicegate-reason")), (404, Some("no-host")));
    });
}

#[test]
fn cross_origin_requests() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        let cors = Cors {
            allow_origins: vec!["https://*.shop.example".into()],
            allow_methods: vec!["PUT".into()],
            allow_headers: vec!["x-token".into()],
            expose_headers: vec!["x-left".into()],
            allow_credentials: true,
            max_age_seconds: 600,
        };
        let hosts =
            vec![VirtualHost { hostname: None, target: router(vec![rule("/", Actions { cors: Some(cors), ..Actions::default() })]) }];
        proxy.serve(vec![listener(at, Front::Http(hosts.into()))], vec![service(&[to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let preflight = |origin: &str| {
            format!(
                "OPTIONS /cart HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\naccess-control-request-method: PUT\r\naccess-control-request-headers: x-token\r\n\r\n"
            )
        };
        let granted = ask(&mut stream, &preflight("https://www.shop.example")).await;
        assert_eq!((granted.status(), granted.field("access-control-allow-origin")), (204, Some("https://www.shop.example")));
        assert_eq!((granted.field("access-control-allow-methods"), granted.field("access-control-max-age")), (Some("PUT"), Some("600")));
        assert_eq!(granted.field("access-control-allow-headers"), Some("x-token"));
        let refused = ask(&mut stream, &preflight("https://evil.example")).await;
        assert_eq!((refused.status(), refused.field("access-control-allow-origin"), refused.field("vary")), (204, None, Some("origin")));
        assert_eq!(log.connections.load(Ordering::Relaxed), 0, "preflights are answered here");
        let from = |origin: &str| format!("PUT /cart HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\ncontent-length: 2\r\n\r\nhi");
        let actual = ask(&mut stream, &from("https://www.shop.example")).await;
        assert!(actual.body.starts_with("PUT /cart "), "{}", actual.body);
        assert_eq!(actual.field("access-control-allow-origin"), Some("https://www.shop.example"));
        assert_eq!(
            (actual.field("access-control-allow-credentials"), actual.field("access-control-expose-headers")),
            (Some("true"), Some("x-left"))
        );
        // It is served nevertheless: the browser is what keeps the answer from the page.
        let unmarked = ask(&mut stream, &from("https://evil.example")).await;
        assert_eq!((unmarked.status(), unmarked.field("access-control-allow-origin")), (200, None));
        // OPTIONS that is no preflight goes to the endpoint.
        let options = ask(&mut stream, "OPTIONS /cart HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(options.body.starts_with("OPTIONS /cart "), "{}", options.body);
    });
}

#[test]
fn errors_have_their_statuses() {
    run(async {
        let (proxy, none, refused, slow, broken) = (start(1), free(), free(), free(), free());
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut slow_service = service(&[silent.local_addr().unwrap()]);
        Arc::make_mut(&mut slow_service.settings).timeouts.request = Some(Duration::from_millis(50));
        let (closing, _) = backend(|_| String::new()).await;
        let listeners = [none, refused, slow, broken].iter().enumerate().map(|(i, at)| listener(*at, http(to(i)))).collect();
        proxy.serve(listeners, vec![service(&[]), service(&[dead(), dead()]), slow_service, service(&[closing])]).await;
        for (at, status, reason) in
            [(none, 503, "no-endpoint"), (refused, 502, "connect-failed"), (slow, 504, "timeout"), (broken, 502, "upstream-broke")]
        {
            let answer = get(at, "/").await;
            assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (status, Some(reason)));
        }
        for (request, status) in [("GET / HTTP/1.1\r\n\r\n", 400), ("CONNECT a.example:80 HTTP/1.1\r\nhost: a.example\r\n\r\n", 405)] {
            let mut stream = TcpStream::connect(none).await.unwrap();
            let answer = ask(&mut stream, request).await;
            assert_eq!(answer.status(), status, "{request}");
            assert_eq!(answer.field("connection"), Some("close"));
            assert!(message(&mut stream).await.unwrap().is_none(), "the connection is closed");
        }
    });
}

#[test]
fn what_could_smuggle_a_request_is_refused() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let host = "host: a.example\r\n";
        for (head, status, reason) in [
            (format!("POST / HTTP/1.1\r\n{host}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), 400, "bad-framing"),
            (format!("POST / HTTP/1.1\r\n{host}content-length: 5\r\ncontent-length: 6\r\n\r\nhello"), 400, "bad-framing"),
            (format!("POST / HTTP/1.1\r\n{host}transfer-encoding: gzip, chunked\r\n\r\n"), 501, "bad-coding"),
            (format!("POST / HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"), 400, "bad-content"),
            (format!("GET / HTTP/1.1\n{host}\r\n"), 400, "bad-request"),
            (format!("GET / HTTP/1.1\r\n{host}x: 1\r\n folded\r\n\r\n"), 400, "bad-request"),
            (format!("GET / HTTP/3.0\r\n{host}\r\n"), 505, "bad-version"),
            (format!("GET / HTTP/1.1\r\n{host}x: {}\r\n\r\n", "x".repeat(70_000)), 431, "large-head"),
        ] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let answer = ask(&mut stream, &format!("{head}GET /smuggled HTTP/1.1\r\nhost: a.example\r\n\r\n")).await;
            assert_eq!(
                (answer.status(), answer.field("x-sluicegate-reason"), answer.field("connection")),
                (status, Some(reason), Some("close"))
            );
            assert!(message(&mut stream).await.unwrap().is_none(), "what follows {reason} is not served");
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 0, "nothing of it reached the endpoint");
    });
}

/// An endpoint's connections, which the test answers by hand.
async fn by_hand(proxy: &Running, at: std::net::SocketAddr) -> TcpListener {
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[endpoint.local_addr().unwrap()])]).await;
    endpoint
}

#[test]
fn interim_responses_are_passed_on() {
    run(async {
        let (proxy, at) = (start(1), free());
        let endpoint = by_hand(&proxy, at).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await.unwrap();
        let (mut upstream, _) = endpoint.accept().await.unwrap();
        assert!(until(&mut upstream, "\r\n\r\n").await.contains("expect: 100-continue\r\n"));
        upstream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(until(&mut client, "Continue\r\n\r\n").await, hints);
        client.write_all(b"hi").await.unwrap();
        until(&mut upstream, "hi").await;
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert!(until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: "));
        // HTTP/1.0 has no interim responses.
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n").await.unwrap();
        until(&mut upstream, "\r\n\r\n").await;
        upstream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\nconnection: close\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");
    });
}

#[test]
fn an_answer_may_come_before_the_end_of_the_request() {
    run(async {
        let (proxy, at) = (start(1), free());
        let endpoint = by_hand(&proxy, at).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await.unwrap();
        let (mut upstream, _) = endpoint.accept().await.unwrap();
        until(&mut upstream, "one\r\n").await;
        upstream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nuno\r\n").await.unwrap();
        until(&mut client, "uno\r\n").await;
        // Both bodies go on, and the response's trailers pass, too.
        client.write_all(b"3\r\ntwo\r\n0\r\nx-sum: 6\r\n\r\n").await.unwrap();
        assert_eq!(until(&mut upstream, "\r\n\r\n").await, "3\r\ntwo\r\n0\r\n\r\n");
        upstream.write_all(b"3\r\ndos\r\n0\r\nx-suma: 6\r\n\r\n").await.unwrap();
        assert_eq!(until(&mut client, "\r\n\r\n").await, "3\r\ndos\r\n0\r\nx-suma: 6\r\n\r\n");
        // After that the connections serve again.
        client.write_all(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        until(&mut upstream, "\r\n\r\n").await;
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        assert!(until(&mut client, "\r\n\r\n").await.contains("content-length: 5\r\n"));
        client.write_all(GET.as_bytes()).await.unwrap();
        until(&mut upstream, "\r\n\r\n").await;
    });
}

#[test]
fn a_client_that_leaves_takes_its_exchange_with_it() {
    run(async {
        let (proxy, at) = (start(1), free());
        let endpoint = by_hand(&proxy, at).await;
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"] {
            let mut client = TcpStream::connect(at).await.unwrap();
            client.write_all(GET.as_bytes()).await.unwrap();
            let (mut upstream, _) = endpoint.accept().await.unwrap();
            until(&mut upstream, "\r\n\r\n").await;
            upstream.write_all(answer.as_bytes()).await.unwrap();
            if !answer.is_empty() {
                until(&mut client, "abc").await;
            }
            // This is a reset: if the client only ended its side, the endpoint would go on.
            client.set_zero_linger().unwrap();
            drop(client);
            assert_eq!(upstream.read(&mut [0; 1]).await.unwrap_or(0), 0, "the endpoint's connection is closed");
        }
    });
}

#[test]
fn a_response_cut_short_looks_cut_short() {
    run(async {
        let (proxy, at) = (start(1), free());
        let endpoint = by_hand(&proxy, at).await;
        for framing in ["content-length: 9\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n9\r\nabc"] {
            let mut client = TcpStream::connect(at).await.unwrap();
            client.write_all(GET.as_bytes()).await.unwrap();
            let (mut upstream, _) = endpoint.accept().await.unwrap();
            until(&mut upstream, "\r\n\r\n").await;
            upstream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes()).await.unwrap();
            drop(upstream);
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("abc") && !answer.contains("\r\n0\r\n"), "{answer}");
        }
    });
}

#[test]
fn an_endpoint_that_will_close_is_asked_on_another_connection() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = backend(|_| "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        for _ in 0..3 {
            assert_eq!(ask(&mut client, GET).await.field("connection"), None, "that is the endpoint's affair, not the client's");
        }
        assert_eq!(log.connections.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        let requests: String = (0..20).map(|n| format!("POST /{n} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi")).collect();
        client.write_all(requests.as_bytes()).await.unwrap();
        for n in 0..20 {
            let answer = message(&mut client).await.unwrap().unwrap();
            assert!(answer.body.starts_with(&format!("POST /{n} ")), "{}", answer.body);
        }
    });
}

#[test]
fn a_refused_connect_goes_to_another_endpoint() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[dead(), to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..6 {
            let answer = ask(&mut stream, "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 4\r\n\r\nbody").await;
            assert!(answer.status() == 200 && answer.body.ends_with("body"));
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 6);
    });
}

#[test]
fn a_reused_connection_that_breaks_is_replaced_once() {
    run(async {
        let (proxy, at) = (start(1), free());
        let served = Arc::new(std::sync::atomic::AtomicU64::new(0));
        // Every second request on the backend finds its connection closed under it.
        let (to_backend, log) =
            backend(move |_| if served.fetch_add(1, Ordering::Relaxed) % 2 == 1 { String::new() } else { ok("here") }).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..4 {
            assert_eq!(ask(&mut stream, GET).await.body, "here");
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 7);
        // A request with content is not sent twice.
        let posted = ask(&mut stream, "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 4\r\n\r\nbody").await;
        assert_eq!((posted.status(), posted.field("x-sluicegate-reason")), (502, Some("upstream-broke")));
    });
}

#[test]
fn snapshots_change_under_traffic_without_a_failure() {
    run(async {
        let (proxy, at) = (start(2), free());
        let (a, _) = backend(|_| ok("a")).await;
        let (b, _) = backend(|_| ok("b")).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[a])]).await;
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..8 {
            clients.spawn(async move {
                let mut stream = TcpStream::connect(at).await.unwrap();
                for _ in 0..200 {
                    assert_eq!(ask(&mut stream, GET).await.status(), 200);
                }
            });
        }
        for n in 0..50 {
            let endpoints = if n % 2 == 0 { [b] } else { [a] };
            proxy.serve(vec![listener(at, http(to(0)))], vec![service(&endpoints)]).await;
        }
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[b])]).await;
        assert_eq!(get(at, "/").await.body, "b");
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    });
}

#[test]
fn a_removed_listener_closes_and_a_changed_one_stays() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = backend(|_| ok("x")).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut stream, GET).await.status(), 200);
        proxy.serve(vec![listener(at, http(sluicegate_model::snapshot::Target::Nothing))], vec![]).await;
        assert_eq!(ask(&mut stream, GET).await.status(), 404, "the same connection follows the newest snapshot");
        proxy.serve(vec![], vec![]).await;
        assert!(message(&mut stream).await.unwrap().is_none(), "an idle connection is closed");
        assert!(TcpStream::connect(at).await.is_err());
    });
}

#[test]
fn what_cannot_be_bound_is_said_and_the_rest_serves() {
    run(async {
        let (proxy, at) = (start(2), free());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (to_backend, _) = backend(|_| ok("x")).await;
        let listeners = vec![listener(taken.local_addr().unwrap(), http(to(0))), listener(at, http(to(0)))];
        let failures = proxy.proxy.publish(Arc::new(Snapshot::of(1, listeners, [Arc::new(service(&[to_backend]))])));
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].address, taken.local_addr().unwrap());
        assert!(failures[0].error.contains("in use"), "{}", failures[0]);
        proxy.proxy.served(1).await;
        assert_eq!(get(at, "/").await.status(), 200);
    });
}

#[test]
fn shutdown_lets_the_running_exchange_finish() {
    run(async {
        let (proxy, at) = (start(1), free());
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[silent.local_addr().unwrap()])]).await;
        let mut idle = TcpStream::connect(at).await.unwrap();
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        let (mut upstream, _) = silent.accept().await.unwrap();
        message(&mut upstream).await.unwrap();
        let stopping = tokio::task::spawn_blocking(move || proxy.proxy.shutdown(DEADLINE));
        assert!(message(&mut idle).await.unwrap().is_none(), "an idle connection is closed at once");
        upstream.write_all(ok("late").as_bytes()).await.unwrap();
        assert_eq!(message(&mut stream).await.unwrap().unwrap().body, "late");
        stopping.await.unwrap();
    });
}
