//! Clients of HTTP/3 that break the protocol or cost more than they ask for, written by hand in frames.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use quinn::Connection;
use sluicegate_model::settings::ClientSettings;

use crate::support::http3::*;
use crate::support::tls::Authority;
use crate::support::*;

/// Codes of RFC 9114 §8.1.
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const MESSAGE_ERROR: u64 = 0x10e;

async fn world() -> (Running, std::net::SocketAddr, Authority, Log) {
    let (proxy, at, ca) = (start(1), free(), Authority::new());
    let (to_backend, log) = mirror_back().await;
    proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[to_backend])]).await;
    (proxy, at, ca, log)
}

#[test]
fn what_is_malformed_is_reset_and_the_connection_goes_on() {
    run(async {
        let (_proxy, at, ca, log) = world().await;
        let connection = bare(at, &ca).await.unwrap();
        let _control = control(&connection).await;
        let message = |fields: &[(&str, &str)], content: &[u8]| {
            let content = if content.is_empty() { Vec::new() } else { frame(DATA, content) };
            [frame(HEADERS, &head(fields)), content].concat()
        };
        for (what, bytes) in [
            ("a field of connections", message(&[("connection", "close")], b"")),
            ("another one", message(&[("transfer-encoding", "chunked")], b"")),
            ("an upper case name", message(&[("X-Upper", "1")], b"")),
            ("no path", message(&[(":path", "")], b"")),
            ("a protocol that is not spoken", message(&[(":method", "CONNECT"), (":protocol", "websocket")], b"")),
            ("less content than it says", message(&[(":method", "POST"), ("content-length", "5")], b"abc")),
            ("no content, although it says so", message(&[(":method", "POST"), ("content-length", "5")], b"")),
            ("more content than it says", message(&[(":method", "POST"), ("content-length", "2")], b"abc")),
        ] {
            assert_eq!(reset(&connection, &bytes).await, Some(MESSAGE_ERROR), "{what}");
        }
        // A head that is larger than one may be, before it has come.
        let large = [number(HEADERS), number(70_000), vec![0; 10]].concat();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&large).await.unwrap();
        let error = receive.read_to_end(1 << 20).await.unwrap_err();
        assert!(error.to_string().contains("reset"), "{error}");
        assert_eq!(log.requests.load(Ordering::Relaxed), 0, "nothing was sent on, or only what broke");
        // What is not known is passed over, between frames and in a stream of its own.
        let mut other = connection.open_uni().await.unwrap();
        other.write_all(&[0x40, 0x54, 1, 2, 3]).await.unwrap();
        let unknown = frame(0x21, b"junk");
        let bytes = [unknown.clone(), frame(HEADERS, &head(&[(":method", "POST")])), unknown.clone(), frame(DATA, b"ab"), unknown].concat();
        assert_eq!(reset(&connection, &bytes).await, None);
        assert_eq!(log.requests.load(Ordering::Relaxed), 1);
        assert!(connection.close_reason().is_none());
    });
}

