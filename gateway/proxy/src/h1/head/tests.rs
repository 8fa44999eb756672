//! Tests of heads that are read, refused, and passed on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::h1;

fn read(head: &str) -> Result<Option<Head<Request<()>>>, BadHead> {
    request(&mut BytesMut::from(head), 0, &mut HeaderMap::new(), Case::Any)
}

fn framing(fields: &str) -> Result<Framing, BadHead> {
    read(&format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).map(|head| head.unwrap().framing)
}

#[test]
fn what_follows_stays_in_the_buffer() {
    let mut buffer = BytesMut::from("GET /a?b HTTP/1.1\r\nHost: x\r\nA: 1\r\na:2 \r\n\r\nnext");
    let head = request(&mut buffer, 0, &mut HeaderMap::new(), Case::Any).unwrap().unwrap();
    assert_eq!((head.message.method(), head.message.uri().to_string().as_str()), (&Method::GET, "/a?b"));
    assert_eq!(head.message.headers().get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!((head.framing, head.keep_alive, &buffer[..]), (Framing::Length(0), true, &b"next"[..]));
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let whole = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut buffer = BytesMut::new();
    for (seen, byte) in whole.iter().enumerate() {
        buffer.extend_from_slice(&[*byte]);
        let head = request(&mut buffer, seen, &mut HeaderMap::new(), Case::Any).unwrap();
        assert_eq!(head.is_some(), seen + 1 == whole.len(), "after {seen}");
    }
}

#[test]
fn ambiguous_lengths_are_refused() {
    assert_eq!(framing("content-length: 3\r\n"), Ok(Framing::Length(3)));
    assert_eq!(framing("transfer-encoding: Chunked\r\n"), Ok(Framing::Chunked));
    let doubts = ["+3", "-1", "3,3", "3, 4", "0x3", "", "3 3", "18446744073709551616", "9223372036854775808"];
    for doubt in doubts {
        assert_eq!(framing(&format!("content-length: {doubt}\r\n")), Err(BadHead::Framing), "{doubt}");
    }
    assert_eq!(framing("content-length: 3\r\ncontent-length: 3\r\n"), Err(BadHead::Framing));
    assert_eq!(framing("content-length: 3\r\ntransfer-encoding: chunked\r\n"), Err(BadHead::Framing));
    for coding in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked\r\ntransfer-encoding: chunked"] {
        assert_eq!(framing(&format!("transfer-encoding: {coding}\r\n")), Err(BadHead::Coding), "{coding}");
    }
    assert_eq!(read("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").unwrap_err(), BadHead::Framing);
}

#[test]
fn odd_lines_are_refused() {
    for (head, why) in [
        ("GET / HTTP/1.1\nhost: a\n\n", "bare newlines"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\n\r\n", "one bare newline"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\ry: 2\r\n\r\n", "bare carriage return"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n", "obsolete folding"),
        ("GET / HTTP/1.1\r\n host: a\r\n\r\n", "space before the first field"),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", "space before the colon"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n", "no colon"),
        ("GET / HTTP/1.1\r\nhost: a\0\r\n\r\n", "NUL"),
        ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", "two spaces"),
        ("GET / HTTP/1.1 \r\nhost: a\r\n\r\n", "space at the end"),
        ("GE T / HTTP/1.1\r\nhost: a\r\n\r\n", "space in the method"),
        ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", "version"),
        ("GET /\u{1}x HTTP/1.1\r\nhost: a\r\n\r\n", "control character in the target"),
    ] {
        assert!(read(head).is_err(), "{why}");
    }
}

#[test]
fn large_heads_are_refused_before_their_end() {
    let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
    assert_eq!(read(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).unwrap_err(), BadHead::ManyFields);
    let endless = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(MAX_HEAD));
    assert_eq!(read(&endless).unwrap_err(), BadHead::TooLarge);
    assert_eq!(request(&mut BytesMut::from(endless.as_str()), 1000, &mut HeaderMap::new(), Case::Any).unwrap_err(), BadHead::TooLarge);
}

#[test]
fn connections_are_kept_by_version_and_option() {
    let kept = |head: &str| read(&format!("GET / {head}\r\n\r\n")).unwrap().unwrap().keep_alive;
    assert!(kept("HTTP/1.1\r\nhost: a"));
    assert!(!kept("HTTP/1.1\r\nhost: a\r\nconnection: x, Close"));
    assert!(!kept("HTTP/1.0\r\nhost: a"));
    assert!(kept("HTTP/1.0\r\nconnection: Keep-Alive"));
}

