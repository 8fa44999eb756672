//! Reads heads: start line and fields, and from them how the content is delimited. What is ambiguous is refused (RFC 9112 §11.2).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use smallvec::SmallVec;

use super::fields::{Fields, Lines, Spans};

/// A head may have so many bytes,
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// and so many fields.
pub(super) const MAX_FIELDS: usize = 100;
/// Fields that are added on the way, as a rule: with room for them the map need not grow, which would hash every field again.
const ADDED: usize = 6;

/// How a message's content ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes; 0: there is none.
    Length(u64),
    /// With the last chunk and the trailer section.
    Chunked,
    /// With the connection. Responses only.
    UntilClose,
}

/// A head, and what it says of the connection.
#[derive(Debug)]
pub(crate) struct Head<T> {
    pub(crate) message: T,
    pub(crate) framing: Framing,
    /// The sender keeps the connection for another exchange.
    pub(crate) keep_alive: bool,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("it is not HTTP: {0}")]
    Syntax(httparse::Error),
    #[error("a line ends without a carriage return")]
    BareNewline,
    #[error("its target is no URI")]
    Target,
    #[error("it has more than 64 KiB or 100 fields")]
    TooLarge,
    #[error("its HTTP version is not 1.0 or 1.1")]
    Version,
    #[error("its content length is in doubt")]
    Framing,
    #[error("its transfer coding is not known")]
    Coding,
}

impl From<httparse::Error> for BadHead {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooLarge,
            httparse::Error::Version => Self::Version,
            other => Self::Syntax(other),
        }
    }
}

/// Takes a request's head off the buffer; none: more is needed. `seen`: the bytes that were looked at in vain before. `spare`: a map that was used
/// before, which is taken: its memory serves again.
pub(crate) fn request(buffer: &mut BytesMut, seen: usize, spare: &mut HeaderMap) -> Result<Option<Head<Request<()>>>, BadHead> {
    if seen > 0 && !has_end(buffer, seen) {
        return more(buffer);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let httparse::Status::Complete(length) = parsed.parse_with_uninit_headers(buffer, &mut fields)? else { return more(buffer) };
    if length > MAX_HEAD {
        return Err(BadHead::TooLarge);
    }
    if memchr::memchr_iter(b'\n', &buffer[..length]).any(|at| at == 0 || buffer[at - 1] != b'\r') {
        return Err(BadHead::BareNewline);
    }
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| BadHead::Syntax(httparse::Error::Token))?;
    let target = parsed.path.unwrap_or_default().as_bytes();
    // A fragment is the client's own (RFC 9110 §7.1); what ignores it and what does not would see two paths.
    if memchr::memchr(b'#', target).is_some() {
        return Err(BadHead::Target);
    }
    let target = span(buffer, target);
    let version = version(parsed.version);
    let mut places = Places::new();
    note(buffer, parsed.headers, &mut places);
    let bytes = buffer.split_to(length).freeze();
    let uri = Uri::from_maybe_shared(bytes.slice(target.0..target.1)).map_err(|_| BadHead::Target)?;
    let uri = if method == Method::OPTIONS { whole_server(uri, &bytes[target.0..target.1]) } else { uri };
    let (headers, noted) = collect(&bytes, &places, std::mem::take(spare))?;
    let framing = match (noted.coded, noted.length) {
        (None, None) => Framing::Length(0),
        (None, Some(length)) => Framing::Length(length),
        // A proxy in between that looked at the other of the two would see another request after this one.
        (Some(_), Some(_)) => return Err(BadHead::Framing),
        (Some(_), None) if version == Version::HTTP_10 => return Err(BadHead::Framing),
        (Some(Coded::Chunked), None) => Framing::Chunked,
        (Some(Coded::Unknown), None) => return Err(BadHead::Coding),
    };
    let mut message = Request::new(());
    (*message.method_mut(), *message.uri_mut(), *message.version_mut(), *message.headers_mut()) = (method, uri, version, headers);
    Ok(Some(Head { message, framing, keep_alive: noted.keep_alive(version) }))
}

/// RFC 9112 §3.2.4: `OPTIONS http://host` asks about the server as a whole, as `OPTIONS *` does. The library takes the empty path for `/`.
fn whole_server(uri: Uri, target: &[u8]) -> Uri {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return uri };
    if target.len() > scheme.len() + "://".len() + authority.as_str().len() {
        return uri;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).unwrap_or(uri)
}

/// A response's status and fields.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) code: StatusCode,
    pub(crate) fields: Fields,
}

