//! Clients that end their side of a connection after their request, and clients that disconnect.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicegate_model::settings::{ClientSettings, HalfClose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// An endpoint that answers when it is told to, and reports when its request has come and when its connection has ended before that.
struct Slow {
    address: SocketAddr,
    come: Arc<Notify>,
    answer: Arc<Notify>,
    gone: Arc<Notify>,
}

impl Slow {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (come, answer, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = Self { address, come: come.clone(), answer: answer.clone(), gone: gone.clone() };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                while let Ok(Some(seen)) = message(&mut stream).await {
                    come.notify_one();
                    let mut one = [0];
                    tokio::select! {
                        () = answer.notified() => stream.write_all(ok(&seen.head[..6]).as_bytes()).await.unwrap(),
                        _ = stream.read(&mut one) => gone.notify_one(),
                    }
                }
            }
        });
        slow
    }
}

#[test]
fn a_client_that_half_closes_gets_its_answers() {
    run(async {
        let (proxy, at) = (start(1), free());
        let slow = Slow::new().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[slow.address])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        slow.come.notified().await;
        // The request is already on its way when the end comes.
        stream.shutdown().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        slow.answer.notify_one();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert!(all.starts_with("HTTP/1.1 200 ") && all.contains("connection: close\r\n") && all.ends_with("GET / "), "{all}");
        // The end comes with the only request, or after others.
        for requests in [1, 3] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(GET.repeat(requests).as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            for _ in 0..requests {
                slow.come.notified().await;
                slow.answer.notify_one();
            }
            let mut all = String::new();
            stream.read_to_string(&mut all).await.unwrap();
            assert_eq!(all.matches("HTTP/1.1 200 ").count(), requests, "{all}");
            assert_eq!(all.matches("connection: close").count(), 1, "the last one says so: {all}");
        }
    });
}

fn settings(half_close: HalfClose, half_closed: Option<Duration>) -> ClientSettings {
    let mut settings = ClientSettings::default();
    (settings.connections.half_close, settings.timeouts.half_closed) = (half_close, half_closed);
    settings
}

#[test]
fn who_is_gone_is_noticed_while_the_endpoint_works() {
    run(async {
        let (proxy, at) = (start(1), free());
        let slow = Slow::new().await;
        let front = || http(to(0));
        // A policy gives up at once; or after a time, which is 30 s unless it says another; a reset is always noticed, before or after the end.
        let second = Some(Duration::from_secs(1));
        for (half_close, time, ends, resets) in [
            (HalfClose::Abort, Some(Duration::from_secs(3600)), true, false),
            (HalfClose::Answer, second, true, false),
            (HalfClose::Answer, None, true, true),
            (HalfClose::Answer, None, false, true),
        ] {
            proxy.serve(vec![listener_with(at, front(), settings(half_close, time))], vec![service(&[slow.address])]).await;
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(GET.as_bytes()).await.unwrap();
            slow.come.notified().await;
            if ends {
                stream.shutdown().await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let waiting = if resets {
                stream.set_zero_linger().unwrap();
                drop(stream);
                None
            } else {
                Some(stream)
            };
            slow.gone.notified().await;
            drop(waiting);
        }
        assert_eq!(proxy.stats.clients.half_closed.load(Ordering::Relaxed), 1, "the time alone is counted");
        assert_eq!(ClientSettings::default().timeouts.half_closed, Some(Duration::from_secs(30)));
    });
}

#[test]
fn what_moves_goes_on_for_who_has_half_closed() {
    run(async {
        let (proxy, at) = (start(1), free());
        let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = service(&[endpoint.local_addr().unwrap()]);
        proxy.serve(vec![listener_with(at, http(to(0)), settings(HalfClose::Answer, Some(Duration::from_secs(1))))], vec![service]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let (mut upstream, _) = endpoint.accept().await.unwrap();
        message(&mut upstream).await.unwrap();
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n").await.unwrap();
        for _ in 0..6 {
            upstream.write_all(b"x").await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert!(all.ends_with("xxxxxx"), "{all}");
    });
}

#[test]
fn close_notify_is_a_half_close_and_a_cut_is_none() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), tls::Authority::new());
        let slow = Slow::new().await;
        let ended = tls::ended(tls::settings(&[&ca.issue(&["a"])]));
        proxy.serve(vec![listener(at, tls::front(&ended, to(0)))], vec![service(&[slow.address])]).await;
        let client = Arc::new(ca.client());
        let mut stream = tls::connect(at, "a", &client).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        slow.come.notified().await;
        stream.shutdown().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        slow.answer.notify_one();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert!(all.starts_with("HTTP/1.1 200 ") && all.ends_with("GET / "), "{all}");
        let mut stream = tls::connect(at, "a", &client).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        slow.come.notified().await;
        stream.get_mut().0.shutdown().await.unwrap();
        slow.gone.notified().await;
    });
}
