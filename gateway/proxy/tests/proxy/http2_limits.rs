//! Limits on the heads, streams and times of HTTP/2, with clients written by hand in frames. Floods are in `http2_floods`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicegate_model::settings::{ClientHttp2, ClientSettings, ClientTimeouts};
use sluicegate_model::snapshot::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::http2::*;
use crate::support::*;

async fn serving() -> (Running, SocketAddr, Log) {
    let (proxy, at) = (start(1), free());
    let (to_backend, log) = mirror_back().await;
    proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
    (proxy, at, log)
}

#[test]
fn a_large_head_is_answered_431() {
    run(async {
        let (_proxy, at, log) = serving().await;
        let mut stream = raw(at).await;
        // 5 fields of 15,000 bytes, each in a frame of its own.
        stream.write_all(&frame(HEADERS, END_STREAM, 1, &head())).await.unwrap();
        let large = "x".repeat(15_000);
        for n in 0..5 {
            let flags = if n == 4 { END_HEADERS } else { 0 };
            stream.write_all(&frame(CONTINUATION, flags, 1, &field("x", &large))).await.unwrap();
        }
        let answer = next_of(&mut stream, HEADERS).await.unwrap();
        // `:status` by its static name, "431" in Huffman's code (RFC 7541, Appendix B).
        assert_eq!(answer.payload[..5], [0x48, 0x83, 0x69, 0x90, 0xff]);
        // There are too many fields, by the limit of HTTP/1.1.
        let client = connect(at).await;
        let mut request = get_request("/");
        for n in 0..101 {
            request.headers_mut().append("x", http::HeaderValue::from(n));
        }
        let answer = call(&client, request, "", None).await.unwrap();
        assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (431, Some("large-head")));
        assert_eq!(log.requests.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn streams_beyond_the_setting_are_refused() {
    run(async {
        let (proxy, at) = (start(1), free());
        // It accepts, and never answers.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http2 = ClientHttp2 { max_concurrent_streams: 2, ..ClientHttp2::default() };
        let settings = ClientSettings { http2, ..ClientSettings::default() };
        proxy.serve(vec![limited(at, settings)], vec![service(&[silent.local_addr().unwrap()])]).await;
        let mut stream = raw(at).await;
        let told = next_of(&mut stream, SETTINGS).await.unwrap();
        assert!(told.payload.chunks(6).any(|s| s == [0, 3, 0, 0, 0, 2]), "SETTINGS_MAX_CONCURRENT_STREAMS: {told:?}");
        assert!(told.payload.chunks(6).any(|s| s == [0, 8, 0, 0, 0, 1]), "SETTINGS_ENABLE_CONNECT_PROTOCOL: {told:?}");
        for n in [1, 3, 5] {
            stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, n, &head())).await.unwrap();
        }
        let reset = next_of(&mut stream, RST_STREAM).await.unwrap();
        assert_eq!((reset.stream, reset.code()), (5, REFUSED_STREAM));
    });
}

fn limited(at: SocketAddr, settings: ClientSettings) -> Arc<Listener> {
    let listener = Arc::into_inner(listener(at, http(to(0)))).unwrap();
    Arc::new(Listener { settings: Arc::new(settings), ..listener })
}

#[test]
fn a_stalled_stream_is_reset_and_an_idle_connection_says_goodbye() {
    run(async {
        let (proxy, at) = (start(1), free());
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = Some(Duration::from_secs(1));
        let timeouts = ClientTimeouts { stalled: second, idle: second, ..ClientTimeouts::default() };
        let settings = ClientSettings { timeouts, ..ClientSettings::default() };
        proxy.serve(vec![limited(at, settings)], vec![service(&[silent.local_addr().unwrap()])]).await;
        let mut stream = raw(at).await;
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head())).await.unwrap();
        let reset = next_of(&mut stream, RST_STREAM).await.unwrap();
        assert_eq!((reset.stream, reset.code()), (1, 8), "CANCEL");
        assert_eq!(next_of(&mut stream, GOAWAY).await.unwrap().code(), 0);
        assert!(next(&mut stream).await.is_none(), "closed");
    });
}

#[test]
fn a_broken_preface_ends_the_connection() {
    run(async {
        let (_proxy, at, _) = serving().await;
        for bytes in [&HELLO[..24], &frame(DATA, 0, 1, b"x")].iter().map(|b| b.to_vec()).map(|b| [&HELLO[..24], &b].concat()) {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        assert_eq!(get(at, "/").await.status(), 200);
    });
}
