//! The parts of a message that only concern one version or one hop: lengths, upgrades, expectations, minor versions, and how many fields pass.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use http::{HeaderValue, Request, Response, StatusCode};
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::AppProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::http2::*;
use crate::support::*;

/// Everything that a client gets from an endpoint that sends this response. The connection ends with it.
async fn answered(proxy: &Running, at: std::net::SocketAddr, request: &str, response: &str) -> (String, Log) {
    let response = response.to_owned();
    let (address, log) = backend(move |_| response.clone()).await;
    proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[address])]).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let mut all = String::new();
    let _ = client.read_to_string(&mut all).await;
    (all, log)
}

const CLOSE: &str = "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";

#[test]
fn a_switch_and_no_content_have_no_length_whatever_the_versions() {
    run(async {
        let (proxy, at) = (start(1), free());
        let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (address, _) = backend(|_| switching.to_owned()).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::Ws, &[address], BackendSettings::default())]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 ") && !head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
        // The same holds for an answer to extended CONNECT.
        let mut client = connect(at).await;
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let mut request = Request::builder().method("CONNECT").uri("http://a.example/chat").body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, _to) = client.send_request(request, false).unwrap();
        // The key is made here, so the endpoint's answer cannot fit: what matters is that none with a length comes.
        assert!(response.await.unwrap().headers().get("content-length").is_none_or(|length| length != "5"));
        for (code, interim) in [("204 No Content", false), ("103 Early Hints", true)] {
            let rest = if interim { "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" } else { "" };
            let response = format!("HTTP/1.1 {code}\r\ncontent-length: 7\r\nlink: x\r\n\r\n{rest}");
            let (over_http1, _) = answered(&proxy, at, CLOSE, &response).await;
            assert!(!over_http1.contains("content-length: 7") && over_http1.contains("link: x"), "{code}: {over_http1}");
            let mut client = connect(at).await;
            let (mut response, _) = client.send_request(Request::get("http://a.example/").body(()).unwrap(), true).unwrap();
            let head = if interim {
                std::future::poll_fn(|context| response.poll_informational(context)).await.unwrap().unwrap()
            } else {
                response.await.unwrap().map(drop)
            };
            assert_eq!((head.headers().get("content-length"), head.headers().get("link").is_some()), (None, true), "{code}");
        }
        // The endpoint speaks HTTP/2.
        let (address, _) = h2_backend(h2::server::Builder::new(), |_, mut respond| async move {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert("content-length", HeaderValue::from_static("0"));
            respond.send_response(response, true).unwrap();
        })
        .await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::H2c, &[address], BackendSettings::default())]).await;
        let over_http1 = get(at, "/").await;
        assert_eq!((over_http1.status(), over_http1.field("content-length")), (204, None));
        let mut client = connect(at).await;
        let (response, _) = client.send_request(Request::get("http://a.example/").body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().headers().get("content-length"), None);
    });
}

#[test]
fn upgrades_are_of_http_1_1_and_may_stand_on_several_lines() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::Ws, &[address], BackendSettings::default())]).await;
        for (request, wanted) in [
            ("GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nconnection: keep-alive, upgrade\r\nupgrade: websocket\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c,\r\nupgrade:\r\nUpgrade: x, WebSocket\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\nupgrade: x\r\n\r\n", false),
        ] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let answer = ask(&mut stream, request).await;
            let got = answer.body.to_ascii_lowercase().contains("connection: upgrade\r\nupgrade: websocket\r\n");
            assert_eq!((answer.status(), got), (200, wanted), "{request}: {}", answer.body);
        }
    });
}

#[test]
fn a_426_says_to_what_and_other_answers_do_not() {
    run(async {
        let (proxy, at) = (start(1), free());
        let response = |status: &str| {
            format!("HTTP/1.1 {status}\r\nConnection: Upgrade\r\nUpgrade: TLS/1.3\r\nUpgrade: HTTP/3.0\r\ncontent-length: 0\r\n\r\n")
        };
        let (kept, _) = answered(&proxy, at, CLOSE, &response("426 Upgrade Required")).await;
        assert!(kept.contains("upgrade: TLS/1.3, HTTP/3.0\r\n"), "{kept}");
        assert!(kept.contains("connection: close, upgrade\r\n"), "RFC 9110 §7.8: {kept}");
        let answer = get(at, "/").await;
        assert_eq!((answer.status(), answer.field("connection")), (426, Some("upgrade")));
        let (other, _) = answered(&proxy, at, CLOSE, &response("200 OK")).await;
        assert!(!other.to_ascii_lowercase().contains("upgrade"), "{other}");
        // HTTP/2 does not permit this field (RFC 9113 §8.2.2).
        let (address, _) = backend(move |_| response("426 Upgrade Required")).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[address])]).await;
        let mut client = connect(at).await;
        let (over_http2, _) = client.send_request(Request::get("http://a.example/").body(()).unwrap(), true).unwrap();
        let over_http2 = over_http2.await.unwrap();
        assert_eq!((over_http2.status().as_u16(), over_http2.headers().get("upgrade")), (426, None));
    });
}

#[test]
fn later_minor_versions_are_served_as_1_1() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[address])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for version in ["1.2", "1.9"] {
            let answer = ask(&mut stream, &format!("GET /x HTTP/{version}\r\nhost: a\r\n\r\n")).await;
            assert!(
                answer.status() == 200 && answer.head.starts_with("HTTP/1.1 ") && answer.body.starts_with("GET /x HTTP/1.1\r\n"),
                "{answer:?}"
            );
        }
        // The request comes in pieces.
        stream.write_all(b"GET /x HTTP/1.2").await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(ask(&mut stream, "\r\nhost: a\r\n\r\n").await.status(), 200);
        for version in ["1.10", "2.0", "0.9", "1.x", "1."] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let answer = ask(&mut stream, &format!("GET /x HTTP/{version}\r\nhost: a\r\n\r\n")).await;
            assert!(matches!(answer.status(), 400 | 505), "{version}: {answer:?}");
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 3);
        let (answer, _) = answered(&proxy, at, CLOSE, "HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hi"), "{answer}");
    });
}

