//! What is counted of exchanges and connections.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use sluicegate_model::stats::{Histogram, ServiceStats};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

fn observed(histogram: &Histogram) -> u64 {
    histogram.buckets().iter().map(|(_, count)| count).sum()
}

fn bytes(stats: &ServiceStats) -> (u64, u64) {
    (stats.bytes_in.load(Ordering::Relaxed), stats.bytes_out.load(Ordering::Relaxed))
}

#[test]
fn exchanges_are_timed_and_their_content_is_counted() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = backend(|_| ok("four")).await;
        let s = service(&[to_backend]);
        let stats = s.stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        for request in [
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            assert_eq!(ask(&mut client, request).await.status(), 200);
        }
        assert_eq!((observed(&stats.exchange_time), observed(&stats.connect_time)), (3, 1));
        assert_eq!(bytes(&stats), (5, 12), "framing and heads are not content");
        assert!(stats.exchange_time.sum() > 0.0);
    });
}

#[test]
fn an_exchange_that_its_client_leaves_counts_as_far_as_it_came() {
    run(async {
        let (proxy, at) = (start(1), free());
        let endpoint = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let s = service(&[endpoint.local_addr().unwrap()]);
        let stats = s.stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let (mut upstream, _) = endpoint.accept().await.unwrap();
        message(&mut upstream).await.unwrap();
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
        let mut head = [0; 17];
        tokio::io::AsyncReadExt::read_exact(&mut client, &mut head).await.unwrap();
        drop(client);
        assert!(message(&mut upstream).await.unwrap_or(None).is_none(), "closed");
        assert_eq!((observed(&stats.exchange_time), bytes(&stats)), (1, (0, 3)));
    });
}

#[test]
fn own_answers_are_counted_by_reason() {
    run(async {
        let (proxy, at) = (start(1), free());
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[])]).await;
        for request in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nhost: a\n\n", "GET / HTTP/1.1\n\n"]
        {
            let mut client = TcpStream::connect(at).await.unwrap();
            ask(&mut client, request).await;
        }
        let counted: Vec<_> = proxy.stats.own_answers.rows().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("bad-request", 2), ("bad-host", 1), ("no-endpoint", 1)]);
    });
}
