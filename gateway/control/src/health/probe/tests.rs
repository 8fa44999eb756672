//! Probes against endpoints that answer well, wrongly, by halves, or not at all.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// An endpoint that reads a first piece and then sends `answer`; if `linger`, it keeps the connection open. It returns what it has read.
async fn endpoint(answer: &'static [u8], linger: bool) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a probe");
        let mut read = vec![0; 4096];
        let n = stream.read(&mut read).await.unwrap_or(0);
        let _ = stream.write_all(answer).await;
        if linger {
            let _ = stream.read(&mut [0; 16]).await;
        }
        String::from_utf8_lossy(&read[..n]).into_owned()
    });
    (address, task)
}

async fn ask(address: SocketAddr, what: &Probe) -> Result<(), Failure> {
    tokio::time::timeout(DEADLINE, probe(address, None, None, what)).await.expect("in time")
}

fn tcp(send: &str, receive: &str) -> Probe {
    Probe::Tcp { send: send.into(), receive: receive.into() }
}

fn http(receive: &str) -> Probe {
    asked(ProbeVersion::Http1, receive)
}

fn asked(version: ProbeVersion, receive: &str) -> Probe {
    Probe::Http {
        version,
        method: ::http::Method::GET,
        path: "/healthz?full=1".to_owned(),
        host: Some("a.example".to_owned()),
        statuses: vec![200, 204],
        receive: receive.into(),
    }
}

fn wrong(result: Result<(), Failure>) -> String {
    let failure = result.expect_err("the probe fails");
    assert_eq!(failure.kind, Probed::Wrong, "{failure:?}");
    failure.why
}

fn broke(result: Result<(), Failure>) -> String {
    let failure = result.expect_err("the probe fails");
    assert_eq!(failure.kind, Probed::Unreachable, "{failure:?}");
    failure.why
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    assert!(broke(ask(address, &tcp("", "")).await).starts_with("connect: "));
}

#[tokio::test]
async fn tcp_finds_what_it_expects_among_what_comes() {
    let (address, seen) = endpoint(b"+PO", true).await;
    let silent = tokio::time::timeout(Duration::from_millis(30), probe(address, None, None, &tcp("PING\r\n", "+PONG"))).await;
    assert!(silent.is_err(), "half of it is not it: it goes on waiting");
    assert_eq!(seen.await.expect("read"), "PING\r\n");
    let (address, _) = endpoint(b"hello\r\n+PONG\r\n", true).await;
    assert_eq!(ask(address, &tcp("PING\r\n", "+PONG")).await, Ok(()));
    let (address, _) = endpoint(b"-ERR\r\n", false).await;
    assert_eq!(wrong(ask(address, &tcp("PING\r\n", "+PONG")).await), "the expected bytes are not among the 6 that came");
}

#[tokio::test]
async fn http_wants_one_of_its_statuses() {
    let (address, seen) = endpoint(b"HTTP/1.1 204 No Content\r\n\r\n", true).await;
    assert_eq!(ask(address, &http("")).await, Ok(()));
    let seen = seen.await.expect("read").to_lowercase();
    assert!(seen.starts_with("get /healthz?full=1 http/1.1\r\n") && seen.contains("host: a.example\r\n"), "{seen}");
    let (address, _) = endpoint(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", true).await;
    assert_eq!(wrong(ask(address, &http("")).await), "HTTP 503, expected 200 or 204");
}

#[tokio::test]
async fn http_wants_its_text_among_the_content_and_does_not_read_for_ever() {
    let (address, _) = endpoint(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nall\r\n5\r\n well\r\n0\r\n\r\n", true).await;
    assert_eq!(ask(address, &http("all well")).await, Ok(()));
    let (address, _) = endpoint(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsick", true).await;
    assert_eq!(wrong(ask(address, &http("well")).await), "the expected text is not among the 4 bytes of content");
    static LARGE: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 1 << 20]].concat());
    let (address, _) = endpoint(&LARGE, true).await;
    assert!(wrong(ask(address, &http("well")).await).contains("not among"));
}