#[test]
fn no_expectation_is_none() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[address])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for (field, status) in [
            ("expect:", 200),
            ("expect: , ,", 200),
            ("expect: 100-continue,", 200),
            ("expect: 100-Continue, 100-continue", 200),
            ("expect: x", 417),
            ("expect: 100-continue, x", 417),
            ("expect: 100-continue;q=1", 417),
        ] {
            let answer = ask(&mut stream, &format!("GET / HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n")).await;
            assert_eq!(answer.status(), status, "{field}");
            let empty = !field.contains("100");
            assert!(status == 417 || !(empty && answer.body.contains("expect")), "{field}: {}", answer.body);
        }
        // An empty Expect expects nothing, so the content that was not read is read, and the connection kept.
        let (early, _) = backend(|_| ok("")).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[early])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let kept = ask(&mut stream, "POST / HTTP/1.1\r\nhost: a\r\nexpect:\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!((kept.status(), kept.field("connection")), (200, None));
    });
}

#[test]
fn lengths_end_at_two_to_the_sixty_third() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[address])]).await;
        for length in ["9223372036854775808", "18446744073709551615", "99999999999999999999"] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let answer = ask(&mut stream, &format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")).await;
            assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (400, Some("bad-framing")), "{length}");
            let mut client = connect(at).await;
            let request = Request::post("http://a.example/").header("content-length", length).body(()).unwrap();
            let (response, _to) = client.send_request(request, false).unwrap();
            // The library resets the stream where it cannot read the number.
            let refused = response.await.map_or(true, |response| response.status() == 400);
            assert!(refused, "{length} over HTTP/2");
        }
        let (answer, _) = answered(&proxy, at, CLOSE, "HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775808\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("x-sluicegate-reason: bad-response-framing\r\n"), "{answer}");
    });
}

#[test]
fn chunks_of_http_1_0_are_read_and_their_connection_is_not_used_again() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, log) =
            backend(|_| "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_owned())
                .await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[address])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for n in 1..=3 {
            assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200);
            assert_eq!(log.connections.load(Ordering::Relaxed), n);
        }
    });
}

#[test]
fn a_response_may_have_256_fields_and_what_is_refused_says_which_limit_it_was() {
    run(async {
        let (proxy, at) = (start(1), free());
        let with =
            |fields: usize, more: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}{more}\r\n", "x: 1\r\n".repeat(fields - 1));
        for more in ["", "connection: x-nominated\r\n", "upgrade: x\r\n"] {
            let all = 256 - usize::from(!more.is_empty());
            let (answer, _) = answered(&proxy, at, CLOSE, &with(all, more)).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{more}: {answer}");
            assert_eq!(answer.matches("x: 1\r\n").count(), all - 1, "{more}");
        }
        let mut over_http2 = connect(at).await;
        let (response, _) = over_http2.send_request(Request::get("http://a.example/").body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().headers().get_all("x").iter().count(), 254);
        let same = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\nhi";
        for (response, reason, sentence) in [
            (with(257, ""), "many-response-fields", "the endpoint's response has more than 256 fields\n"),
            (
                with(2, &format!("y: {}\r\n", "y".repeat(70_000))),
                "large-response-head",
                "the head of the endpoint's response has more than 64 KiB\n",
            ),
            (same.to_owned(), "bad-response-framing", "it is in doubt where the endpoint's response ends\n"),
            ("HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n".to_owned(), "bad-response", "the endpoint's response cannot be read\n"),
            ("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n".to_owned(), "bad-response", "the endpoint's response cannot be read\n"),
        ] {
            let (answer, _) = answered(&proxy, at, CLOSE, &response).await;
            assert!(answer.starts_with("HTTP/1.1 502 "), "{reason}: {answer}");
            assert!(answer.contains(&format!("x-sluicegate-reason: {reason}\r\n")) && answer.ends_with(sentence), "{reason}: {answer}");
        }
    });
}

#[test]
fn fragments_are_refused_over_http_2_as_well() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[address])]).await;
        let mut stream = raw(at).await;
        // `/x#frag` in Huffman's code, put into the table; then from there; then in plain text.
        let coded =
            [0x82, 0x44, 0x86, 0x63, 0xcf, 0xfd, 0x4b, 0x60, 0xe6, 0x86, 0x41, 0x87, 0x1a, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xbf].to_vec();
        let plain = [&[0x82, 0x86, 0x04, 7][..], b"/x?y#z=", &[0xbe]].concat();
        for (id, block) in [(1, coded), (3, vec![0x82, 0xbf, 0x86, 0xbe]), (5, plain)] {
            stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, id, &block)).await.unwrap();
            let reset = next_of(&mut stream, RST_STREAM).await.unwrap();
            assert_eq!((reset.stream, reset.code()), (id, 1), "PROTOCOL_ERROR");
        }
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 7, &[0x82, 0x86, 0x84, 0xbe])).await.unwrap();
        assert_eq!(next_of(&mut stream, HEADERS).await.unwrap().stream, 7, "the connection is served on");
        assert_eq!(log.requests.load(Ordering::Relaxed), 1);
    });
}
