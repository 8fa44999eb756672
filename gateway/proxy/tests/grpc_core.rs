//! gRPC's C core as a client (PyPI `grpcio`): ordinary calls at the rates that it is made for, all over one connection, none of which may be lost. What
//! it sends is in `tests/grpc/load.py`; the Makefile's `test-tools` installs it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::AppProtocol;
use tokio::io::AsyncBufReadExt as _;
use tokio::process::Command;

use crate::support::http2::*;
use crate::support::*;

/// The Python that has gRPC, in a folder of its own below the build products.
fn python() -> PathBuf {
    let products = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = products.join("tools/python/bin/python");
    assert!(python.exists(), "{} is missing, a Python with grpcio: run `make test-tools`", python.display());
    python
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
}

/// Sends each message back as it comes, also one after a while, or one and then nothing until the client has had enough.
async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut messages) = request.into_parts();
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if head.uri.path() == "/test/Slow" {
        let late = tokio::time::sleep(Duration::from_secs(2));
        tokio::select! {
            () = late => {}
            _ = std::future::poll_fn(|context| respond.poll_reset(context)) => return,
        }
    }
    let Ok(mut sending) = respond.send_response(response, false) else { return };
    while let Some(Ok(message)) = messages.data().await {
        let _ = messages.flow_control().release_capacity(message.len());
        if !send(&mut sending, message, false).await {
            return;
        }
    }
    if head.uri.path() == "/test/Stream" {
        let _ = std::future::poll_fn(|context| sending.poll_reset(context)).await;
        return;
    }
    let _ = sending.send_trailers(trailers());
}

/// Checks that this many calls, messages or streams over one connection all end as they should.
fn nothing_is_lost(kind: &'static str, count: usize) {
    run(async move {
        let python = python();
        let mut builder = h2::server::Builder::new();
        // The library as an endpoint ends connections for resets that gRPC's servers take.
        builder.max_pending_accept_reset_streams(1000).max_local_error_reset_streams(None);
        let (endpoint, log) = h2_backend(builder, serve).await;
        let (proxy, at) = (start(1), free());
        let service = speaking(AppProtocol::Grpc, &[endpoint], BackendSettings::default());
        proxy.serve(vec![listener(at, http(to(0)))], vec![service]).await;
        let said = load(&python, at, kind, count).await;
        println!("{kind}: {said}");
        assert!(said.starts_with(&format!(r#"{{"well": {count}, "others": {{}}"#)), "{kind}: {said}");
        assert_eq!(proxy.stats.http2_connections.load(Ordering::Relaxed), 1, "{kind}: {said}");
        assert_eq!(proxy.stats.http2_floods.load(Ordering::Relaxed), 0, "{kind}: {said}");
        assert!(
            log.connections.load(Ordering::Relaxed) <= 3,
            "{kind}: {} connections to the endpoint",
            log.connections.load(Ordering::Relaxed)
        );
    });
}

async fn load(python: &Path, at: SocketAddr, kind: &str, count: usize) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/grpc/load.py");
    let mut command = Command::new(python);
    command.arg(script).args([&at.to_string(), kind, &count.to_string()]).kill_on_drop(true);
    let ended = command.output().await.unwrap();
    format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr))
}

#[test]
fn small_calls_as_fast_as_the_client_makes_them() {
    nothing_is_lost("unary", 10_000);
}

#[test]
fn messages_of_a_byte_back_and_forth() {
    nothing_is_lost("pingpong", 3_000);
}

#[test]
fn streams_that_are_cancelled_after_their_first_message() {
    nothing_is_lost("cancel", 1_000);
}

#[test]
fn calls_that_do_not_end_before_their_deadlines() {
    nothing_is_lost("deadline", 3_000);
}

/// This includes its server: a call that it refuses unread costs neither its connection nor the other calls.
#[test]
fn streams_that_its_server_ends_at_once() {
    run(async {
        let python = python();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/grpc/refuse.py");
        let mut server = Command::new(&python);
        let mut server = server.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut port = String::new();
        tokio::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).await.unwrap();
        let endpoint = SocketAddr::new(loopback(), port.trim().parse().unwrap());
        let (proxy, at) = (start(1), free());
        let service = speaking(AppProtocol::Grpc, &[endpoint], BackendSettings::default());
        proxy.serve(vec![listener(at, http(to(0)))], vec![service]).await;
        let said = load(&python, at, "refused", 500).await;
        assert!(said.starts_with(r#"{"well": 500, "others": {}"#), "{said}");
    });
}
