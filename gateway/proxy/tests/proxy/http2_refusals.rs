//! Requests that an endpoint of HTTP/2 has not looked at (RFC 9113 §8.7): REFUSED_STREAM, and GOAWAY with a lower last stream. Whatever their method,
//! they go on to another endpoint, or to a new connection, also where no policy asks for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_model::settings::Trigger;
use sluicegate_model::settings::{BackendSettings, Breaker, Retry};
use sluicegate_model::snapshot::AppProtocol;
use sluicegate_model::stats::ServiceStats;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::http2::*;
use crate::support::*;

fn of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What an endpoint does with a stream once all of it has come.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Refuse,
    /// It sends a GOAWAY that names no stream, and ends the connection.
    Leave,
    /// It sends a GOAWAY that names the stream, and ends the connection: the request may have been acted on.
    Fail,
    Serve,
}

/// An endpoint that does these things in turn, and the last one for ever, on streams over all of its connections.
async fn doing(deeds: &'static [Deed]) -> (SocketAddr, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log) = (listener.local_addr().unwrap(), Log::default());
    let counted = log.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(connection(stream, deeds, counted.clone()));
        }
    });
    (address, log)
}

async fn connection(mut stream: TcpStream, deeds: &[Deed], log: Log) -> std::io::Result<()> {
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    stream.read_exact(&mut [0; 24]).await?;
    while let Some(seen) = next(&mut stream).await {
        if !matches!(seen.kind, HEADERS | DATA) || seen.flags & END_STREAM == 0 {
            continue;
        }
        let turn = usize::try_from(log.requests.fetch_add(1, Ordering::Relaxed)).unwrap();
        match deeds[turn.min(deeds.len() - 1)] {
            Deed::Refuse => stream.write_all(&frame(RST_STREAM, 0, seen.stream, &REFUSED_STREAM.to_be_bytes())).await?,
            deed @ (Deed::Leave | Deed::Fail) => {
                let last = if deed == Deed::Leave { 0 } else { seen.stream };
                let told = [last.to_be_bytes(), 0_u32.to_be_bytes()].concat();
                stream.write_all(&frame(GOAWAY, 0, 0, &told)).await?;
                return stream.shutdown().await;
            }
            Deed::Serve => {
                let answer = [frame(HEADERS, END_HEADERS, seen.stream, &[0x88]), frame(DATA, END_STREAM, seen.stream, b"served")];
                stream.write_all(&answer.concat()).await?;
            }
        }
    }
    Ok(())
}

async fn serving(endpoints: &[SocketAddr], settings: BackendSettings) -> (Running, SocketAddr, Arc<ServiceStats>) {
    let (proxy, at) = (start(1), free());
    let service = speaking(AppProtocol::H2c, endpoints, settings);
    let stats = service.stats.clone();
    proxy.serve(vec![listener(at, http(to(0)))], vec![service]).await;
    (proxy, at, stats)
}

/// Sends ten requests each with and without content, over both versions. Returns how many were served.
async fn served(at: SocketAddr) -> usize {
    let client = connect(at).await;
    let mut count = 0;
    for n in 0..20 {
        let body = if n % 2 == 0 { "a message" } else { "" };
        count += usize::from(call(&client, post("/"), body, None).await.unwrap().body == "served");
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        count += usize::from(answer.contains("served"));
    }
    count
}

#[test]
fn what_an_endpoint_refuses_goes_to_another() {
    for deeds in [&[Deed::Refuse], &[Deed::Leave]] {
        run(async move {
            let (bad, log) = doing(deeds).await;
            let (good, _) = doing(&[Deed::Serve]).await;
            let (_proxy, at, _) = serving(&[bad, good], BackendSettings::default()).await;
            assert_eq!(served(at).await, 40);
            assert!(of(&log.requests) >= 10, "it was asked {} times", of(&log.requests));
            if *deeds == [Deed::Refuse] {
                assert_eq!(of(&log.connections), 1, "a refused stream costs no connection");
            }
        });
    }
}

#[test]
fn what_the_only_endpoint_refuses_is_sent_to_it_again() {
    for deeds in [&[Deed::Refuse, Deed::Serve], &[Deed::Leave, Deed::Serve]] {
        run(async move {
            let (only, log) = doing(deeds).await;
            let (_proxy, at, _) = serving(&[only], BackendSettings::default()).await;
            assert_eq!(served(at).await, 40);
            assert_eq!(of(&log.requests), 41);
        });
    }
}

#[test]
fn tries_of_what_is_refused_everywhere_end() {
    run(async {
        let (bad, log) = doing(&[Deed::Refuse]).await;
        let (_proxy, at, stats) = serving(&[bad], BackendSettings::default()).await;
        let client = connect(at).await;
        let answer = call(&client, post("/"), "a message", None).await.unwrap();
        assert_eq!((answer.status(), of(&log.requests), of(&stats.retries.exhausted)), (502, 3, 1));
        let breaker = Breaker { retries: Some(0), ..Breaker::default() };
        let (_proxy, at, stats) = serving(&[bad], BackendSettings { breaker, ..BackendSettings::default() }).await;
        let client = connect(at).await;
        assert_eq!(call(&client, post("/"), "a message", None).await.unwrap().status(), 502);
        assert_eq!((of(&log.requests), of(&stats.retries.over_budget)), (4, 1), "a breaker of tries holds here too");
    });
}

