//! HTTP/3 through a running proxy: ordinary clients, limits, drains, clients that move.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use quinn::ConnectionError;
use sluicegate_model::settings::{
    BackendSettings, ClientHttp3, ClientSettings, ClientTimeouts, ConnectionLimit, ConnectionLimits, ProxyProtocol,
};
use sluicegate_model::snapshot::{AppProtocol, Front, ServicePort};
use sluicegate_model::stats::TlsFailure;
use sluicegate_model::tls::{ClientValidation, Demand, ServerSettings, Version, Versions};
use tokio::net::UdpSocket;

use crate::support::http2;
use crate::support::http3::*;
use crate::support::tls::{self, Authority, ended, failed, https, settings, until};
use crate::support::*;

/// H3_NO_ERROR (RFC 9114 §8.1).
const NO_ERROR: u64 = 0x100;

fn is_refused(error: &ConnectionError) -> bool {
    // CONNECTION_REFUSED (RFC 9000 §20.1).
    matches!(error, ConnectionError::ConnectionClosed(closed) if closed.error_code.to_string().contains("refused"))
        || matches!(error, ConnectionError::ConnectionClosed(closed) if u64::from(closed.error_code) == 2)
}

#[test]
fn requests_go_the_way_of_all_others() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[to_backend])]).await;
        let mut client = connect(at, &ca).await;
        let answer = client.get("/a?b=c").await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.body.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", answer.body);
        for line in ["host: a.example\r\n", "x-forwarded-proto: https\r\n", "x-forwarded-for: 127.0.0.1\r\n"] {
            assert!(answer.body.to_lowercase().contains(line), "{line}: {}", answer.body);
        }
        assert!(!answer.body.contains("chunked") && answer.field("date").is_some() && answer.field("alt-svc").is_none());
        let large = "x".repeat(300_000);
        let answer = client.ask(request("POST", "/large"), Some(&large), None).await.unwrap();
        assert!(answer.body.contains("transfer-encoding: chunked"));
        // Its chunks come back with their lines, and in the head is an x here and there.
        assert!(answer.body.matches('x').count() >= large.len());
        let mut sized = request("POST", "/sized");
        sized.headers_mut().insert("content-length", HeaderValue::from_static("5"));
        let answer = client.ask(sized, Some("hello"), None).await.unwrap();
        assert!(answer.body.ends_with("\r\n\r\nhello") && answer.body.contains("content-length: 5\r\n"), "{}", answer.body);
        let answer = client.ask(request("HEAD", "/"), None, None).await.unwrap();
        assert_eq!((answer.status(), answer.body.as_str()), (200, ""));
        assert!(answer.field("content-length").is_some());
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", HeaderValue::from_static("1"));
        let answer = client.ask(request("POST", "/trailers"), Some("hello"), Some(trailers)).await.unwrap();
        assert_eq!(answer.status(), 200);
        // Several at a time.
        let mut others: Vec<_> = (0..50).map(|_| client.requests.clone()).collect();
        let asked = others.iter_mut().map(|requests| async {
            let mut stream = requests.send_request(request("GET", "/many")).await.unwrap();
            stream.finish().await.unwrap();
            stream.recv_response().await.unwrap().status().as_u16()
        });
        assert_eq!(futures_util::future::join_all(asked).await, [200; 50]);
        assert_eq!(log.requests.load(Ordering::Relaxed), 55);
        let stats = &proxy.stats;
        assert_eq!((stats.http3.connections.load(Ordering::Relaxed), stats.requests.load(Ordering::Relaxed)), (1, 55));
        assert_eq!((stats.open.load(Ordering::Relaxed), stats.tls.handshakes.load(Ordering::Relaxed)), (1, 1));
        client.connection.close(0x100_u32.into(), b"");
        until(|| 1 - stats.open.load(Ordering::Relaxed), 1).await;
    });
}

