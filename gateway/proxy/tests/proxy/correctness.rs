//! RFC 9110 and 9112 by raw sockets: tables of what is refused and what is tolerated, from clients and from endpoints.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

const HOST: &str = "host: a.example\r\n";

#[test]
fn malformed_requests_are_refused_and_their_connection_closes() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let post = |fields: &str| format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n");
        let get = |fields: &str| format!("GET / HTTP/1.1\r\n{HOST}{fields}\r\n");
        let line = |line: &str| format!("{line}\r\n{HOST}\r\n");
        let table: Vec<(&str, String, u16, &str)> = vec![
            // RFC 9112 §6: where the content ends.
            ("both framings", post("content-length: 5\r\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n", 400, "bad-framing"),
            ("both, the other way", post("transfer-encoding: chunked\r\ncontent-length: 5\r\n") + "0\r\n\r\n", 400, "bad-framing"),
            ("two lengths", post("content-length: 5\r\ncontent-length: 6\r\n") + "hello", 400, "bad-framing"),
            ("the same length twice", post("content-length: 5\r\ncontent-length: 5\r\n") + "hello", 400, "bad-framing"),
            ("a list of lengths", post("content-length: 5, 5\r\n") + "hello", 400, "bad-framing"),
            ("a sign", post("content-length: +5\r\n") + "hello", 400, "bad-framing"),
            ("a negative length", post("content-length: -1\r\n"), 400, "bad-framing"),
            ("a hexadecimal length", post("content-length: 0x5\r\n") + "hello", 400, "bad-framing"),
            ("a space in the length", post("content-length: 1 0\r\n") + "hello", 400, "bad-framing"),
            ("no length", post("content-length:\r\n"), 400, "bad-framing"),
            ("a length beyond 63 bits", post("content-length: 9223372036854775808\r\n"), 400, "bad-framing"),
            ("a length beyond 64 bits", post("content-length: 18446744073709551616\r\n"), 400, "bad-framing"),
            ("a coding of HTTP/1.0", format!("POST / HTTP/1.0\r\n{HOST}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"), 400, "bad-framing"),
            ("an unknown coding", post("transfer-encoding: gzip, chunked\r\n"), 501, "bad-coding"),
            ("chunked is not last", post("transfer-encoding: chunked, gzip\r\n"), 501, "bad-coding"),
            ("chunked twice", post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"), 501, "bad-coding"),
            ("nearly chunked", post("transfer-encoding: xchunked\r\n"), 501, "bad-coding"),
            ("identity", post("transfer-encoding: identity\r\n"), 501, "bad-coding"),
            ("a vertical tab before chunked", post("transfer-encoding: \u{b}chunked\r\n"), 400, "bad-request"),
            // §7.1: chunks.
            ("a bare newline after a size", post("transfer-encoding: chunked\r\n") + "5\nhello\r\n0\r\n\r\n", 400, "bad-content"),
            ("a size that is none", post("transfer-encoding: chunked\r\n") + "x\r\nhello\r\n0\r\n\r\n", 400, "bad-content"),
            ("a size with a prefix", post("transfer-encoding: chunked\r\n") + "0x5\r\nhello\r\n0\r\n\r\n", 400, "bad-content"),
            ("a size too large", post("transfer-encoding: chunked\r\n") + "fffffffffffffffff\r\n", 400, "bad-content"),
            ("more than the size", post("transfer-encoding: chunked\r\n") + "5\r\nhello!\r\n0\r\n\r\n", 400, "bad-content"),
            (
                "a carriage return in an extension",
                post("transfer-encoding: chunked\r\n") + "5;a\rb\r\nhello\r\n0\r\n\r\n",
                400,
                "bad-content",
            ),
            ("a trailer that is none", post("transfer-encoding: chunked\r\n") + "0\r\nx y: 1\r\n\r\n", 400, "bad-content"),
            // §2.2, §5: lines.
            ("bare newlines", format!("GET / HTTP/1.1\n{HOST}\n"), 400, "bad-request"),
            ("one bare newline", get("x: 1\n"), 400, "bad-request"),
            ("a bare carriage return", get("x: 1\ry: 2\r\n"), 400, "bad-request"),
            ("a NUL", get("x: a\0b\r\n"), 400, "bad-request"),
            ("obsolete folding", get("x: 1\r\n folded\r\n"), 400, "bad-request"),
            ("obsolete folding by a tab", get("x: 1\r\n\tfolded\r\n"), 400, "bad-request"),
            ("a space before the first field", format!("GET / HTTP/1.1\r\n {HOST}\r\n"), 400, "bad-request"),
            ("a space before the colon", get("x : 1\r\n"), 400, "bad-request"),
            ("a tab before the colon", get("x\t: 1\r\n"), 400, "bad-request"),
            ("no name", get(": 1\r\n"), 400, "bad-request"),
            ("no colon", get("x\r\n"), 400, "bad-request"),
            ("a slash in a name", get("x/y: 1\r\n"), 400, "bad-request"),
            ("a control character", get("x: \u{1}\r\n"), 400, "bad-request"),
            // §3: request lines.
            ("two spaces", line("GET  / HTTP/1.1"), 400, "bad-request"),
            ("a space in the target", line("GET /a b HTTP/1.1"), 505, "bad-version"),
            ("a space at the end", line("GET / HTTP/1.1 "), 400, "bad-request"),
            ("no version", line("GET /"), 400, "bad-request"),
            ("a method that is none", line("G@T / HTTP/1.1"), 400, "bad-request"),
            ("a protocol that is none", line("GET / HTTQ/1.1"), 505, "bad-version"),
            ("a later version", line("GET / HTTP/3.0"), 505, "bad-version"),
            ("a version of two digits", line("GET / HTTP/1.10"), 400, "bad-request"),
            ("TLS on a plain port", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(), 400, "bad-request"),
            ("a head too large", get(&format!("x: {}\r\n", "x".repeat(70_000))), 431, "large-head"),
            ("too many fields", get(&"x: 1\r\n".repeat(100)), 431, "large-head"),
            // §3.2: targets.
            ("a fragment", line("GET /a#b HTTP/1.1"), 400, "bad-target"),
            ("an asterisk of GET", line("GET * HTTP/1.1"), 400, "bad-target"),
            ("an authority", line("GET a.example:80 HTTP/1.1"), 400, "bad-target"),
            ("no slash", line("GET a HTTP/1.1"), 400, "bad-target"),
            ("another scheme", line("GET ftp://a.example/ HTTP/1.1"), 400, "bad-target"),
            ("CONNECT", line("CONNECT a.example:80 HTTP/1.1"), 405, "connect"),
            // §3.2: Host.
            ("an empty Host", "GET / HTTP/1.1\r\nhost:\r\n\r\n".to_owned(), 400, "bad-host"),
            ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad-host"),
            ("two Hosts", get("host: a.example\r\n"), 400, "bad-host"),
            ("two Hosts of HTTP/1.0", format!("GET / HTTP/1.0\r\n{HOST}{HOST}\r\n"), 400, "bad-host"),
            ("a path in Host", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n".to_owned(), 400, "bad-host"),
            ("a user in Host", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n".to_owned(), 400, "bad-host"),
            ("a list in Host", "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n".to_owned(), 400, "bad-host"),
            ("two ports", "GET / HTTP/1.1\r\nhost: a:1:2\r\n\r\n".to_owned(), 400, "bad-host"),
            ("a port that is none", "GET / HTTP/1.1\r\nhost: a:x\r\n\r\n".to_owned(), 400, "bad-host"),
            ("a user in the target", line("GET http://u:p@a.example/ HTTP/1.1"), 400, "bad-host"),
            ("two Hosts beside an authority", format!("GET http://a.example/ HTTP/1.1\r\n{HOST}{HOST}\r\n"), 400, "bad-host"),
        ];
        for (what, request, status, reason) in table {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let answer = ask(&mut stream, &format!("{request}GET /smuggled HTTP/1.1\r\n{HOST}\r\n")).await;
            assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (status, Some(reason)), "{what}");
            assert_eq!(answer.field("connection"), Some("close"), "{what}");
            assert!(message(&mut stream).await.unwrap().is_none(), "{what}: what follows is not served");
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 0, "nothing of it reached the endpoint");
    });
}

