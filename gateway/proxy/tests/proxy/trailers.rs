//! Which trailer fields pass, in each direction and over every pair of versions.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use sluicegate_model::route::{Actions, Backend, HeaderChanges, Rule};
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::{AppProtocol, ServicePort, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::http2::*;
use crate::support::*;

/// Fields that no sender may have behind its content: identity, routing, hop-by-hop, framing, authentication and control; also as CGI would spell them.
const BARRED: &[&str] = &[
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x_forwarded_for",
    "x.forwarded.for",
    "x-forwarded-prefix",
    "x-real-ip",
    "x_real_ip",
    "forwarded",
    "via",
    "x-request-id",
    "traceparent",
    "x-original-url",
    "client-cert",
    "host",
    "max-forwards",
    "keep-alive",
    "proxy-connection",
    "content-length",
    "content_length",
    "transfer-encoding",
    "content-encoding",
    "content-type",
    "content-range",
    "trailer",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "expect",
    "range",
    "if-match",
    "cache-control",
    "location",
    "access-control-allow-origin",
    "x-ratelimit-remaining",
];

/// Names that the library for HTTP/2 refuses to send, or that its receiver refuses.
fn is_http2(name: &str) -> bool {
    !matches!(name, "keep-alive" | "proxy-connection" | "transfer-encoding" | "content-length" | "connection" | "upgrade")
}

/// The fields in portions that a trailer section may have.
fn lines() -> Vec<String> {
    BARRED.chunks(20).map(|names| names.iter().map(|name| format!("{name}: 1\r\n")).collect()).collect()
}

fn map(names: impl IntoIterator<Item = &'static str>) -> HeaderMap {
    names.into_iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect()
}

fn barred_and(name: &'static str) -> HeaderMap {
    map(BARRED.iter().copied().filter(|n| is_http2(n)).chain([name]))
}

/// An HTTP/1.1 backend that answers in chunks with all that came of a request, and with trailers.
async fn plain(fields: &'static str, trailers: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let trailers = trailers.clone();
            tokio::spawn(async move {
                while let Some(seen) = whole(&mut stream).await {
                    // The end of the request's content is not to be taken for the response's.
                    let seen = seen.replace("\r\n", "\n");
                    let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{fields}\r\n");
                    let answer = format!("{head}{:x}\r\n{seen}\r\n0\r\n{trailers}\r\n", seen.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// A message in chunks, exactly as it came.
async fn whole(from: &mut TcpStream) -> Option<String> {
    let (mut seen, mut last) = (Vec::new(), None);
    loop {
        seen.push(from.read_u8().await.ok()?);
        if seen.ends_with(b"\r\n0\r\n") {
            last = Some(seen.len() - 2);
        }
        if last.is_some_and(|last| seen[last..].ends_with(b"\r\n\r\n")) {
            return String::from_utf8(seen).ok();
        }
    }
}

/// What comes behind the last chunk.
fn behind(message: &str) -> &str {
    message.rsplit_once("\r\n0\r\n").unwrap().1
}

const TE: &str = "connection: te\r\nte: trailers\r\n";

/// Sends a request in chunks, with these fields and trailers.
async fn post_chunked(at: SocketAddr, fields: &str, trailers: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = format!("POST /p HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n{fields}\r\n");
    stream.write_all(format!("{head}3\r\nabc\r\n0\r\n{trailers}\r\n").as_bytes()).await.unwrap();
    whole(&mut stream).await.unwrap()
}

/// A gateway in front of one endpoint.
async fn gateway(target: Target, service: ServicePort) -> (Running, SocketAddr) {
    let (proxy, at) = (start(1), free());
    proxy.serve(vec![listener(at, http(target))], vec![service]).await;
    (proxy, at)
}

#[test]
fn http1_endpoints_get_no_trailers_nor_their_announcement() {
    run(async {
        let to_plain = plain("", String::new()).await;
        let (_proxy, at) = gateway(to(0), service(&[to_plain])).await;
        for trailers in ["x-sum: 1\r\n".to_owned(), "1: /slow HTTP/1.0\r\n".to_owned()].into_iter().chain(lines()) {
            let answer = post_chunked(at, "trailer: x-sum\r\n", &trailers).await;
            assert!(answer.contains("3\nabc\n0\n\n") && !answer.contains("trailer:"), "{answer}");
        }
        let answer = call(&connect(at).await, post("/p"), "abc", Some(barred_and("x-sum"))).await.unwrap();
        assert!(answer.body.ends_with("3\nabc\n0\n\n"), "{}", answer.body);
    });
}

#[test]
fn http1_endpoints_get_what_a_policy_names() {
    run(async {
        let to_plain = plain("", String::new()).await;
        let request_trailers = ["x-sum", "x-hop", "host"].map(HeaderName::from_static).into();
        let settings = Arc::new(BackendSettings { request_trailers, ..BackendSettings::default() });
        let (_proxy, at) = gateway(to(0), ServicePort { settings, ..service(&[to_plain]) }).await;
        let trailers = "X-Sum: 1\r\nx_sum: 2\r\nx-hop: 3\r\nx-other: 4\r\nhost: b.example\r\n";
        let answer = post_chunked(at, "connection: x-hop\r\ntrailer: X-Sum, x-hop, x-other\r\n", trailers).await;
        assert!(answer.contains("3\nabc\n0\nx-sum: 1\n\n") && answer.contains("\ntrailer: X-Sum\n"), "{answer}");
        let answer = call(&connect(at).await, post("/p"), "abc", Some(barred_and("x-sum"))).await.unwrap();
        assert!(answer.body.ends_with("3\nabc\n0\nx-sum: 1\n\n"), "{}", answer.body);
    });
}

#[test]
fn http2_endpoints_get_trailers_that_are_no_claims() {
    run(async {
        for protocol in [AppProtocol::H2c, AppProtocol::Grpc] {
            let (to_echo, _) = h2_backend(h2::server::Builder::new(), echo).await;
            let (_proxy, at) = gateway(to(0), speaking(protocol, &[to_echo], BackendSettings::default())).await;
            let mut bodies = Vec::new();
            for barred in lines() {
                let trailers = format!("{barred}x-sum: 2\r\n");
                bodies.push(post_chunked(at, &format!("{TE}trailer: x-sum, x-real-ip\r\n"), &trailers).await);
            }
            let answer = call(&connect(at).await, post("/p"), "abc", Some(barred_and("x-sum"))).await.unwrap();
            bodies.push(answer.body);
            for body in bodies {
                let seen: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("trailer ")).collect();
                assert!(seen.len() == 1 && seen[0].starts_with("x-sum: "), "{seen:?}");
                assert!(!body.contains("trailer: x-sum, "), "{body}");
            }
            let nominated =
                post_chunked(at, "connection: te, X-Sum\r\nte: trailers\r\ntrailer: x-sum\r\n", "x-sum: 1\r\nx_sum: 2\r\nx-other: 3\r\n")
                    .await;
            assert!(nominated.contains("\ntrailer x-other: 3") && !nominated.contains("sum"), "{nominated}");
        }
    });
}

#[test]
fn what_a_rule_sets_or_removes_does_not_come_behind_it() {
    run(async {
        let (to_echo, _) = h2_backend(h2::server::Builder::new(), echo).await;
        let field = |name| (HeaderName::from_static(name), HeaderValue::from_static("edge"));
        let request_headers = HeaderChanges {
            set: vec![field("x-tenant")],
            add: vec![field("x-added")],
            remove: vec![HeaderName::from_static("x-internal")],
        };
        let response_headers = HeaderChanges { set: vec![field("x-policy")], ..HeaderChanges::default() };
        let actions = Actions { request_headers, response_headers, ..Actions::default() };
        let backends = vec![Backend { service: reference(), weight: 1, actions: Actions::default() }];
        let rules = vec![Rule { name: Some("/".to_owned()), backends, actions, ..Rule::default() }];
        let (_proxy, at) = gateway(router(rules), speaking(AppProtocol::H2c, &[to_echo], BackendSettings::default())).await;
        let trailers = map(["x-tenant", "x_tenant", "x-added", "x-internal", "x-policy", "x-sum"]);
        let answer = call(&connect(at).await, post("/p"), "abc", Some(trailers)).await.unwrap();
        let seen: Vec<&str> = answer.body.lines().filter_map(|line| line.strip_prefix("trailer ")).collect();
        assert_eq!(seen, ["x-policy: 1", "x-sum: 1"]);
        // The endpoint sends back the fields that it got. The response's rule sets one of them, which is therefore removed.
        assert_eq!(answer.trailers.unwrap().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-sum"]);
    });
}

#[test]
fn responses_bring_no_claims_behind_their_content() {
    run(async {
        for barred in lines() {
            let trailers = format!("{barred}x-hop: 1\r\nx-sum: 1\r\nmy_data: 1\r\n");
            let to_plain = plain("connection: x-hop\r\ntrailer: x-sum, x-hop\r\n", trailers).await;
            let (_proxy, at) = gateway(to(0), service(&[to_plain])).await;
            let answer = post_chunked(at, TE, "").await;
            assert_eq!(behind(&answer), "x-sum: 1\r\nmy_data: 1\r\n\r\n");
            assert!(answer.contains("trailer: x-sum\r\n"), "{answer}");
            let answer = call(&connect(at).await, post("/p"), "abc", None).await.unwrap();
            assert_eq!(answer.trailers.unwrap(), map(["x-sum", "my_data"]));
        }

        let (to_stream, _) = h2_backend(h2::server::Builder::new(), |request, mut respond| async move {
            let _ = content(&mut request.into_body()).await;
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            sending.send_trailers(barred_and("x-sum")).unwrap();
        })
        .await;
        let (_proxy, at) = gateway(to(0), speaking(AppProtocol::H2c, &[to_stream], BackendSettings::default())).await;
        assert_eq!(behind(&post_chunked(at, TE, "").await), "x-sum: 1\r\n\r\n");
        let answer = call(&connect(at).await, post("/p"), "abc", None).await.unwrap();
        assert_eq!(answer.trailers.unwrap(), map(["x-sum"]));
    });
}

#[test]
fn http1_clients_get_trailers_if_they_have_asked_for_them() {
    run(async {
        let to_plain = plain("trailer: x-sum\r\n", "x-sum: 1\r\n".to_owned()).await;
        let (_proxy, at) = gateway(to(0), service(&[to_plain])).await;
        let (to_echo, _) = h2_backend(h2::server::Builder::new(), echo).await;
        let (_proxy, h2c) = gateway(to(0), speaking(AppProtocol::H2c, &[to_echo], BackendSettings::default())).await;
        for at in [at, h2c] {
            for (fields, there) in [(TE, true), ("te: trailers\r\n", true), ("te: gzip\r\nconnection: te\r\n", false), ("", false)] {
                let answer = post_chunked(at, fields, "x-sum: 1\r\n").await;
                assert_eq!(behind(&answer) == "x-sum: 1\r\n\r\n", there, "{fields:?}: {answer}");
                assert!(there || (behind(&answer) == "\r\n" && !answer.contains("\r\ntrailer:")), "{answer}");
            }
        }
    });
}

#[test]
fn what_grpc_says_at_the_end_of_a_call_passes() {
    run(async {
        let all = ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-custom-bin", "my_metadata"];
        let (to_calls, _) = h2_backend(h2::server::Builder::new(), move |request, mut respond| async move {
            let _ = content(&mut request.into_body()).await;
            let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut sending = respond.send_response(response, false).unwrap();
            sending.send_trailers(map(all)).unwrap();
        })
        .await;
        let (_proxy, at) = gateway(to(0), speaking(AppProtocol::Grpc, &[to_calls], BackendSettings::default())).await;
        let mut request = post("/t/Unary");
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let answer = call(&connect(at).await, request, &by_text("x"), None).await.unwrap();
        assert_eq!(answer.trailers.unwrap(), map(all));
    });
}