#[test]
fn responses_over_other_versions_name_http3() {
    run(async {
        let (proxy, at, plain, ca) = (start(1), free(), free(), Authority::new());
        let (to_backend, _) = backend(|seen| {
            let own = if seen.head.starts_with("GET /own") { "alt-svc: clear\r\n" } else { "" };
            format!("HTTP/1.1 200 OK\r\n{own}content-length: 0\r\n\r\n")
        })
        .await;
        let told = |settings: ClientSettings| {
            let (proxy, ca) = (&proxy, &ca);
            async move {
                let listeners = vec![serving(at, ca, settings.clone()), listener_with(plain, http(to(0)), with(settings))];
                proxy.serve(listeners, vec![service(&[to_backend])]).await;
                let mut stream = tls::connect(at, "a.example", &Arc::new(ca.client())).await.unwrap();
                let mut all = Vec::new();
                for path in ["/", "/own"] {
                    let answer = ask(&mut stream, &format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n")).await;
                    all.push(answer.field("alt-svc").unwrap().to_owned());
                }
                assert_eq!(get(plain, "/").await.field("alt-svc"), None, "there is no HTTP/3 without TLS");
                all
            }
        };
        assert_eq!(told(ClientSettings::default()).await, [&format!("h3=\":{}\"; ma=86400", at.port()), "clear"]);
        let mut client = connect(at, &ca).await;
        assert_eq!(client.get("/").await.unwrap().field("alt-svc"), None);
        drop(client);
        let front = tls::front(&ended(settings(&[&ca.issue(&["a.example"])])), to(0));
        let http3 = Some(ClientHttp3 { advertised_port: Some(443) });
        let listeners = vec![listener_with(at, front, ClientSettings { http3, ..ClientSettings::default() })];
        proxy.serve(listeners, vec![service(&[to_backend])]).await;
        let mut stream = tls::connect(at, "a.example", &Arc::new(ca.client())).await.unwrap();
        let answer = ask(&mut stream, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
        assert_eq!(answer.field("alt-svc"), Some("h3=\":443\"; ma=86400"));
    });
}

#[test]
fn tls_is_that_of_the_host_that_the_client_asks_for() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (to_backend, _) = mirror_back().await;
        let verified = ServerSettings {
            client: Some(ClientValidation { authorities: Some(ca.authorities()), demand: Demand::Required }),
            ..settings(&[&ca.issue(&["b.example"])])
        };
        let old =
            ServerSettings { versions: Versions { min: Version::Tls12, max: Version::Tls12 }, ..settings(&[&ca.issue(&["c.example"])]) };
        let hosts = vec![
            https(Some("a.example"), &ended(settings(&[&ca.issue(&["a.example"])])), to(0)),
            https(Some("b.example"), &ended(verified), to(0)),
            https(Some("c.example"), &ended(old), to(0)),
        ];
        proxy.serve(vec![listener_with(at, Front::Tls(hosts.into()), with(ClientSettings::default()))], vec![service(&[to_backend])]).await;
        let shown = ca.issue(&["client.example"]);
        let ask = |name: &'static str, config| async move {
            let mut client = connect_as(at, name, config).await.map_err(|error| error.to_string())?;
            let request = http::Request::builder().uri(format!("https://{name}/")).body(()).unwrap();
            client.ask(request, None, None).await.map_err(|error| error.to_string())
        };
        let answer = ask("a.example", config(&ca, Some(&shown))).await.unwrap();
        assert!(answer.status() == 200 && !answer.body.contains("x-forwarded-client-cert"), "nobody asked for it");
        let answer = ask("b.example", config(&ca, Some(&shown))).await.unwrap();
        assert!(answer.body.contains("x-forwarded-client-cert: Hash=") && answer.body.contains("DNS=client.example"), "{}", answer.body);
        assert!(ask("b.example", config(&ca, None)).await.is_err());
        failed(&proxy.stats, TlsFailure::ClientCertificate, 1).await;
        assert!(ask("c.example", config(&ca, None)).await.is_err(), "QUIC has TLS 1.3 alone");
        failed(&proxy.stats, TlsFailure::Incompatible, 1).await;
        assert!(ask("d.example", config(&ca, None)).await.is_err());
        failed(&proxy.stats, TlsFailure::Name, 1).await;
        // A connection for one host does not serve another.
        let mut client = connect(at, &ca).await;
        let other = http::Request::builder().uri("https://b.example/").body(()).unwrap();
        assert_eq!(client.ask(other, None, None).await.unwrap().status(), 421);
    });
}

