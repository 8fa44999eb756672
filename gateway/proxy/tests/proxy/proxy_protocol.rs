//! The PROXY protocol through a running proxy, from clients and towards endpoints, and which clients may connect.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluicegate_model::settings::{BackendSettings, ClientSettings, ProxyProtocol, ProxyVersion};
use sluicegate_model::snapshot::{EndpointTls, Front, ServicePort};
use sluicegate_model::stats::Reset;
use sluicegate_model::tls::{Trust, UpstreamSettings, UpstreamTls, Verify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// From 192.0.2.1:5000 to 198.51.100.2:80, with a unique id.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12\xC0\0\x02\x01\xC6\x33\x64\x02\x13\x88\0\x50\x05\0\x03abc";
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\r\n";

fn trusting(trusted: &str, optional: bool) -> ClientSettings {
    let proxy_protocol = Some(ProxyProtocol { trusted: vec![trusted.parse().unwrap()], optional });
    ClientSettings { proxy_protocol, ..ClientSettings::default() }
}

fn telling(endpoint: SocketAddr, version: ProxyVersion) -> ServicePort {
    let settings = BackendSettings { proxy_protocol: Some(version), ..BackendSettings::default() };
    ServicePort { settings: Arc::new(settings), ..service(&[endpoint]) }
}

/// Echoes everything until the client's end.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut got = Vec::new();
                if stream.read_to_end(&mut got).await.is_ok() {
                    let _ = stream.write_all(&got).await;
                }
            });
        }
    });
    address
}

async fn exchange(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await?;
    Ok(got)
}

#[test]
fn a_header_is_taken_off_and_passed_on_in_either_version() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo().await);
        for (version, came, told) in [
            (ProxyVersion::V1, V1, V1),
            (ProxyVersion::V1, V2, V1),
            (ProxyVersion::V2, V2, V2),
            // The binary form of the line: the same without the unique id.
            (ProxyVersion::V2, V1, &[&V2[..15], b"\x0C", &V2[16..28]].concat()),
        ] {
            let listener = listener_with(at, Front::Tcp(to(0)), trusting("127.0.0.0/8", false));
            proxy.serve(vec![listener], vec![telling(to_echo, version)]).await;
            assert_eq!(exchange(at, &[came, b"hello"].concat()).await.unwrap(), [told, b"hello"].concat());
        }
        proxy.serve(vec![listener_with(at, Front::Tcp(to(0)), trusting("127.0.0.0/8", false))], vec![service(&[to_echo])]).await;
        assert_eq!(exchange(at, &[V2, b"hello"].concat()).await.unwrap(), b"hello");
    });
}

#[test]
fn a_header_may_come_byte_by_byte() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo().await);
        proxy.serve(vec![listener_with(at, Front::Tcp(to(0)), trusting("127.0.0.0/8", false))], vec![service(&[to_echo])]).await;
        for header in [V1, V2] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.set_nodelay(true).unwrap();
            for byte in [header, b"hello"].concat() {
                stream.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            stream.shutdown().await.unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"hello");
        }
    });
}

#[test]
fn a_missing_broken_or_cut_off_header_is_a_reset() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo().await);
        proxy.serve(vec![listener_with(at, Front::Tcp(to(0)), trusting("127.0.0.0/8", false))], vec![service(&[to_echo])]).await;
        let wrong = [&b"hello"[..], b"PROXY TCP4 x\r\n", &V1[..20], &V2[..20]];
        for (n, bytes) in wrong.iter().enumerate() {
            assert!(exchange(at, bytes).await.is_err(), "{n}");
            assert_eq!(proxy.stats.reset(Reset::ProxyHeader).load(Ordering::Relaxed), n as u64 + 1);
        }
    });
}

#[test]
fn only_trusted_proxies_are_believed() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo().await);
        let with_header = [V1, b"hello"].concat();
        proxy.serve(vec![listener_with(at, Front::Tcp(to(0)), trusting("192.0.2.0/24", false))], vec![service(&[to_echo])]).await;
        assert!(exchange(at, &with_header).await.is_err());
        assert_eq!(proxy.stats.reset(Reset::Untrusted).load(Ordering::Relaxed), 1);
        // If the header is optional, a client that is not trusted is served, and its header is content like any other.
        proxy.serve(vec![listener_with(at, Front::Tcp(to(0)), trusting("192.0.2.0/24", true))], vec![service(&[to_echo])]).await;
        assert_eq!(exchange(at, &with_header).await.unwrap(), with_header);
        proxy.serve(vec![listener_with(at, Front::Tcp(to(0)), trusting("127.0.0.0/8", true))], vec![service(&[to_echo])]).await;
        assert_eq!(exchange(at, &with_header).await.unwrap(), b"hello");
        assert_eq!(exchange(at, b"hello").await.unwrap(), b"hello");
    });
}

