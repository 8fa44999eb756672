//! Floods of HTTP/2: frames that cost their sender nothing, written by hand. Each client is ended, and others are served on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedReadHalf;

use crate::support::http2::*;
use crate::support::*;

/// Sends `flood(n)` for n = 0, 1, … until the connection takes no more. Returns the code of the GOAWAY with which the proxy ended it.
async fn flood(at: SocketAddr, flood: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let (mut from, mut to) = raw(at).await.into_split();
    let reading = tokio::spawn(async move { goodbye(&mut from).await });
    for n in 0..200_000 {
        if to.write_all(&flood(n)).await.is_err() {
            break;
        }
        if reading.is_finished() {
            break;
        }
    }
    reading.await.unwrap()
}

/// The code of GOAWAY; none if the connection ended without one.
async fn goodbye(from: &mut OwnedReadHalf) -> Option<u32> {
    Some(next_of(from, GOAWAY).await?.code())
}

async fn serving() -> (Running, SocketAddr, Log) {
    let (proxy, at) = (start(1), free());
    let (to_backend, log) = mirror_back().await;
    proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
    (proxy, at, log)
}

/// Checks that a flood is ended, and that another client beside it is served.
fn calm(what: &'static str, frames: impl Fn(u32) -> Vec<u8> + 'static) {
    run(async move {
        let (proxy, at, log) = serving().await;
        let other = connect(at).await;
        assert_eq!(fetch(&other, "/before").await.unwrap().status(), 200);
        let said = flood(at, frames).await;
        // The answer to a client that does not read may be lost by the reset that ends the connection.
        assert!(said.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{what}: {said:?}");
        assert_eq!(fetch(&other, "/after").await.unwrap().status(), 200, "{what}");
        assert!(log.requests.load(Ordering::Relaxed) < 2000, "{what}: {}", log.requests.load(Ordering::Relaxed));
        assert_eq!(proxy.stats.http2_floods.load(Ordering::Relaxed), 1, "{what}");
    });
}

#[test]
fn rapid_reset() {
    calm("HEADERS and RST_STREAM (CVE-2023-44487)", |n| {
        let stream = n * 2 + 1;
        [frame(HEADERS, END_STREAM | END_HEADERS, stream, &head()), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
}

#[test]
fn pings() {
    calm("PING", |_| frame(PING, 0, 0, &[7; 8]));
}

#[test]
fn settings() {
    calm("SETTINGS", |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]));
}

#[test]
fn empty_data() {
    calm("empty DATA", |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, &[&[0x83, 0x86, 0x84, 0x01, 9], &b"a.example"[..]].concat()),
        _ => frame(DATA, 0, 1, &[]),
    });
}

#[test]
fn window_updates() {
    calm("WINDOW_UPDATE", |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()));
}

#[test]
fn priorities() {
    calm("PRIORITY", |n| frame(PRIORITY, 0, n * 2 + 1, &[0, 0, 0, 0, 1]));
}

#[test]
fn continuation() {
    // A head never ends: the library's limit is on its frames.
    calm("CONTINUATION", |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, &head()),
        n => frame(CONTINUATION, 0, 1, &field("x", &n.to_string())),
    });
}

/// Checks a flood that breaks the protocol as well: the connection ends, with any code, and other clients are served.
fn ended(what: &'static str, frames: impl Fn(u32) -> Vec<u8> + 'static) {
    run(async move {
        let (proxy, at, log) = serving().await;
        let other = connect(at).await;
        assert_eq!(fetch(&other, "/before").await.unwrap().status(), 200);
        flood(at, frames).await;
        assert_eq!(fetch(&other, "/after").await.unwrap().status(), 200, "{what}");
        assert!(log.requests.load(Ordering::Relaxed) < 2000, "{what}: {}", log.requests.load(Ordering::Relaxed));
        assert_eq!(proxy.stats.http2_connections.load(Ordering::Relaxed), 2, "{what}");
    });
}

fn opened(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &head())
}

#[test]
fn rapid_reset_of_requests_with_content() {
    calm("HEADERS, DATA and RST_STREAM", |n| {
        let stream = n * 2 + 1;
        [opened(stream, 0), frame(DATA, 0, stream, b"x"), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
}

#[test]
fn rapid_reset_in_batches() {
    calm("a hundred HEADERS, then a hundred RST_STREAM", |n| {
        let streams = || (n * 100..n * 100 + 100).map(|n| n * 2 + 1);
        let begun = streams().flat_map(|stream| opened(stream, END_STREAM));
        begun.chain(streams().flat_map(|stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()))).collect()
    });
}

#[test]
fn resets_that_are_provoked() {
    // CVE-2025-8671, MadeYouReset: the server resets the stream, and counts it as its own.
    let provoking: [(&str, fn(u32) -> Vec<u8>); 4] = [
        ("a window opened by nothing", |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4])),
        ("a window opened too far", |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())),
        ("more content than was said", |stream| frame(DATA, END_STREAM, stream, b"too much")),
        ("a stream that depends on itself", |stream| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[1]].concat())),
    ];
    for (what, frame) in provoking {
        ended(what, move |n| {
            let stream = n * 2 + 1;
            let head = [head(), field("content-length", "1")].concat();
            [self::frame(HEADERS, END_HEADERS, stream, &head), frame(stream)].concat()
        });
    }
}

