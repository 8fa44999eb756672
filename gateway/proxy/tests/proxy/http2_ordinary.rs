//! What ordinary HTTP/2 clients do at rates that could be taken for floods: none of their connections is ended.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Response;
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::AppProtocol;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::http2::*;
use crate::support::*;

async fn serving(endpoint: SocketAddr) -> (Running, SocketAddr) {
    let (proxy, at) = (start(1), free());
    let service = speaking(AppProtocol::H2c, &[endpoint], BackendSettings::default());
    proxy.serve(vec![listener(at, http(to(0)))], vec![service]).await;
    (proxy, at)
}

fn post_head() -> Vec<u8> {
    [&[0x83, 0x86, 0x84, 0x01, 9], &b"a.example"[..]].concat()
}

fn window(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &5_u32.to_be_bytes())
}

/// Sends a request's frames for each of so many streams, at most 50 under way at a time, and `then` when its response begins, and `after` when it ends.
/// The response of each begins.
async fn streams(
    at: SocketAddr,
    count: u32,
    request: impl Fn(u32) -> Vec<u8>,
    then: impl Fn(u32) -> Vec<u8>,
    after: impl Fn(u32) -> Vec<u8>,
) {
    let mut stream = raw(at).await;
    stream.set_nodelay(true).unwrap();
    stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes())).await.unwrap();
    let (mut begun, mut open) = (0, BTreeSet::new());
    let mut answered = 0;
    while answered < count {
        let mut bytes = Vec::new();
        while begun < count && open.len() < 50 {
            open.insert(begun * 2 + 1);
            bytes.extend(request(begun * 2 + 1));
            begun += 1;
        }
        stream.write_all(&bytes).await.unwrap();
        let seen = next(&mut stream).await.unwrap_or_else(|| panic!("the connection ended after {answered}"));
        assert_ne!(seen.kind, GOAWAY, "after {answered} answers: {seen:?}");
        let mut bytes = Vec::new();
        if seen.kind == HEADERS && open.contains(&seen.stream) {
            bytes.extend(then(seen.stream));
        }
        let reset = !bytes.is_empty() && bytes[3] == RST_STREAM;
        if matches!(seen.kind, HEADERS | DATA) && (seen.flags & END_STREAM != 0 || reset) && open.remove(&seen.stream) {
            answered += 1;
            bytes.extend(after(seen.stream));
        }
        stream.write_all(&bytes).await.unwrap();
    }
}

#[test]
fn two_window_updates_for_each_small_call() {
    run(async {
        let (endpoint, _) = h2_backend(h2::server::Builder::new(), echo).await;
        let (_proxy, at) = serving(endpoint).await;
        let call =
            |stream| [frame(HEADERS, END_HEADERS, stream, &post_head()), window(stream), frame(DATA, END_STREAM, stream, b"x")].concat();
        streams(at, 5_000, call, |_| Vec::new(), |_| window(0)).await;
    });
}

#[test]
fn a_ping_for_each_small_answer() {
    run(async {
        let (endpoint, _) = h2_backend(h2::server::Builder::new(), echo).await;
        let (_proxy, at) = serving(endpoint).await;
        let call = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head());
        streams(at, 5_000, call, |_| Vec::new(), |_| frame(PING, 0, 0, &[3; 8])).await;
    });
}

#[test]
fn answered_streams_that_are_cancelled() {
    run(async {
        // It answers at once, and has more to say.
        let (endpoint, log) = h2_backend(h2::server::Builder::new(), |_, mut respond| async move {
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            sending.send_data(Bytes::from_static(b"first"), false).unwrap();
            let _ = std::future::poll_fn(|context| sending.poll_reset(context)).await;
        })
        .await;
        let (proxy, at) = serving(endpoint).await;
        let call = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head());
        streams(at, 5_000, call, |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()), |_| Vec::new()).await;
        assert!(log.connections.load(Ordering::Relaxed) <= 3, "{}", log.connections.load(Ordering::Relaxed));
        assert_eq!(proxy.stats.http2_connections.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn requests_that_are_given_up_after_a_while() {
    run(async {
        let (endpoint, log) = h2_backend(h2::server::Builder::new(), |_, mut respond| async move {
            let _ = std::future::poll_fn(|context| respond.poll_reset(context)).await;
        })
        .await;
        let (proxy, at) = serving(endpoint).await;
        let mut stream = raw(at).await;
        for round in 0..40 {
            let streams = || (round * 100..round * 100 + 100).map(|n| n * 2 + 1);
            let begun: Vec<u8> = streams().flat_map(|s| frame(HEADERS, END_HEADERS | END_STREAM, s, &head())).collect();
            stream.write_all(&begun).await.unwrap();
            // Streams that are reset before the gateway looks at them would be a flood.
            while log.requests.load(Ordering::Relaxed) < u64::from(round + 1) * 100 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            let reset: Vec<u8> = streams().flat_map(|s| frame(RST_STREAM, 0, s, &8_u32.to_be_bytes())).collect();
            stream.write_all(&reset).await.unwrap();
        }
        stream.write_all(&frame(PING, 0, 0, &[5; 8])).await.unwrap();
        while let Some(seen) = next(&mut stream).await {
            assert_ne!(seen.kind, GOAWAY);
            if seen.kind == PING {
                break;
            }
        }
        assert_eq!(proxy.stats.http2_floods.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn many_resets_that_come_at_once() {
    run(async {
        let (endpoint, _) = mirror_back().await;
        let (proxy, at) = (start(1), free());
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[endpoint])]).await;
        // This is what comes at once after a client or the gateway was stopped for a while: 100 requests, all of them cancelled.
        let mut stream = raw(at).await;
        let all: Vec<u8> = (0..100)
            .map(|n| n * 2 + 1)
            .flat_map(|s| [frame(HEADERS, END_HEADERS | END_STREAM, s, &head()), frame(RST_STREAM, 0, s, &8_u32.to_be_bytes())].concat())
            .collect();
        stream.write_all(&all).await.unwrap();
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 201, &head())).await.unwrap();
        while let Some(seen) = next(&mut stream).await {
            assert_ne!(seen.kind, GOAWAY, "{seen:?}");
            if seen.stream == 201 && seen.flags & END_STREAM != 0 {
                return;
            }
        }
        panic!("the connection ended");
    });
}

#[test]
fn messages_of_a_few_bytes_that_wait_for_a_slow_receiver() {
    run(async {
        // The endpoint reads nothing for a while. Nearly a window of small frames waits in the gateway, and all of it is passed on.
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(1000).data_frame_budget(16 << 20);
        let (endpoint, _) = h2_backend(builder, |request, mut respond| async move {
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let received = content(&mut request.into_body()).await.unwrap().0.len();
            send(&mut sending, received.to_string().into(), true).await;
        })
        .await;
        let (_proxy, at) = serving(endpoint).await;
        let stream = TcpStream::connect(at).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        to.write_all(HELLO).await.unwrap();
        to.write_all(&frame(HEADERS, END_HEADERS, 1, &post_head())).await.unwrap();
        let message = frame(DATA, 0, 1, b"grpc-6");
        to.write_all(&message.repeat(10_000)).await.unwrap();
        to.write_all(&frame(DATA, END_STREAM, 1, &[])).await.unwrap();
        let mut answer = String::new();
        while let Some(seen) = next(&mut from).await {
            assert_ne!(seen.kind, GOAWAY, "{seen:?}");
            if seen.kind == DATA {
                answer.push_str(&String::from_utf8(seen.payload).unwrap());
                if seen.flags & END_STREAM != 0 {
                    break;
                }
            }
        }
        assert_eq!(answer, "60000");
    });
}
