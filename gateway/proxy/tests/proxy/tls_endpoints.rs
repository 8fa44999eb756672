//! TLS with endpoints, through a running proxy; the peer is rustls as a server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustls::pki_types::DnsName;
use sluicegate_model::settings::{BackendSettings, BackendTimeouts};
use sluicegate_model::snapshot::{EndpointTls, Front, ServicePort};
use sluicegate_model::tls::{SubjectAltName, Trust, UpstreamSettings, UpstreamTls, Verify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::tls::{Authority, Issued, ended, front, settings};
use crate::support::*;

fn dns(name: &str) -> DnsName<'static> {
    DnsName::try_from(name.to_owned()).unwrap()
}

fn signed(ca: &Authority, sni: Option<&str>, names: &[SubjectAltName]) -> UpstreamSettings {
    let verify = Verify::Signed { trust: Trust::Only(ca.authorities()), names: names.to_vec() };
    UpstreamSettings { verify, sni: sni.map(dns), certificate: None }
}

fn on(settings: UpstreamSettings) -> EndpointTls {
    EndpointTls::On(Arc::new(UpstreamTls::build(Arc::new(settings)).unwrap()))
}

fn secured(to: std::net::SocketAddr, tls: EndpointTls) -> ServicePort {
    ServicePort { tls, ..service(&[to]) }
}

#[test]
fn endpoints_are_verified_and_only_then_sent_anything() {
    run(async {
        let (proxy, ca, other, clients) = (start(1), Authority::new(), Authority::new(), Authority::new());
        let (to_backend, met) = tls::backend(ca.server(&["b.example", "spiffe://b/1"], None)).await;
        let (to_strict, strict) = tls::backend(ca.server(&["b.example"], Some(&clients))).await;
        let host = |name: &str| SubjectAltName::Hostname(dns(name));
        let uri = |name: &str| SubjectAltName::Uri(name.to_owned());
        let shown = |issued: &Issued| UpstreamSettings { certificate: Some(issued.certificate()), ..signed(&ca, Some("b.example"), &[]) };
        let nothing = UpstreamSettings { verify: Verify::Nothing, sni: None, certificate: None };
        let cases = [
            (to_backend, on(signed(&ca, Some("b.example"), &[])), Ok("sni=b.example certificate=false")),
            (to_backend, on(signed(&ca, Some("c.example"), &[])), Err("connect-failed")),
            (to_backend, on(signed(&other, Some("b.example"), &[])), Err("connect-failed")),
            // If names are given, only they count.
            (
                to_backend,
                on(signed(&ca, Some("c.example"), &[host("x.example"), host("b.example")])),
                Ok("sni=c.example certificate=false"),
            ),
            (to_backend, on(signed(&ca, Some("b.example"), &[host("x.example")])), Err("connect-failed")),
            (to_backend, on(signed(&ca, None, &[uri("spiffe://b/1")])), Ok("sni=- certificate=false")),
            (to_backend, on(signed(&ca, None, &[uri("spiffe://b/2")])), Err("connect-failed")),
            (to_backend, on(signed(&other, None, &[uri("spiffe://b/1")])), Err("connect-failed")),
            (to_backend, on(nothing), Ok("sni=- certificate=false")),
            (to_strict, on(shown(&clients.issue(&["gateway"]))), Ok("sni=b.example certificate=true")),
            (to_backend, EndpointTls::Broken, Err("endpoint-tls")),
            (to_backend, EndpointTls::Untold, Err("endpoint-tls")),
        ];
        let mut listeners = Vec::new();
        let mut services = Vec::new();
        let mut wanted = Vec::new();
        for (i, (at, tls, outcome)) in cases.into_iter().enumerate() {
            let address = free();
            listeners.push(listener(address, http(to(i))));
            services.push(secured(at, tls));
            wanted.push((address, outcome));
        }
        let stats: Vec<_> = services.iter().map(|s| s.stats.clone()).collect();
        proxy.serve(listeners, services).await;
        for (i, (at, outcome)) in wanted.into_iter().enumerate() {
            let answer = get(at, "/").await;
            match outcome {
                Ok(told) => {
                    assert_eq!(answer.status(), 200, "{i}: {}", answer.head);
                    assert_eq!(answer.body.lines().next(), Some(told), "{i}");
                    assert_eq!(stats[i].tls_failures.load(Ordering::Relaxed), 0);
                }
                Err(reason) => {
                    assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (502, Some(reason)), "{i}");
                    assert_eq!(stats[i].tls_failures.load(Ordering::Relaxed), u64::from(reason == "connect-failed"), "{i}");
                }
            }
        }
        // The server sees its handshake fail, or takes it for complete before the gateway has refused its certificate.
        assert!(met.failed.load(Ordering::Relaxed) + met.handshakes.load(Ordering::Relaxed) >= 4);
        assert_eq!(strict.handshakes.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn connections_are_kept_and_sessions_resumed() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (to_backend, met) = tls::backend(ca.server(&["b.example"], None)).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![secured(to_backend, on(signed(&ca, Some("b.example"), &[])))]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";
        for _ in 0..3 {
            assert_eq!(ask(&mut stream, request).await.status(), 200);
        }
        assert_eq!(met.handshakes.load(Ordering::Relaxed), 1);
        for _ in 0..3 {
            let answer = ask(&mut stream, "GET / HTTP/1.1\r\nhost: a.example\r\nx-close: 1\r\n\r\n").await;
            assert_eq!(answer.status(), 200);
        }
        let (all, resumed) = (met.handshakes.load(Ordering::Relaxed), met.resumed.load(Ordering::Relaxed));
        assert_eq!((all, resumed), (3, 2), "the first closed the kept connection");
    });
}

