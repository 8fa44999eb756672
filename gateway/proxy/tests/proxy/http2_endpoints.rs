//! Endpoints that speak HTTP/2 and take few streams, answer early, refuse streams or close their connections: no request hangs, none is lost that can
//! be served, and one exchange's failure costs no other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{Response, StatusCode};
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::AppProtocol;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::http2::*;
use crate::support::*;

async fn serving(endpoints: &[SocketAddr]) -> (Running, SocketAddr) {
    let (proxy, at) = (start(1), free());
    proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::H2c, endpoints, BackendSettings::default())]).await;
    (proxy, at)
}

/// An endpoint that takes this many streams on a connection, and answers with the length of what it was sent.
async fn narrow(streams: u32) -> (SocketAddr, Log) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams);
    h2_backend(builder, |request, mut respond: SendResponse<Bytes>| async move {
        let Ok((body, _)) = content(&mut request.into_body()).await else { return };
        let mut sending = respond.send_response(Response::new(()), false).unwrap();
        send(&mut sending, body.len().to_string().into(), true).await;
    })
    .await
}

/// Rounds of requests that begin at once, with and without content, from clients of both versions; each is answered.
async fn all_answered(at: SocketAddr, limit: u32, rounds: usize, each: usize) {
    let clients = [connect(at).await, connect(at).await];
    for round in 0..rounds {
        let mut all = JoinSet::new();
        for n in 0..each {
            let client = clients[n % 2].clone();
            let body = "abc".repeat(n % 4);
            all.spawn(async move { call(&client, post("/"), &body, None).await.unwrap().body == body.len().to_string() });
        }
        for n in 0..each.min(16) {
            let body = "abc".repeat(n % 4);
            all.spawn(async move {
                let mut stream = TcpStream::connect(at).await.unwrap();
                let request = format!("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut seen = String::new();
                while !seen.ends_with("\r\n0\r\n\r\n") {
                    seen.push(char::from(tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap()));
                }
                seen.starts_with("HTTP/1.1 200 ")
            });
        }
        let answered = tokio::time::timeout(DEADLINE / 2, all.join_all()).await;
        let answered = answered.unwrap_or_else(|_| panic!("limit {limit}, round {round}: a request hangs"));
        assert!(answered.iter().all(|right| *right), "limit {limit}, round {round}");
    }
}

#[test]
fn requests_with_content_are_answered_however_few_streams_an_endpoint_takes() {
    for (limit, rounds, each) in [(1, 10, 8), (2, 10, 8), (10, 10, 40), (100, 15, 160)] {
        run(async move {
            let (endpoint, _) = narrow(limit).await;
            let (_proxy, at) = serving(&[endpoint]).await;
            all_answered(at, limit, rounds, each).await;
        });
    }
}

#[test]
fn a_stream_that_takes_the_place_of_one_that_is_being_reset_waits_for_it() {
    run(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1);
        let (endpoint, _) = h2_backend(builder, |request: http::Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| async move {
            if request.uri().path() == "/silent" {
                let _ = std::future::poll_fn(|context| respond.poll_reset(context)).await;
                return;
            }
            let Ok((body, _)) = content(&mut request.into_body()).await else { return };
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            send(&mut sending, body.into(), true).await;
        })
        .await;
        let (_proxy, at) = serving(&[endpoint]).await;
        let client = connect(at).await;
        for _ in 0..50 {
            let (response, mut stream) = client.clone().ready().await.unwrap().send_request(post("/silent"), false).unwrap();
            stream.send_data("some".into(), false).unwrap();
            let next = call(&client, post("/"), "abc", None);
            stream.send_reset(h2::Reason::CANCEL);
            drop((response, stream));
            assert_eq!(tokio::time::timeout(DEADLINE / 2, next).await.expect("it hangs").unwrap().body, "abc");
        }
    });
}

#[test]
fn an_endpoint_that_takes_no_streams_at_all_is_passed_over() {
    run(async {
        let (closed, _) = narrow(0).await;
        let (open, _) = narrow(10).await;
        let (_proxy, at) = serving(&[closed, open]).await;
        let client = connect(at).await;
        for _ in 0..6 {
            let answer = tokio::time::timeout(DEADLINE / 2, call(&client, post("/"), "abc", None)).await.expect("it hangs").unwrap();
            assert_eq!(answer.body, "3");
        }
    });
}

