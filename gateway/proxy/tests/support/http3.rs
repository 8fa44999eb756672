//! Clients of HTTP/3: the libraries h3 and h3-quinn for ordinary ones, and frames by hand over quinn for those that break the rules.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3::error::StreamError;
use h3_quinn::OpenStreams;
use http::{HeaderMap, Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use sluicegate_model::settings::{ClientHttp3, ClientSettings};
use sluicegate_model::snapshot::{Listener, Target};

use super::tls::{Authority, Issued, ended, front, settings};
use super::{listener_with, to};

/// A listener of HTTPS that serves HTTP/3.
pub fn serving(at: SocketAddr, ca: &Authority, settings: ClientSettings) -> Arc<Listener> {
    leading(at, ca, settings, to(0))
}

pub fn leading(at: SocketAddr, ca: &Authority, of: ClientSettings, target: Target) -> Arc<Listener> {
    listener_with(at, front(&ended(settings(&[&ca.issue(&["a.example"])])), target), with(of))
}

/// The settings with HTTP/3 turned on.
pub fn with(settings: ClientSettings) -> ClientSettings {
    ClientSettings { http3: Some(ClientHttp3::default()), ..settings }
}

pub fn config(ca: &Authority, shows: Option<&Issued>) -> ClientConfig {
    let mut config = ca.client_of(&[&rustls::version::TLS13], shows);
    config.alpn_protocols = vec![b"h3".to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

pub fn endpoint() -> Endpoint {
    Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

/// A socket of another port, to which an endpoint may move.
pub fn elsewhere() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// A connection, without anything of HTTP/3.
pub async fn bare(at: SocketAddr, ca: &Authority) -> Result<Connection, ConnectionError> {
    endpoint().connect_with(config(ca, None), at, "a.example").unwrap().await
}

/// An ordinary client.
pub struct Client {
    pub endpoint: Endpoint,
    pub connection: Connection,
    pub requests: SendRequest<OpenStreams, Bytes>,
}

/// A whole response.
pub struct Answer {
    pub head: Response<()>,
    pub body: String,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name).map(|value| value.to_str().unwrap())
    }
}

pub async fn connect(at: SocketAddr, ca: &Authority) -> Client {
    connect_as(at, "a.example", config(ca, None)).await.unwrap()
}

pub async fn connect_as(at: SocketAddr, name: &str, config: ClientConfig) -> Result<Client, ConnectionError> {
    let endpoint = endpoint();
    let connection = endpoint.connect_with(config, at, name).unwrap().await?;
    let made = h3::client::new(h3_quinn::Connection::new(connection.clone())).await;
    let Ok((mut driver, requests)) = made else { return Err(connection.closed().await) };
    tokio::spawn(async move { std::future::poll_fn(|context| driver.poll_close(context)).await });
    Ok(Client { endpoint, connection, requests })
}

pub fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://a.example{path}")).body(()).unwrap()
}

impl Client {
    pub async fn get(&mut self, path: &str) -> Result<Answer, StreamError> {
        self.ask(request("GET", path), None, None).await
    }

    pub async fn ask(&mut self, request: Request<()>, body: Option<&str>, trailers: Option<HeaderMap>) -> Result<Answer, StreamError> {
        let mut stream = self.requests.send_request(request).await?;
        if let Some(body) = body {
            stream.send_data(Bytes::copy_from_slice(body.as_bytes())).await?;
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).await?;
        }
        stream.finish().await?;
        let head = stream.recv_response().await?;
        let mut bytes = Vec::new();
        while let Some(mut data) = stream.recv_data().await? {
            let count = data.remaining();
            bytes.extend_from_slice(&data.copy_to_bytes(count));
        }
        let trailers = stream.recv_trailers().await?;
        Ok(Answer { head, body: String::from_utf8(bytes).unwrap(), trailers })
    }
}

/// A number of variable length in two bytes, or in four.
pub fn number(value: usize) -> Vec<u8> {
    let value = u32::try_from(value).unwrap();
    if value < 1 << 14 { (value as u16 | 0x4000).to_be_bytes().to_vec() } else { (value | 0x8000_0000).to_be_bytes().to_vec() }
}

pub fn frame(kind: usize, payload: &[u8]) -> Vec<u8> {
    [number(kind), number(payload.len()), payload.to_vec()].concat()
}

/// A field whose name and value are written out (RFC 9204 §4.5.6); both are shorter than 127 bytes, the name than 7 or up to 134.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let short = |prefix: u8, most: usize, of: &str| {
        let length = of.len();
        let mut bytes = if length < most {
            vec![prefix | length as u8]
        } else {
            assert!(length - most < 128);
            vec![prefix | most as u8, (length - most) as u8]
        };
        bytes.extend_from_slice(of.as_bytes());
        bytes
    };
    [short(0x20, 7, name), short(0, 127, value)].concat()
}

/// The payload of a HEADERS frame.
pub fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];
    let given = |name: &str| fields.iter().any(|(given, _)| *given == name);
    let pseudo = pseudo.iter().filter(|(name, _)| !given(name));
    let (ours, others): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| name.starts_with(':'));
    let lines = pseudo.chain(ours).chain(others).flat_map(|(name, value)| field(name, value));
    [0, 0].into_iter().chain(lines).collect()
}

pub const DATA: usize = 0;
pub const HEADERS: usize = 1;
pub const SETTINGS: usize = 4;

/// Opens a client's control stream.
pub async fn control(connection: &Connection) -> SendStream {
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&[&[0][..], &frame(SETTINGS, &[])].concat()).await.unwrap();
    stream
}

/// Sends these bytes as a request.
pub async fn send(connection: &Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, receive) = connection.open_bi().await.unwrap();
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    (send, receive)
}

/// The code with which the gateway resets the answer to a request of these bytes; none: it answers.
pub async fn reset(connection: &Connection, bytes: &[u8]) -> Option<u64> {
    let (_send, mut receive) = send(connection, bytes).await;
    match receive.read_to_end(1 << 20).await {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Some(code.into()),
        _ => None,
    }
}

/// The code with which the gateway closes a connection. The library of ordinary clients closes it first, once it was told that it will be (GOAWAY).
pub async fn closed(connection: &Connection) -> u64 {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(closed) => closed.error_code.into(),
        ConnectionError::LocallyClosed => 0x100,
        other => panic!("{other}"),
    }
}