#[test]
fn responses_end_as_rfc_9112_says() {
    let framing = |head: &str, to: Method| {
        response(&mut BytesMut::from(head), 0, &to, Case::Any).map(|head| head.map(|h| (h.framing, h.keep_alive))).map(Option::unwrap)
    };
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(framing(ok, Method::GET), Ok((Framing::Length(5), true)));
    assert_eq!(framing(ok, Method::HEAD), Ok((Framing::Length(0), true)));
    assert_eq!(framing("HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n", Method::GET), Ok((Framing::Length(0), true)));
    assert_eq!(framing("HTTP/1.1 304 No\r\ncontent-length: 5\r\n\r\n", Method::GET), Ok((Framing::Length(0), true)));
    assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n", Method::GET), Ok((Framing::UntilClose, false)));
    assert_eq!(framing("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", Method::GET), Ok((Framing::Length(5), false)));
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(framing(both, Method::GET), Err(BadHead::Framing));
}

fn written(head: &str, to: &Method) -> (String, bool) {
    let Head { mut message, framing, .. } = response(&mut BytesMut::from(head), 0, to, Case::Any).unwrap().unwrap();
    let mut out = Vec::new();
    let bare = *to == Method::HEAD;
    let date = HeaderValue::from_static("now");
    h1::response_head(&mut out, message.code, &message.fields, framing, bare, h1::Connection::Kept, &date);
    (String::from_utf8(out).unwrap(), message.fields.made().is_none())
}

#[test]
fn responses_pass_as_they_came_but_for_what_is_of_one_hop() {
    let head = "HTTP/1.1 200 OK\r\nServer: a\r\nDATE:x\r\ncontent-LENGTH: 5\r\nX:  1 \r\nConnection: keep-alive\r\nKeep-Alive: 5\r\nTE: y\r\nX: 2\r\n\r\n";
    let passed = "HTTP/1.1 200 OK\r\nServer: a\r\nDATE:x\r\nX:  1 \r\nX: 2\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(written(head, &Method::GET), (passed.to_owned(), true));
    let undated = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let dated = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ndate: now\r\n\r\n";
    assert_eq!(written(undated, &Method::GET), (dated.to_owned(), true));
}

#[test]
fn a_map_is_made_where_fields_are_to_be_looked_at() {
    let fields = |fields: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n{fields}\r\n");
    assert!(written(&fields("a: 1\r\n"), &Method::GET).1);
    assert!(!written(&fields("a: 1\r\n"), &Method::HEAD).1, "its length is of another");
    assert!(!written(&fields("connection: close, a\r\na: 1\r\n"), &Method::GET).1, "a field is nominated");
    assert!(!written(&fields("a: 1\nb: 2\r\n"), &Method::GET).1, "a bare line feed");
    assert!(!written(&fields(&"a: 1\r\nte: x\r\n".repeat(5)), &Method::GET).1, "too many runs");
    let mut head = response(&mut BytesMut::from(&*fields("a: 1\r\nte: x\r\nA:2\r\n")), 0, &Method::GET, Case::Any).unwrap().unwrap();
    assert_eq!(
        head.message.fields.map().iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect::<Vec<_>>(),
        [("a", &b"1"[..]), ("a", b"2")]
    );
}

/// Heads that are whole, and what follows them.
const WHOLE: [&str; 8] = [
    "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /next",
    "\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nx:\r\n\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "POST /p HTTP/1.2\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\n\r\nhello",
    "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "HTTP/1.3 200\r\n\r\n",
    "\r\nHTTP/1.0 404 \r\nx: 1\r\n\nrest",
];

/// A head's framing and what is left, when the bytes come in these pieces.
fn in_pieces<'p>(pieces: impl Iterator<Item = &'p [u8]>, response: bool) -> Result<Option<(Framing, String)>, BadHead> {
    let (mut buffer, mut seen, mut found) = (BytesMut::new(), 0, None);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if found.is_none() {
            found = if response {
                super::response(&mut buffer, seen, &Method::GET, Case::Any)?.map(|head| head.framing)
            } else {
                request(&mut buffer, seen, &mut HeaderMap::new(), Case::Any)?.map(|head| head.framing)
            };
            seen = buffer.len();
        }
    }
    Ok(found.map(|framing| (framing, String::from_utf8_lossy(&buffer).into_owned())))
}

