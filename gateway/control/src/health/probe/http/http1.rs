//! Probes by HTTP/1.1.

use ::http::header;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Question, missing, unmakeable};
use crate::health::probe::{Driver, Failure, MOST_READ, unreachable};

/// The largest head that is an answer to a probe, in bytes.
const MOST_HEAD: usize = 64 << 10;

pub(super) async fn probe(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, question: &Question<'_>) -> Result<(), Failure> {
    let request = question.request(question.path).header(header::HOST, question.host).header(header::CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| unmakeable(&e))?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(stream)).await.map_err(|e| unreachable("send", e))?;
    let _driver = Driver::start(connection);
    let response = sender.send_request(request).await.map_err(|e| unreachable("answer", e))?;
    question.judge(response.status().as_u16())?;
    let mut body = response.into_body();
    let mut came: Vec<u8> = Vec::new();
    while !question.is_answered(&came) {
        match body.frame().await {
            Some(Ok(frame)) if came.len() < MOST_READ => came.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default()),
            Some(Err(error)) => return Err(unreachable("content", error)),
            _ => return Err(missing(&came)),
        }
    }
    Ok(())
}