#[tokio::test]
async fn http_that_is_none_or_breaks_off_is_unreachable() {
    for answer in [&b"SSH-2.0-OpenSSH\r\n"[..], b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome"] {
        let (address, _) = endpoint(answer, false).await;
        broke(ask(address, &http("well")).await);
    }
}

/// An endpoint that speaks only HTTP/2, and answers with what it was asked, in `pieces`.
async fn prior_knowledge(status: u16, pieces: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http2(stream, status, pieces));
        }
    });
    address
}

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin, status: u16, pieces: usize) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let said = format!("{} {}", request.method(), request.uri());
        let answer = ::http::Response::builder().status(status).body(()).expect("a response");
        let mut content = respond.send_response(answer, false).expect("sent");
        for _ in 0..pieces {
            // A single piece is small. Many are large, as the library takes many small ones for an attack.
            content.send_data(said.repeat(if pieces > 1 { 100 } else { 1 }).into(), false).expect("sent");
        }
        content.send_data(bytes::Bytes::new(), true).expect("sent");
    }
}

#[tokio::test]
async fn http2_is_spoken_at_once_where_exchanges_speak_it() {
    let address = prior_knowledge(200, 1).await;
    let asked = |receive| asked(ProbeVersion::Http2, receive);
    assert_eq!(ask(address, &asked("")).await, Ok(()));
    assert_eq!(ask(address, &asked("GET http://a.example/healthz?full=1")).await, Ok(()));
    assert_eq!(wrong(ask(address, &asked("POST")).await), "the expected text is not among the 35 bytes of content");
    let long = prior_knowledge(200, 1000).await;
    assert_eq!(wrong(ask(long, &asked("POST")).await), "the expected text is not among the 17500 bytes of content");
    let sick = prior_knowledge(503, 1).await;
    assert_eq!(wrong(ask(sick, &asked("")).await), "HTTP 503, expected 200 or 204");
    broke(ask(address, &http("")).await);
    let (older, _) = endpoint(b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await;
    broke(ask(older, &asked("")).await);
}

#[tokio::test]
async fn grpc_against_what_does_not_speak_it() {
    let grpc = Probe::Grpc { service: String::new(), host: None };
    let (address, _) = endpoint(b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await;
    broke(ask(address, &grpc).await);
    let (address, _) = endpoint(b"", false).await;
    broke(ask(address, &grpc).await);
}

mod grpc_server {
    //! A gRPC server by tonic, with a health service. Its messages are bytes, coded by hand.

    use std::convert::Infallible;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::{Buf as _, BufMut as _, Bytes};
    use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
    use tonic::{Request, Response, Status};

    use super::*;

    #[derive(Clone, Default)]
    struct Raw;

    impl Codec for Raw {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = Self;
        type Decoder = Self;
        fn encoder(&mut self) -> Self {
            Self
        }
        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for Raw {
        type Item = Bytes;
        type Error = Status;
        fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
            to.put(item);
            Ok(())
        }
    }

    impl Decoder for Raw {
        type Item = Bytes;
        type Error = Status;
        fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            let n = from.remaining();
            Ok(Some(from.copy_to_bytes(n)))
        }
    }

    #[derive(Clone)]
    struct Health;

    impl tonic::server::UnaryService<Bytes> for Health {
        type Response = Bytes;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;
        fn call(&mut self, request: Request<Bytes>) -> Self::Future {
            Box::pin(async move {
                // Field 1, which is a string.
                match &request.into_inner()[..] {
                    b"" => Ok(Response::new(Bytes::from_static(&[8, 1]))),
                    [0x0a, 4, name @ ..] if name == b"down" => Ok(Response::new(Bytes::from_static(&[8, 2]))),
                    _ => Err(Status::not_found("unknown service")),
                }
            })
        }
    }

    impl tonic::codegen::Service<::http::Request<tonic::body::Body>> for Health {
        type Response = ::http::Response<tonic::body::Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: ::http::Request<tonic::body::Body>) -> Self::Future {
            Box::pin(async move {
                if request.uri().path() != "/grpc.health.v1.Health/Check" {
                    return Ok(Status::unimplemented("another method").into_http());
                }
                Ok(tonic::server::Grpc::new(Raw).unary(Health, request).await)
            })
        }
    }

    #[tokio::test]
    async fn grpc_asks_a_server_and_its_services() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tokio::spawn(tonic::transport::Server::builder().serve_with_incoming(Health, incoming));
        let grpc = |service: &str| Probe::Grpc { service: service.to_owned(), host: Some("a.example".to_owned()) };
        assert_eq!(ask(address, &grpc("")).await, Ok(()));
        assert_eq!(wrong(ask(address, &grpc("down")).await), "NOT_SERVING");
        assert_eq!(wrong(ask(address, &grpc("other")).await), "gRPC status 5: the service is not known");
        server.abort();
    }

    #[tokio::test]
    async fn grpc_without_a_health_service() {
        #[derive(Clone)]
        struct Other;
        impl tonic::codegen::Service<::http::Request<tonic::body::Body>> for Other {
            type Response = ::http::Response<tonic::body::Body>;
            type Error = Infallible;
            type Future = std::future::Ready<Result<Self::Response, Infallible>>;
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }
            fn call(&mut self, _: ::http::Request<tonic::body::Body>) -> Self::Future {
                std::future::ready(Ok(Status::unimplemented("no such service").into_http()))
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tokio::spawn(tonic::transport::Server::builder().serve_with_incoming(Other, incoming));
        let grpc = Probe::Grpc { service: String::new(), host: None };
        assert_eq!(wrong(ask(address, &grpc).await), "gRPC status 12: the server has no health service");
        server.abort();
    }
}

