//! WebSockets and other upgrades through a running proxy, over every pair of HTTP versions; tokio-tungstenite is the independent peer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use sluicegate_model::settings::{BackendSettings, Upgrades};
use sluicegate_model::snapshot::AppProtocol;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::support::http2::*;
use crate::support::*;

/// The bytes of a stream of HTTP/2, as a connection.
struct Tunnel {
    from: RecvStream,
    to: SendStream<Bytes>,
    ahead: BytesMut,
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        while self.ahead.is_empty() {
            match std::task::ready!(self.from.poll_data(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(std::io::Error::other(error))),
                Some(Ok(data)) => {
                    self.ahead.extend_from_slice(&data);
                    self.from.flow_control().release_capacity(data.len()).unwrap();
                }
            }
        }
        let count = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.to.reserve_capacity(bytes.len());
        let capacity = match self.to.capacity() {
            0 => match std::task::ready!(self.to.poll_capacity(context)) {
                Some(Ok(capacity)) => capacity,
                _ => return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into())),
            },
            capacity => capacity,
        };
        let count = capacity.min(bytes.len());
        self.to.send_data(Bytes::copy_from_slice(&bytes[..count]), false).map_err(std::io::Error::other)?;
        Poll::Ready(Ok(count))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(self.to.send_data(Bytes::new(), true).map_err(std::io::Error::other))
    }
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Option<Message> {
    socket.next().await.and_then(Result::ok)
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, message: Message) {
    socket.send(message).await.unwrap();
}

/// Echoes each message until the client closes.
async fn echo_messages<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    while let Some(message) = next(&mut socket).await {
        if message.is_close() {
            // The library answers it when it is read or flushed next.
            while next(&mut socket).await.is_some() {}
            return;
        }
        say(&mut socket, message).await;
    }
}

/// A WebSocket server that speaks HTTP/1.1.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
                    echo_messages(socket).await;
                }
            });
        }
    });
    address
}

/// A WebSocket server that speaks HTTP/2, by extended CONNECT.
async fn server_of_http2() -> SocketAddr {
    let (address, _) = h2_backend(h2::server::Builder::new().enable_connect_protocol().clone(), |request, mut respond| async move {
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        assert_eq!(request.uri().to_string(), "http://a.example/chat");
        assert!(!request.headers().contains_key("sec-websocket-key") && !request.headers().contains_key("upgrade"));
        let to = respond.send_response(Response::new(()), false).unwrap();
        let tunnel = Tunnel { from: request.into_body(), to, ahead: BytesMut::new() };
        echo_messages(WebSocketStream::from_raw_socket(tunnel, Role::Server, None).await).await;
    })
    .await;
    address
}

/// Sends large and small messages and reads them back, then does the closing handshake.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    for message in [Message::text("hello"), Message::binary(vec![7; 1 << 20]), Message::text("x".repeat(70_000))] {
        say(&mut socket, message.clone()).await;
        assert_eq!(next(&mut socket).await, Some(message));
    }
    socket.close(None).await.unwrap();
    while let Some(message) = next(&mut socket).await {
        assert!(message.is_close(), "{message:?}");
    }
}

/// Connects as a client of HTTP/2.
async fn connect_over_http2(at: SocketAddr) -> Result<Tunnel, StatusCode> {
    let mut client = connect(at).await;
    // The proxy's settings come first.
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = Request::builder().method(Method::CONNECT).uri("http://a.example/chat").body(()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
    let (response, to) = client.send_request(request, false).unwrap();
    let response = response.await.unwrap();
    if response.status() != StatusCode::OK {
        return Err(response.status());
    }
    assert!(!response.headers().contains_key("sec-websocket-accept") && !response.headers().contains_key("upgrade"));
    Ok(Tunnel { from: response.into_body(), to, ahead: BytesMut::new() })
}

#[test]
fn websockets_over_every_pair_of_versions() {
    run(async {
        let (proxy, to_one, to_two) = (start(1), free(), free());
        let (one, two) = (server().await, server_of_http2().await);
        let services = vec![
            speaking(AppProtocol::Ws, &[one], BackendSettings::default()),
            speaking(AppProtocol::H2c, &[two], BackendSettings::default()),
        ];
        let stats: Vec<_> = services.iter().map(|s| s.internal.endpoints[0].stats.clone()).collect();
        proxy.serve(vec![listener(to_one, http(to(0))), listener(to_two, http(to(1)))], services).await;
        for (at, stats) in [(to_one, &stats[0]), (to_two, &stats[1])] {
            let stream = TcpStream::connect(at).await.unwrap();
            let (socket, response) = tokio_tungstenite::client_async("ws://a.example/chat", stream).await.unwrap();
            assert_eq!(response.status(), 101);
            assert_eq!(stats.in_flight(), 1, "it counts as busy");
            talk(socket).await;
            let tunnel = connect_over_http2(at).await.unwrap();
            talk(WebSocketStream::from_raw_socket(tunnel, Role::Client, None).await).await;
            while stats.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(proxy.stats.upgrades.load(Ordering::Relaxed), 4);
    });
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: Upgrade\r\nupgrade: chat/2, other\r\n\r\n";

fn allowing(protocols: &[&str], idle: Option<Duration>) -> BackendSettings {
    let protocols = protocols.iter().map(|p| (*p).to_owned()).collect();
    BackendSettings { upgrades: Upgrades { protocols, idle }, ..BackendSettings::default() }
}

/// A backend that agrees to `protocol`, says `first` with its agreement, then sends back what it reads until the client has ended, and says `last`.
async fn agreeing(protocol: &'static str, first: &'static str, last: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let seen = message(&mut stream).await?.unwrap();
                assert_eq!((seen.field("connection"), seen.field("upgrade")), (Some("upgrade"), Some("other")), "{seen:?}");
                let agreed =
                    format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\nx-own: 1\r\n\r\n{first}");
                stream.write_all(agreed.as_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await?;
                to.write_all(last.as_bytes()).await?;
                to.shutdown().await
            });
        }
    });
    address
}