/// An endpoint that refuses every POST before it has read it, as gRPC's servers do: a response that is whole, and RST_STREAM. A GET takes a while.
async fn refusing(code: u32, content: &'static [u8]) -> (SocketAddr, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log) = (listener.local_addr().unwrap(), Log::default());
    let counted = log.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            let log = counted.clone();
            tokio::spawn(async move {
                stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
                let mut preface = [0; 24];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut preface).await?;
                while let Some(seen) = next(&mut stream).await {
                    if seen.kind != HEADERS {
                        continue;
                    }
                    log.requests.fetch_add(1, Ordering::Relaxed);
                    let ended = if content.is_empty() { END_STREAM } else { 0 };
                    // `:status 403` by name, and a field of gRPC's.
                    let head = [&field(":status", "403")[..], &field("grpc-status", "16")].concat();
                    let mut answer = frame(HEADERS, END_HEADERS | ended, seen.stream, &head);
                    if !content.is_empty() {
                        answer.extend(frame(DATA, END_STREAM, seen.stream, content));
                    }
                    // Nothing is left to reset of a stream that both sides have ended.
                    if seen.flags & END_STREAM == 0 {
                        answer.extend(frame(RST_STREAM, 0, seen.stream, &code.to_be_bytes()));
                    }
                    stream.write_all(&answer).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    (address, log)
}

/// A request whose content does not end is answered in whole nevertheless; what comes then of its stream.
async fn refused(client: &SendRequest<Bytes>) -> (Answer, Option<h2::Reason>) {
    let mut client = client.clone().ready().await.unwrap();
    let (response, mut stream) = client.send_request(post("/"), false).unwrap();
    send(&mut stream, "some".into(), false).await;
    let answer = read(response.await.unwrap()).await.unwrap();
    let reason = std::future::poll_fn(|context| stream.poll_reset(context)).await;
    (answer, reason.ok())
}

#[test]
fn an_early_answer_is_passed_on_and_costs_no_connection() {
    for (code, content) in [(0, ""), (0, "no"), (8, "")] {
        run(async move {
            let (endpoint, log) = refusing(code, content.as_bytes()).await;
            let (proxy, at) = serving(&[endpoint]).await;
            let client = connect(at).await;
            for n in 0..600 {
                let (answer, reason) = refused(&client).await;
                assert_eq!((answer.status(), answer.field("grpc-status"), answer.body.as_str()), (403, Some("16"), content), "{n}");
                assert_eq!(reason, Some(h2::Reason::NO_ERROR), "the client is told that nothing more is wanted, RFC 9113 section 8.1");
            }
            assert_eq!(log.connections.load(Ordering::Relaxed), 1, "code {code}, {content:?}");
            assert_eq!(proxy.stats.http2_connections.load(Ordering::Relaxed), 1);
        });
    }
}

#[test]
fn an_early_answer_reaches_a_client_of_http1_that_still_sends() {
    run(async {
        let (endpoint, log) = refusing(0, b"no").await;
        let (_proxy, at) = serving(&[endpoint]).await;
        for _ in 0..20 {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1000000\r\n\r\nsome").await.unwrap();
            let seen = crate::support::http2::until(&mut stream, "no").await;
            assert!(seen.starts_with("HTTP/1.1 403 "), "{seen}");
        }
        assert_eq!(log.connections.load(Ordering::Relaxed), 1);
    });
}

/// The same with HTTP/1.1 on the endpoint's side.
#[test]
fn an_early_answer_of_http1_is_passed_on_while_content_still_comes() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    crate::support::http2::until(&mut stream, "\r\n\r\n").await;
                    stream.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
                    // What comes is taken for a while, so that no reset overtakes the answer.
                    let mut rest = Vec::new();
                    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
                });
            }
        });
        let (proxy, at) = (start(1), free());
        proxy.serve(vec![listener_at(at)], vec![service(&[endpoint])]).await;
        let client = connect(at).await;
        for _ in 0..20 {
            let (answer, reason) = refused(&client).await;
            assert_eq!((answer.status(), answer.body.as_str(), reason), (403, "no", Some(h2::Reason::NO_ERROR)));
        }
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1000000\r\n\r\nsome").await.unwrap();
        assert!(crate::support::http2::until(&mut stream, "no").await.starts_with("HTTP/1.1 403 "));
    });
}

fn listener_at(at: SocketAddr) -> std::sync::Arc<sluicegate_model::snapshot::Listener> {
    listener(at, http(to(0)))
}

#[test]
fn calls_beside_refused_ones_go_on() {
    run(async {
        // POSTs are refused at once, GETs answered after a while, all on one connection.
        let mut builder = h2::server::Builder::new();
        // Content that is under way to a refused stream counts as an error to the endpoint's library, which ends a connection at 1,024 of these.
        builder.max_local_error_reset_streams(None);
        let (endpoint, log) = h2_backend(builder, |request: http::Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| async move {
            let mut response = Response::new(());
            if request.method() == http::Method::GET {
                tokio::time::sleep(Duration::from_millis(100)).await;
            } else {
                *response.status_mut() = StatusCode::FORBIDDEN;
            }
            // Dropped with its content unread, the library says RST_STREAM NO_ERROR.
            let _ = respond.send_response(response, true);
        })
        .await;
        let (_proxy, at) = serving(&[endpoint]).await;
        let client = connect(at).await;
        let mut slow = JoinSet::new();
        for _ in 0..10 {
            let client = client.clone();
            slow.spawn(async move {
                for _ in 0..5 {
                    assert_eq!(fetch(&client, "/").await.unwrap().status(), 200);
                }
            });
        }
        let mut count = 0;
        while !slow.is_empty() || count < 400 {
            assert_eq!(refused(&client).await.0.status(), 403);
            count += 1;
            while let Some(done) = slow.try_join_next() {
                done.unwrap();
            }
        }
        assert_eq!(log.connections.load(Ordering::Relaxed), 1, "for {count} refusals");
    });
}

#[test]
fn requests_beyond_what_all_connections_hold_wait_for_a_place() {
    run(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1);
        let (endpoint, log) = h2_backend(builder, |request, mut respond: SendResponse<Bytes>| async move {
            let Ok((body, _)) = content(&mut request.into_body()).await else { return };
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            send(&mut sending, body.into(), true).await;
        })
        .await;
        let (_proxy, at) = serving(&[endpoint]).await;
        let mut all = JoinSet::new();
        for _ in 0..4 {
            let client = connect(at).await;
            for _ in 0..75 {
                let client = client.clone();
                all.spawn(async move { call(&client, post("/"), "abc", None).await.unwrap().body });
            }
        }
        assert!(all.join_all().await.iter().all(|body| body == "abc"));
        assert!(log.connections.load(Ordering::Relaxed) <= 128, "{}", log.connections.load(Ordering::Relaxed));
    });
}
