//! Where messages and their parts end (RFC 9112): what is refused in chunks and trailers, either way, and heads that come in pieces.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

const HEAD: &str = "POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
const NEXT: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// Malformed chunked content, and what is wrong with it.
fn malformed() -> Vec<(&'static str, String)> {
    let chunk = |line: &str| format!("{line}abc\r\n0\r\n\r\n");
    vec![
        ("CR before a semicolon", chunk("3\r;a\r\n")),
        ("CR CR LF", chunk("3\r\r\n")),
        ("form feed", chunk("3\u{c}\r\n")),
        ("form feed before a semicolon", chunk("3\u{c};a\r\n")),
        ("vertical tab", chunk("3\u{b};a\r\n")),
        ("bare LF", chunk("3\n")),
        ("bare LF in an extension", chunk("3;a\nb\r\n")),
        ("CR in an extension", chunk("3;a\rb\r\n")),
        ("CR before the end of an extension", chunk("3;a\r\r\n")),
        ("a space after the size", chunk("3 \r\n")),
        ("a space before the size", chunk(" 3\r\n")),
        ("an extension without a name", chunk("3;\r\n")),
        ("an extension without a value", chunk("3;a=\r\n")),
        ("an open quote", chunk("3;a=\"b\r\n")),
        ("what is no extension", chunk("3 a\r\n")),
        ("no size", chunk(";a\r\n")),
        ("a size above 2^63", "8000000000000000\r\nabc".to_owned()),
        ("a bare LF after the data", "3\r\nabc\n0\r\n\r\n".to_owned()),
        ("CR CR LF after the data", "3\r\nabc\r\r\n0\r\n\r\n".to_owned()),
        ("a bare LF after the last chunk's size", "3\r\nabc\r\n0\n\r\n".to_owned()),
        ("a bare LF as the last line", "3\r\nabc\r\n0\r\n\n".to_owned()),
        ("CR CR LF as the last line", "3\r\nabc\r\n0\r\n\r\r\n".to_owned()),
        ("a bare LF in the trailers", "3\r\nabc\r\n0\r\nx-sum: 1\n\r\n".to_owned()),
        ("a bare LF as the trailers' last line", "3\r\nabc\r\n0\r\nx-sum: 1\r\n\n".to_owned()),
        ("CR CR LF in the trailers", "3\r\nabc\r\n0\r\nx-sum: 1\r\r\n\r\n".to_owned()),
        ("a CR in the trailers", "3\r\nabc\r\n0\r\nx-sum: 1\ry: 2\r\n\r\n".to_owned()),
        ("folded trailers", "3\r\nabc\r\n0\r\nx-sum: 1\r\n 2\r\n\r\n".to_owned()),
        ("trailers of 20 KB", format!("3\r\nabc\r\n0\r\nx: {}\r\n\r\n", "x".repeat(20_000))),
        ("33 trailers", format!("3\r\nabc\r\n0\r\n{}\r\n", "x: 1\r\n".repeat(33))),
    ]
}

#[test]
fn malformed_chunks_and_trailers_of_requests_are_refused_in_whatever_pieces_they_come() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        for (what, content) in malformed() {
            // The content comes with the head in one piece, or a byte of it apart from the rest.
            for cut in [0, 1, 2, content.len() - 1] {
                let mut stream = TcpStream::connect(at).await.unwrap();
                stream.set_nodelay(true).unwrap();
                stream.write_all(format!("{HEAD}{}", &content[..cut]).as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
                let answer = ask(&mut stream, &format!("{}{NEXT}", &content[cut..])).await;
                assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (400, Some("bad-content")), "{what}, cut at {cut}");
                assert_eq!(answer.field("connection"), Some("close"), "{what}");
                assert!(message(&mut stream).await.unwrap().is_none(), "{what}: what follows is not served");
            }
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 0, "nothing of it was whole for the endpoint");
    });
}

/// Answers every request with these pieces, each sent when the one before it has been read, as far as can be told.
async fn endpoint(pieces: Vec<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let pieces = pieces.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true).unwrap();
                while let Ok(Some(_)) = message(&mut stream).await {
                    for piece in &pieces {
                        let _ = stream.write_all(piece.as_bytes()).await;
                        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn malformed_chunks_and_trailers_of_responses_are_502_or_cut_off() {
    run(async {
        let (proxy, at) = (start(1), free());
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for (what, content) in malformed() {
            let content = content.replace("abc", "xyz");
            let whole = endpoint(vec![format!("{head}{content}")]).await;
            proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[whole])]).await;
            let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            // This is as much as comes with the head.
            if content.len() < 10_000 {
                let mut stream = TcpStream::connect(at).await.unwrap();
                let answer = ask(&mut stream, post).await;
                let reason = answer.field("x-sluicegate-reason");
                assert_eq!((answer.status(), reason), (502, Some("bad-response-framing")), "{what}: {answer:?}");
            }
            let pieces = endpoint(vec![head.to_owned(), content]).await;
            proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[pieces])]).await;
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(post.as_bytes()).await.unwrap();
            let mut all = String::new();
            let _ = stream.read_to_string(&mut all).await;
            assert!(!all.ends_with("0\r\n\r\n") && !all.contains("x-sum"), "{what} looks whole: {all}");
        }
    });
}

#[test]
fn a_response_is_told_at_once_however_its_head_is_cut() {
    run(async {
        let (proxy, at) = (start(1), free());
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\nhello",
            "HTTP/1.1 200 OK\nContent-Length: 5\nX: y\n\nhello",
            "\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 5\r\nX: y\n\r\nhello",
        ] {
            let end = response.len() - "hello".len();
            for cut in end - 4..=end {
                let pieces = endpoint(vec![response[..cut].to_owned(), response[cut..].to_owned()]).await;
                proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[pieces])]).await;
                let answer = get(at, "/").await;
                assert_eq!((answer.status(), answer.field("x"), answer.body.as_str()), (200, Some("y"), "hello"), "{response:?} at {cut}");
            }
        }
    });
}

#[test]
fn a_malformed_head_that_comes_in_pieces_is_refused_without_its_end() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        for (first, second) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r", "\r\n"),
            ("GET / HTTP/1.1\r\nhost: a\r\n", "\n"),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: 1", "\n\r\n"),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: 1", "\ry: 2"),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r", "\r\n\r\n"),
        ] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(first.as_bytes()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            let answer = ask(&mut stream, second).await;
            assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (400, Some("bad-request")), "{first:?} {second:?}");
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 0);
    });
}
