//! Reads heads: start line and fields, and from them how the content is delimited. What is ambiguous is refused (RFC 9112 §11.2).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use smallvec::SmallVec;

use super::content::{Decoder, Malformed};
use super::fields::{Fields, Lines, RequestLines, Spans};
use super::scan::{self, BadLine, LineEnds};
use super::spelling::{Case, Spellings};

/// The largest head, in bytes.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// The largest number of fields in the head of a request.
pub(super) const MAX_FIELDS: usize = 100;
/// The largest number of fields in the head of a response. Endpoints are believed more than clients, and some set many cookies.
pub(super) const MAX_RESPONSE_FIELDS: usize = 256;
/// The largest content, in bytes. Others count it in 64 bits with a sign, and would see another length.
pub(crate) const MAX_LENGTH: u64 = i64::MAX as u64;
/// The number of fields that are usually added on the way. With room for them the map need not grow, which would hash every field again.
const ADDED: usize = 6;

/// How a message's content ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes; 0: there is no content.
    Length(u64),
    /// With the last chunk and the trailer section.
    Chunked,
    /// With the connection. Only responses end so.
    UntilClose,
}

/// A head, and what it says of the connection.
#[derive(Debug)]
pub(crate) struct Head<T> {
    pub(crate) message: T,
    pub(crate) framing: Framing,
    /// Whether the sender keeps the connection for another exchange.
    pub(crate) keep_alive: bool,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("it is not HTTP: {0}")]
    Syntax(httparse::Error),
    #[error("a line does not end by CR LF, or a carriage return stands alone")]
    BadLine,
    #[error("its target is no URI")]
    Target,
    #[error("it has more than 64 KiB")]
    TooLarge,
    #[error("it has more fields than are taken: 100 of a request, 256 of a response")]
    ManyFields,
    #[error("its HTTP version is not 1.0 or 1.1")]
    Version,
    #[error("its content length is in doubt")]
    Framing,
    #[error("its transfer coding is not known")]
    Coding,
    #[error("its content: {0}")]
    Content(#[from] Malformed),
}

impl From<BadLine> for BadHead {
    fn from(BadLine: BadLine) -> Self {
        Self::BadLine
    }
}

impl From<httparse::Error> for BadHead {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::ManyFields,
            httparse::Error::Version => Self::Version,
            other => Self::Syntax(other),
        }
    }
}

/// A request whose fields are read only if somebody wants them.
#[derive(Debug)]
pub(crate) struct Message {
    /// The request, without fields if there are `lines`.
    pub(crate) request: Request<()>,
    /// The fields as they came, if none needs a closer look; none: they are in the request.
    pub(crate) lines: Option<RequestLines>,
}

impl Message {
    /// The number of fields.
    pub(crate) fn fields(&self) -> usize {
        self.lines.as_ref().map_or(self.request.headers().len(), |lines| lines.count)
    }
}

/// Takes the head of a request off the buffer, with all its fields; none: it is not whole. The parameters are those of [`message`].
#[cfg(any(test, fuzzing))]
pub(crate) fn request(buffer: &mut BytesMut, seen: usize, spare: &mut HeaderMap, case: Case) -> Result<Option<Head<Request<()>>>, BadHead> {
    let head = message(buffer, seen, spare, case, |_| false)?;
    Ok(head.map(|Head { message: Message { mut request, lines }, framing, keep_alive }| {
        // A head with `Host` alone has no field that `message` asks about.
        if let Some(lines) = lines {
            *request.headers_mut() = lines.map();
        }
        Head { message: request, framing, keep_alive }
    }))
}