#[test]
fn a_provoked_reset_leaves_no_work_behind() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = h2_backend(h2::server::Builder::new(), |_, mut respond| async move {
            let _ = std::future::poll_fn(|context| respond.poll_reset(context)).await;
        })
        .await;
        let service = speaking(sluicegate_model::snapshot::AppProtocol::H2c, &[to_backend], Default::default());
        let stats = service.internal.endpoints[0].stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![service]).await;
        let mut stream = raw(at).await;
        for n in 0..50 {
            stream.write_all(&opened(n * 2 + 1, END_STREAM)).await.unwrap();
        }
        while log.requests.load(Ordering::Relaxed) < 50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(stats.in_flight(), 50);
        for n in 0..50 {
            stream.write_all(&frame(WINDOW_UPDATE, 0, n * 2 + 1, &0x7fff_ffff_u32.to_be_bytes())).await.unwrap();
        }
        while stats.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn streams_that_are_refused() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (silent, _) = h2_backend(h2::server::Builder::new(), |_, respond| async move {
            std::future::pending::<()>().await;
            drop(respond);
        })
        .await;
        let service = speaking(sluicegate_model::snapshot::AppProtocol::H2c, &[silent], Default::default());
        proxy.serve(vec![listener(at, http(to(0)))], vec![service]).await;
        let said = flood(at, |n| opened(n * 2 + 1, END_STREAM)).await;
        assert!(said.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{said:?}");
        assert_eq!(proxy.stats.http2_floods.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn resets_of_what_has_ended() {
    calm("RST_STREAM of a stream that has ended", |n| match n {
        0 => opened(1, END_STREAM),
        _ => frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()),
    });
}

#[test]
fn padding_for_content() {
    calm("DATA that is padding", |n| match n {
        0 => opened(1, 0),
        _ => frame(DATA, 8, 1, &[9; 10]),
    });
}

#[test]
fn acknowledgements_of_nothing() {
    calm("PING, acknowledged", |_| frame(PING, 1, 0, &[7; 8]));
    ended("SETTINGS, acknowledged", |_| frame(SETTINGS, 1, 0, &[]));
}

#[test]
fn windows_of_streams() {
    calm("WINDOW_UPDATE of a stream", |n| match n {
        0 => opened(1, 0),
        _ => frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()),
    });
}

#[test]
fn frames_that_nobody_knows() {
    calm("frames of no known type", |n| frame(0xb0 + u8::try_from(n % 16).unwrap(), 0, 1, b"?"));
    calm("ALTSVC", |_| frame(10, 0, 0, &[0, 0]));
}

#[test]
fn frames_that_no_client_sends() {
    ended("GOAWAY", |_| frame(GOAWAY, 0, 0, &[0; 8]));
    ended("PUSH_PROMISE", |n| match n {
        0 => opened(1, 0),
        _ => frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2], &head()[..]].concat()),
    });
}

#[test]
fn a_window_that_is_opened_byte_by_byte() {
    // CVE-2019-9511: a large response is asked for, and taken in frames of one byte.
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = backend(|_| ok(&"x".repeat(1 << 20))).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let said = flood(at, |n| match n {
            0 => [frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), opened(1, END_STREAM)].concat(),
            _ => frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()),
        })
        .await;
        assert!(said.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{said:?}");
        assert_eq!(proxy.stats.http2_floods.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn lists_of_fields_that_are_small_to_send_and_large_to_have() {
    run(async {
        let (_proxy, at, log) = serving().await;
        let other = connect(at).await;
        let (mut from, mut to) = raw(at).await.into_split();
        let reading = tokio::spawn(async move { while next(&mut from).await.is_some() {} });
        for n in 0..1000 {
            // A field of 4,000 bytes goes into the table, and is named 10,000 times after that (RFC 7541 §2.3.2: index 62).
            let table = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
            let block = [head(), if n == 0 { table } else { vec![0xbe; 10_000] }].concat();
            if to.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, n * 2 + 1, &block)).await.is_err() {
                break;
            }
        }
        assert_eq!(fetch(&other, "/").await.unwrap().status(), 200);
        drop(to);
        reading.await.unwrap();
        assert!(log.requests.load(Ordering::Relaxed) <= 2);
    });
}