#[test]
fn what_is_understood_but_not_done_leaves_the_connection_alone() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        for (request, status, reason) in [
            (format!("GET / HTTP/1.1\r\n{HOST}expect: 200-ok\r\n\r\n"), 417, Some("expectation")),
            (format!("GET / HTTP/1.1\r\n{HOST}expect: 100-continue\r\nexpect: x\r\n\r\n"), 417, Some("expectation")),
            (format!("TRACE / HTTP/1.1\r\n{HOST}cookie: secret\r\n\r\n"), 405, Some("trace")),
            (format!("GET /a/../../b HTTP/1.1\r\n{HOST}\r\n"), 400, Some("bad-path")),
            (format!("GET /public/..%2fadmin HTTP/1.1\r\n{HOST}\r\n"), 400, Some("bad-path")),
            (format!("GET /a%00b HTTP/1.1\r\n{HOST}\r\n"), 400, Some("bad-path")),
            (format!("GET /a/..;/b HTTP/1.1\r\n{HOST}\r\n"), 400, Some("bad-path")),
            (format!("OPTIONS /x HTTP/1.1\r\n{HOST}max-forwards: 0\r\n\r\n"), 204, None),
        ] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let answer = ask(&mut stream, &request).await;
            assert_eq!(
                (answer.status(), answer.field("x-sluicegate-reason"), answer.field("connection")),
                (status, reason, None),
                "{request}"
            );
            assert_eq!(answer.field("allow").is_some(), status == 405, "RFC 9110 §15.5.6: {request}");
            let next = ask(&mut stream, &format!("GET /next HTTP/1.1\r\n{HOST}\r\n")).await;
            assert!(next.body.starts_with("GET /next "), "{request}: {}", next.body);
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 8, "only what followed");
    });
}