#[test]
fn too_many_fields_are_answered_431() {
    run(async {
        let (_proxy, at, ca, log) = world().await;
        let mut client = connect(at, &ca).await;
        let mut many = request("GET", "/");
        (0..101).for_each(|n| _ = many.headers_mut().append("x", http::HeaderValue::from(n)));
        let answer = client.ask(many, None, None).await.unwrap();
        assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (431, Some("large-head")));
        assert_eq!(log.requests.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn what_breaks_the_connection_s_rules_ends_it() {
    run(async {
        let (_proxy, at, ca, log) = world().await;
        for (what, bytes, code) in [
            (
                "a stream that ends within a frame",
                [frame(HEADERS, &head(&[(":method", "POST")])), vec![0, 100, 1, 2]].concat(),
                FRAME_ERROR,
            ),
            ("one that ends within a head", vec![1, 10, 0, 0], FRAME_ERROR),
            ("content before a head", frame(DATA, b"abc"), FRAME_UNEXPECTED),
            (
                "a frame of the control stream",
                [frame(HEADERS, &head(&[(":method", "POST")])), frame(SETTINGS, &[])].concat(),
                FRAME_UNEXPECTED,
            ),
        ] {
            let connection = bare(at, &ca).await.unwrap();
            let _control = control(&connection).await;
            let _stream = send(&connection, &bytes).await;
            assert_eq!(closed(&connection).await, code, "{what}");
        }
        let mut client = connect(at, &ca).await;
        assert_eq!(client.get("/").await.unwrap().status(), 200, "others go on");
        assert!(log.requests.load(Ordering::Relaxed) >= 1);
    });
}

/// Waits until a client that floods is sent away.
async fn is_sent_away(proxy: &Running, connection: &Connection) {
    assert_eq!(closed(connection).await, EXCESSIVE_LOAD);
    assert_eq!(proxy.stats.http3.floods.load(Ordering::Relaxed), 1);
}

#[test]
fn a_flood_of_frames_that_carry_nothing_ends_the_connection() {
    run(async {
        let (proxy, at, ca, _) = world().await;
        let connection = bare(at, &ca).await.unwrap();
        let mut control = control(&connection).await;
        // Frames that are not known, on the control stream.
        let flood = async { while control.write_all(&frame(0x21, b"").repeat(100)).await.is_ok() {} };
        tokio::join!(flood, is_sent_away(&proxy, &connection));
    });
}

#[test]
fn a_flood_within_a_request_ends_the_connection() {
    run(async {
        let (proxy, at, ca, _) = world().await;
        let connection = bare(at, &ca).await.unwrap();
        let _control = control(&connection).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&frame(HEADERS, &head(&[(":method", "POST")]))).await.unwrap();
        let flood = async { while send.write_all(&frame(DATA, b"").repeat(100)).await.is_ok() {} };
        tokio::join!(flood, is_sent_away(&proxy, &connection));
    });
}

#[test]
fn a_flood_of_streams_that_are_reset_at_once_ends_the_connection() {
    run(async {
        let (proxy, at, ca, _) = world().await;
        let connection = bare(at, &ca).await.unwrap();
        let _control = control(&connection).await;
        let bytes = frame(HEADERS, &head(&[]));
        let flood = async {
            while let Ok((mut send, mut receive)) = connection.open_bi().await {
                let _ = send.write_all(&bytes).await;
                let _ = (send.reset(0x10c_u32.into()), receive.stop(0x10c_u32.into()));
            }
        };
        tokio::join!(flood, is_sent_away(&proxy, &connection));
    });
}

#[test]
fn heads_that_do_not_end_are_not_kept_without_end() {
    run(async {
        let (proxy, at, ca, _) = world().await;
        let connection = bare(at, &ca).await.unwrap();
        let _control = control(&connection).await;
        let flood = async {
            let mut streams = Vec::new();
            while let Ok((mut send, receive)) = connection.open_bi().await {
                let _ = send.write_all(&[number(HEADERS), number(60_000), vec![0; 50_000]].concat()).await;
                streams.push((send, receive));
            }
        };
        tokio::join!(flood, is_sent_away(&proxy, &connection));
    });
}

#[test]
fn a_flood_of_unidirectional_streams_ends_the_connection() {
    run(async {
        let (proxy, at, ca, _) = world().await;
        let connection = bare(at, &ca).await.unwrap();
        let _control = control(&connection).await;
        let flood = async {
            while let Ok(mut send) = connection.open_uni().await {
                let _ = send.write_all(&[0x21]).await;
                let _ = send.finish();
            }
        };
        tokio::join!(flood, is_sent_away(&proxy, &connection));
    });
}

#[test]
fn a_client_that_does_not_read_holds_no_more_than_its_window() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        // It sends without end.
        let endless = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = endless.local_addr().unwrap();
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = sent.clone();
        tokio::spawn(async move {
            let (mut stream, _) = endless.accept().await.unwrap();
            message(&mut stream).await.unwrap();
            use tokio::io::AsyncWriteExt;
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {
                counted.fetch_add(0x10000, Ordering::Relaxed);
            }
        });
        proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[address])]).await;
        let connection = bare(at, &ca).await.unwrap();
        let _control = control(&connection).await;
        let (_send, _receive) = send(&connection, &frame(HEADERS, &head(&[]))).await;
        let mut last = u64::MAX;
        eventually("the endpoint is held up", || {
            let now = sent.load(Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(50));
            now > 0 && std::mem::replace(&mut last, now) == now
        })
        .await;
        // The client's window of a stream (1.25 MB, by quinn's default), what the gateway keeps for it, and the buffers of two sockets.
        assert!(last < 16 << 20, "{last}");
        // Another client is served meanwhile, as soon as there is an endpoint for it.
        assert!(connection.close_reason().is_none());
    });
}
