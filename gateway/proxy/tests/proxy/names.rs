//! The names of fields keep their case where a policy asks for it, on every way that a head takes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Request;
use sluicegate_model::route::{Actions, Backend, HeaderChanges, Mirror, Rule};
use sluicegate_model::settings::{BackendSettings, ClientSettings, HeaderExtras, HeaderSettings, Via};
use sluicegate_model::snapshot::AppProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::http2::*;
use crate::support::*;

fn keeping() -> ClientSettings {
    ClientSettings { headers: HeaderSettings { preserve_case: true, ..HeaderSettings::default() }, ..ClientSettings::default() }
}

/// A backend that sends this answer, and hands over the heads that it gets.
async fn recording(answer: &'static str) -> (std::net::SocketAddr, mpsc::UnboundedReceiver<String>) {
    let (to, from) = mpsc::unbounded_channel();
    let (address, _) = backend(move |seen| {
        let _ = to.send(seen.head.clone());
        answer.to_owned()
    })
    .await;
    (address, from)
}

async fn all_of(at: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = String::new();
    let _ = stream.read_to_string(&mut all).await;
    all
}

const REQUEST: &str = "POST / HTTP/1.1\r\nHOST: a.example\r\nX-MiXeD-CaSe: 1\r\nSOAPAction: \"a\"\r\nCookie: a\r\nx-mixed-case: 2\r\nX-Mixed-Case: 3\r\nContent-LENGTH: 2\r\nConnection: Close\r\n\r\nhi";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nDate: x\r\nX-OwN: 1\r\nX-Gone: 1\r\nCoNneCtion: X-Gone\r\nContent-Length: 2\r\nx-own: 2\r\nWWW-Authenticate: b\r\n\r\nhi";

#[test]
fn names_keep_their_case_both_ways_where_a_policy_asks() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, mut heads) = recording(ANSWER).await;
        proxy.serve(vec![listener_with(at, http(to(0)), keeping())], vec![service(&[address])]).await;
        let answer = all_of(at, REQUEST).await;
        let head = heads.recv().await.unwrap();
        for line in [
            "HOST: a.example",
            "X-MiXeD-CaSe: 1",
            "x-mixed-case: 2",
            "X-Mixed-Case: 3",
            "SOAPAction: \"a\"",
            "Cookie: a",
            "Content-LENGTH: 2",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
        }
        for line in ["Date: x", "X-OwN: 1", "x-own: 2", "WWW-Authenticate: b", "Content-Length: 2", "CoNneCtion: close"] {
            assert!(answer.contains(&format!("\r\n{line}\r\n")), "{line} in {answer}");
        }
        assert!(!answer.contains("X-Gone"), "{answer}");
        // Both sides send chunks.
        let chunked = "HTTP/1.1 200 OK\r\nTRANSFER-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        let (address, mut heads) = recording(chunked).await;
        proxy.serve(vec![listener_with(at, http(to(0)), keeping())], vec![service(&[address])]).await;
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-ENCODING: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n";
        assert!(all_of(at, request).await.contains("\r\nTRANSFER-Encoding: chunked\r\n"));
        assert!(heads.recv().await.unwrap().contains("\r\nTransfer-ENCODING: chunked\r\n"));
        // Without the policy, a response's fields that the gateway looks at are in lower case; at this request's it need not look.
        let (address, mut heads) = recording(ANSWER).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[address])]).await;
        assert!(
            all_of(at, REQUEST).await.contains("\r\nx-own: 1\r\n") && heads.recv().await.unwrap().contains("\r\nSOAPAction: \"a\"\r\n")
        );
    });
}

