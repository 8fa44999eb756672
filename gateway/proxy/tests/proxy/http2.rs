//! HTTP/2 on either side of a running proxy, with the library `h2` and frames written by hand as peers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use sluicegate_model::settings::{BackendHttp2, BackendSettings, KeepAlive};
use sluicegate_model::snapshot::AppProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use crate::support::http2::*;
use crate::support::*;

fn trailers(name: &'static str, value: &'static str) -> Option<HeaderMap> {
    Some(HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))]))
}

#[test]
fn the_preface_is_told_however_it_comes() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let bytes = [HELLO, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &head())].concat();
        for piece in [1, 3, 24, 25, bytes.len()] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.set_nodelay(true).unwrap();
            for part in bytes.chunks(piece) {
                stream.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            let answer = next_of(&mut stream, HEADERS).await.unwrap();
            assert_eq!((answer.stream, answer.payload[0]), (1, 0x88), "`:status: 200`, with pieces of {piece}");
        }
        assert_eq!(get(at, "/").await.status(), 200, "HTTP/1.1 on the same port");
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut stream, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await.status(), 505);
    });
}

#[test]
fn from_http2_to_http1() {
    run(async {
        let (proxy, at) = (start(1), free());
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[backend.local_addr().unwrap()])]).await;
        let mut request = post("/x?y");
        for (name, value) in [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-own", "1")] {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let serving = tokio::spawn(async move {
            let (mut stream, _) = backend.accept().await.unwrap();
            let seen = until(&mut stream, "\r\n0\r\n\r\n").await;
            let answer = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\nkeep-alive: timeout=5\r\n\r\n3\r\nabc\r\n0\r\nx-end: 2\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            // An answer without content, on the same connection.
            let again = until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await.unwrap();
            (seen, again)
        });
        let client = connect(at).await;
        let answer = call(&client, request, "hello", trailers("x-sum", "1")).await.unwrap();
        assert_eq!((answer.status(), answer.body.as_str()), (200, "abc"));
        assert_eq!(answer.trailers.unwrap()["x-end"], "2");
        assert!(!answer.head.headers().contains_key("keep-alive") && answer.head.headers().contains_key(header::DATE));
        let answer = call(&client, Request::head("http://a.example/").body(()).unwrap(), "", None).await.unwrap();
        assert_eq!((answer.status(), answer.field("content-length"), answer.body.as_str()), (200, Some("9"), ""));
        let (seen, again) = serving.await.unwrap();
        for there in
            ["POST /x?y HTTP/1.1\r\n", "host: a.example\r\n", "cookie: a=1; b=2\r\n", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n"]
        {
            assert!(seen.contains(there), "{there} not in {seen}");
        }
        assert!(!seen.contains("te: ") && again.starts_with("HEAD / HTTP/1.1\r\n"), "{seen}{again}");
    });
}

#[test]
fn from_http1_to_http2() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = h2_backend(h2::server::Builder::new(), echo).await;
        let s = speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default());
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = "POST /x?y HTTP/1.1\r\nhost: a.example\r\nconnection: te, x-hop\r\nte: trailers\r\nx-hop: 1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = until(&mut stream, "x-sum: 1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
        for there in ["POST http://a.example/x?y\n", "te: trailers\n", "\nhello\ntrailer x-sum: 1"] {
            assert!(answer.contains(there), "{there} not in {answer}");
        }
        for gone in ["x-hop", "\nhost:", "\ntransfer-encoding: chunked\n"] {
            assert!(!answer.contains(gone), "{gone} in {answer}");
        }
        for n in 0..20 {
            let answer = ask(&mut stream, &format!("GET /{n} HTTP/1.1\r\nhost: a.example\r\n\r\n")).await;
            assert!(answer.body.contains(&format!("GET http://a.example/{n}\n")), "{}", answer.body);
        }
        assert_eq!(log.connections.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn interim_responses_and_expectations_pass() {
    run(async {
        let (proxy, at, plain) = (start(1), free(), free());
        let (to_backend, _) = h2_backend(h2::server::Builder::new(), |request, mut respond| async move {
            let mut early = Response::new(());
            *early.status_mut() = StatusCode::EARLY_HINTS;
            early.headers_mut().insert("link", HeaderValue::from_static("</a>"));
            respond.send_informational(early).unwrap();
            if request.headers().contains_key("expect") {
                let mut go_on = Response::new(());
                *go_on.status_mut() = StatusCode::CONTINUE;
                respond.send_informational(go_on).unwrap();
            }
            echo(request, respond).await;
        })
        .await;
        let s = speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default());
        proxy.serve(vec![listener(at, http(to(0))), listener(plain, http(to(0)))], vec![s]).await;
        let mut client = connect(at).await;
        let mut request = post("/");
        request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
        let (mut response, mut stream) = client.send_request(request, false).unwrap();
        let mut interim = Vec::new();
        while interim.len() < 2 {
            interim.push(std::future::poll_fn(|context| response.poll_informational(context)).await.unwrap().unwrap());
        }
        assert_eq!((interim[0].status().as_u16(), &interim[0].headers()["link"]), (103, &HeaderValue::from_static("</a>")));
        assert_eq!(interim[1].status(), 100);
        send(&mut stream, Bytes::from("now"), true).await;
        assert!(read(response.await.unwrap()).await.unwrap().body.ends_with("now"));

        let mut stream = TcpStream::connect(plain).await.unwrap();
        let request = "POST / HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n"));
        assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100 Continue\r\n"));
        assert!(ask(&mut stream, "now").await.body.contains("now"));
    });
}

