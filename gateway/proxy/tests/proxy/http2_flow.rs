//! Flow control of HTTP/2 from end to end, and how streams and connections end, with the library `h2` and frames written by hand as peers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::AppProtocol;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::http2::*;
use crate::support::*;

/// Waits until a count stands still.
async fn settled(count: &AtomicUsize) -> usize {
    let (mut last, mut same) = (0, 0);
    while same < 10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = count.load(Ordering::Relaxed);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
    }
    last
}

const LARGE: usize = 64 << 20;
const PIECE: usize = 16 << 10;

#[test]
fn a_slow_reader_slows_the_sender() {
    run(async {
        let (proxy, two, one) = (start(1), free(), free());
        let count = Arc::new(AtomicUsize::new(0));
        let left = count.clone();
        let (to_h2, _) = h2_backend(h2::server::Builder::new(), move |_, mut respond| {
            let left = left.clone();
            async move {
                let mut sending = respond.send_response(Response::new(()), false).unwrap();
                for n in 1..=LARGE / PIECE {
                    if !send(&mut sending, Bytes::from(vec![b'x'; PIECE]), n == LARGE / PIECE).await {
                        return;
                    }
                    left.fetch_add(PIECE, Ordering::Relaxed);
                }
            }
        })
        .await;
        let h1 = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (to_h1, sent) = (h1.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let left = sent.clone();
        tokio::spawn(async move {
            let (mut stream, _) = h1.accept().await?;
            until(&mut stream, "\r\n\r\n").await;
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes()).await?;
            for _ in 0..LARGE / PIECE {
                stream.write_all(&[b'x'; PIECE]).await?;
                left.fetch_add(PIECE, Ordering::Relaxed);
            }
            std::io::Result::Ok(())
        });
        let services = vec![speaking(AppProtocol::H2c, &[to_h2], BackendSettings::default()), service(&[to_h1])];
        proxy.serve(vec![listener(two, http(to(0))), listener(one, http(to(1)))], services).await;
        // What a backend's kernel and ours hold of a TCP connection comes on top; of an HTTP/2 backend's the window is all.
        for (at, count, most) in [(two, count, 1 << 20), (one, sent, 24 << 20)] {
            let client = connect(at).await;
            let mut client = client.ready().await.unwrap();
            let (response, _) = client.send_request(get_request("/"), true).unwrap();
            let mut content = response.await.unwrap().into_body();
            let ahead = settled(&count).await;
            assert!(ahead <= most, "{ahead} bytes left the backend while nobody read");
            let mut received = 0;
            while let Some(data) = content.data().await {
                let data = data.unwrap();
                received += data.len();
                content.flow_control().release_capacity(data.len()).unwrap();
            }
            assert_eq!(received, LARGE);
        }
    });
}

#[test]
fn a_slow_backend_slows_the_client() {
    run(async {
        let (proxy, at) = (start(1), free());
        let go = Arc::new(Notify::new());
        let told = go.clone();
        let (to_backend, _) = h2_backend(h2::server::Builder::new(), move |request, mut respond| {
            let told = told.clone();
            async move {
                told.notified().await;
                let received = content(&mut request.into_body()).await.unwrap().0.len();
                let mut sending = respond.send_response(Response::new(()), false).unwrap();
                send(&mut sending, Bytes::from(received.to_string()), true).await;
            }
        })
        .await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default())]).await;
        let mut client = connect(at).await;
        let (response, mut stream) = client.send_request(post("/"), false).unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        tokio::spawn(async move {
            for n in 1..=LARGE / PIECE {
                assert!(send(&mut stream, Bytes::from(vec![b'x'; PIECE]), n == LARGE / PIECE).await);
                count.fetch_add(PIECE, Ordering::Relaxed);
            }
        });
        let ahead = settled(&sent).await;
        assert!(ahead <= 1 << 20, "{ahead} bytes left the client while nobody read");
        go.notify_one();
        assert_eq!(read(response.await.unwrap()).await.unwrap().body, LARGE.to_string());
    });
}

