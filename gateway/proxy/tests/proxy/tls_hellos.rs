//! Client hellos that are refused, and what their clients hear (RFC 8446 §6.2); and large ones that are not refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use sluicegate_model::snapshot::{Front, Target};
use sluicegate_model::stats::TlsFailure;
use sluicegate_model::tls::ServerSettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::tls::{Authority, connect, ended, failed, https, settings};
use crate::support::*;

/// Vectors with lengths of one and two bytes (RFC 8446 §3.4).
fn short(content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(content.len()).unwrap()][..], content].concat()
}

fn long(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(content)].concat()
}

fn name(name: &str) -> Vec<u8> {
    extension(0, &long(&[&[0][..], &long(name.as_bytes())].concat()))
}

/// A hello of TLS 1.2 with these extensions, in records of this size.
fn hello(extensions: &[u8], record: usize) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &short(b""), &long(&[0xc0, 0x2b]), &short(&[0]), &long(extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    message.chunks(record).flat_map(|piece| [&[22, 3, 1][..], &long(piece)].concat()).collect()
}

/// Sends all of it; returns everything that comes back. A reset is an error.
async fn answer(at: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(sent).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    rest
}

#[test]
fn a_refused_hello_gets_its_alert() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (served, unready) = (ended(settings(&[&ca.issue(&["a.example"])])), ended(ServerSettings::default()));
        let hosts = vec![https(Some("a.example"), &served, Target::Nothing), https(Some("none.example"), &unready, Target::Nothing)];
        proxy.serve(vec![listener(at, Front::Tls(hosts.into()))], vec![]).await;
        let a = name("a.example");
        let doubled = [a.clone(), a.clone()].concat();
        let padded = [a.clone(), extension(21, &[0; 30_000])].concat();
        let two_names = extension(0, &long(&[[&[0][..], &long(b"a")].concat(), [&[0][..], &long(b"b")].concat()].concat()));
        let (decode_error, illegal_parameter, unexpected_message) = (50, 47, 10);
        let cases: &[(&str, Vec<u8>, u8, TlsFailure)] = &[
            ("an empty record", vec![22, 3, 1, 0, 0], unexpected_message, TlsFailure::Hello),
            ("an empty record in the midst", [&[22, 3, 1, 0, 1, 1][..], &[22, 3, 3, 0, 0]].concat(), unexpected_message, TlsFailure::Hello),
            ("another message", vec![22, 3, 1, 0, 4, 2, 0, 0, 0], unexpected_message, TlsFailure::Hello),
            ("another record", vec![23, 3, 3, 0, 1, 0], unexpected_message, TlsFailure::Hello),
            ("a record too large", vec![22, 3, 1, 0x40, 1], 22, TlsFailure::Hello),
            ("cut short", vec![22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3], decode_error, TlsFailure::Hello),
            ("a name that is none", hello(&name("a b"), 1 << 14), decode_error, TlsFailure::Hello),
            ("an extension twice", hello(&doubled, 1 << 14), illegal_parameter, TlsFailure::Hello),
            ("two names", hello(&two_names, 1 << 14), illegal_parameter, TlsFailure::Hello),
            // The rest is still on its way when the hello is refused.
            ("too large", [&[22, 3, 1, 0x40, 0, 1, 1, 0, 0][..], &[0; 100_000]].concat(), decode_error, TlsFailure::Hello),
            ("in too many records", hello(&padded, 1), decode_error, TlsFailure::Hello),
            ("a name that nobody serves", hello(&name("b.example"), 1 << 14), 112, TlsFailure::Name),
            ("no name", hello(&extension(21, &[0]), 1 << 14), 109, TlsFailure::Name),
            ("a name without a certificate", hello(&name("none.example"), 1 << 14), 80, TlsFailure::Unready),
            // rustls refuses this one, as no group is offered.
            ("nothing in common", hello(&a, 1 << 14), 40, TlsFailure::Incompatible),
        ];
        let mut counts = std::collections::HashMap::new();
        for (what, sent, alert, failure) in cases {
            let told = answer(at, sent).await;
            assert!(told.len() == 7 && told[0] == 21 && told[3..6] == [0, 2, 2], "{what}: {told:?}");
            assert_eq!(told[6], *alert, "{what}");
            let count = counts.entry(*failure as usize).or_insert(0);
            *count += 1;
            failed(&proxy.stats, *failure, *count).await;
        }
        // Peers that do not speak TLS would not know what an alert is.
        for other in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[21, 3, 3, 0, 2, 2, 40]] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(other).await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert_eq!(rest, b"", "{other:?}");
        }
    });
}

#[test]
fn hellos_of_up_to_64_kib_are_taken() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let served = ended(settings(&[&ca.issue(&["a.example"])]));
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, Front::Tls(vec![https(None, &served, to(0))].into()))], vec![service(&[to_backend])]).await;
        for version in [&TLS12, &TLS13] {
            for protocols in [80, 200, 249] {
                let mut client = ca.client_of(&[version], None);
                // Each name has 256 bytes.
                client.alpn_protocols = (0..protocols).map(|n| format!("{n:0>255}").into_bytes()).chain([b"http/1.1".to_vec()]).collect();
                let mut stream = connect(at, "a.example", &Arc::new(client)).await.unwrap();
                assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await.status(), 200, "{protocols}");
            }
        }
    });
}
