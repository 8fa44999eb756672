//! `grpc.health.v1.Health/Check` (gRPC Health Checking Protocol) over HTTP/2 with prior knowledge. Its two messages have one field each, so
//! they are coded here.

use ::http::{HeaderMap, Method, Request, Version, header};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Driver, Failure, MOST_HEADERS, MOST_READ, unreachable, wrong};

/// The value `SERVING` of `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

pub(super) async fn probe(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    scheme: &str,
    service: &str,
    host: &str,
) -> Result<(), Failure> {
    let request = Request::builder()
        .version(Version::HTTP_2)
        .method(Method::POST)
        .uri(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, concat!("sluicegate-health/", env!("CARGO_PKG_VERSION")))
        .body(())
        .map_err(|e| wrong(format!("the request cannot be made: {e}")))?;
    let handshake = client::Builder::new().max_header_list_size(MOST_HEADERS).enable_push(false).handshake::<_, Bytes>(stream);
    let (sender, connection) = handshake.await.map_err(|e| unreachable("send", e))?;
    let _driver = Driver::start(connection);
    let mut sender = sender.ready().await.map_err(|e| unreachable("send", e))?;
    let (response, mut content) = sender.send_request(request, false).map_err(|e| unreachable("send", e))?;
    content.send_data(message(service), true).map_err(|e| unreachable("send", e))?;
    let response = response.await.map_err(|e| unreachable("answer", e))?;
    if response.status() != ::http::StatusCode::OK {
        return Err(wrong(format!("HTTP {}, expected gRPC", response.status().as_u16())));
    }
    // If the response is trailers only, the status is among the headers.
    status(response.headers())?;
    let mut body = response.into_body();
    let mut came = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|e| unreachable("answer", e))?;
        // It cannot fail, as no more is given back than came.
        let _ = body.flow_control().release_capacity(data.len());
        came.put(data);
        if came.len() > MOST_READ {
            return Err(wrong("the answer is too large".to_owned()));
        }
    }
    let trailers = body.trailers().await.map_err(|e| unreachable("answer", e))?;
    status(&trailers.unwrap_or_default())?;
    match serving_status(&came) {
        Some(SERVING) => Ok(()),
        Some(2) => Err(wrong("NOT_SERVING".to_owned())),
        Some(0) => Err(wrong("UNKNOWN".to_owned())),
        Some(3) => Err(wrong("SERVICE_UNKNOWN".to_owned())),
        Some(other) => Err(wrong(format!("serving status {other}"))),
        None => Err(wrong("the answer is no HealthCheckResponse".to_owned())),
    }
}

/// Checks `grpc-status`, if it is there.
fn status(fields: &HeaderMap) -> Result<(), Failure> {
    match fields.get("grpc-status").map(|v| v.to_str().unwrap_or("?")) {
        None | Some("0") => Ok(()),
        Some("5") => Err(wrong("gRPC status 5: the service is not known".to_owned())),
        Some("12") => Err(wrong("gRPC status 12: the server has no health service".to_owned())),
        Some(code) => Err(wrong(format!("gRPC status {code}"))),
    }
}

/// A `HealthCheckRequest` behind gRPC's prefix: not compressed, and its length.
fn message(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

/// The status in a `HealthCheckResponse` behind gRPC's prefix; 0 if there is none, as in protobuf.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (prefix, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    let mut rest = message.get(..usize::try_from(length).ok()?).filter(|_| prefix[0] == 0)?;
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_coded_as_protobuf_has_them() {
        assert_eq!(message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }

    #[test]
    fn answers_are_read_and_what_is_none_is_not() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        // Another field stands before it: number 2, with two bytes.
        assert_eq!(serving_status(&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 8, 2]), Some(2));
        for odd in [
            &[][..],
            &[0, 0, 0, 0, 2, 8],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 2, 0x12, 9],
            &[0, 0, 0, 0, 1, 0x0f],
            &[0, 255, 255, 255, 255, 8],
        ] {
            assert_eq!(serving_status(odd), None, "{odd:?}");
        }
        assert_eq!(serving_status(&[0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }
}