#[test]
fn heads_are_read_the_same_wherever_they_are_cut() {
    for bytes in WHOLE {
        let response = bytes.trim_start().starts_with("HTTP");
        let whole = in_pieces(std::iter::once(bytes.as_bytes()), response).unwrap();
        assert!(whole.is_some(), "{bytes:?}");
        assert_eq!(in_pieces(bytes.as_bytes().chunks(1), response).unwrap(), whole, "{bytes:?} byte by byte");
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let cut = [&bytes[..first], &bytes[first..second], &bytes[second..]].map(str::as_bytes);
                assert_eq!(in_pieces(cut.into_iter(), response).unwrap(), whole, "{bytes:?} at {first} and {second}");
            }
        }
    }
}

#[test]
fn no_cut_makes_a_head_of_what_is_none() {
    for bytes in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\r\nGET",
        "GET / HTTP/1.1\r\nhost: a\r\n\nGET",
        "GET / HTTP/1.1\r\nhost: a\n\r\nGET",
        "GET / HTTP/1.1\r\nx: 1\r\r\n\r\nGET",
        "GET / HTTP/1.1\r\nx: 1\ry: 2\r\n\r\nGET",
        "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: 1\r\n\r\r\nhello",
        "HTTP/1.1 200 OK\r\nx: 1\ry: 2\r\n\r\nhello",
        "HTTP/1.1 200 OK\rx: 1\n\nhello",
    ] {
        for cut in 0..=bytes.len() {
            let pieces = [&bytes[..cut], &bytes[cut..]].map(str::as_bytes);
            assert!(in_pieces(pieces.into_iter(), bytes.starts_with("HTTP")).is_err(), "{bytes:?} at {cut}");
        }
    }
}

/// What goes on of a request is the same whether its fields are put into a map or not, but for the case of their names.
#[test]
fn lines_say_what_the_map_says() {
    let written = |request: &Request<()>, lines: Option<&RequestLines>, framing| {
        let mut out = Vec::new();
        h1::request_head(&mut out, request, lines, framing, None, |_| {});
        out
    };
    let values = ["1", "a, b", "a\tb", "\u{e4}", "\"x\\\"y\"", "a:b", "close", "keep-alive", "chunked", "5", ""];
    let names = ["accept", "X-Own", "x-own", "content-length", "Transfer-Encoding", "Connection", "host", "date", "a", "te"];
    let mut unread = 0;
    for (first, second) in names.iter().flat_map(|first| names.iter().map(move |second| (first, second))) {
        for (number, value) in values.iter().enumerate() {
            let head = format!(
                "POST /a?b HTTP/1.1\r\nHost: a.example\r\n{first}: {value}\r\n{second}: {}\r\nz: 9\r\n\r\n",
                values[(number + 3) % 11]
            );
            let read = message(&mut BytesMut::from(head.as_str()), 0, &mut HeaderMap::new(), Case::Any, |_| true);
            let whole = request(&mut BytesMut::from(head.as_str()), 0, &mut HeaderMap::new(), Case::Any);
            let (read, whole) = match (read, whole) {
                (Ok(Some(read)), Ok(Some(whole))) => (read, whole),
                (read, whole) => {
                    assert_eq!(read.err(), whole.err(), "{head:?}");
                    continue;
                }
            };
            assert_eq!((read.framing, read.keep_alive), (whole.framing, whole.keep_alive), "{head:?}");
            let Message { request, lines: Some(lines) } = read.message else { continue };
            unread += 1;
            assert_eq!(lines.map(), *whole.message.headers(), "{head:?}");
            let again = |out: Vec<u8>| super::request(&mut BytesMut::from(&out[..]), 0, &mut HeaderMap::new(), Case::Any).unwrap().unwrap();
            let (of_lines, of_map) =
                (again(written(&request, Some(&lines), whole.framing)), again(written(&whole.message, None, whole.framing)));
            assert_eq!(of_lines.message.headers(), of_map.message.headers(), "{head:?}");
        }
    }
    assert!(unread > 200, "{unread}");
}