/// Ends TLS for `a.example`, by a certificate that is its own authority, which is returned, too.
pub(super) fn acceptor() -> (tokio_rustls::TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = sluicegate_model::tls::provider().clone();
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into()).expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config)), made.cert.pem())
}

/// An HTTPS endpoint for `a.example`, and its certificate, which is its authority, too.
async fn secured() -> (SocketAddr, String) {
    let (acceptor, authority) = acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                tokio::spawn(http2(stream, 200, 1));
                continue;
            }
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = stream.shutdown().await;
        }
    });
    (address, authority)
}

#[tokio::test]
async fn endpoints_with_tls_are_asked_by_its_rules() {
    use sluicegate_model::tls::{Authorities, Trust, UpstreamSettings, Verify};
    let (address, pem) = secured().await;
    let rules = |name: &str| {
        let trust = Trust::Only(Authorities::from_pem(pem.as_bytes()).expect("an authority"));
        let sni = Some(name.to_owned().try_into().expect("a name"));
        let settings = UpstreamSettings { verify: Verify::Signed { trust, names: vec![] }, sni, certificate: None };
        UpstreamTls::build(std::sync::Arc::new(settings)).expect("rules")
    };
    let secured = |name: &str, probe_: Probe| {
        let rules = rules(name);
        async move { tokio::time::timeout(DEADLINE, probe(address, None, Some(&rules), &probe_)).await.expect("in time") }
    };
    assert_eq!(secured("a.example", http("ok")).await, Ok(()));
    assert_eq!(secured("a.example", asked(ProbeVersion::Http2, "GET https://a.example/healthz?full=1")).await, Ok(()));
    let failure = secured("b.example", http("ok")).await.expect_err("another name");
    assert!(failure.kind == Probed::Unreachable && failure.why.starts_with("TLS: "), "{failure:?}");
    assert!(ask(address, &http("ok")).await.is_err(), "plain text");
}
