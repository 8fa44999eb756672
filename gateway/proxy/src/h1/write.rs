//! Writes heads: start line, fields, and the fields of this hop, which are made here and not taken from the message.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

use super::fields::Fields;
use super::head::{Framing, Status};

/// How content is framed when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
    UntilClose,
}

impl From<Framing> for Encoder {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked,
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

/// A request in origin form (RFC 9112 §3.2.1), as HTTP/1.1, on a connection that is to be kept, or to become what `upgrade` names.
/// `more` writes other fields.
pub(crate) fn request_head<B>(
    out: &mut Vec<u8>,
    request: &Request<B>,
    framing: Framing,
    upgrade: Option<&HeaderValue>,
    more: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    match request.uri().path_and_query() {
        Some(target) => {
            // `http://host?query` has an empty path, which the origin form may not have (RFC 9112 §3.2.1).
            if target.as_str().starts_with('?') {
                out.push(b'/');
            }
            out.extend_from_slice(target.as_str().as_bytes());
        }
        None => out.push(b'/'),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(out, request.headers());
    more(out);
    match framing {
        // Without content there is no need to say so, except where content is what the method is about (RFC 9110 §8.6).
        Framing::Length(0) if !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) => {}
        other => framing_field(out, other),
    }
    if let Some(protocol) = upgrade {
        out.extend_from_slice(b"connection: upgrade\r\n");
        field(out, &header::UPGRADE, protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// What the connection is told in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Nothing: HTTP/1.1 keeps it.
    Kept,
    /// HTTP/1.0 must be told.
    KeptAsAsked,
    Close,
    /// It becomes what the response's Upgrade names.
    Upgrade,
}

/// A final response. `bare`: it has no content by its nature (RFC 9110 §6.4.1), and what its fields say of a length is of another response.
pub(crate) fn response_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    of: &Fields,
    framing: Framing,
    bare: bool,
    connection: Connection,
    date: &HeaderValue,
) {
    status_line(out, status);
    let dated = match of {
        Fields::AsTheyCame(lines) => {
            lines.write(out);
            lines.dated
        }
        Fields::Map(headers) => {
            fields(out, headers);
            // RFC 9110 §8.6: not with 204.
            if let Some(length) = headers.get(header::CONTENT_LENGTH).filter(|_| bare && status != StatusCode::NO_CONTENT) {
                field(out, &header::CONTENT_LENGTH, length);
            }
            headers.contains_key(header::DATE)
        }
    };
    if !bare {
        framing_field(out, framing);
    }
    match connection {
        Connection::Kept => {}
        Connection::KeptAsAsked => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Connection::Close => out.extend_from_slice(b"connection: close\r\n"),
        Connection::Upgrade => out.extend_from_slice(b"connection: upgrade\r\n"),
    }
    // RFC 9110 §6.6.1: a recipient with a clock adds it where it is missing.
    if !dated {
        field(out, &header::DATE, date);
    }
    out.extend_from_slice(b"\r\n");
}

/// An interim response (RFC 9110 §15.2).
pub(crate) fn interim_head(out: &mut Vec<u8>, response: &mut Status) {
    status_line(out, response.code);
    fields(out, response.fields.map());
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// All fields but those of framing and connection.
fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING && name != header::CONNECTION {
            field(out, name, value);
        }
    }
}

pub(crate) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn framing_field(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_how_long_it_is() {
        let head = |method: Method, framing| {
            let request = Request::builder().method(method).uri("/a?b").header("host", "x").header("content-length", "9").body(()).unwrap();
            let mut out = Vec::new();
            request_head(&mut out, &request, framing, None, |_| {});
            String::from_utf8(out).unwrap()
        };
        assert_eq!(head(Method::GET, Framing::Length(0)), "GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(head(Method::POST, Framing::Length(0)), "POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(
            head(Method::GET, Framing::Length(18_446_744_073_709_551_615)).lines().nth(2),
            Some("content-length: 18446744073709551615")
        );
        assert_eq!(head(Method::PUT, Framing::Chunked), "PUT /a?b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    }

    #[test]
    fn an_empty_path_is_a_slash_in_origin_form() {
        for (uri, line) in
            [("http://a?b", "GET /?b HTTP/1.1"), ("http://a", "GET / HTTP/1.1"), ("*", "GET * HTTP/1.1"), ("/a", "GET /a HTTP/1.1")]
        {
            let mut out = Vec::new();
            request_head(&mut out, &Request::get(uri).body(()).unwrap(), Framing::Length(0), None, |_| {});
            assert_eq!(String::from_utf8(out).unwrap().lines().next(), Some(line), "{uri}");
        }
    }

    #[test]
    fn a_response_without_content_keeps_the_length_it_speaks_of() {
        let date = HeaderValue::from_static("now");
        let head = |bare, framing, connection| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("9"));
            let mut out = Vec::new();
            response_head(&mut out, StatusCode::from_u16(299).unwrap(), &headers.into(), framing, bare, connection, &date);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(head(true, Framing::Length(0), Connection::Kept), "HTTP/1.1 299 \r\ncontent-length: 9\r\ndate: now\r\n\r\n");
        let chunked = "HTTP/1.1 299 \r\ntransfer-encoding: chunked\r\nconnection: close\r\ndate: now\r\n\r\n";
        assert_eq!(head(false, Framing::Chunked, Connection::Close), chunked);
        let kept = "HTTP/1.1 299 \r\ncontent-length: 3\r\nconnection: keep-alive\r\ndate: now\r\n\r\n";
        assert_eq!(head(false, Framing::Length(3), Connection::KeptAsAsked), kept);
    }
}