#[test]
fn odd_requests_are_tolerated_and_go_on_as_they_should_be() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        // Each row: a request, what the endpoint gets, and what it must not get.
        let table: Vec<(String, Vec<&str>, Vec<&str>)> = vec![
            (format!("\r\nGET / HTTP/1.1\r\n{HOST}\r\n"), vec!["GET / HTTP/1.1\r\n"], vec![]),
            (
                "GET http://A.example:81/x?y HTTP/1.1\r\nhost: other\r\n\r\n".to_owned(),
                vec!["GET /x?y HTTP/1.1\r\n", "host: A.example:81\r\n"],
                vec!["other"],
            ),
            (format!("GET http://a.example HTTP/1.1\r\n{HOST}\r\n"), vec!["GET / HTTP/1.1\r\n"], vec![]),
            (format!("GET http://a.example?q HTTP/1.1\r\n{HOST}\r\n"), vec!["GET /?q HTTP/1.1\r\n"], vec![]),
            (format!("OPTIONS * HTTP/1.1\r\n{HOST}max-forwards: 3\r\n\r\n"), vec!["OPTIONS * HTTP/1.1\r\n", "max-forwards: 2\r\n"], vec![]),
            (
                format!("OPTIONS http://a.example:81 HTTP/1.1\r\n{HOST}\r\n"),
                vec!["OPTIONS * HTTP/1.1\r\n", "host: a.example:81\r\n"],
                vec![],
            ),
            (format!("OPTIONS http://a.example/ HTTP/1.1\r\n{HOST}\r\n"), vec!["OPTIONS / HTTP/1.1\r\n"], vec![]),
            (format!("OPTIONS http://a.example?a.example HTTP/1.1\r\n{HOST}\r\n"), vec!["OPTIONS /?a.example HTTP/1.1\r\n"], vec![]),
            (format!("PURGE /a HTTP/1.1\r\n{HOST}\r\n"), vec!["PURGE /a HTTP/1.1\r\n"], vec![]),
            (format!("get / HTTP/1.1\r\n{HOST}\r\n"), vec!["get / HTTP/1.1\r\n"], vec![]),
            ("GET / HTTP/1.1\r\nHost:\t[::1]:80 \t\r\n\r\n".to_owned(), vec!["host: [::1]:80\r\n"], vec![]),
            (format!("GET / HTTP/1.1\r\n{HOST}X-EMPTY:\r\nx-tab: a\tb\r\n\r\n"), vec!["x-empty: \r\n", "x-tab: a\tb\r\n"], vec![]),
            (format!("GET / HTTP/1.1\r\n{HOST}x: 1\r\nX: 2\r\n\r\n"), vec!["x: 1\r\nX: 2\r\n"], vec![]),
            (format!("POST / HTTP/1.1\r\n{HOST}content-length: 0005\r\n\r\nhello"), vec!["content-length: 5\r\n", "\r\n\r\nhello"], vec![]),
            (
                format!("POST / HTTP/1.1\r\n{HOST}transfer-encoding: Chunked\r\n\r\n005;a=\"b\"\r\nhello\r\n0\r\n\r\n"),
                vec!["transfer-encoding: chunked\r\n", "5\r\nhello\r\n"],
                vec!["a=\"b\""],
            ),
            (
                format!("POST / HTTP/1.1\r\n{HOST}trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n"),
                vec!["1\r\na\r\n0\r\n\r\n"],
                vec!["x-sum"],
            ),
            (format!("GET / HTTP/1.1\r\n{HOST}content-length: 0\r\n\r\n"), vec!["GET / HTTP/1.1\r\n"], vec!["content-length"]),
            (format!("GET / HTTP/1.1\r\n{HOST}content-length: 2\r\n\r\nhi"), vec!["content-length: 2\r\n", "\r\n\r\nhi"], vec![]),
            (
                format!("GET / HTTP/1.1\r\n{HOST}connection: close-not, keep-alive\r\nkeep-alive: 5\r\nproxy-connection: x\r\n\r\n"),
                vec![],
                vec!["connection:", "keep-alive"],
            ),
            (
                format!("GET / HTTP/1.1\r\n{HOST}connection: x-secret, host, x-forwarded-for\r\nx-secret: 1\r\n\r\n"),
                vec!["host: a.example\r\n", "x-forwarded-for: 127.0.0.1\r\n"],
                vec!["x-secret"],
            ),
            (format!("GET /a//b/%2e%2e/./%63 HTTP/1.1\r\n{HOST}\r\n"), vec!["GET /a/c HTTP/1.1\r\n"], vec![]),
            (format!("GET /a%2fb?c=/../d//e HTTP/1.1\r\n{HOST}\r\n"), vec!["GET /a%2Fb?c=/../d//e HTTP/1.1\r\n"], vec![]),
            (format!("GET / HTTP/1.1\r\n{HOST}x_forwarded_for: 192.0.2.1\r\n\r\n"), vec![], vec!["x_forwarded"]),
        ];
        for (request, there, gone) in table {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let answer = ask(&mut stream, &request).await;
            assert_eq!(answer.status(), 200, "{request}");
            for part in there {
                assert!(answer.body.contains(part), "{part:?} of {request:?} is not in {:?}", answer.body);
            }
            for part in gone {
                assert!(!answer.body.contains(part), "{part:?} of {request:?} is in {:?}", answer.body);
            }
            assert_eq!(ask(&mut stream, &format!("GET /next HTTP/1.1\r\n{HOST}\r\n")).await.status(), 200, "{request}");
        }
    });
}