#[test]
fn a_policy_says_whether_and_how_often() {
    run(async {
        let (bad, log) = doing(&[Deed::Refuse]).await;
        let policy = |times, triggers: &[Trigger]| {
            let on = triggers.iter().copied().collect();
            let retry = Retry { times, on, statuses: vec![], per_try: None, back_off: None, buffer: 1024 };
            BackendSettings { retry: Some(retry), ..BackendSettings::default() }
        };
        for (settings, tries) in [
            (policy(4, &[Trigger::RefusedStream]), 5),
            (policy(4, &[Trigger::Reset]), 5),
            (policy(4, &[Trigger::ConnectFailure]), 1),
            (policy(0, &[Trigger::RefusedStream]), 1),
        ] {
            let (_proxy, at, _) = serving(&[bad], settings).await;
            let (client, before) = (connect(at).await, of(&log.requests));
            assert_eq!(call(&client, post("/"), "a message", None).await.unwrap().status(), 502);
            assert_eq!(of(&log.requests) - before, tries, "a POST with content");
        }
    });
}

#[test]
fn what_may_have_been_acted_on_is_sent_once() {
    run(async {
        let (bad, log) = doing(&[Deed::Fail]).await;
        let (_proxy, at, _) = serving(&[bad, bad], BackendSettings::default()).await;
        let client = connect(at).await;
        assert_eq!(call(&client, post("/"), "a message", None).await.unwrap().status(), 502);
        assert_eq!(of(&log.requests), 1);
    });
}

#[test]
fn content_beyond_what_is_kept_is_not_sent_again_and_not_cut_off() {
    run(async {
        let (good, _) = h2_backend(h2::server::Builder::new(), echo).await;
        let (_proxy, at, _) = serving(&[good], BackendSettings::default()).await;
        let client = connect(at).await;
        let long = "x".repeat(300_000);
        assert!(call(&client, post("/"), &long, None).await.unwrap().body.ends_with(&long));
        let (bad, log) = h2_backend(h2::server::Builder::new(), |request, mut respond| async move {
            content(&mut request.into_body()).await.unwrap();
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        })
        .await;
        let (_proxy, at, _) = serving(&[bad, good], BackendSettings::default()).await;
        let client = connect(at).await;
        for _ in 0..4 {
            let kept = "x".repeat(60_000);
            assert!(call(&client, post("/"), &kept, None).await.unwrap().body.ends_with(&kept));
        }
        assert!(of(&log.requests) >= 2, "it was asked {} times", of(&log.requests));
        let (_proxy, at, _) = serving(&[bad, bad], BackendSettings::default()).await;
        let (client, before) = (connect(at).await, of(&log.requests));
        assert_eq!(call(&client, post("/"), &"x".repeat(70_000), None).await.unwrap().status(), 502);
        assert_eq!(of(&log.requests), before + 1);
    });
}

/// What an endpoint has seen of a request that it answered with 503 before it had come: whether it looked whole.
async fn hasty(protocol: AppProtocol) -> (SocketAddr, mpsc::UnboundedReceiver<bool>) {
    let (whole, seen) = mpsc::unbounded_channel();
    if protocol == AppProtocol::H2c {
        let (endpoint, _) = h2_backend(h2::server::Builder::new(), move |request, mut respond| {
            let whole = whole.clone();
            async move {
                let response = http::Response::builder().status(503).body(()).unwrap();
                let mut sending = respond.send_response(response, false).unwrap();
                sending.send_data("no".into(), true).unwrap();
                whole.send(content(&mut request.into_body()).await.is_ok()).unwrap();
            }
        })
        .await;
        return (endpoint, seen);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            whole.send(rest.ends_with(b"0\r\n\r\n")).unwrap();
        }
    });
    (endpoint, seen)
}

#[test]
fn content_that_is_sent_to_another_endpoint_does_not_look_whole_where_it_was_cut_off() {
    for protocol in [AppProtocol::H2c, AppProtocol::Http] {
        run(async move {
            let (bad, mut seen) = hasty(protocol).await;
            let (proxy, at) = (start(1), free());
            let on = [Trigger::GatewayError].into_iter().collect();
            let retry = Retry { times: 1, on, statuses: vec![], per_try: None, back_off: None, buffer: 1024 };
            let settings = BackendSettings { retry: Some(retry), ..BackendSettings::default() };
            proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(protocol, &[bad], settings)]).await;
            let request = http::Request::put("http://a.example/").body(()).unwrap();
            let (response, mut stream) = connect(at).await.send_request(request, false).unwrap();
            stream.send_data("some of it".into(), false).unwrap();
            assert_eq!(response.await.unwrap().status(), 503);
            for _ in 0..2 {
                assert_eq!(seen.recv().await, Some(false), "{protocol:?}: it was never sent whole");
            }
        });
    }
}