#[test]
fn a_request_goes_on_while_nobody_reads_the_response() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = h2_backend(h2::server::Builder::new(), |request, mut respond| async move {
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            let sent = tokio::spawn(async move {
                send(&mut sending, Bytes::from(vec![b'x'; 1 << 20]), false).await;
                sending
            });
            let received = content(&mut request.into_body()).await.unwrap().0.len();
            let mut sending = sent.await.unwrap();
            send(&mut sending, Bytes::from(received.to_string()), true).await;
        })
        .await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default())]).await;
        let mut client = connect(at).await;
        let (response, mut stream) = client.send_request(post("/"), false).unwrap();
        let response = response.await.unwrap();
        // All of it, before a byte of the response is read.
        assert!(send(&mut stream, Bytes::from(vec![b'y'; 4 << 20]), true).await);
        assert!(read(response).await.unwrap().body.ends_with(&format!("x{}", 4 << 20)));
    });
}

#[test]
fn a_response_that_breaks_resets_its_stream_only() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = backend(|seen| match seen.head.starts_with("GET /breaks") {
            true => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_owned(),
            false => ok("fine"),
        })
        .await;
        let breaking = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to_breaking = breaking.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = breaking.accept().await.unwrap();
            until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
        });
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_breaking])]).await;
        let client = connect(at).await;
        let error = fetch(&client, "/breaks").await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        assert_eq!(fetch(&client, "/").await.unwrap().body, "fine");
    });
}

#[test]
fn a_client_that_cancels_frees_its_endpoint() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (came, reset) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (come, gone) = (came.clone(), reset.clone());
        let (to_backend, _) = h2_backend(h2::server::Builder::new(), move |_, mut respond| {
            let (come, gone) = (come.clone(), gone.clone());
            async move {
                come.notify_one();
                let _ = std::future::poll_fn(|context| respond.poll_reset(context)).await;
                gone.notify_one();
            }
        })
        .await;
        let s = speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default());
        let stats = s.internal.endpoints[0].stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let mut client = connect(at).await;
        let (response, mut stream) = client.send_request(get_request("/"), true).unwrap();
        came.notified().await;
        assert_eq!(stats.in_flight(), 1);
        stream.send_reset(h2::Reason::CANCEL);
        reset.notified().await;
        drop(response);
        while stats.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn draining_says_goodbye_and_lets_streams_finish() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (came, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (come, told) = (came.clone(), go.clone());
        let (to_backend, _) = h2_backend(h2::server::Builder::new(), move |request, respond| {
            let (come, told) = (come.clone(), told.clone());
            async move {
                come.notify_one();
                told.notified().await;
                echo(request, respond).await;
            }
        })
        .await;
        let s = || speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default());
        proxy.serve(vec![listener(at, http(to(0)))], vec![s()]).await;
        let mut stream = raw(at).await;
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head())).await.unwrap();
        came.notified().await;
        let Running { proxy, .. } = proxy;
        let stopping = std::thread::spawn(move || proxy.shutdown(Duration::from_secs(10)));
        let goodbye = next_of(&mut stream, GOAWAY).await.unwrap();
        assert_eq!(goodbye.code(), 0);
        // The library asks by PING whether the client has seen it, before it names the last stream.
        let ping = next_of(&mut stream, PING).await.unwrap();
        stream.write_all(&frame(PING, 1, 0, &ping.payload)).await.unwrap();
        let last = next_of(&mut stream, GOAWAY).await.unwrap();
        assert_eq!(last.payload[..4], [0, 0, 0, 1]);
        go.notify_one();
        assert_eq!(next_of(&mut stream, HEADERS).await.unwrap().payload[0], 0x88);
        while next(&mut stream).await.is_some() {}
        tokio::task::spawn_blocking(move || stopping.join().unwrap()).await.unwrap();
    });
}

#[test]
fn a_listener_that_goes_says_goodbye() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let mut stream = raw(at).await;
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head())).await.unwrap();
        next_of(&mut stream, HEADERS).await.unwrap();
        proxy.serve(vec![], vec![service(&[to_backend])]).await;
        assert_eq!(next_of(&mut stream, GOAWAY).await.unwrap().code(), 0);
    });
}
