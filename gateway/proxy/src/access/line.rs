//! Writes lines. What a client sends stays within its field: in text, quotes, backslashes and all that is not visible ASCII are written `\\xHH`, as in nginx; in
//! JSON they are escaped as RFC 8259 §7 says, and with them all that cannot be seen ([`escape::is_hidden`]).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Version;
use jiff::Timestamp;
use sluicegate_model::access_log::{AccessLogField as Field, Line, Piece};
use sluicegate_model::escape;

use super::entry::Entry;

/// The largest size of one value, in bytes; what is beyond is left out.
const MOST: usize = 8 << 10;

/// The second that was written last, as text, as most lines are of the same.
#[derive(Default)]
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    /// Writes a time: RFC 3339, in UTC.
    fn write(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            let second = i64::try_from(self.second).ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or_default();
            self.text.clear();
            // It cannot fail, as a String grows. The milliseconds come before its "Z".
            let _ = write!(self.text, "{second}");
            self.text.pop();
        }
        out.extend_from_slice(self.text.as_bytes());
        print(out, format_args!(".{:03}Z", since.subsec_millis()));
    }
}

/// Writes a text without a buffer in between.
fn print(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // It cannot fail, as a Vec grows.
    let _ = std::io::Write::write_fmt(out, text);
}

/// A field's value.
pub(super) enum Value<'a> {
    None,
    Time,
    Text(&'a [u8]),
    Number(u64),
    Millis(Duration),
    Ip(IpAddr),
    Address(SocketAddr),
    Trace(u128),
    Span(u64),
}

pub(super) fn value<'a>(field: Field, entry: &'a Entry) -> Value<'a> {
    let text = |text: Option<&'a str>| text.map_or(Value::None, |text| Value::Text(text.as_bytes()));
    let request = entry.request.as_ref();
    match field {
        Field::Time => Value::Time,
        Field::Kind => Value::Text(entry.kind.as_bytes()),
        Field::Client => Value::Ip(entry.client.to_canonical()),
        Field::Listener => text(Some(&entry.listener)),
        Field::Method => text(request.map(|r| r.method.as_str())),
        Field::Host => request.map_or(Value::None, |r| match (r.uri.authority(), &r.host) {
            (Some(authority), _) => Value::Text(authority.as_str().as_bytes()),
            (None, Some(host)) => Value::Text(host.as_bytes()),
            (None, None) => Value::None,
        }),
        Field::Path => text(request.map(|r| r.uri.path_and_query().map_or("", |path| path.as_str()))),
        Field::Protocol => text(request.map(|r| match r.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_3 => "HTTP/3",
            _ => "HTTP/1.1",
        })),
        Field::Status => entry.status.map_or(Value::None, |status| Value::Number(status.as_u16().into())),
        Field::Reason => text(entry.reason),
        Field::BytesIn => Value::Number(entry.bytes_in),
        Field::BytesOut => Value::Number(entry.bytes_out),
        Field::Duration => Value::Millis(entry.begun.elapsed()),
        Field::FirstByte => entry.first_byte.map_or(Value::None, Value::Millis),
        Field::Service => text(entry.service.as_deref()),
        Field::Endpoint => entry.endpoint.map_or(Value::None, Value::Address),
        Field::Rule => text(entry.rule.as_deref()),
        Field::Attempts => Value::Number(entry.attempts.into()),
        Field::RequestId => entry.request_id.as_ref().map_or(Value::None, |id| Value::Text(id.as_bytes())),
        Field::TraceId => entry.trace.map_or(Value::None, |trace| Value::Trace(trace.trace)),
        Field::SpanId => entry.trace.filter(|trace| trace.sampled).map_or(Value::None, |trace| Value::Span(trace.span)),
        Field::UserAgent => request.and_then(|r| r.user_agent.as_ref()).map_or(Value::None, |agent| Value::Text(agent.as_bytes())),
    }
}

