//! An HTTP/1.1 request, its status and its content.

use ::http::{Method, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Driver, Failure, MOST_READ, contains, unreachable, wrong};

/// Heads that are larger are no answer to a probe.
const MOST_HEAD: usize = 64 << 10;

pub(super) async fn probe(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    method: &Method,
    path: &str,
    host: &str,
    statuses: &[u16],
    receive: &[u8],
) -> Result<(), Failure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("sluicegate-health/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| wrong(format!("the request cannot be made: {e}")))?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(stream)).await.map_err(|e| unreachable("send", e))?;
    let _driver = Driver::start(connection);
    let response = sender.send_request(request).await.map_err(|e| unreachable("answer", e))?;
    let status = response.status().as_u16();
    if !statuses.contains(&status) {
        let expected: Vec<String> = statuses.iter().take(8).map(u16::to_string).collect();
        return Err(wrong(format!("HTTP {status}, expected {}", expected.join(" or "))));
    }
    let mut body = response.into_body();
    let mut came: Vec<u8> = Vec::new();
    while !contains(&came, receive) {
        match body.frame().await {
            Some(Ok(frame)) if came.len() < MOST_READ => came.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default()),
            Some(Err(error)) => return Err(unreachable("content", error)),
            _ => return Err(wrong(format!("the expected text is not among the {} bytes of content", came.len()))),
        }
    }
    Ok(())
}
