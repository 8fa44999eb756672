//! gRPC through a running proxy: tonic as client and server, with messages of plain text.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use http::uri::PathAndQuery;
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::AppProtocol;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{StreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};

use crate::support::http2::{by_text, call, connect, h2_backend, post, speaking};
use crate::support::*;

/// A codec whose messages are text.
#[derive(Clone, Copy, Default)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;
    fn encode(&mut self, item: String, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| Status::internal("no text"))
    }
}

/// The service: `/t/Unary`, `/t/Stream`, `/t/Fail`.
#[derive(Clone)]
struct Calls {
    name: &'static str,
    count: Arc<AtomicU64>,
}

impl UnaryService<String> for Calls {
    type Response = String;
    type Future = BoxFuture<Response<String>, Status>;
    fn call(&mut self, request: Request<String>) -> Self::Future {
        let name = self.name;
        Box::pin(async move {
            let mut response = Response::new(format!("{name}:{}", request.get_ref()));
            response.metadata_mut().insert("x-served-by", name.parse().unwrap());
            Ok(response)
        })
    }
}

impl StreamingService<String> for Calls {
    type Response = String;
    type ResponseStream = ReceiverStream<Result<String, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;
    /// Answers each message when it comes.
    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        let (to, from) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut messages = request.into_inner();
            while let Ok(Some(message)) = messages.message().await {
                if message == "fail" {
                    let _ = to.send(Err(Status::data_loss("told to"))).await;
                    return;
                }
                if to.send(Ok(message.to_uppercase())).await.is_err() {
                    return;
                }
            }
        });
        Box::pin(async move { Ok(Response::new(ReceiverStream::new(from))) })
    }
}

/// A method that answers with an error at once.
struct Fails;

impl UnaryService<String> for Fails {
    type Response = String;
    type Future = BoxFuture<Response<String>, Status>;
    fn call(&mut self, _: Request<String>) -> Self::Future {
        Box::pin(async { Err(Status::unavailable("told to")) })
    }
}

impl Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let calls = self.clone();
        calls.count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let mut server = tonic::server::Grpc::new(Text);
            Ok(match request.uri().path() {
                "/t/Unary" => server.unary(calls, request).await,
                "/t/Stream" => server.streaming(calls, request).await,
                "/t/Fail" => server.unary(Fails, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

async fn server(name: &'static str) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let calls = Calls { name, count: count.clone() };
    tokio::spawn(Server::builder().serve_with_incoming(calls, TcpIncoming::from(listener)));
    (address, count)
}

async fn client(at: SocketAddr) -> Grpc<Channel> {
    let channel = Channel::from_shared(format!("http://{at}")).unwrap().connect().await.unwrap();
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    client
}

async fn unary(client: &mut Grpc<Channel>, path: &'static str, timeout: Option<Duration>) -> Result<Response<String>, Status> {
    let mut request = Request::new("hello".to_owned());
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    client.ready().await.unwrap();
    client.unary(request, PathAndQuery::from_static(path), Text).await
}

#[test]
fn unary_calls_are_balanced_one_by_one() {
    run(async {
        let (proxy, at) = (start(1), free());
        let ((one, of_one), (two, of_two)) = (server("one").await, server("two").await);
        let s = speaking(AppProtocol::Grpc, &[one, two], BackendSettings::default());
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let mut client = client(at).await;
        for _ in 0..20 {
            let response = unary(&mut client, "/t/Unary", None).await.unwrap();
            let by = response.metadata().get("x-served-by").unwrap().to_str().unwrap().to_owned();
            assert_eq!(response.into_inner(), format!("{by}:hello"));
        }
        assert_eq!(proxy.stats.accepted.load(Ordering::Relaxed), 1, "over one connection");
        assert_eq!((of_one.load(Ordering::Relaxed), of_two.load(Ordering::Relaxed)), (10, 10));
        let status = unary(&mut client, "/t/Fail", None).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "told to"));
        assert_eq!(unary(&mut client, "/t/Other", None).await.unwrap_err().code(), Code::Unimplemented);
    });
}

#[test]
fn streams_go_both_ways_at_once() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, _) = server("one").await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::Grpc, &[address], BackendSettings::default())]).await;
        let mut client = client(at).await;
        let (to, from) = mpsc::channel(1);
        let request = Request::new(ReceiverStream::new(from));
        let mut answers = client.streaming(request, PathAndQuery::from_static("/t/Stream"), Text).await.unwrap().into_inner();
        // Each is answered before the next is sent: nothing waits for more.
        for n in 0..50 {
            to.send(format!("message {n}")).await.unwrap();
            assert_eq!(answers.message().await.unwrap(), Some(format!("MESSAGE {n}")));
        }
        to.send("fail".to_owned()).await.unwrap();
        let status = answers.message().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::DataLoss, "told to"));
    });
}