/// Takes the head of a request off the buffer; none: it is not whole. `seen`: the number of bytes that were looked at in vain before. `spare`: a map that was
/// used before, whose memory is used again. `is_plain`: whether a field of this name goes on as it came, and nobody need look at it.
pub(crate) fn message(
    buffer: &mut BytesMut,
    seen: usize,
    spare: &mut HeaderMap,
    case: Case,
    is_plain: fn(&[u8]) -> bool,
) -> Result<Option<Head<Message>>, BadHead> {
    let end = whole(buffer, seen, LineEnds::Strict)?;
    if end.is_none() && seen > 0 {
        return Ok(None);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    // What is not whole is looked at for faults when it is first seen.
    match parsed.parse_with_uninit_headers(&buffer[..end.unwrap_or(buffer.len())], &mut fields) {
        Err(httparse::Error::Version) => {
            return if as_http_1_1(buffer, 2) { message(buffer, seen, spare, case, is_plain) } else { Err(BadHead::Version) };
        }
        parsed => parsed?,
    };
    let Some(length) = end else { return Ok(None) };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| BadHead::Syntax(httparse::Error::Token))?;
    let target = parsed.path.unwrap_or_default().as_bytes();
    // A fragment is the client's own (RFC 9110 §7.1). Servers that ignore it and those that do not would see two paths.
    if memchr::memchr(b'#', target).is_some() {
        return Err(BadHead::Target);
    }
    let target = span(buffer, target);
    let version = version(parsed.version);
    let unread = if case == Case::Kept { None } else { unread(buffer, length, parsed.headers, is_plain)? };
    let mut places = Places::new();
    if unread.is_none() {
        note(buffer, parsed.headers, &mut places);
    }
    let bytes = buffer.split_to(length).freeze();
    let uri = Uri::from_maybe_shared(bytes.slice(target.0..target.1)).map_err(|_| BadHead::Target)?;
    let uri = if method == Method::OPTIONS { whole_server(uri, &bytes[target.0..target.1]) } else { uri };
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (method, uri, version);
    let (noted, lines) = match unread {
        Some(Unread { noted, spans, host, count }) => (noted, Some(RequestLines::new(bytes, spans, host, count))),
        None => {
            let mut spellings = (case == Case::Kept).then(Spellings::default);
            let (headers, noted) = collect(&bytes, &places, std::mem::take(spare), spellings.as_mut())?;
            *request.headers_mut() = headers;
            if let Some(spellings) = spellings {
                request.extensions_mut().insert(spellings);
            }
            (noted, None)
        }
    };
    let framing = match (noted.coded, noted.length) {
        (None, None) => Framing::Length(0),
        (None, Some(length)) => Framing::Length(length),
        // A proxy in between that looked at the other one would see another request after this.
        (Some(_), Some(_)) => return Err(BadHead::Framing),
        (Some(_), None) if version == Version::HTTP_10 => return Err(BadHead::Framing),
        (Some(Coded::Chunked), None) => Framing::Chunked,
        (Some(Coded::Unknown), None) => return Err(BadHead::Coding),
    };
    Ok(Some(Head { message: Message { request, lines }, framing, keep_alive: noted.keep_alive(version) }))
}

/// A request's fields that nobody need look at.
struct Unread {
    noted: Noted,
    spans: Spans,
    /// Where the value of `Host` stands.
    host: (u32, u32),
    count: usize,
}

/// The lines of a request that go on as they came; none: somebody has to look at its fields more closely, or write them anew; or it has not one `Host`.
fn unread(buffer: &[u8], length: usize, fields: &[httparse::Header<'_>], is_plain: fn(&[u8]) -> bool) -> Result<Option<Unread>, BadHead> {
    let (mut noted, mut spans, mut host) = (Noted::default(), Spans::default(), None);
    let mut ends = fields.iter().skip(1).map(|next| span(buffer, next.name.as_bytes()).0).chain([length.saturating_sub(2)]);
    for field in fields {
        let name = field.name.as_bytes();
        let known = Known::of(name);
        noted.field(known, field.value)?;
        let end = ends.next().unwrap_or_default();
        match known {
            Known::ContentLength | Known::TransferEncoding => continue,
            Known::Connection if field.value.split(|b| *b == b',').all(common_option) => continue,
            Known::Connection | Known::OfTheHop | Known::Trailer => return Ok(None),
            Known::Host if host.is_none() => {
                let (from, to) = span(buffer, field.value);
                host = Some((from as u32, to as u32));
            }
            Known::Host => return Ok(None),
            Known::Date | Known::Other => {
                if !is_plain(name) {
                    return Ok(None);
                }
            }
        }
        // Endpoints are sent lines of one form, without the spaces that are allowed around a value.
        let ((start, colon), (value, value_end)) = (span(buffer, name), span(buffer, field.value));
        let is_usual = value == colon + 2 && buffer[colon..value] == *b": " && value_end + 2 == end && !field.value.is_empty();
        if !is_usual || !spans.pass(start, end) {
            return Ok(None);
        }
    }
    Ok(host.map(|host| Unread { noted, spans, host, count: fields.len() }))
}

/// The map of fields that were read before, so that there is no error.
pub(super) fn map(head: &Bytes) -> HeaderMap {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let mut places = Places::new();
    if parsed.parse_with_uninit_headers(head, &mut fields).is_ok() {
        note(head, parsed.headers, &mut places);
    }
    collect(head, &places, HeaderMap::new(), None).map(|(map, _)| map).unwrap_or_default()
}

/// The target `OPTIONS http://host` asks about the server as a whole, as `OPTIONS *` does (RFC 9112 §3.2.4). The library takes the empty path for `/`.
fn whole_server(uri: Uri, target: &[u8]) -> Uri {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return uri };
    if target.len() > scheme.len() + "://".len() + authority.as_str().len() {
        return uri;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).unwrap_or(uri)
}