#[test]
fn a_connection_met_by_one_rule_is_not_used_for_another() {
    run(async {
        let (proxy, ca, other) = (start(1), Authority::new(), Authority::new());
        let (to_backend, _) = tls::backend(ca.server(&["b.example"], None)).await;
        let (good, bad) = (free(), free());
        let services = vec![
            secured(to_backend, on(signed(&ca, Some("b.example"), &[]))),
            secured(to_backend, on(signed(&other, Some("b.example"), &[]))),
        ];
        proxy.serve(vec![listener(good, http(to(0))), listener(bad, http(to(1)))], services).await;
        for _ in 0..2 {
            assert_eq!(get(good, "/").await.status(), 200);
            assert_eq!(get(bad, "/").await.status(), 502);
        }
    });
}

#[test]
fn the_connect_timeout_covers_the_handshake() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        // This endpoint accepts, and sends nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let timeouts = BackendTimeouts { connect: Duration::from_millis(200), ..BackendTimeouts::default() };
        let settings = Arc::new(BackendSettings { timeouts, ..BackendSettings::default() });
        let s = ServicePort { settings, ..secured(silent.local_addr().unwrap(), on(signed(&ca, Some("b.example"), &[]))) };
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let begun = Instant::now();
        assert_eq!(get(at, "/").await.status(), 502);
        assert!((Duration::from_millis(200)..Duration::from_secs(5)).contains(&begun.elapsed()));
    });
}