#[test]
fn requests_say_the_client_that_the_header_names() {
    run(async {
        let (proxy, at, (to_backend, _)) = (start(1), free(), mirror_back().await);
        proxy.serve(vec![listener_with(at, http(to(0)), trusting("127.0.0.0/8", false))], vec![service(&[to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(V2).await.unwrap();
        let seen = ask(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(seen.body.contains("x-forwarded-for: 192.0.2.1\r\n"), "{}", seen.body);
    });
}

#[test]
fn an_upstream_connection_that_told_of_a_client_serves_no_other() {
    run(async {
        let (proxy, at) = (start(1), free());
        // Reads a line of version 1, then requests; answers with the line and the connection's number.
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = backend.local_addr().unwrap();
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = backend.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut line = Vec::new();
                    while !line.ends_with(b"\r\n") {
                        line.push(stream.read_u8().await.unwrap());
                    }
                    let told = format!("{number} {}", String::from_utf8(line).unwrap());
                    while let Ok(Some(_)) = message(&mut stream).await {
                        stream.write_all(ok(&told).as_bytes()).await.unwrap();
                    }
                });
            }
        });
        proxy.serve(vec![listener(at, crate::support::http(to(0)))], vec![telling(endpoint, ProxyVersion::V1)]).await;
        let mut told = Vec::new();
        for _ in 0..2 {
            let mut client = TcpStream::connect(at).await.unwrap();
            let port = client.local_addr().unwrap().port();
            let wanted = format!("PROXY TCP4 127.0.0.1 {} {port} {}\r\n", at.ip(), at.port());
            for _ in 0..3 {
                let body = ask(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.body;
                assert!(body.ends_with(&wanted), "{body:?}, not {wanted:?}");
                told.push(body);
            }
        }
        told.dedup();
        assert_eq!(told.len(), 2, "one connection for each client: {told:?}");
    });
}

#[test]
fn source_ranges_let_in_whom_they_name() {
    run(async {
        let (proxy, at, to_echo) = (start(1), free(), echo().await);
        let sources = |range: &str, settings: ClientSettings| ClientSettings { sources: vec![range.parse().unwrap()], ..settings };
        let serve = async |settings| {
            proxy.serve(vec![listener_with(at, Front::Tcp(to(0)), settings)], vec![service(&[to_echo])]).await;
        };
        serve(sources("127.0.0.0/8", ClientSettings::default())).await;
        assert_eq!(exchange(at, b"x").await.unwrap(), b"x");
        serve(sources("192.0.2.0/24", ClientSettings::default())).await;
        assert!(exchange(at, b"x").await.is_err());
        assert_eq!(proxy.stats.reset(Reset::SourceRange).load(Ordering::Relaxed), 1);
        // The client that the header names is the one that counts.
        serve(sources("192.0.2.0/24", trusting("127.0.0.0/8", false))).await;
        assert_eq!(exchange(at, &[V2, b"x"].concat()).await.unwrap(), b"x");
    });
}

#[test]
fn a_header_stands_in_front_of_tls_on_either_side() {
    run(async {
        let (proxy, inward, outward, ca) = (start(1), free(), free(), tls::Authority::new());
        // An endpoint that reads a line of version 1, then speaks TLS.
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = backend.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(ca.server(&["b.example"], None)));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = backend.accept().await {
                let mut line = Vec::new();
                while !line.ends_with(b"\r\n") {
                    line.push(stream.read_u8().await.unwrap());
                }
                let mut stream = acceptor.accept(stream).await.unwrap();
                message(&mut stream).await.unwrap();
                stream.write_all(ok(&String::from_utf8(line).unwrap()).as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        });
        let verify = Verify::Signed { trust: Trust::Only(ca.authorities()), names: vec![] };
        let sni = Some(rustls::pki_types::DnsName::try_from("b.example").unwrap());
        let rules = UpstreamTls::build(Arc::new(UpstreamSettings { verify, sni, certificate: None })).unwrap();
        let secured = ServicePort { tls: EndpointTls::On(Arc::new(rules)), ..telling(endpoint, ProxyVersion::V1) };
        let (to_mirror, _) = mirror_back().await;
        let ended = tls::front(&tls::ended(tls::settings(&[&ca.issue(&["a.example"])])), to(0));
        let listeners = vec![
            listener_with(inward, ended, trusting("127.0.0.0/8", false)),
            listener_with(outward, crate::support::http(to(1)), trusting("127.0.0.0/8", false)),
        ];
        proxy.serve(listeners, vec![service(&[to_mirror]), secured]).await;
        let mut stream = TcpStream::connect(inward).await.unwrap();
        stream.write_all(V2).await.unwrap();
        let mut stream = tls::shake(stream, "a.example", &Arc::new(ca.client())).await.unwrap();
        let seen = ask(&mut stream, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
        assert!(
            seen.body.contains("x-forwarded-for: 192.0.2.1\r\n") && seen.body.contains("x-forwarded-proto: https\r\n"),
            "{}",
            seen.body
        );
        let mut stream = TcpStream::connect(outward).await.unwrap();
        stream.write_all(V2).await.unwrap();
        let seen = ask(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(seen.body.starts_with("PROXY TCP4 192.0.2.1 "), "{}", seen.body);
        // Without its header, a handshake is refused.
        let stream = TcpStream::connect(inward).await.unwrap();
        assert!(tls::shake(stream, "a.example", &Arc::new(ca.client())).await.is_err());
    });
}