/// Takes a response's head off the buffer; none: more is needed. `to`: the method of what it answers.
pub(crate) fn response(buffer: &mut BytesMut, seen: usize, to: &Method) -> Result<Option<Head<Status>>, BadHead> {
    if seen > 0 && !has_end(buffer, seen) {
        return more(buffer);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let httparse::Status::Complete(length) = parser.parse_response_with_uninit_headers(&mut parsed, buffer, &mut fields)? else {
        return more(buffer);
    };
    if length > MAX_HEAD {
        return Err(BadHead::TooLarge);
    }
    let code = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| BadHead::Syntax(httparse::Error::Status))?;
    let version = version(parsed.version);
    let bare = code.is_informational() || code == StatusCode::NO_CONTENT || code == StatusCode::NOT_MODIFIED || *to == Method::HEAD;
    // What is bare may speak of a length that is none of its own, and what is interim is seldom just passed on.
    let passing = if bare { None } else { passing(buffer, length, parsed.headers)? };
    let (noted, fields) = match passing {
        Some((noted, dated, spans)) => (noted, Lines::new(buffer.split_to(length).freeze(), spans, dated).into()),
        None => {
            let mut places = Places::new();
            note(buffer, parsed.headers, &mut places);
            let (headers, noted) = collect(&buffer.split_to(length).freeze(), &places, HeaderMap::new())?;
            (noted, headers.into())
        }
    };
    let framing = match (noted.coded, noted.length) {
        _ if bare => Framing::Length(0),
        (None, None) => Framing::UntilClose,
        (None, Some(length)) => Framing::Length(length),
        (Some(_), Some(_)) => return Err(BadHead::Framing),
        (Some(Coded::Chunked), None) => Framing::Chunked,
        (Some(Coded::Unknown), None) => return Err(BadHead::Coding),
    };
    let keep_alive = noted.keep_alive(version) && framing != Framing::UntilClose;
    Ok(Some(Head { message: Status { code, fields }, framing, keep_alive }))
}

/// What the fields say, whether Date is among them, and the lines that pass; none: somebody has to look at them more closely.
fn passing(buffer: &[u8], length: usize, fields: &[httparse::Header<'_>]) -> Result<Option<(Noted, bool, Spans)>, BadHead> {
    let (mut noted, mut dated, mut spans) = (Noted::default(), false, Spans::default());
    let starts = fields.iter().map(|field| span(buffer, field.name.as_bytes()).0);
    let ends = starts.clone().skip(1).chain([length.saturating_sub(2)]);
    for (field, (start, end)) in fields.iter().zip(starts.zip(ends)) {
        let name = Known::of(field.name.as_bytes());
        noted.field(name, field.value)?;
        match name {
            Known::Connection if !field.value.split(|b| *b == b',').all(common_option) => return Ok(None),
            Known::ContentLength | Known::TransferEncoding | Known::Connection | Known::OfTheHop => continue,
            Known::Date => dated = true,
            Known::Other => {}
        }
        // A line feed alone is no end for everybody.
        if !buffer[start..end].ends_with(b"\r\n") || !spans.pass(start, end) {
            return Ok(None);
        }
    }
    Ok(Some((noted, dated, spans)))
}

/// What `Connection` mostly says: no field of this hop, so nothing to look for.
fn common_option(option: &[u8]) -> bool {
    let option = option.trim_ascii();
    option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
}

/// Names that mean something here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    ContentLength,
    TransferEncoding,
    Connection,
    /// Others of one hop (RFC 9110 §7.6.1).
    OfTheHop,
    Date,
    Other,
}

impl Known {
    /// Told by the length first, as most are none of them.
    fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::OfTheHop,
            4 if is("date") => Self::Date,
            7 if is("upgrade") => Self::OfTheHop,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::OfTheHop,
            14 if is("content-length") => Self::ContentLength,
            16 if is("proxy-connection") => Self::OfTheHop,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            _ => Self::Other,
        }
    }
}

/// Whether the end of the fields is among the bytes that came after `seen`: a head that trickles in is parsed once.
fn has_end(buffer: &[u8], seen: usize) -> bool {
    let from = seen.saturating_sub(3).min(buffer.len());
    memchr::memmem::find(&buffer[from..], b"\r\n\r\n").is_some() || memchr::memmem::find(&buffer[from..], b"\n\n").is_some()
}

