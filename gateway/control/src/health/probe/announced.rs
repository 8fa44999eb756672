//! Probes of endpoints that expect a PROXY header.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_model::settings::{Probe, ProbeVersion, ProxyVersion};
use sluicegate_model::tls::{Authorities, Trust, UpstreamSettings, UpstreamTls, Verify};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::probe;
use super::tests::acceptor;

const DEADLINE: Duration = Duration::from_secs(20);

/// An endpoint that takes no connection without the header of a proxy that speaks for itself (PROXY protocol, §2.1 `UNKNOWN`, §2.2 `LOCAL`), with or without
/// TLS behind it, and answers each kind of probe; and the rules of TLS to reach it.
async fn endpoint(version: ProxyVersion, secured: bool) -> (SocketAddr, UpstreamTls) {
    let header: &[u8] = match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
        ProxyVersion::V2 => b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x20\x00\x00\x00",
    };
    let (acceptor, authority) = acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // It gives up at the first byte that differs, as servers do: not all probes send so many bytes.
            let (mut wanted, mut came) = (header.iter(), [0]);
            let differs = loop {
                let Some(byte) = wanted.next() else { break false };
                if stream.read_exact(&mut came).await.is_err() || came[0] != *byte {
                    break true;
                }
            };
            if differs {
                continue;
            }
            let acceptor = secured.then(|| acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => answer(stream).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            answer(stream).await;
                        }
                    }
                }
            });
        }
    });
    let trust = Trust::Only(Authorities::from_pem(authority.as_bytes()).expect("an authority"));
    let sni = Some("a.example".to_owned().try_into().expect("a name"));
    let settings = UpstreamSettings { verify: Verify::Signed { trust, names: vec![] }, sni, certificate: None };
    (address, UpstreamTls::build(Arc::new(settings)).expect("rules"))
}

/// Tells the kinds of probes apart by their first byte, and answers.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut first = [0];
    if stream.read_exact(&mut first).await.is_err() {
        return;
    }
    match first[0] {
        b'+' => drop(stream.write_all(b"+PONG").await),
        b'G' => drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await),
        _ => {
            let (read, write) = tokio::io::split(stream);
            let stream = tokio::io::join(std::io::Cursor::new(first).chain(read), write);
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let grpc = request.uri().path().starts_with("/grpc.");
                let response = ::http::Response::builder().header("content-type", if grpc { "application/grpc" } else { "text/plain" });
                let Ok(mut content) = respond.send_response(response.body(()).expect("a response"), false) else { return };
                let said: &[u8] = if grpc { &[0, 0, 0, 0, 2, 8, 1] } else { b"ok" };
                let _ = content.send_data(said.to_vec().into(), false);
                let status =
                    ::http::HeaderMap::from_iter([(::http::HeaderName::from_static("grpc-status"), "0".parse().expect("a value"))]);
                let _ = content.send_trailers(status);
            }
            return;
        }
    }
    let _ = stream.read(&mut [0; 4096]).await;
}

#[tokio::test]
async fn every_kind_of_probe_begins_as_traffic_does() {
    let http = |version| Probe::Http {
        version,
        method: ::http::Method::GET,
        path: "/".to_owned(),
        host: None,
        statuses: vec![200],
        receive: b"ok".as_slice().into(),
    };
    // With HTTP/2 the first byte is the preface's `P`.
    let kinds = [
        Probe::Tcp { send: b"+PING".as_slice().into(), receive: b"+PONG".as_slice().into() },
        http(ProbeVersion::Http1),
        http(ProbeVersion::Http2),
        Probe::Grpc { service: String::new(), host: None },
    ];
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        for secured in [false, true] {
            let (address, rules) = endpoint(version, secured).await;
            let rules = secured.then_some(&rules);
            for kind in &kinds {
                let ask = |proxy| tokio::time::timeout(DEADLINE, probe(address, proxy, rules, kind));
                assert_eq!(ask(Some(version)).await.expect("in time"), Ok(()), "{version:?}, TLS {secured}: {kind:?}");
                assert!(ask(None).await.expect("in time").is_err(), "{version:?}, TLS {secured}: {kind:?}");
            }
        }
    }
}