pub(super) fn write(out: &mut Vec<u8>, line: &Line, entry: &Entry, clock: &mut Clock) {
    match line {
        Line::Text(pieces) => {
            for piece in pieces {
                match piece {
                    Piece::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
                    Piece::Field(field) => match value(*field, entry) {
                        Value::None => out.push(b'-'),
                        Value::Text([]) => out.push(b'-'),
                        Value::Text(text) => escape_text(text, out),
                        other => plain(&other, entry, clock, out),
                    },
                }
            }
        }
        Line::Json(fields) => {
            out.push(b'{');
            for (at, field) in fields.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                print(out, format_args!("{comma}\"{}\":", field.name()));
                match value(*field, entry) {
                    Value::None => out.extend_from_slice(b"null"),
                    number @ (Value::Number(_) | Value::Millis(_)) => plain(&number, entry, clock, out),
                    Value::Text(text) => {
                        out.push(b'"');
                        escape_json(text, out);
                        out.push(b'"');
                    }
                    other => {
                        out.push(b'"');
                        plain(&other, entry, clock, out);
                        out.push(b'"');
                    }
                }
            }
            out.push(b'}');
        }
    }
    out.push(b'\n');
}

/// Writes a value that needs no escapes.
fn plain(value: &Value<'_>, entry: &Entry, clock: &mut Clock, out: &mut Vec<u8>) {
    match value {
        Value::None | Value::Text(_) => {}
        Value::Time => clock.write(entry.time, out),
        Value::Number(number) => print(out, format_args!("{number}")),
        Value::Millis(time) => print(out, format_args!("{}.{:03}", time.as_millis(), time.as_micros() % 1000)),
        Value::Ip(ip) => print(out, format_args!("{ip}")),
        Value::Trace(trace) => print(out, format_args!("{trace:032x}")),
        Value::Span(span) => print(out, format_args!("{span:016x}")),
        Value::Address(address) => print(out, format_args!("{address}")),
    }
}

fn escape_text(text: &[u8], out: &mut Vec<u8>) {
    for byte in &text[..text.len().min(MOST)] {
        match byte {
            b'"' | b'\\' => print(out, format_args!("\\x{byte:02X}")),
            b' '..=b'~' => out.push(*byte),
            _ => print(out, format_args!("\\x{byte:02X}")),
        }
    }
}

/// Writes bytes as a JSON string. If they are not UTF-8, they are taken for ISO 8859-1, as HTTP once did, so that every byte can be told from the line.
fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text[..text.len().min(MOST)].utf8_chunks() {
        for part in chunk.valid().chars() {
            match part {
                '"' | '\\' => out.extend_from_slice(&[b'\\', part as u8]),
                ' '..='~' => out.push(part as u8),
                _ if escape::is_hidden(part) => print(out, format_args!("{}", escape::JsonChar(part))),
                _ => out.extend_from_slice(part.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for part in chunk.invalid() {
            print(out, format_args!("{}", escape::JsonChar(char::from(*part))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_client_leaves_its_field() {
        let hostile =
            b"a\" b\\ \r\n{\"x\":1} \x1b[31m \x7f \xc3\xa4 \xff \0 \xe2\x80\xae \xc2\x9b \xe2\x80\xa8 \xef\xbb\xbf \xf3\xa0\x81\x81";
        let (mut text, mut json) = (Vec::new(), Vec::new());
        escape_text(hostile, &mut text);
        assert_eq!(
            String::from_utf8_lossy(&text),
            r#"a\x22 b\x5C \x0D\x0A{\x22x\x22:1} \x1B[31m \x7F \xC3\xA4 \xFF \x00 \xE2\x80\xAE \xC2\x9B \xE2\x80\xA8 \xEF\xBB\xBF \xF3\xA0\x81\x81"#
        );
        escape_json(hostile, &mut json);
        assert_eq!(
            String::from_utf8_lossy(&json),
            r#"a\" b\\ \u000d\u000a{\"x\":1} \u001b[31m \u007f ä \u00ff \u0000 \u202e \u009b \u2028 \ufeff \udb40\udc41"#
        );
        let mut long = Vec::new();
        escape_text(&[b'x'; MOST + 1], &mut long);
        assert_eq!(long.len(), MOST);
    }

    #[test]
    fn times_are_rfc_3339() {
        let mut clock = Clock::default();
        for (seconds, wanted) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (1_795_577_410, "2026-11-25T03:30:10.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            let mut out = Vec::new();
            clock.write(UNIX_EPOCH + Duration::new(seconds, 7_000_000), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), wanted);
        }
    }
}
