//! TLS with clients, through a running proxy; the peer is rustls as a client.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use sluicegate_model::snapshot::{Front, Target};
use sluicegate_model::stats::TlsFailure;
use sluicegate_model::tls::{ClientValidation, Demand, ServerSettings, Version, Versions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::tls::{Authority, connect, ended, failed, front, https, settings};
use crate::support::*;

#[test]
fn the_certificate_fits_the_server_name_and_the_host_the_listener() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (a, x, wild) = (ca.issue(&["a.example"]), ca.issue(&["x.wild.example"]), ca.issue(&["*.wild.example"]));
        let (one, several) = (ended(settings(&[&a])), ended(settings(&[&wild, &x])));
        let hosts = vec![https(Some("a.example"), &one, to(0)), https(Some("*.wild.example"), &several, to(0))];
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, Front::Tls(hosts.into()))], vec![service(&[to_backend])]).await;
        let client = Arc::new(ca.client());
        for (name, wanted) in [("a.example", &a), ("x.wild.example", &x), ("y.wild.example", &wild)] {
            let mut stream = connect(at, name, &client).await.unwrap();
            assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], wanted.der, "{name}");
            assert_eq!(stream.get_ref().1.alpn_protocol(), None);
            let request = |host: &str| format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let answer = ask(&mut stream, &request(name)).await;
            assert!(answer.body.contains("x-forwarded-proto: https\r\n"), "{}", answer.body);
            // The request names another listener's host, then nobody's; the connection is kept.
            let other = if name == "a.example" { "x.wild.example" } else { "a.example" };
            assert_eq!(ask(&mut stream, &request(other)).await.status(), 421);
            assert_eq!(ask(&mut stream, &request("b.example")).await.status(), 404);
            assert_eq!(ask(&mut stream, &request(name)).await.status(), 200);
        }
        // Any of one listener's names will do.
        let mut stream = connect(at, "x.wild.example", &client).await.unwrap();
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nhost: y.wild.example\r\n\r\n").await.status(), 200);
        // A client that has only an address to go by sends no name.
        for (nobody, told) in [("b.example", "UnrecognisedName"), ("wild.example", "UnrecognisedName"), ("127.0.0.1", "MissingExtension")] {
            let error = connect(at, nobody, &client).await.unwrap_err().to_string();
            assert!(error.contains(told), "{nobody}: {error}");
        }
        failed(&proxy.stats, TlsFailure::Name, 3).await;
    });
}

#[test]
fn alpn_is_negotiated_by_the_setting() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, front(&ended(settings(&[&ca.issue(&["a.example"])])), to(0)))], vec![service(&[to_backend])]).await;
        let mut client = ca.client();
        client.alpn_protocols = vec![b"spdy/3".to_vec(), b"http/1.1".to_vec()];
        let stream = connect(at, "a.example", &Arc::new(client.clone())).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        client.alpn_protocols = vec![b"spdy/3".to_vec()];
        assert!(connect(at, "a.example", &Arc::new(client)).await.is_err());
        failed(&proxy.stats, TlsFailure::Incompatible, 1).await;
    });
}

#[test]
fn a_renewed_certificate_is_served_while_connections_and_sessions_live_on() {
    run(async {
        let (proxy, at, ca) = (start(2), free(), Authority::new());
        let (old, new) = (ca.issue(&["a.example"]), ca.issue(&["a.example"]));
        let (to_backend, _) = mirror_back().await;
        let before = ended(settings(&[&old]));
        proxy.serve(vec![listener(at, front(&before, to(0)))], vec![service(&[to_backend])]).await;
        let client = Arc::new(ca.client());
        let mut live = connect(at, "a.example", &client).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";
        assert_eq!(ask(&mut live, request).await.status(), 200);

        let after = ended(settings(&[&new]));
        proxy.serve(vec![listener(at, front(&after, to(0)))], vec![service(&[to_backend])]).await;
        assert_eq!(ask(&mut live, request).await.status(), 200, "the live connection was not touched");
        let fresh = connect(at, "a.example", &Arc::new(ca.client())).await.unwrap();
        assert_eq!(fresh.get_ref().1.peer_certificates().unwrap()[0], new.der);
        let resumed = connect(at, "a.example", &client).await.unwrap();
        assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed), "the ticket of before is good");
    });
}

#[test]
fn sessions_resume_on_any_worker_in_both_versions() {
    run(async {
        let (proxy, at, ca) = (start(4), free(), Authority::new());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, front(&ended(settings(&[&ca.issue(&["a.example"])])), to(0)))], vec![service(&[to_backend])]).await;
        for version in [&TLS12, &TLS13] {
            let client = Arc::new(ca.client_of(&[version], None));
            let mut resumed = 0;
            for _ in 0..9 {
                let (answer, again) = tls::get(at, "a.example", &client).await.unwrap();
                assert_eq!(answer.status(), 200);
                resumed += u64::from(again);
            }
            assert_eq!(resumed, 8, "{version:?}");
        }
        assert_eq!(proxy.stats.tls.handshakes.load(Ordering::Relaxed), 18);
        assert_eq!(proxy.stats.tls.resumed.load(Ordering::Relaxed), 16);
    });
}

