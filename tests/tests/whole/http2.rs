//! HTTP/2 as YAML configures it: `appProtocol`, policies, discovery and wasm picks, with the library `h2` as client and backend.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Response};
use sluicegate_tests::{Gateway, PATIENCE, SERVICE, eventually};
use tokio::net::{TcpListener, TcpStream};

const POLICY: &str = "apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: c}
spec:
  targetRefs: [{kind: Service, name: nginx-svc}]
  http2: {maxConcurrentStreams: 7}
";

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") });
}

/// A gRPC backend that answers each call with its name and a status. Returns the number of connections that it has had.
async fn backend(ip: IpAddr, name: &'static str, status: &'static str) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((ip, 80)).await.expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await?;
                while let Some(accepted) = connection.accept().await {
                    let (_, mut respond) = accepted?;
                    let mut head = Response::new(());
                    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                    let mut sending = respond.send_response(head, false)?;
                    sending.send_data(Bytes::from_static(name.as_bytes()), false)?;
                    sending.send_trailers(HeaderMap::from_iter([(
                        http::HeaderName::from_static("grpc-status"),
                        HeaderValue::from_static(status),
                    )]))?;
                }
                Ok::<(), h2::Error>(())
            });
        }
    });
    connections
}

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("connected");
    let (sender, connection) = h2::client::handshake(stream).await.expect("greeted");
    tokio::spawn(connection);
    sender.ready().await.expect("ready")
}

/// Makes a call; returns the name of the backend that answered, and the status.
async fn call(client: &mut SendRequest<Bytes>) -> (String, Option<String>) {
    let request = Request::post("http://a.example/s/M").header("content-type", "application/grpc").header("te", "trailers");
    let (response, _) = client.send_request(request.body(()).expect("a request"), true).expect("sent");
    let (head, mut content) = response.await.expect("answered").into_parts();
    let status = |fields: &HeaderMap| fields.get("grpc-status").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Some(data) = content.data().await {
        body.extend_from_slice(&data.expect("content"));
    }
    let trailers = content.trailers().await.expect("trailers");
    (String::from_utf8(body).expect("text"), trailers.as_ref().and_then(status).or_else(|| status(&head.headers)))
}

#[test]
fn grpc_is_balanced_by_call() {
    run(async {
        let service = SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: grpc");
        let gateway =
            tokio::task::spawn_blocking(move || Gateway::new(&[("svc.yaml", &service), ("policy.yaml", POLICY)])).await.expect("started");
        let connections = [backend(gateway.ip(2), "a", "0").await, backend(gateway.ip(3), "b", "0").await];
        let (gateway, address) = tokio::task::spawn_blocking(move || {
            eventually("no endpoint yet, but a listener", || gateway.json("services").as_array().is_some_and(|s| !s.is_empty()));
            let address = gateway.node_port();
            (gateway, address)
        })
        .await
        .expect("served");
        // There is no endpoint, which is told as a status of gRPC.
        let mut client = connect(address).await;
        assert_eq!(call(&mut client).await, (String::new(), Some("14".to_owned())));
        assert_eq!(client.current_max_send_streams(), 7, "as the policy says");
        let gateway = tokio::task::spawn_blocking(move || {
            for (name, last) in [("a", 2), ("b", 3)] {
                gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
            }
            eventually("two endpoints", || gateway.ready_endpoints() == 2);
            gateway
        })
        .await
        .expect("ready");
        let mut names = Vec::new();
        while !(names.contains(&"a".to_owned()) && names.contains(&"b".to_owned())) {
            let (name, status) = call(&mut client).await;
            if status.as_deref() == Some("0") {
                names.push(name);
            }
        }
        for connections in &connections {
            assert_eq!(connections.load(Ordering::Relaxed), 1, "many calls on one connection");
        }
        tokio::task::spawn_blocking(move || {
            let metrics = gateway.get("/metrics").expect("metrics");
            assert!(metrics.contains("sluicegate_http2_connections_total 1"), "{metrics}");
        })
        .await
        .expect("counted");
    });
}

#[test]
fn endpoints_that_speak_only_http2_pass_their_checks() {
    let policy = "apiVersion: sluicegate.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: p}
spec:
  targetRefs: [{kind: Service, name: nginx-svc}]
  healthCheck: {active: {type: HTTP, interval: 50ms, unhealthyThreshold: 1, http: {path: /healthz}}}
";
    run(async {
        let service = SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: kubernetes.io/h2c");
        let started = move || Gateway::new(&[("svc.yaml", &service), ("policy.yaml", policy)]);
        let gateway = tokio::task::spawn_blocking(started).await.expect("started");
        let probed = backend(gateway.ip(2), "a", "0").await;
        tokio::task::spawn_blocking(move || {
            gateway.write("a.yaml", &gateway.pod("a", 2, true));
            eventually("probes have passed", || {
                let text = gateway.get("/metrics").unwrap_or_default();
                let line = text.lines().find(|l| l.starts_with("sluicegate_service_probes_total") && l.contains("result=\"passed\""));
                line.and_then(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).is_some_and(|passed| passed >= 3)
            });
            let endpoints = gateway.json("endpoints");
            assert_eq!(endpoints[0]["state"], "ready", "{endpoints}");
            assert!(probed.load(Ordering::Relaxed) >= 3, "each probe is a connection of its own");
        })
        .await
        .expect("checked");
    });
}
