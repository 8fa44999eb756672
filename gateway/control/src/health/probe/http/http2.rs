//! Probes by HTTP/2, with prior knowledge (RFC 9113 §3.3), or after TLS has agreed on it.

use ::http::Version;
use bytes::Bytes;
use h2::client;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Question, missing, unmakeable};
use crate::health::probe::{Driver, Failure, MOST_HEADERS, MOST_READ, unreachable};

pub(super) async fn probe(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, question: &Question<'_>) -> Result<(), Failure> {
    let target = format!("{}://{}{}", question.scheme, question.host, question.path);
    let request = question.request(&target).version(Version::HTTP_2).body(()).map_err(|e| unmakeable(&e))?;
    let handshake = client::Builder::new().max_header_list_size(MOST_HEADERS).enable_push(false).handshake::<_, Bytes>(stream);
    let (sender, connection) = handshake.await.map_err(|e| unreachable("send", e))?;
    let _driver = Driver::start(connection);
    let mut sender = sender.ready().await.map_err(|e| unreachable("send", e))?;
    let (response, _) = sender.send_request(request, true).map_err(|e| unreachable("send", e))?;
    let response = response.await.map_err(|e| unreachable("answer", e))?;
    question.judge(response.status().as_u16())?;
    let mut body = response.into_body();
    let mut came: Vec<u8> = Vec::new();
    while !question.is_answered(&came) {
        match body.data().await {
            Some(Ok(data)) if came.len() < MOST_READ => {
                // It cannot fail, as no more is given back than came.
                let _ = body.flow_control().release_capacity(data.len());
                came.extend_from_slice(&data);
            }
            Some(Err(error)) => return Err(unreachable("content", error)),
            _ => return Err(missing(&came)),
        }
    }
    Ok(())
}