#[test]
fn versions_are_limited_both_ways() {
    run(async {
        let (proxy, ca) = (start(1), Authority::new());
        let issued = ca.issue(&["a.example"]);
        let of = |min, max| ended(ServerSettings { versions: Versions { min, max }, ..settings(&[&issued]) });
        let (both, old, new) = (free(), free(), free());
        let (to_backend, _) = mirror_back().await;
        let listeners = vec![
            listener(both, front(&of(Version::Tls12, Version::Tls13), to(0))),
            listener(old, front(&of(Version::Tls12, Version::Tls12), to(0))),
            listener(new, front(&of(Version::Tls13, Version::Tls13), to(0))),
        ];
        proxy.serve(listeners, vec![service(&[to_backend])]).await;
        for (version, at, served) in [
            (&TLS12, both, true),
            (&TLS13, both, true),
            (&TLS12, old, true),
            (&TLS13, old, false),
            (&TLS12, new, false),
            (&TLS13, new, true),
        ] {
            let client = Arc::new(ca.client_of(&[version], None));
            assert_eq!(tls::get(at, "a.example", &client).await.is_ok(), served, "{version:?} at {at}");
        }
        failed(&proxy.stats, TlsFailure::Incompatible, 2).await;
    });
}

const FORGED: &str = "GET / HTTP/1.1\r\nhost: a.example\r\nx-forwarded-client-cert: Subject=\"CN=admin\"\r\nX-Forwarded-Client-Cert: Hash=1\r\nconnection: x-forwarded-client-cert\r\n\r\n";

/// What the backend was told about the client, on a connection whose request forges it.
async fn told(at: std::net::SocketAddr, client: rustls::ClientConfig) -> std::io::Result<Option<String>> {
    let mut stream = connect(at, "a.example", &Arc::new(client)).await?;
    stream.write_all(FORGED.as_bytes()).await?;
    let answer = message(&mut stream).await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let lines: Vec<&str> = answer.body.lines().filter_map(|l| l.strip_prefix("x-forwarded-client-cert: ")).collect();
    assert!(lines.len() <= 1, "{lines:?}");
    Ok(lines.first().map(|l| (*l).to_owned()))
}

#[test]
fn client_certificates_are_verified_and_told_and_cannot_be_forged() {
    run(async {
        let (proxy, ca, people, strangers) = (start(1), Authority::new(), Authority::new(), Authority::new());
        let issued = ca.issue(&["a.example"]);
        let of = |demand| {
            let client = Some(ClientValidation { authorities: Some(people.authorities()), demand });
            ended(ServerSettings { client, ..settings(&[&issued]) })
        };
        let (plain, required, optional, fallback) = (free(), free(), free(), free());
        let (to_backend, _) = mirror_back().await;
        let listeners = vec![
            listener(plain, http(to(0))),
            listener(required, front(&of(Demand::Required), to(0))),
            listener(optional, front(&of(Demand::Optional), to(0))),
            listener(fallback, front(&of(Demand::Fallback), to(0))),
        ];
        proxy.serve(listeners, vec![service(&[to_backend])]).await;
        let (alice, mallory) = (people.issue(&["alice", "spiffe://people/alice"]), strangers.issue(&["alice"]));
        let client = |shows| ca.client_of(rustls::DEFAULT_VERSIONS, shows);
        for at in [required, optional, fallback] {
            let told = told(at, client(Some(&alice))).await.unwrap().expect("it is told");
            assert!(told.starts_with("Hash=") && told.ends_with(";Subject=\"CN=alice\";URI=spiffe://people/alice;DNS=alice"), "{told}");
        }
        assert!(told(required, client(None)).await.is_err());
        assert_eq!(told(optional, client(None)).await.unwrap(), None);
        assert_eq!(told(fallback, client(None)).await.unwrap(), None);
        assert!(told(required, client(Some(&mallory))).await.is_err());
        assert!(told(optional, client(Some(&mallory))).await.is_err());
        assert_eq!(told(fallback, client(Some(&mallory))).await.unwrap(), None);
        failed(&proxy.stats, TlsFailure::ClientCertificate, 3).await;
        // A request without TLS brings neither.
        let answer = ask(&mut TcpStream::connect(plain).await.unwrap(), FORGED).await;
        assert!(!answer.body.contains("client-cert"), "{}", answer.body);
        // A session is resumed with the identity it began with.
        let again = Arc::new(client(Some(&alice)));
        for resumed in [false, true] {
            let (answer, was) = tls::get(required, "a.example", &again).await.unwrap();
            assert_eq!(was, resumed);
            assert!(answer.body.contains(";Subject=\"CN=alice\""), "{}", answer.body);
        }
    });
}