#[test]
fn any_protocol_that_is_allowed_with_half_close() {
    run(async {
        let (proxy, at) = (start(1), free());
        let backend = agreeing("other", "first;", "last").await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::Http, &[backend], allowing(&["other"], None))]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        // What follows the request belongs to the new protocol, even if it comes with it.
        stream.write_all(format!("{UPGRADE}early;").as_bytes()).await.unwrap();
        let head = message(&mut stream).await.unwrap().unwrap();
        assert_eq!((head.status(), head.field("connection"), head.field("upgrade")), (101, Some("upgrade"), Some("other")));
        assert_eq!((head.field("x-own"), head.field("content-length"), head.field("transfer-encoding")), (Some("1"), None, None));
        stream.write_all(b"late;").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "first;early;late;last");
    });
}

#[test]
fn an_upgrade_that_is_not_allowed_is_served_without() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..2 {
            let answer = ask(&mut stream, UPGRADE).await;
            assert_eq!(answer.status(), 200);
            assert!(!answer.body.contains("upgrade"), "{}", answer.body);
        }
        // Without the gateway's consent, extended CONNECT has no meaning (RFC 9220 §3).
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::Http, &[to_backend], allowing(&[], None))]).await;
        assert_eq!(connect_over_http2(at).await.err(), Some(StatusCode::NOT_IMPLEMENTED));
    });
}

#[test]
fn what_an_endpoint_did_not_agree_to_is_no_tunnel() {
    run(async {
        let (proxy, at, plain) = (start(1), free(), free());
        let wrong = agreeing("third", "", "").await;
        let (to_backend, _) = mirror_back().await;
        let services = vec![
            speaking(AppProtocol::Http, &[wrong], allowing(&["other"], None)),
            speaking(AppProtocol::Http, &[to_backend], BackendSettings::default()),
        ];
        proxy.serve(vec![listener(at, http(to(0))), listener(plain, http(to(1)))], services).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut stream, UPGRADE).await.status(), 502, "agreed to something else");
        // An endpoint that answers 200 speaks no WebSocket: a client of HTTP/2 must not take that for yes.
        assert_eq!(connect_over_http2(plain).await.err(), Some(StatusCode::BAD_GATEWAY));
        // An endpoint of HTTP/2 that has not announced extended CONNECT is not asked.
        let (to_h2, log) = h2_backend(h2::server::Builder::new(), echo).await;
        proxy.serve(vec![listener(plain, http(to(0)))], vec![speaking(AppProtocol::H2c, &[to_h2], BackendSettings::default())]).await;
        assert_eq!(connect_over_http2(plain).await.err(), Some(StatusCode::BAD_GATEWAY));
        assert_eq!(log.requests.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_silent_tunnel_ends_if_it_is_told_to() {
    run(async {
        let (proxy, at) = (start(1), free());
        let backend = agreeing("other", "", "").await;
        let settings = allowing(&["other"], Some(Duration::from_secs(1)));
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::Http, &[backend], settings)]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut stream, UPGRADE).await.status(), 101);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    });
}

#[test]
fn an_endpoint_that_resets_ends_the_clients_side() {
    run(async {
        let (proxy, at) = (start(1), free());
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = backend.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = backend.accept().await.unwrap();
            message(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n").await.unwrap();
            stream.read_u8().await.unwrap();
            socket_reset(stream);
        });
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::Http, &[address], allowing(&["other"], None))]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut stream, UPGRADE).await.status(), 101);
        stream.write_all(b"x").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
}

fn socket_reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}