#[test]
fn the_outcome_of_a_call_counts_for_its_endpoint() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, _) = server("one").await;
        let s = speaking(AppProtocol::Grpc, &[address], BackendSettings::default());
        let stats = s.internal.endpoints[0].stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let mut client = client(at).await;
        let mut success = async |path| {
            let before = stats.success();
            let _ = unary(&mut client, path, None).await;
            (before, stats.success())
        };
        // The status comes without content first (Trailers-Only), and then in trailers; HTTP's status is 200 both times.
        for path in ["/t/Fail", "/t/Fail"] {
            let (before, after) = success(path).await;
            assert!(after < before, "{path}: {before} to {after}");
        }
        let (before, after) = success("/t/Unary").await;
        assert!(after > before, "{before} to {after}");
        let (before, after) = success("/t/Other").await;
        assert!(after > before, "the client chose the method: {before} to {after}");
    });
}

#[test]
fn a_failure_in_trailers_counts_too() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (address, _) = server("one").await;
        let s = speaking(AppProtocol::Grpc, &[address], BackendSettings::default());
        let stats = s.internal.endpoints[0].stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let mut client = client(at).await;
        let (to, from) = mpsc::channel(1);
        let request = Request::new(ReceiverStream::new(from));
        let mut answers = client.streaming(request, PathAndQuery::from_static("/t/Stream"), Text).await.unwrap().into_inner();
        to.send("x".to_owned()).await.unwrap();
        answers.message().await.unwrap();
        let before = stats.success();
        to.send("fail".to_owned()).await.unwrap();
        answers.message().await.unwrap_err();
        while stats.success() >= before {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_deadline_ends_a_call_before_and_after_its_head() {
    run(async {
        let (proxy, at) = (start(1), free());
        // Neither the backend nor the client keeps time: tonic's would, and race with the gateway.
        let (address, _) = h2_backend(h2::server::Builder::new(), |request, mut respond| async move {
            let _sending = (request.uri().path() == "/t/Stream").then(|| respond.send_response(http::Response::new(()), false).unwrap());
            std::future::pending::<()>().await;
        })
        .await;
        let s = speaking(AppProtocol::Grpc, &[address], BackendSettings::default());
        let stats = s.internal.endpoints[0].stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let client = connect(at).await;
        let asking = |path: &str| {
            let mut request = post(path);
            request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
            request.headers_mut().insert("te", http::HeaderValue::from_static("trailers"));
            request.headers_mut().insert("grpc-timeout", http::HeaderValue::from_static("100m"));
            request
        };
        let answer = call(&client, asking("/t/Never"), &by_text("hello"), None).await.unwrap();
        assert_eq!(
            (answer.status(), answer.field("grpc-status"), answer.field("content-type")),
            (200, Some("4"), Some("application/grpc"))
        );
        assert_eq!(answer.field("grpc-message"), Some("the deadline of the call has passed"));
        // The head comes at once, and then nothing: the request does not end.
        let mut sender = client.clone().ready().await.unwrap();
        let (response, _stream) = sender.send_request(asking("/t/Stream"), false).unwrap();
        let answer = crate::support::http2::read(response.await.unwrap()).await.unwrap();
        assert_eq!(answer.trailers.unwrap()["grpc-status"], "4");
        while stats.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn our_own_errors_are_in_grpcs_words() {
    run(async {
        let (proxy, at) = (start(1), free());
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::Grpc, &[], BackendSettings::default())]).await;
        let mut client = client(at).await;
        let status = unary(&mut client, "/t/Unary", None).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "the service has no ready endpoint"));
        assert_eq!(status.metadata().get("x-sluicegate-reason").unwrap(), "no-endpoint");
        proxy.serve(vec![listener(at, http(router(vec![])))], vec![]).await;
        let status = unary(&mut client, "/t/Unary", None).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "404");
        // This is GRPCRoute's status for an invalid backend, where other requests get 500.
        let nowhere = sluicegate_model::route::Rule { name: Some("/t".into()), ..Default::default() };
        proxy.serve(vec![listener(at, http(router(vec![nowhere])))], vec![]).await;
        let status = unary(&mut client, "/t/Unary", None).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "the route has no usable backend"));
        assert_eq!(get(at, "/t").await.status(), 500);
        // Other requests get HTTP's status.
        assert_eq!(get(at, "/").await.status(), 404);
    });
}

#[test]
fn a_call_without_an_outcome_speaks_against_its_endpoint() {
    run(async {
        let (proxy, at) = (start(1), free());
        // It answers with 200 and content, but without trailers.
        let (address, _) = h2_backend(h2::server::Builder::new(), |_, mut respond| async move {
            let mut sending = respond.send_response(http::Response::new(()), false).unwrap();
            sending.send_data(bytes::Bytes::from_static(b"x"), true).unwrap();
        })
        .await;
        let s = speaking(AppProtocol::Grpc, &[address], BackendSettings::default());
        let stats = s.internal.endpoints[0].stats.clone();
        proxy.serve(vec![listener(at, http(to(0)))], vec![s]).await;
        let before = stats.success();
        assert!(unary(&mut client(at).await, "/t/Unary", None).await.is_err());
        assert!(stats.success() < before);
    });
}
