//! Writes heads: start line, fields, and the fields of this hop, which are made here rather than taken from the message.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

use super::fields::{Fields, RequestLines};
use super::head::{Framing, Status};
use super::spelling::Spellings;

/// How content is framed when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// By its length; so many bytes are still to come.
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

/// Writes the head of a request in origin form (RFC 9112 §3.2.1), as HTTP/1.1, on a connection that is to be kept, or to become what `upgrade` names. `lines`:
/// its fields, if they are not in its map. `more` writes other fields.
pub(crate) fn request_head<B>(
    out: &mut Vec<u8>,
    request: &Request<B>,
    lines: Option<&RequestLines>,
    framing: Framing,
    upgrade: Option<&HeaderValue>,
    more: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    match request.uri().path_and_query() {
        Some(target) => {
            // The path of `http://host?query` is empty, which it may not be in origin form (RFC 9112 §3.2.1).
            if target.as_str().starts_with('?') {
                out.push(b'/');
            }
            out.extend_from_slice(target.as_str().as_bytes());
        }
        None => out.push(b'/'),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let names = Names(request.extensions().get());
    match lines {
        Some(lines) => lines.write(out),
        None => names.fields(out, request.headers()),
    }
    more(out);
    match framing {
        // That there is no content need not be said, unless the method is about content (RFC 9110 §8.6).
        Framing::Length(0) if !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) => {}
        other => names.framing(out, other),
    }
    if let Some(protocol) = upgrade {
        names.line(out, &header::CONNECTION, b"upgrade");
        names.line(out, &header::UPGRADE, protocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// What a response tells of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Nothing, as HTTP/1.1 keeps it.
    Kept,
    /// That it is kept, which HTTP/1.0 must be told.
    KeptAsAsked,
    Close,
    /// That it becomes what the response's `Upgrade` names.
    Upgrade,
}

/// Writes the head of a final response. `bare`: it has no content by its nature (RFC 9110 §6.4.1), and a length in its fields is that of another response.
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
    let (headers, names) = match of {
        Fields::AsTheyCame(_) => (None, Names(None)),
        Fields::Map(headers) => (Some(headers), Names(None)),
        Fields::Spelt(spelt) => (Some(&spelt.0), Names(Some(&spelt.1))),
    };
    if let Some(headers) = headers {
        names.fields(out, headers);
        // RFC 9110 §8.6: there is no length with 204, with an interim response, or with one that becomes another protocol.
        let has_length = bare && status != StatusCode::NO_CONTENT && !status.is_informational();
        if let Some(length) = headers.get(header::CONTENT_LENGTH).filter(|_| has_length) {
            names.line(out, &header::CONTENT_LENGTH, length.as_bytes());
        }
    }
    let dated = match of {
        Fields::AsTheyCame(lines) => {
            lines.write(out);
            lines.dated
        }
        Fields::Map(_) | Fields::Spelt(_) => headers.is_some_and(|headers| headers.contains_key(header::DATE)),
    };
    if !bare {
        names.framing(out, framing);
    }
    // RFC 9110 §7.8: a sender of `Upgrade` nominates it.
    let offers = headers.is_some_and(|headers| headers.contains_key(header::UPGRADE));
    let options: &[u8] = match (connection, offers) {
        (Connection::Kept, false) => b"",
        (Connection::KeptAsAsked, false) => b"keep-alive",
        (Connection::KeptAsAsked, true) => b"keep-alive, upgrade",
        (Connection::Close, false) => b"close",
        (Connection::Close, true) => b"close, upgrade",
        (Connection::Upgrade, _) | (Connection::Kept, true) => b"upgrade",
    };
    if !options.is_empty() {
        names.line(out, &header::CONNECTION, options);
    }
    // RFC 9110 §6.6.1: a recipient with a clock adds the date if it is missing.
    if !dated {
        field(out, &header::DATE, date);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim response (RFC 9110 §15.2).
pub(crate) fn interim_head(out: &mut Vec<u8>, response: &mut Status) {
    status_line(out, response.code);
    response.fields.map();
    match &response.fields {
        Fields::Spelt(spelt) => Names(Some(&spelt.1)).fields(out, &spelt.0),
        Fields::Map(headers) => Names(None).fields(out, headers),
        Fields::AsTheyCame(lines) => lines.write(out),
    }
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

/// How names are spelt, if that is known.
#[derive(Clone, Copy)]
struct Names<'s>(Option<&'s Spellings>);

impl Names<'_> {
    /// Writes all fields but those of framing and connection.
    fn fields(self, out: &mut Vec<u8>, headers: &HeaderMap) {
        let (mut last, mut nth) = (None, 0);
        for (name, value) in headers {
            if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING || name == header::CONNECTION {
                continue;
            }
            let Self(Some(_)) = self else {
                field(out, name, value);
                continue;
            };
            // Fields of one name follow one another.
            nth = if last == Some(name) { nth + 1 } else { 0 };
            last = Some(name);
            self.nth(out, name, nth, value.as_bytes());
        }
    }

    fn line(self, out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
        self.nth(out, name, 0, value);
    }

    fn nth(self, out: &mut Vec<u8>, name: &HeaderName, nth: usize, value: &[u8]) {
        let spelt = self.0.and_then(|spellings| spellings.of(name.as_str(), nth));
        for piece in [spelt.unwrap_or(name.as_str().as_bytes()), b": ", value, b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }

    fn framing(self, out: &mut Vec<u8>, framing: Framing) {
        match framing {
            Framing::Length(length) => {
                let mut digits = [0; 20];
                self.line(out, &header::CONTENT_LENGTH, decimal(&mut digits, length));
            }
            Framing::Chunked => self.line(out, &header::TRANSFER_ENCODING, b"chunked"),
            Framing::UntilClose => {}
        }
    }
}

pub(crate) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    Names(None).line(out, name, value.as_bytes());
}

/// The digits of a number.
fn decimal(digits: &mut [u8; 20], mut number: u64) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
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
            request_head(&mut out, &request, None, framing, None, |_| {});
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
            request_head(&mut out, &Request::get(uri).body(()).unwrap(), None, Framing::Length(0), None, |_| {});
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