/// The status of a response, and its fields.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) code: StatusCode,
    pub(crate) fields: Fields,
}

/// Takes the head of a response off the buffer; none: it is not whole. `to`: the method of the request that it answers.
pub(crate) fn response(buffer: &mut BytesMut, seen: usize, to: &Method, case: Case) -> Result<Option<Head<Status>>, BadHead> {
    let end = whole(buffer, seen, LineEnds::Lenient)?;
    if end.is_none() && seen > 0 {
        return Ok(None);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_RESPONSE_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut parsed, &buffer[..end.unwrap_or(buffer.len())], &mut fields) {
        Err(httparse::Error::Version) => {
            return if as_http_1_1(buffer, 0) { response(buffer, seen, to, case) } else { Err(BadHead::Version) };
        }
        parsed => parsed?,
    };
    let Some(length) = end else { return Ok(None) };
    let code = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| BadHead::Syntax(httparse::Error::Status))?;
    let version = version(parsed.version);
    let bare = code.is_informational() || code == StatusCode::NO_CONTENT || code == StatusCode::NOT_MODIFIED || *to == Method::HEAD;
    // A response without content may have the length of another one, and an interim one is seldom passed on unchanged. Of 426 a field of the hop is wanted.
    let looked_at = bare || case == Case::Kept || code == StatusCode::UPGRADE_REQUIRED;
    let passing = if looked_at { None } else { passing(buffer, length, parsed.headers)? };
    let (noted, fields) = match passing {
        Some((noted, dated, spans)) => (noted, Lines::new(buffer.split_to(length).freeze(), spans, dated).into()),
        None => {
            let mut places = Places::new();
            note(buffer, parsed.headers, &mut places);
            let mut spellings = (case == Case::Kept).then(Spellings::default);
            let (headers, noted) = collect(&buffer.split_to(length).freeze(), &places, HeaderMap::new(), spellings.as_mut())?;
            (noted, Fields::spelt(headers, spellings))
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
    // Content that has come with the head is checked before anything is passed on, as an error is better than half of a response.
    Decoder::from(framing).look(buffer)?;
    // RFC 9112 §6.1: HTTP/1.0 has no codings, so nobody can be sure where the chunks end.
    let doubtful = version == Version::HTTP_10 && noted.coded.is_some();
    let keep_alive = noted.keep_alive(version) && framing != Framing::UntilClose && !doubtful;
    Ok(Some(Head { message: Status { code, fields }, framing, keep_alive }))
}

/// What the fields say, whether `Date` is among them, and the lines that pass; none: somebody has to look at them more closely.
fn passing(buffer: &[u8], length: usize, fields: &[httparse::Header<'_>]) -> Result<Option<(Noted, bool, Spans)>, BadHead> {
    let (mut noted, mut dated, mut spans) = (Noted::default(), false, Spans::default());
    let starts = fields.iter().map(|field| span(buffer, field.name.as_bytes()).0);
    let ends = starts.clone().skip(1).chain([length.saturating_sub(2)]);
    for (field, (start, end)) in fields.iter().zip(starts.zip(ends)) {
        let name = Known::of(field.name.as_bytes());
        noted.field(name, field.value)?;
        match name {
            Known::Connection if !field.value.split(|b| *b == b',').all(common_option) => return Ok(None),
            // The trailers that it announces may not come.
            Known::Trailer => return Ok(None),
            Known::ContentLength | Known::TransferEncoding | Known::Connection | Known::OfTheHop => continue,
            Known::Date => dated = true,
            Known::Host | Known::Other => {}
        }
        // Not everybody takes a line feed alone for the end of a line.
        if !buffer[start..end].ends_with(b"\r\n") || !spans.pass(start, end) {
            return Ok(None);
        }
    }
    Ok(Some((noted, dated, spans)))
}

/// Whether it is one of the usual options of `Connection`, which name no field to remove.
fn common_option(option: &[u8]) -> bool {
    let option = option.trim_ascii();
    option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
}

/// Names that have a meaning here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    ContentLength,
    TransferEncoding,
    Connection,
    /// Other fields of one hop (RFC 9110 §7.6.1).
    OfTheHop,
    Trailer,
    Date,
    Host,
    Other,
}

impl Known {
    /// Finds a name. The length is compared first, as most names are none of these.
    fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::OfTheHop,
            4 if is("date") => Self::Date,
            4 if is("host") => Self::Host,
            7 if is("trailer") => Self::Trailer,
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

/// The length of a head, if it is whole.
fn whole(buffer: &[u8], seen: usize, ends: LineEnds) -> Result<Option<usize>, BadHead> {
    match scan::head(buffer, seen, ends)? {
        Some(length) if length > MAX_HEAD => Err(BadHead::TooLarge),
        None if buffer.len() >= MAX_HEAD => Err(BadHead::TooLarge),
        end => Ok(end),
    }
}

/// Takes a later minor version for the highest that is known (RFC 9110 §2.5). It stands behind so many spaces. Returns false if it is not a version.
fn as_http_1_1(buffer: &mut [u8], spaces: usize) -> bool {
    let mut at = scan::first_line(buffer);
    for _ in 0..spaces {
        let Some(space) = memchr::memchr(b' ', &buffer[at..]) else { return false };
        at += space + 1;
    }
    match buffer.get_mut(at..) {
        Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'2'..=b'9', ..]) => {
            *minor = b'1';
            true
        }
        _ => false,
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// The places of one message's fields. More than these are rare, and are kept on the heap.
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

/// Notes the places, so that the buffer may be taken from before its fields are read.
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
                // A length that is repeated, a list, has a sign or a space in it: each has been read differently by two proxies.
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let length =
                    std::str::from_utf8(value).ok().filter(|_| digits).and_then(|v| v.parse().ok()).filter(|length| *length <= MAX_LENGTH);
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
            Known::OfTheHop | Known::Trailer | Known::Date | Known::Host | Known::Other => {}
        }
        Ok(())
    }

    /// Whether the connection is kept (RFC 9112 §9.3).
    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep)
    }
}

fn collect(
    bytes: &Bytes,
    places: &[Place],
    mut headers: HeaderMap,
    mut spellings: Option<&mut Spellings>,
) -> Result<(HeaderMap, Noted), BadHead> {
    let token = BadHead::Syntax(httparse::Error::HeaderName);
    let mut noted = Noted::default();
    headers.clear();
    headers.reserve(places.len() + ADDED);
    for Place { name, value } in places {
        let name = &bytes[name.0 as usize..name.1 as usize];
        let value = &bytes[value.0 as usize..value.1 as usize];
        noted.field(Known::of(name), value)?;
        if let Some(spellings) = &mut spellings {
            spellings.note(bytes.slice_ref(name));
        }
        let name = HeaderName::from_bytes(name).map_err(|_| token)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value)).map_err(|_| BadHead::Syntax(httparse::Error::HeaderValue))?;
        headers.try_append(name, value).map_err(|_| BadHead::ManyFields)?;
    }
    Ok((headers, noted))
}

#[cfg(test)]
mod tests;