#[test]
fn without_a_usable_certificate_handshakes_are_refused() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        proxy.serve(vec![listener(at, front(&ended(ServerSettings::default()), Target::Nothing))], vec![]).await;
        assert!(connect(at, "a.example", &Arc::new(ca.client())).await.is_err());
        failed(&proxy.stats, TlsFailure::Unready, 1).await;
    });
}

#[test]
fn clients_that_stall_or_send_garbage_delay_nobody() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let patience = Duration::from_millis(400);
        let tls = ended(ServerSettings { handshake_timeout: patience, ..settings(&[&ca.issue(&["a.example"])]) });
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, front(&tls, to(0)))], vec![service(&[to_backend])]).await;
        let begun = Instant::now();
        let mut stalled = Vec::new();
        for first in [&b""[..], &[22], &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc]] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(first).await.unwrap();
            stalled.push(stream);
        }
        // This client stalls after its hello.
        let mut stream = TcpStream::connect(at).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        let mut hello = Vec::new();
        rustls::ClientConnection::new(Arc::new(ca.client()), name).unwrap().write_tls(&mut hello).unwrap();
        stream.write_all(&hello).await.unwrap();
        stalled.push(stream);
        for _ in 0..5 {
            let (answer, _) = tls::get(at, "a.example", &Arc::new(ca.client())).await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        for garbage in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", &[22, 3, 1, 0, 0]] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            let mut rest = Vec::new();
            // This ends with the end of the connection or with a reset, since not everything was read.
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty() || rest.starts_with(&[21, 3, 3, 0, 2, 2]), "{rest:?}");
        }
        failed(&proxy.stats, TlsFailure::Hello, 3).await;
        for mut stream in stalled {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        assert!(begun.elapsed() >= patience);
        failed(&proxy.stats, TlsFailure::Timeout, 4).await;
        assert_eq!(proxy.stats.tls.under_way.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn large_content_passes_both_ways_also_to_a_slow_reader() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (to_backend, _) = mirror_back().await;
        let tls = ended(settings(&[&ca.issue(&["a.example"])]));
        proxy.serve(vec![listener(at, front(&tls, to(0)))], vec![service(&[to_backend])]).await;
        let mut stream = connect(at, "a.example", &Arc::new(ca.client())).await.unwrap();
        let content = "0123456789abcdef".repeat(256 << 10);
        let head = format!("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {}\r\n\r\n", content.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(content.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        // It reads nothing until the proxy's buffers and the socket's must be full.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = message(&mut stream).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.body.ends_with(&content));
        // The connection is kept for another request.
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await.status(), 200);
    });
}

#[test]
fn http2_is_spoken_where_it_was_agreed_on() {
    run(async {
        let (proxy, at, ca, people) = (start(1), free(), Authority::new(), Authority::new());
        let client = Some(ClientValidation { authorities: Some(people.authorities()), demand: Demand::Optional });
        let alpn = vec!["h2".to_owned(), "http/1.1".to_owned()];
        let of = |name: &str| ServerSettings { alpn: alpn.clone(), client: client.clone(), ..settings(&[&ca.issue(&[name])]) };
        let hosts =
            vec![https(Some("a.example"), &ended(of("a.example")), to(0)), https(Some("b.example"), &ended(of("b.example")), to(0))];
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, Front::Tls(hosts.into()))], vec![service(&[to_backend])]).await;
        let mut config = ca.client_of(rustls::DEFAULT_VERSIONS, Some(&people.issue(&["alice"])));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = connect(at, "a.example", &Arc::new(config.clone())).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for (host, status) in [("a.example", 200), ("b.example", 421), ("c.example", 404), ("a.example", 200)] {
            let request =
                http::Request::get(format!("https://{host}/x")).header("x-forwarded-client-cert", "Hash=forged").body(()).unwrap();
            let response = sender.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(response.status(), status, "{host}");
            let mut body = response.into_body();
            let mut text = Vec::new();
            while let Some(data) = body.data().await {
                text.extend_from_slice(&data.unwrap());
            }
            if status == 200 {
                let text = String::from_utf8(text).unwrap();
                assert!(text.contains("x-forwarded-proto: https\r\n") && text.contains("x-forwarded-client-cert: Hash="), "{text}");
                assert!(text.contains("Subject=\"CN=alice\"") && !text.contains("forged"), "{text}");
            }
        }
        assert_eq!(proxy.stats.http2_connections.load(Ordering::Relaxed), 1);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        assert_eq!(tls::get(at, "a.example", &Arc::new(config)).await.unwrap().0.status(), 200);
    });
}