#[test]
fn a_client_that_moves_stays_with_its_worker() {
    run(async {
        let (proxy, at, ca) = (start(4), free(), Authority::new());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[to_backend])]).await;
        let mut client = connect(at, &ca).await;
        for n in 0..16 {
            let path = format!("/{n}");
            assert!(client.get(&path).await.unwrap().body.starts_with(&format!("GET {path} ")));
            client.endpoint.rebind(elsewhere()).unwrap();
        }
        let stats = &proxy.stats.http3;
        // Sixteen ports come to one of four workers with a chance of one in four billion.
        assert!(stats.handed_over.load(Ordering::Relaxed) > 0);
        assert_eq!((stats.handover_dropped.load(Ordering::Relaxed), stats.connections.load(Ordering::Relaxed)), (0, 1));
    });
}

#[test]
fn where_many_handshakes_are_under_way_clients_show_that_they_receive_at_their_address() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[to_backend])]).await;
        // What these send arrives, and what they are sent does not: they seem to be at addresses of others.
        let (front, back) =
            (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let relay = front.local_addr().unwrap();
        tokio::spawn(async move {
            let mut packet = vec![0; 2000];
            while let Ok((count, _)) = front.recv_from(&mut packet).await {
                let _ = back.send_to(&packet[..count], at).await;
            }
        });
        let endpoint = endpoint();
        let _waiting: Vec<_> = (0..80).map(|_| endpoint.connect_with(config(&ca, None), relay, "a.example").unwrap()).collect();
        eventually("retries", || proxy.stats.http3.retries.load(Ordering::Relaxed) > 0).await;
        assert_eq!(proxy.stats.tls.under_way.load(Ordering::Relaxed), 64);
        let before = proxy.stats.http3.retries.load(Ordering::Relaxed);
        let mut client = connect(at, &ca).await;
        assert_eq!(client.get("/").await.unwrap().status(), 200);
        assert!(proxy.stats.http3.retries.load(Ordering::Relaxed) > before);
    });
}

#[test]
fn connections_are_limited_and_admitted_as_those_of_tcp() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (to_backend, _) = mirror_back().await;
        let publish = |settings: ClientSettings| {
            let listeners = vec![serving(at, &ca, settings)];
            proxy.serve(listeners, vec![service(&[to_backend])])
        };
        let one = Some(ConnectionLimit { most: 1, close_delay: None });
        publish(ClientSettings {
            connections: ConnectionLimits { client: one, ..ConnectionLimits::default() },
            ..ClientSettings::default()
        })
        .await;
        let first = connect(at, &ca).await;
        let refused = bare(at, &ca).await.unwrap_err();
        assert!(is_refused(&refused), "{refused}");
        assert_eq!(proxy.stats.clients.over_client.load(Ordering::Relaxed), 1);
        drop(first);
        publish(ClientSettings {
            connections: ConnectionLimits { listener: one, ..ConnectionLimits::default() },
            ..ClientSettings::default()
        })
        .await;
        let _first = connect(at, &ca).await;
        assert!(is_refused(&bare(at, &ca).await.unwrap_err()));
        assert_eq!(proxy.stats.clients.over_listener.load(Ordering::Relaxed), 1);
        publish(ClientSettings { sources: vec!["192.0.2.0/24".parse().unwrap()], ..ClientSettings::default() }).await;
        assert!(is_refused(&bare(at, &ca).await.unwrap_err()));
        let proxy_protocol = Some(ProxyProtocol { trusted: vec!["127.0.0.0/8".parse().unwrap()], optional: false });
        publish(ClientSettings { proxy_protocol, ..ClientSettings::default() }).await;
        assert!(is_refused(&bare(at, &ca).await.unwrap_err()));
    });
}