#[test]
fn names_keep_their_case_where_heads_are_changed_mirrored_interim_or_upgraded() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, mut heads) = recording(ANSWER).await;
        let (mirror, mut mirrored) = recording(ANSWER).await;
        let set = |name| vec![(http::HeaderName::from_static(name), http::HeaderValue::from_static("9"))];
        let actions = Actions {
            request_headers: HeaderChanges { set: set("soapaction"), add: set("x-new"), ..HeaderChanges::default() },
            response_headers: HeaderChanges { set: set("x-own"), ..HeaderChanges::default() },
            mirrors: vec![Mirror { service: reference(), numerator: 1, denominator: 1 }],
            ..Actions::default()
        };
        let backends = vec![Backend { service: reference(), weight: 1, actions: Actions::default() }];
        let rule = Rule { name: Some("/".into()), actions, backends, ..Rule::default() };
        let via = Via { pseudonym: "g".into(), element: http::HeaderValue::from_static("1.1 g") };
        let mut settings = keeping();
        settings.headers.extras = Some(Box::new(HeaderExtras { via: Some(via), ..HeaderExtras::default() }));
        let services = vec![service(&[address]), service(&[mirror])];
        proxy.serve(vec![listener_with(at, http(router(vec![rule])), settings)], services).await;
        let answer = all_of(at, REQUEST).await;
        assert!(
            answer.contains("\r\nX-OwN: 9\r\n") && answer.contains("\r\nWWW-Authenticate: b\r\n") && answer.contains("\r\nvia: 1.1 g\r\n"),
            "{answer}"
        );
        let head = heads.recv().await.unwrap();
        assert!(
            head.contains("\r\nSOAPAction: 9\r\n") && head.contains("\r\nx-new: 9\r\n") && head.contains("\r\nCookie: a\r\n"),
            "{head}"
        );
        assert!(mirrored.recv().await.unwrap().contains("\r\nX-MiXeD-CaSe: 1\r\n"));
        // These are interim responses, 204, HEAD and 426.
        for (method, answer, line) in [
            ("GET", "HTTP/1.1 103 Early Hints\r\nLinK: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "LinK: x"),
            ("GET", "HTTP/1.1 204 No Content\r\nETaG: x\r\n\r\n", "ETaG: x"),
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-LENGTH: 5\r\n\r\n", "Content-LENGTH: 5"),
            ("GET", "HTTP/1.1 426 Upgrade\r\nUPGRADE: x\r\nContent-Length: 0\r\n\r\n", "UPGRADE: x"),
        ] {
            let (address, _) = recording(answer).await;
            proxy.serve(vec![listener_with(at, http(to(0)), keeping())], vec![service(&[address])]).await;
            let answer = all_of(at, &format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
            assert!(answer.contains(&format!("\r\n{line}\r\n")), "{line}: {answer}");
        }
        let switching = "HTTP/1.1 101 Switching Protocols\r\nUPGrade: websocket\r\nCONNection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
        let (address, mut heads) = recording(switching).await;
        let s = speaking(AppProtocol::Ws, &[address], BackendSettings::default());
        proxy.serve(vec![listener_with(at, http(to(0)), keeping())], vec![s]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let answer =
            ask(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\nConNection: Upgrade\r\nUpGrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
                .await;
        for line in ["UPGrade: websocket", "CONNection: upgrade", "Sec-WebSocket-Accept: x"] {
            assert!(answer.head.contains(&format!("\r\n{line}\r\n")), "{line}: {}", answer.head);
        }
        let head = heads.recv().await.unwrap();
        assert!(head.contains("\r\nConNection: upgrade\r\nUpGrade: websocket\r\n") && head.contains("Sec-WebSocket-Key: k"), "{head}");
    });
}

#[test]
fn http_2_has_lower_case_by_nature() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, mut heads) = recording(ANSWER).await;
        proxy.serve(vec![listener_with(at, http(to(0)), keeping())], vec![service(&[address])]).await;
        let mut client = connect(at).await;
        let request = Request::get("http://a.example/").header("x-mixed", "1").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().headers()["x-own"], "1");
        assert!(heads.recv().await.unwrap().contains("\r\nx-mixed: 1\r\n"));
        // Requests go from HTTP/1.1 to an endpoint of HTTP/2, and answers back.
        let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let noted = seen.clone();
        let (address, _) = h2_backend(h2::server::Builder::new(), move |request, mut respond| {
            noted.store(request.headers().contains_key("soapaction"), Ordering::Relaxed);
            async move {
                let response = http::Response::builder().header("x-own", "1").body(()).unwrap();
                respond.send_response(response, true).unwrap();
            }
        })
        .await;
        let s = speaking(AppProtocol::H2c, &[address], BackendSettings::default());
        proxy.serve(vec![listener_with(at, http(to(0)), keeping())], vec![s]).await;
        let answer = all_of(at, REQUEST).await;
        assert!(answer.contains("\r\nx-own: 1\r\n") && seen.load(Ordering::Relaxed), "{answer}");
    });
}