#[test]
fn http_1_0_is_served_as_it_expects() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("POST / HTTP/1.1\r\n") && answer.contains("host: \r\n") && answer.ends_with("hi"), "{answer}");
        assert!(!answer.contains("expect"), "RFC 9110 §10.1.1: it has no expectations: {answer}");
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..2 {
            let kept = ask(&mut stream, &format!("GET / HTTP/1.0\r\n{HOST}connection: keep-alive\r\n\r\n")).await;
            assert_eq!((kept.status(), kept.field("connection")), (200, Some("keep-alive")));
        }
    });
}

/// Everything that a client gets in one exchange with an endpoint that sends this response.
async fn answered(proxy: &Running, at: std::net::SocketAddr, method: &str, response: &str) -> String {
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[endpoint.local_addr().unwrap()])]).await;
    let response = response.to_owned();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = endpoint.accept().await {
            let response = response.clone();
            tokio::spawn(async move {
                while let Ok(Some(_)) = message(&mut stream).await {
                    let _ = stream.write_all(response.as_bytes()).await;
                }
            });
        }
    });
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(format!("{method} / HTTP/1.1\r\n{HOST}connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut all = String::new();
    let _ = client.read_to_string(&mut all).await;
    all
}

#[test]
fn malformed_responses_are_never_forwarded() {
    run(async {
        let (proxy, at) = (start(1), free());
        let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\nx: evil\r\n{fields}\r\nevil");
        for (what, reason, response) in [
            ("no HTTP", "bad-response", "evil\r\n\r\n".to_owned()),
            ("another version", "bad-response", "HTTP/2.0 200 OK\r\nx: evil\r\n\r\n".to_owned()),
            ("no status", "bad-response", "HTTP/1.1 OK\r\nx: evil\r\n\r\n".to_owned()),
            ("a status of four digits", "bad-response", "HTTP/1.1 2000 OK\r\nx: evil\r\n\r\n".to_owned()),
            ("a status below 100", "bad-response", "HTTP/1.1 099 evil\r\n\r\n".to_owned()),
            ("a space before the colon", "bad-response", ok("content-length : 4\r\n")),
            ("obsolete folding", "bad-response", ok("content-length: 4\r\ny: 1\r\n folded\r\n")),
            ("a NUL", "bad-response", ok("content-length: 4\r\ny: \0\r\n")),
            ("a bare carriage return", "bad-response", ok("content-length: 4\r\ny: 1\rz: 2\r\n")),
            ("both framings", "bad-response-framing", ok("content-length: 4\r\ntransfer-encoding: chunked\r\n")),
            ("two lengths", "bad-response-framing", ok("content-length: 4\r\ncontent-length: 5\r\n")),
            ("a length that is none", "bad-response-framing", ok("content-length: four\r\n")),
            ("an unknown coding", "bad-response-framing", ok("transfer-encoding: gzip\r\n")),
            ("a head too large", "large-response-head", ok(&format!("y: {}\r\n", "y".repeat(70_000)))),
            ("too many fields", "many-response-fields", ok(&"y: 1\r\n".repeat(257))),
            ("a switch nobody asked for", "bad-response", "HTTP/1.1 101 Switching Protocols\r\nupgrade: evil\r\n\r\n".to_owned()),
        ] {
            let answer = answered(&proxy, at, "POST", &response).await;
            assert!(answer.starts_with("HTTP/1.1 502 "), "{what}: {answer}");
            assert!(answer.contains(&format!("x-sluicegate-reason: {reason}\r\n")) && !answer.contains("evil"), "{what}: {answer}");
        }
        for (what, response) in [
            ("a chunk's size that is none", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\nx\r\nevil"),
            ("a chunk without its end", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhievil\r\n"),
        ] {
            let answer = answered(&proxy, at, "POST", response).await;
            assert!(!answer.contains("evil") && !answer.ends_with("0\r\n\r\n"), "{what} looks cut short: {answer}");
        }
    });
}

#[test]
fn responses_without_content_have_none() {
    run(async {
        let (proxy, at) = (start(1), free());
        for (method, response, there, gone) in [
            ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", vec!["content-length: 5\r\n"], vec!["transfer-encoding"]),
            ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", vec!["200 OK"], vec!["transfer-encoding"]),
            ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nevil!", vec!["204 No"], vec!["content-length", "evil"]),
            ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nevil!", vec!["304 Not", "content-length: 5\r\n"], vec!["evil"]),
            (
                "GET",
                "HTTP/1.1 100 Continue\r\nkeep-alive: 5\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                vec!["100 Continue", "200 OK"],
                vec!["keep-alive"],
            ),
            ("GET", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", vec!["HTTP/1.1 200 OK", "\r\n\r\nhi"], vec![]),
            ("GET", "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi", vec!["HTTP/1.1 200 OK", "\r\n\r\nhi"], vec![]),
            ("GET", "HTTP/1.1 200 OK\ncontent-length: 2\n\nhi", vec!["HTTP/1.1 200 OK\r\n", "\r\n\r\nhi"], vec![]),
        ] {
            let answer = answered(&proxy, at, method, response).await;
            for part in there {
                assert!(answer.contains(part), "{part:?} of {response:?} is not in {answer:?}");
            }
            for part in gone {
                assert!(!answer.contains(part), "{part:?} of {response:?} is in {answer:?}");
            }
        }
    });
}

#[test]
fn a_response_has_one_date() {
    run(async {
        let (proxy, at) = (start(1), free());
        let value =
            |line: &str| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("date")).map(|(_, date)| date.to_owned());
        let dates = |answer: &str| answer.lines().filter_map(value).collect::<Vec<_>>();
        let made = dates(&answered(&proxy, at, "GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await);
        let now = std::time::SystemTime::now();
        let age = now.duration_since(httpdate::parse_http_date(&made[0]).unwrap()).unwrap_or_default();
        assert!(made.len() == 1 && age < DEADLINE, "{made:?}");
        let told = "Tue, 15 Nov 1994 08:12:31 GMT";
        let kept = answered(&proxy, at, "GET", &format!("HTTP/1.1 200 OK\r\nDate: {told}\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(dates(&kept), [told]);
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[])]).await;
        let own = get(at, "/").await;
        assert_eq!((own.status(), own.field("date").is_some()), (503, true));
    });
}