#[test]
fn an_idle_connection_and_one_with_all_its_requests_close() {
    run(async {
        let (proxy, at, other, ca) = (start(1), free(), free(), Authority::new());
        let (to_backend, _) = mirror_back().await;
        let timeouts = ClientTimeouts { idle: Some(Duration::from_secs(1)), ..ClientTimeouts::default() };
        let idle = serving(at, &ca, ClientSettings { timeouts, ..ClientSettings::default() });
        let connections = ConnectionLimits { requests: Some(2), ..ConnectionLimits::default() };
        let two = serving(other, &ca, ClientSettings { connections, ..ClientSettings::default() });
        proxy.serve(vec![idle, two], vec![service(&[to_backend])]).await;
        let mut client = connect(at, &ca).await;
        assert_eq!(client.get("/").await.unwrap().status(), 200);
        assert_eq!(closed(&client.connection).await, NO_ERROR);
        assert_eq!(proxy.stats.clients.idle.load(Ordering::Relaxed), 1);
        let mut client = connect(other, &ca).await;
        for _ in 0..2 {
            assert_eq!(client.get("/").await.unwrap().status(), 200);
        }
        assert_eq!(closed(&client.connection).await, NO_ERROR);
    });
}

/// A backend that answers after a while.
async fn slow() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = message(&mut stream).await;
                tokio::time::sleep(Duration::from_millis(1500)).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, ok("late").as_bytes()).await;
            });
        }
    });
    address
}

#[test]
fn what_runs_is_finished_when_the_gateway_stops() {
    run(async {
        let (proxy, at, ca) = (start(2), free(), Authority::new());
        proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[slow().await])]).await;
        let (mut busy, idle) = (connect(at, &ca).await, connect(at, &ca).await);
        let connection = busy.connection.clone();
        let running = tokio::spawn(async move { busy.get("/").await.map(|answer| answer.body) });
        until(|| proxy.stats.requests.load(Ordering::Relaxed), 1).await;
        let stopping = std::thread::spawn(move || proxy.proxy.shutdown(Duration::from_secs(10)));
        assert_eq!(closed(&idle.connection).await, NO_ERROR);
        let refused = bare(at, &ca).await.unwrap_err();
        assert!(is_refused(&refused), "{refused}");
        assert_eq!(running.await.unwrap().unwrap(), "late");
        assert_eq!(closed(&connection).await, NO_ERROR);
        stopping.join().unwrap();
    });
}

#[test]
fn http3_is_turned_off_and_on_while_connections_run() {
    run(async {
        let (proxy, at, ca) = (start(2), free(), Authority::new());
        let endpoint = slow().await;
        let off = || {
            let front = tls::front(&ended(settings(&[&ca.issue(&["a.example"])])), to(0));
            listener_with(at, front, ClientSettings::default())
        };
        proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[endpoint])]).await;
        let mut busy = connect(at, &ca).await;
        let running = tokio::spawn(async move { busy.get("/").await.map(|answer| answer.body) });
        until(|| proxy.stats.requests.load(Ordering::Relaxed), 1).await;
        proxy.serve(vec![off()], vec![service(&[endpoint])]).await;
        proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[endpoint])]).await;
        let mut again = connect(at, &ca).await;
        assert_eq!(again.get("/").await.unwrap().body, "late");
        assert_eq!(running.await.unwrap().unwrap(), "late");
    });
}