#[test]
fn both_sides_multiplex_and_more_streams_get_more_connections() {
    run(async {
        let (proxy, at) = (start(1), free());
        let meeting = Arc::new(Barrier::new(7));
        let met = meeting.clone();
        let (to_backend, log) = h2_backend(h2::server::Builder::new().max_concurrent_streams(3).clone(), move |request, respond| {
            let met = met.clone();
            async move {
                met.wait().await;
                echo(request, respond).await;
            }
        })
        .await;
        let s = speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default());
        let stats = s.stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let client = connect(at).await;
        let calls: Vec<_> = (0..7)
            .map(|n| {
                let client = client.clone();
                tokio::spawn(async move { call(&client, post(&format!("/{n}")), "x", trailers("x-sum", "1")).await })
            })
            .collect();
        for (n, call) in calls.into_iter().enumerate() {
            let answer = call.await.unwrap().unwrap();
            assert!(answer.body.contains(&format!("POST http://a.example/{n}\n")), "{}", answer.body);
            assert_eq!(answer.trailers.unwrap()["x-sum"], "1");
        }
        // All seven were there at once, three on a connection.
        assert_eq!(log.connections.load(Ordering::Relaxed), 3);
        assert_eq!(stats.responses[1].load(Ordering::Relaxed), 7);
        assert_eq!(proxy.stats.accepted.load(Ordering::Relaxed), 1);
    });
}

/// A backend written by hand: it sends settings, and then `answer` for each HEADERS.
async fn by_hand(answer: impl Fn(u32) -> Vec<u8> + Clone + Send + 'static) -> (std::net::SocketAddr, Log) {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log) = (backend.local_addr().unwrap(), Log::default());
    let counted = log.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = backend.accept().await {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            let (answer, counted) = (answer.clone(), counted.clone());
            tokio::spawn(async move {
                stream.read_exact(&mut [0; 24]).await?;
                stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
                while let Some(seen) = next(&mut stream).await {
                    if seen.kind == HEADERS {
                        counted.requests.fetch_add(1, Ordering::Relaxed);
                        stream.write_all(&answer(seen.stream)).await?;
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    (address, log)
}

fn fine(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88])
}

#[test]
fn what_an_endpoint_did_not_look_at_goes_elsewhere() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (serves, served) = by_hand(fine).await;
        let (refuses, refused) = by_hand(|stream| frame(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes())).await;
        let (leaves, left) = by_hand(|_| frame(GOAWAY, 0, 0, &[0; 8])).await;
        let endpoints = [serves, refuses, leaves];
        let s = speaking(AppProtocol::H2c, &endpoints, BackendSettings::default());
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let client = connect(at).await;
        for _ in 0..9 {
            // POST is not idempotent: only a refusal makes it safe to send it again.
            assert_eq!(call(&client, post("/"), "", None).await.unwrap().status(), 200);
        }
        assert_eq!(served.requests.load(Ordering::Relaxed), 9);
        assert!(refused.requests.load(Ordering::Relaxed) > 0 && left.requests.load(Ordering::Relaxed) > 0);
    });
}

#[test]
fn an_endpoint_that_says_goodbye_is_connected_to_anew() {
    run(async {
        let (proxy, at) = (start(1), free());
        // It answers, and takes nothing after that.
        let (to_backend, log) =
            by_hand(|stream| [fine(stream), frame(GOAWAY, 0, 0, &[&stream.to_be_bytes()[..], &[0; 4]].concat())].concat()).await;
        let s = speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default());
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let client = connect(at).await;
        for _ in 0..5 {
            assert_eq!(call(&client, post("/"), "", None).await.unwrap().status(), 200);
        }
        assert_eq!(log.connections.load(Ordering::Relaxed), 5);
    });
}

#[test]
fn an_endpoint_that_speaks_another_protocol_fails_to_connect() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = backend(|_| "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
        let s = speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default());
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let answer = get(at, "/").await;
        assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (502, Some("connect-failed")));
    });
}

#[test]
fn a_dead_connection_is_found_by_its_silence() {
    run(async {
        let (proxy, at) = (start(1), free());
        // It sends its preface, and nothing more.
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = backend.local_addr().unwrap();
        let silent = tokio::spawn(async move {
            let (mut stream, _) = backend.accept().await.unwrap();
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        let keep_alive = Some(KeepAlive { interval: Duration::from_millis(50), timeout: Duration::from_millis(50) });
        let settings = BackendSettings { http2: BackendHttp2 { keep_alive, ..BackendHttp2::default() }, ..BackendSettings::default() };
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::H2c, &[address], settings)]).await;
        assert_eq!(get(at, "/").await.status(), 502);
        silent.await.unwrap();
    });
}

#[test]
fn what_is_no_request_is_refused() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let client = connect(at).await;
        let mut other = get_request("/");
        other.headers_mut().insert(header::HOST, HeaderValue::from_static("b.example"));
        let answer = call(&client, other, "", None).await.unwrap();
        assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (400, Some("bad-host")));
        assert!(!answer.head.headers().contains_key(header::CONNECTION), "of one hop");
        let tunnel = Request::connect("a.example:443").body(()).unwrap();
        assert_eq!(call(&client, tunnel, "", None).await.unwrap().status(), 405);
        // These fields make a request malformed (RFC 9113 §8.2.2).
        for (name, value) in [("connection", "close"), ("transfer-encoding", "chunked"), ("te", "gzip"), ("upgrade", "x")] {
            let mut stream = raw(at).await;
            let block = [head(), field(name, value)].concat();
            stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await.unwrap();
            let reset = next_of(&mut stream, RST_STREAM).await.unwrap();
            assert_eq!((reset.stream, reset.code()), (1, 1), "PROTOCOL_ERROR for {name}");
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 0);
    });
}
