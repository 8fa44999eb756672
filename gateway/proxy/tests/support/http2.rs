//! HTTP/2 peers: clients and backends by the library `h2`, and frames written by hand.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::{AppProtocol, ServicePort};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Log, service};

/// A service port whose endpoints speak `protocol`.
pub fn speaking(protocol: AppProtocol, endpoints: &[SocketAddr], settings: BackendSettings) -> ServicePort {
    ServicePort { protocol, settings: Arc::new(settings), ..service(endpoints) }
}

/// A client's connection, which is driven until the test ends.
pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    connect_with(address, &h2::client::Builder::new()).await
}

pub async fn connect_with(address: SocketAddr, builder: &h2::client::Builder) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    // Real peers do this, too: otherwise each window update waits for an acknowledgement (RFC 896).
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

pub fn post(path: &str) -> Request<()> {
    Request::post(format!("http://a.example{path}")).body(()).unwrap()
}

pub fn get_request(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).unwrap()
}

/// A complete response.
#[derive(Debug)]
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
        self.head.headers().get(name).map(|v| v.to_str().unwrap())
    }
}

/// Sends a request with content and trailers, and reads its response.
pub async fn call(client: &SendRequest<Bytes>, request: Request<()>, body: &str, trailers: Option<HeaderMap>) -> Result<Answer, h2::Error> {
    let mut client = client.clone().ready().await?;
    let ended = body.is_empty() && trailers.is_none();
    let (response, mut stream) = client.send_request(request, ended)?;
    if !body.is_empty() {
        send(&mut stream, Bytes::from(body.to_owned()), trailers.is_none()).await;
    }
    if let Some(trailers) = trailers {
        stream.send_trailers(trailers)?;
    }
    read(response.await?).await
}

pub async fn fetch(client: &SendRequest<Bytes>, path: &str) -> Result<Answer, h2::Error> {
    call(client, get_request(path), "", None).await
}

pub async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let (body, trailers) = content(&mut stream).await?;
    Ok(Answer { head: Response::from_parts(head, ()), body, trailers })
}

pub async fn content(stream: &mut RecvStream) -> Result<(String, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len())?;
    }
    Ok((String::from_utf8(body).unwrap(), stream.trailers().await?))
}

/// Sends data as the windows permit. False if the stream was reset.
pub async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = match stream.capacity() {
            0 => match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
                Some(Ok(capacity)) => capacity,
                _ => return false,
            },
            capacity => capacity,
        };
        let piece = data.split_to(capacity.min(data.len()));
        if stream.send_data(piece, last && data.is_empty()).is_err() {
            return false;
        }
    }
    true
}

/// A backend that serves each stream with `serve`.
pub async fn h2_backend<F, S>(builder: h2::server::Builder, serve: S) -> (SocketAddr, Log)
where
    S: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log) = (listener.local_addr().unwrap(), Log::default());
    let counted = log.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            stream.set_nodelay(true).unwrap();
            let (builder, serve, counted) = (builder.clone(), serve.clone(), counted.clone());
            tokio::spawn(async move {
                let Ok(mut connection) = builder.handshake(stream).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    counted.requests.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(serve(request, respond));
                }
            });
        }
    });
    (address, log)
}

/// Answers with the request as it came: its line, its fields, its content and its trailers, one a line; with trailers if it had some.
pub async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut stream) = request.into_parts();
    let mut seen = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        seen.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let Ok((body, trailers)) = content(&mut stream).await else { return };
    seen.push_str(&body);
    for (name, value) in trailers.iter().flatten() {
        seen.push_str(&format!("\ntrailer {name}: {}", value.to_str().unwrap()));
    }
    let mut sending = respond.send_response(Response::new(()), false).unwrap();
    send(&mut sending, Bytes::from(seen), trailers.is_none()).await;
    if let Some(trailers) = trailers {
        sending.send_trailers(trailers).unwrap();
    }
}

/// The connection preface, and empty SETTINGS.
pub const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// Error codes of GOAWAY and RST_STREAM.
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A GET of `http://a.example/`, in HPACK without a table: `:method GET`, `:scheme http`, `:path /` by their static numbers.
pub fn head() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 9];
    block.extend_from_slice(b"a.example");
    block
}

/// A field that is not indexed, with a short name.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0, u8::try_from(name.len()).unwrap()];
    block.extend_from_slice(name.as_bytes());
    // RFC 7541 §5.1: seven bits, then groups of seven.
    match value.len() {
        short @ ..127 => block.push(short as u8),
        long => {
            block.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                block.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend_from_slice(value.as_bytes());
    block
}

/// One frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of GOAWAY and RST_STREAM.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// The next frame; none if the connection has ended.
pub async fn next<R: AsyncReadExt + Unpin>(from: &mut R) -> Option<Frame> {
    let mut header = [0; 9];
    from.read_exact(&mut header).await.ok()?;
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
    Some(Frame { kind: header[3], flags: header[4], stream, payload })
}

/// The next frame of a kind.
pub async fn next_of<R: AsyncReadExt + Unpin>(from: &mut R, kind: u8) -> Option<Frame> {
    loop {
        let frame = next(from).await?;
        if frame.kind == kind {
            return Some(frame);
        }
    }
}

/// A connection on which the preface was sent.
pub async fn raw(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    stream
}

/// A gRPC message: not compressed, its length, its bytes.
pub fn by_text(message: &str) -> String {
    let length = char::from(u8::try_from(message.len()).unwrap());
    format!("\0\0\0\0{length}{message}")
}

/// Reads until `end` has come.
pub async fn until(from: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        seen.push(from.read_u8().await.unwrap());
    }
    String::from_utf8(seen).unwrap()
}
