//! TLS that is passed through: the hello is read, routed and forwarded as it came. The peers are rustls on both ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{Generation, PluginError, Router, RouterGeneration};
use sluicegate_model::route::{Backend, Choice, Decision, Interests, ListenerInfo, RouteTable, RouteView, Rule, Transport};
use sluicegate_model::snapshot::{BoundRule, Front, RouterBinding, RouterRung, Target, TlsHost, TlsMode};
use sluicegate_model::stats::TlsFailure;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::support::tls::{Authority, ended, failed, https, settings, shake};
use crate::support::*;

/// Sends its first bytes one by one, each in its own segment where possible, and cut into tiny records if asked to.
struct Trickle {
    stream: TcpStream,
    slowly: usize,
}

impl AsyncRead for Trickle {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let size = if self.slowly > 0 { 1 } else { bytes.len() };
        self.slowly = self.slowly.saturating_sub(1);
        Pin::new(&mut self.stream).poll_write(context, &bytes[..size.min(bytes.len())])
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn passed(hostname: Option<&str>, target: Target) -> TlsHost {
    TlsHost { hostname: hostname.map(str::to_owned), mode: TlsMode::Passthrough, target }
}

/// Rule 0 for clients that offer `h2`, else rule 1; none for `nobody.example`.
struct ByAlpn(Arc<Generation>);
struct Alpn;

impl RouterGeneration for ByAlpn {
    fn generation(&self) -> &Arc<Generation> {
        &self.0
    }
    fn configure(&self, _: &ConfigText, _: &ListenerInfo) -> Result<RouteTable, PluginError> {
        unreachable!("the test makes its table itself")
    }
    fn instantiate(&self) -> Result<Box<dyn Router>, PluginError> {
        Ok(Box::new(Alpn))
    }
}

impl Router for Alpn {
    fn route(&mut self, _: &Arc<RouteTable>, hello: &RouteView<'_>) -> Result<Decision, PluginError> {
        if hello.host == "nobody.example" {
            return Ok(Decision::NoMatch);
        }
        let h2 = hello.headers.get("alpn").is_some_and(|v| v == "h2, http/1.1");
        Ok(Decision::Matched(Choice { rule: usize::from(!h2), backend: Some(0), matched_prefix: 0 }))
    }
    fn retain(&mut self, _: &dyn Fn(u64) -> bool) {}
}

fn by_alpn() -> Target {
    let backend = || vec![Backend { service: reference(), weight: 1, actions: Default::default() }];
    let rules = vec![Rule { backends: backend(), ..Rule::default() }, Rule { backends: backend(), ..Rule::default() }];
    let listener = ListenerInfo { name: "l".into(), port: 443, transport: Transport::Tls, hostname: None, namespace: "default".into() };
    let table = Arc::new(table(listener, rules, Interests::default()));
    let rules = [0, 1].map(|service| Arc::new(BoundRule { backends: [Ok(service)].into(), ..BoundRule::default() })).into();
    let rung = RouterRung { generation: Arc::new(ByAlpn(generation())), table, rules, hands_over: false };
    Target::Router(Arc::new(RouterBinding { transport: Transport::Tls, ladder: vec![rung] }))
}

#[test]
fn connections_go_by_server_name_and_protocol_however_the_hello_is_cut() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let (one, met_one) = tls::backend(ca.server(&["a.example", "b.example"], None)).await;
        let (two, met_two) = tls::backend(ca.server(&["a.example", "b.example"], None)).await;
        let hosts = vec![passed(Some("a.example"), to(1)), passed(None, by_alpn())];
        proxy.serve(vec![listener(at, Front::Tls(hosts.into()))], vec![service(&[one]), service(&[two])]).await;
        let request = "GET /x HTTP/1.1\r\nhost: anything\r\n\r\n";
        let mut wanted = [0, 0];
        for (name, h2, to) in [("a.example", true, 1), ("b.example", true, 0), ("b.example", false, 1)] {
            let mut client = ca.client();
            if h2 {
                client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            }
            for slowly in [0, 1, 7, 2000] {
                let stream = TcpStream::connect(at).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut stream = shake(Trickle { stream, slowly }, name, &Arc::new(client.clone())).await.unwrap();
                let answer = ask(&mut stream, request).await;
                assert!(answer.body.starts_with(&format!("sni={name} ")), "{}", answer.body);
                assert!(answer.body.contains("host: anything\r\n") && !answer.body.contains("x-forwarded"), "untouched: {}", answer.body);
                wanted[to] += 1;
                assert_eq!([&met_one, &met_two].map(|m| m.handshakes.load(Ordering::Relaxed)), wanted, "{name} {h2} {slowly}");
            }
        }
        assert_eq!(proxy.stats.tls.passed.load(Ordering::Relaxed), 12);
        let stream = TcpStream::connect(at).await.unwrap();
        let error = shake(stream, "nobody.example", &Arc::new(ca.client())).await.unwrap_err().to_string();
        assert!(error.contains("reset"), "no route: {error}");
    });
}

#[test]
fn bytes_arrive_as_they_were_sent_whatever_records_they_are_in() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), Authority::new());
        let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy
            .serve(
                vec![listener(at, Front::Tls(vec![passed(Some("a.example"), to(0))].into()))],
                vec![service(&[sink.local_addr().unwrap()])],
            )
            .await;
        let mut hello = Vec::new();
        let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        rustls::ClientConnection::new(Arc::new(ca.client()), name).unwrap().write_tls(&mut hello).unwrap();
        // The hello comes in records of 100 bytes, with more behind it, in one piece.
        let pieces = hello[5..].chunks(100).flat_map(|p| [&[22, 3, 1, 0, u8::try_from(p.len()).unwrap()][..], p].concat());
        let sent: Vec<u8> = pieces.chain(*b"early data, perhaps").collect();
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
        let (mut arrived, mut got) = (sink.accept().await.unwrap().0, Vec::new());
        arrived.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, sent);
        arrived.write_all(b"bye").await.unwrap();
        drop(arrived);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "bye");
    });
}

#[test]
fn what_is_passed_and_what_is_ended_may_share_a_port() {
    run(async {
        let (proxy, at, theirs, ours) = (start(1), free(), Authority::new(), Authority::new());
        let (secure, met) = tls::backend(theirs.server(&["x.pass.example"], None)).await;
        let (plain, log) = mirror_back().await;
        let end = ended(settings(&[&ours.issue(&["end.example"])]));
        let hosts = vec![https(Some("end.example"), &end, to(1)), passed(Some("*.pass.example"), to(0))];
        proxy.serve(vec![listener(at, Front::Tls(hosts.into()))], vec![service(&[secure]), service(&[plain])]).await;
        assert_eq!(tls::get(at, "end.example", &Arc::new(ours.client())).await.unwrap().0.status(), 200);
        let mut stream = tls::connect(at, "x.pass.example", &Arc::new(theirs.client())).await.unwrap();
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200);
        assert_eq!((met.handshakes.load(Ordering::Relaxed), log.requests.load(Ordering::Relaxed)), (1, 1));
        // The host of what is passed through is no host of the other listener.
        let mut stream = tls::connect(at, "end.example", &Arc::new(ours.client())).await.unwrap();
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nhost: x.pass.example\r\n\r\n").await.status(), 421);
        assert!(tls::connect(at, "other.example", &Arc::new(ours.client())).await.is_err());
        failed(&proxy.stats, TlsFailure::Name, 1).await;
    });
}