#[test]
fn a_successor_sends_on_what_its_predecessor_has() {
    run(async {
        let (old, new, at, ca) = (start(2), start(3), free(), Authority::new());
        let endpoint = slow().await;
        old.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[endpoint])]).await;
        let mut busy = connect(at, &ca).await;
        let connection = busy.connection.clone();
        let running = tokio::spawn(async move {
            let first = busy.ask(request("POST", "/"), Some(&"x".repeat(100_000)), None).await;
            first.map(|answer| answer.body)
        });
        until(|| old.stats.requests.load(Ordering::Relaxed), 1).await;
        // The sockets, as they are handed over between processes.
        let handed = old.proxy.sockets();
        let own = |socket: &sluicegate_proxy::AnySocket| socket.as_fd().try_clone_to_owned().unwrap();
        new.proxy.adopt(handed.iter().map(own));
        drop(handed);
        new.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service(&[endpoint])]).await;
        let stats = old.stats.clone();
        let leaving = std::thread::spawn(move || old.proxy.leave(Duration::from_secs(10)));
        assert_eq!(running.await.unwrap().unwrap(), "late");
        assert_eq!(closed(&connection).await, NO_ERROR);
        leaving.join().unwrap();
        assert_eq!(stats.open.load(Ordering::Relaxed), 0);
        assert!(new.stats.http3.handed_over.load(Ordering::Relaxed) > 0);
        let mut client = connect(at, &ca).await;
        assert_eq!(client.get("/").await.unwrap().body, "late");
        assert_eq!(new.stats.http3.connections.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn trailers_pass_both_ways_to_endpoints_of_http2() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (endpoint, _) = http2::h2_backend(h2::server::Builder::new(), http2::echo).await;
        let service = http2::speaking(AppProtocol::Grpc, &[endpoint], BackendSettings::default());
        proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service]).await;
        let mut client = connect(at, &ca).await;
        let mut call = request("POST", "/s/M");
        call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        call.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let answer = client.ask(call, Some("hello"), Some(trailers)).await.unwrap();
        assert!(answer.body.contains("te: trailers\n") && answer.body.ends_with("hello\ntrailer grpc-status: 0"), "{}", answer.body);
        assert_eq!(answer.trailers.unwrap().get("grpc-status").unwrap(), "0");
    });
}

#[test]
fn an_exchange_that_its_client_cancels_ends_at_the_endpoint() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (told, mut cancelled) = tokio::sync::mpsc::channel(1);
        let wait = move |_, mut respond: h2::server::SendResponse<bytes::Bytes>| {
            let told = told.clone();
            async move {
                let _ = std::future::poll_fn(|context| respond.poll_reset(context)).await;
                let _ = told.send(()).await;
            }
        };
        let (endpoint, log) = http2::h2_backend(h2::server::Builder::new(), wait).await;
        let service = http2::speaking(AppProtocol::H2c, &[endpoint], BackendSettings::default());
        proxy.serve(vec![serving(at, &ca, ClientSettings::default())], vec![service]).await;
        let mut client = connect(at, &ca).await;
        let mut stream = client.requests.send_request(request("GET", "/")).await.unwrap();
        stream.finish().await.unwrap();
        until(|| log.requests.load(Ordering::Relaxed), 1).await;
        stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
        cancelled.recv().await.unwrap();
        assert!(client.connection.close_reason().is_none());
    });
}

#[test]
fn a_response_that_breaks_is_reset() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (endpoint, _) = backend(|_| "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_owned()).await;
        let service = ServicePort { settings: Arc::new(BackendSettings::default()), ..service(&[endpoint]) };
        let timeouts = ClientTimeouts { stalled: Some(Duration::from_secs(1)), ..ClientTimeouts::default() };
        proxy.serve(vec![serving(at, &ca, ClientSettings { timeouts, ..ClientSettings::default() })], vec![service]).await;
        let mut client = connect(at, &ca).await;
        // H3_REQUEST_CANCELLED, as nothing moves any more.
        let error = client.get("/").await.err().unwrap().to_string();
        assert!(error.contains("H3_REQUEST_CANCELLED"), "{error}");
        assert_eq!(proxy.stats.clients.stalled.load(Ordering::Relaxed), 1);
    });
}