#[test]
fn tls_is_put_around_connections_too() {
    run(async {
        let (proxy, ca) = (start(1), Authority::new());
        let (plain, secure, untold, ended_untold) = (free(), free(), free(), free());
        let (to_backend, met) = tls::backend(ca.server(&["b.example"], None)).await;
        let (to_plain, log) = mirror_back().await;
        let mine = ended(sluicegate_model::tls::ServerSettings { alpn: vec![], ..settings(&[&ca.issue(&["a.example"])]) });
        let tcp = |service| {
            let mode = sluicegate_model::snapshot::TlsMode::Tcp(mine.clone());
            Front::Tls(vec![sluicegate_model::snapshot::TlsHost { hostname: None, mode, target: to(service) }].into())
        };
        let services = vec![secured(to_backend, on(signed(&ca, Some("b.example"), &[]))), secured(to_plain, EndpointTls::Untold)];
        let listeners = vec![
            listener(plain, Front::Tcp(to(0))),
            listener(secure, tcp(0)),
            listener(untold, Front::Tcp(to(1))),
            listener(ended_untold, tcp(1)),
        ];
        proxy.serve(listeners, services).await;
        let request = "GET /l4 HTTP/1.1\r\nhost: a.example\r\n\r\n";
        let answer = ask(&mut TcpStream::connect(plain).await.unwrap(), request).await;
        assert!(answer.body.contains("GET /l4 "), "{}", answer.body);
        assert!(!answer.body.contains("x-forwarded"), "nobody looked into it");
        let client = Arc::new(ca.client());
        let mut stream = tls::connect(secure, "a.example", &client).await.unwrap();
        assert!(ask(&mut stream, request).await.body.contains("GET /l4 "));
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the end is said, not cut");
        assert_eq!(met.handshakes.load(Ordering::Relaxed), 2);
        // No rules say how to verify the endpoint: what a client sends in the clear is passed on, what was protected until here is not.
        assert_eq!(ask(&mut TcpStream::connect(untold).await.unwrap(), request).await.status(), 200);
        let mut stream = tls::connect(ended_untold, "a.example", &client).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        assert!(stream.read(&mut [0]).await.is_err());
        assert_eq!(log.requests.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn large_content_passes_to_and_from_an_endpoint() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (to_backend, _) = tls::backend(ca.server(&["b.example"], None)).await;
        let mine = ended(settings(&[&ca.issue(&["a.example"])]));
        proxy.serve(vec![listener(at, front(&mine, to(0)))], vec![secured(to_backend, on(signed(&ca, Some("b.example"), &[])))]).await;
        let mut stream = tls::connect(at, "a.example", &Arc::new(ca.client())).await.unwrap();
        let content = "0123456789abcdef".repeat(64 << 10);
        let request = format!("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {}\r\n\r\n{content}", content.len());
        for _ in 0..2 {
            let answer = ask(&mut stream, &request).await;
            assert!(answer.body.ends_with(&content));
        }
    });
}

/// An endpoint that speaks HTTP/2 through TLS, and answers with the scheme it was asked by.
async fn http2_backend(mut config: rustls::ServerConfig) -> (std::net::SocketAddr, Arc<std::sync::atomic::AtomicU64>) {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handshakes = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (acceptor, counted) = (tokio_rustls::TlsAcceptor::from(Arc::new(config)), handshakes.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let text = format!("scheme={}", request.uri().scheme_str().unwrap_or("-"));
                    let mut body = respond.send_response(::http::Response::new(()), false).unwrap();
                    body.send_data(text.into(), true).unwrap();
                }
            });
        }
    });
    (address, handshakes)
}

#[test]
fn http2_goes_through_tls_too() {
    run(async {
        let (proxy, at, plain, ca) = (start(1), free(), free(), Authority::new());
        let (to_backend, handshakes) = http2_backend(ca.server(&["b.example"], None)).await;
        let h2c = |s: ServicePort| ServicePort { protocol: sluicegate_model::snapshot::AppProtocol::H2c, ..s };
        let services = vec![h2c(secured(to_backend, on(signed(&ca, Some("b.example"), &[])))), h2c(service(&[to_backend]))];
        proxy.serve(vec![listener(at, http(to(0))), listener(plain, http(to(1)))], services).await;
        for _ in 0..3 {
            let answer = get(at, "/").await;
            assert_eq!((answer.status(), answer.body.contains("scheme=https")), (200, true), "{answer:?}");
            // Without TLS, the same endpoint needs another connection, which fails.
            assert_eq!(get(plain, "/").await.status(), 502);
        }
        assert_eq!(handshakes.load(Ordering::Relaxed), 1);
    });
}