fn more<T>(buffer: &BytesMut) -> Result<Option<T>, BadHead> {
    if buffer.len() >= MAX_HEAD { Err(BadHead::TooLarge) } else { Ok(None) }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Of one message; more than these are rare, and have a place on the heap.
type Places = SmallVec<[Place; 24]>;

/// Where a field's name and value stand in the buffer.
struct Place {
    name: (u32, u32),
    value: (u32, u32),
}

fn span(buffer: &[u8], part: &[u8]) -> (usize, usize) {
    let from = (part.as_ptr() as usize).saturating_sub(buffer.as_ptr() as usize);
    (from, from + part.len())
}

/// Notes the places, so that the buffer may be taken from while its fields are still to be read.
fn note(buffer: &[u8], fields: &[httparse::Header<'_>], places: &mut Places) {
    let narrow = |(from, to): (usize, usize)| (from as u32, to as u32);
    places.extend(
        fields.iter().map(|field| Place { name: narrow(span(buffer, field.name.as_bytes())), value: narrow(span(buffer, field.value)) }),
    );
}

/// What the fields say of framing and connection.
#[derive(Default)]
struct Noted {
    length: Option<u64>,
    coded: Option<Coded>,
    close: bool,
    keep: bool,
}

#[derive(Clone, Copy)]
enum Coded {
    Chunked,
    Unknown,
}

impl Noted {
    fn field(&mut self, name: Known, value: &[u8]) -> Result<(), BadHead> {
        match name {
            Known::ContentLength => {
                // Doubled, a list, a sign, a space inside: each has been read differently by two proxies.
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let length = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|v| v.parse().ok());
                if self.length.replace(length.ok_or(BadHead::Framing)?).is_some() {
                    return Err(BadHead::Framing);
                }
            }
            Known::TransferEncoding => {
                let chunked = self.coded.is_none() && value.eq_ignore_ascii_case(b"chunked");
                self.coded = Some(if chunked { Coded::Chunked } else { Coded::Unknown });
            }
            Known::Connection => {
                for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            Known::OfTheHop | Known::Date | Known::Other => {}
        }
        Ok(())
    }

    /// RFC 9112 §9.3.
    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep)
    }
}

fn collect(bytes: &Bytes, places: &[Place], mut headers: HeaderMap) -> Result<(HeaderMap, Noted), BadHead> {
    let token = BadHead::Syntax(httparse::Error::HeaderName);
    let mut noted = Noted::default();
    headers.clear();
    headers.reserve(places.len() + ADDED);
    for Place { name, value } in places {
        let name = &bytes[name.0 as usize..name.1 as usize];
        let value = &bytes[value.0 as usize..value.1 as usize];
        noted.field(Known::of(name), value)?;
        let name = HeaderName::from_bytes(name).map_err(|_| token)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value)).map_err(|_| BadHead::Syntax(httparse::Error::HeaderValue))?;
        headers.try_append(name, value).map_err(|_| BadHead::TooLarge)?;
    }
    Ok((headers, noted))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::h1;

    fn read(head: &str) -> Result<Option<Head<Request<()>>>, BadHead> {
        request(&mut BytesMut::from(head), 0, &mut HeaderMap::new())
    }

    fn framing(fields: &str) -> Result<Framing, BadHead> {
        read(&format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).map(|head| head.unwrap().framing)
    }

    #[test]
    fn what_follows_stays_in_the_buffer() {
        let mut buffer = BytesMut::from("GET /a?b HTTP/1.1\r\nHost: x\r\nA: 1\r\na:2 \r\n\r\nnext");
        let head = request(&mut buffer, 0, &mut HeaderMap::new()).unwrap().unwrap();
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
            let head = request(&mut buffer, seen, &mut HeaderMap::new()).unwrap();
            assert_eq!(head.is_some(), seen + 1 == whole.len(), "after {seen}");
        }
    }

    #[test]
    fn ambiguous_lengths_are_refused() {
        assert_eq!(framing("content-length: 3\r\n"), Ok(Framing::Length(3)));
        assert_eq!(framing("transfer-encoding: Chunked\r\n"), Ok(Framing::Chunked));
        let doubts = ["+3", "-1", "3,3", "3, 4", "0x3", "", "3 3", "18446744073709551616"];
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
        assert_eq!(read(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).unwrap_err(), BadHead::TooLarge);
        let endless = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(MAX_HEAD));
        assert_eq!(read(&endless).unwrap_err(), BadHead::TooLarge);
        assert_eq!(request(&mut BytesMut::from(endless.as_str()), 1000, &mut HeaderMap::new()).unwrap_err(), BadHead::TooLarge);
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
            response(&mut BytesMut::from(head), 0, &to).map(|head| head.map(|h| (h.framing, h.keep_alive))).map(Option::unwrap)
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
        let Head { mut message, framing, .. } = response(&mut BytesMut::from(head), 0, to).unwrap().unwrap();
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
        let mut head = response(&mut BytesMut::from(&*fields("a: 1\r\nte: x\r\nA:2\r\n")), 0, &Method::GET).unwrap().unwrap();
        assert_eq!(
            head.message.fields.map().iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect::<Vec<_>>(),
            [("a", &b"1"[..]), ("a", b"2")]
        );
    }
}
