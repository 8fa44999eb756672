//! The access log of a running proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluicegate_model::access_log::{AccessLogField as Field, Line, Pattern};
use sluicegate_model::route::{Actions, Backend, Rule};
use sluicegate_model::settings::{ClientSettings, HeaderExtras, HeaderSettings, RequestIdAction, Trust};
use sluicegate_model::snapshot::Front;
use sluicegate_proxy::{AccessLog, AccessLogTarget};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// A file for one test, which is removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("sluicegate-access-{name}-{}", std::process::id())))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// The file's lines, once there are this many.
    async fn lines(&self, count: usize) -> Vec<String> {
        loop {
            let lines: Vec<String> = self.text().lines().map(str::to_owned).collect();
            if lines.len() >= count {
                assert_eq!(lines.len(), count, "{lines:?}");
                return lines;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn logging(to: &Path, line: Line) -> Running {
    let log = AccessLog { line, to: AccessLogTarget::File(to.to_owned()) };
    start_with(&Config { workers: 1, access_log: Some(log), ..Config::default() })
}

fn text(pattern: &str) -> Line {
    Line::Text(pattern.parse::<Pattern>().unwrap().0)
}

#[test]
fn an_exchange_has_a_line_with_what_is_known_of_it() {
    run(async {
        let (place, at) = (Place::new("fields"), free());
        let wanted = "%kind% %client% [%listener%] \"%method% %path% %protocol%\" %host% %status% %reason% %bytesIn% %bytesOut% %service% %endpoint% \
                      %rule% %attempts% %requestId% \"%userAgent%\"";
        let proxy = logging(&place.0, text(wanted));
        let (to_backend, _) = backend(|_| ok("four")).await;
        let backends = vec![Backend { service: reference(), weight: 1, actions: Actions::default() }];
        let rules = vec![Rule { name: Some("/app".to_owned()), backends, ..Rule::default() }];
        let extras = HeaderExtras { request_id: RequestIdAction::PreserveOrGenerate, ..HeaderExtras::default() };
        let headers = HeaderSettings { extras: Some(Box::new(extras)), ..HeaderSettings::default() };
        let settings = ClientSettings { trust: Trust::Hops(1), headers, ..ClientSettings::default() };
        proxy.serve(vec![listener_with(at, http(router(rules)), settings)], vec![service(&[dead(), to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let trusted = "x-forwarded-for: 192.0.2.9\r\nx-request-id: id-1\r\n";
        let request =
            format!("POST /app/./x?y HTTP/1.1\r\nhost: a.example\r\nuser-agent: a \"b\"\r\n{trusted}content-length: 3\r\n\r\nabc");
        assert_eq!(ask(&mut stream, &request).await.status(), 200);
        assert_eq!(ask(&mut stream, "GET /none HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 404);
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\nhost: a\n\n").await.status(), 400);
        let lines = place.lines(3).await;
        // Round robin begins with either endpoint.
        let one = |attempts| {
            format!(
                "http 192.0.2.9 [test {at}] \"POST /app/./x?y HTTP/1.1\" a.example 200 - 3 4 default/s:80 {to_backend} /app {attempts} id-1 \"a \\x22b\\x22\""
            )
        };
        assert!(lines[0] == one(1) || lines[0] == one(2), "{}", lines[0]);
        assert!(
            lines[1].starts_with(&format!("http 127.0.0.1 [test {at}] \"GET /none HTTP/1.1\" a 404 no-route 0 28 - - - 0 ")),
            "{}",
            lines[1]
        );
        assert!(lines[2].starts_with(&format!("http 127.0.0.1 [test {at}] \"- - -\" - 400 bad-request 0 ")), "{}", lines[2]);
        assert_eq!(proxy.stats.access_log.lines.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn json_lines_parse_whatever_clients_send() {
    run(async {
        let (place, at) = (Place::new("json"), free());
        let proxy = logging(&place.0, Line::Json(Field::ALL.to_vec()));
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /\"x\" HTTP/1.1\r\nhost: a\r\nuser-agent: \",\"status\":1,\\ \xff\xc3\xa4\t\r\n\r\n").await.unwrap();
        message(&mut stream).await.unwrap();
        let lines = place.lines(1).await;
        for part in [
            "{\"time\":\"20",
            "\"kind\":\"http\",\"client\":\"127.0.0.1\",",
            "\"path\":\"/\\\"x\\\"\"",
            "\"status\":200,\"reason\":null,",
            "\"userAgent\":\"\\\",\\\"status\\\":1,\\\\ \\u00ffä\",\"traceId\":null,\"spanId\":null}",
        ] {
            assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
        }
    });
}

#[test]
fn what_ends_early_says_why() {
    run(async {
        let (place, at) = (Place::new("early"), free());
        let proxy = logging(&place.0, text("%status% %reason% %bytesIn% %bytesOut%"));
        let endpoint = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[endpoint.local_addr().unwrap()])]).await;
        for (answer, client_leaves) in [
            ("", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", false),
        ] {
            let mut client = TcpStream::connect(at).await.unwrap();
            client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
            let (mut upstream, _) = endpoint.accept().await.unwrap();
            message(&mut upstream).await.unwrap();
            upstream.write_all(answer.as_bytes()).await.unwrap();
            if !answer.is_empty() {
                // The head has come through.
                client.read_exact(&mut [0; 17]).await.unwrap();
            }
            if client_leaves {
                // This is a reset: if the client only ended its side, the endpoint would go on.
                client.set_zero_linger().unwrap();
                drop(client);
                assert_eq!(upstream.read(&mut [0; 1]).await.unwrap_or(0), 0);
            } else {
                drop(upstream);
                let _ = client.read_to_end(&mut Vec::new()).await;
            }
        }
        let lines = place.lines(3).await;
        assert!(lines[0].starts_with("400 client-gone 2 "), "{}", lines[0]);
        assert_eq!(lines[1..], ["200 client-gone 2 3", "200 upstream-broke 2 3"]);
    });
}

#[test]
fn connections_have_lines_too() {
    run(async {
        let (place, at, none) = (Place::new("tcp"), free(), free());
        let proxy =
            logging(&place.0, text("%kind% %client% %method% %status% %reason% %bytesIn% %bytesOut% %service% %endpoint% %attempts%"));
        let (to_backend, _) = mirror_back().await;
        let listeners = vec![listener(at, Front::Tcp(to(0))), listener(none, Front::Tcp(to(1)))];
        proxy.serve(listeners, vec![service(&[to_backend]), service(&[])]).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        let answer = ask(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        drop(client);
        let bytes = answer.head.len() + answer.body.len();
        assert_eq!(place.lines(1).await[0], format!("tcp 127.0.0.1 - - - 27 {bytes} default/s:80 {to_backend} 1"));
        // The reset may come before the client has seen that it is connected.
        let refused = async { TcpStream::connect(none).await?.read(&mut [0; 1]).await };
        assert!(refused.await.is_err(), "reset");
        assert_eq!(place.lines(2).await[1], "tcp 127.0.0.1 - - no-endpoint 0 0 default/s:80 - 0");
    });
}

#[test]
fn a_file_that_was_renamed_is_opened_anew_and_the_end_writes_what_is_left() {
    run(async {
        let (place, moved, at) = (Place::new("rotated"), Place::new("rotated-1"), free());
        let proxy = logging(&place.0, text("%path%"));
        let (to_backend, _) = backend(|_| ok("x")).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        get(at, "/one").await;
        assert_eq!(place.lines(1).await, ["/one"]);
        std::fs::rename(&place.0, &moved.0).unwrap();
        proxy.proxy.reopen_access_log();
        get(at, "/two").await;
        assert_eq!((place.lines(1).await, moved.lines(1).await), (vec!["/two".to_owned()], vec!["/one".to_owned()]));
        // Nobody tells the gateway this time: it notices within a second.
        std::fs::remove_file(&place.0).unwrap();
        while place.text().is_empty() {
            get(at, "/three").await;
        }
        get(at, "/four").await;
        tokio::task::spawn_blocking(move || proxy.proxy.shutdown(DEADLINE)).await.unwrap();
        assert!(place.text().ends_with("/four\n"), "{}", place.text());
    });
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    run(async {
        let at = free();
        let proxy = logging(Path::new("/dev/full"), text("%path%"));
        let (to_backend, _) = backend(|_| ok("x")).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        assert_eq!(get(at, "/").await.status(), 200);
        while proxy.stats.access_log.dropped.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(proxy.stats.access_log.lines.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_log_that_cannot_be_opened_stops_the_start() {
    let log = AccessLog { line: text("%path%"), to: AccessLogTarget::File("/nowhere/access.log".into()) };
    let stats = std::sync::Arc::default();
    let error = sluicegate_proxy::Proxy::start(&Config { workers: 1, access_log: Some(log), ..Config::default() }, &stats).err().unwrap();
    assert!(error.to_string().starts_with("access log /nowhere/access.log: "), "{error}");
}

#[test]
fn a_flow_has_its_line_when_it_is_forgotten() {
    run(async {
        let place = Place::new("udp");
        let at = std::net::UdpSocket::bind((free().ip(), 0)).unwrap().local_addr().unwrap();
        let proxy =
            logging(&place.0, text("%kind% %client% %listener% %status% %reason% %bytesIn% %bytesOut% %service% %endpoint% %attempts%"));
        let endpoint = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to_endpoint = endpoint.local_addr().unwrap();
        let mut s = service(&[to_endpoint]);
        Arc::make_mut(&mut s.settings).udp.idle = Some(std::time::Duration::from_millis(1));
        proxy.serve(vec![listener(at, Front::Udp(to(0)))], vec![s]).await;
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"question", at).await.unwrap();
        let (_, gateway) = endpoint.recv_from(&mut [0; 16]).await.unwrap();
        endpoint.send_to(b"answer", gateway).await.unwrap();
        client.recv(&mut [0; 16]).await.unwrap();
        assert_eq!(place.lines(1).await[0], format!("udp 127.0.0.1 test {at} - - 8 6 default/s:80 {to_endpoint} 1"));
    });
}
