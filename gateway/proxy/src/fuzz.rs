//! What the fuzz targets (`tests/fuzz`) call: the parsers of what comes from the network, and what must hold for them. It is compiled only there.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use sluicegate_model::settings::ProxyVersion;

use crate::h1::{self, Case, Decoder, Framing, Part, Step};
use crate::http3::{Frames, Kind};
use crate::proxy_protocol::{self, Parsed};
use crate::tls::{Hello, HelloReader};

/// The largest data that are cut at every place. Larger data are cut at one.
const EVERY_CUT: usize = 256;

/// A head is read alike in one piece and in two, wherever it is cut; and alike again after it was written.
pub fn request_head(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let read = |cut| pieces(data, cut, |buffer, seen| h1::request(buffer, seen, &mut HeaderMap::new(), Case::Kept));
    let (first, rest) = read(0);
    for cut in cuts(*cut, data.len()) {
        let (again, left) = read(cut);
        assert_eq!(first.as_ref().map(|h| h.framing), again.as_ref().map(|h| h.framing), "cut at {cut}");
        assert!(first.is_none() || rest == left, "cut at {cut}");
    }
    let Some(head) = first else { return };
    let mut written = Vec::new();
    h1::request_head(&mut written, &head.message, None, head.framing, None, |_| {});
    let mut written = BytesMut::from(&written[..]);
    if head.message.method() == Method::CONNECT || head.message.uri().path_and_query().is_none() {
        return;
    }
    let Ok(Some(again)) = h1::request(&mut written, 0, &mut HeaderMap::new(), Case::Any) else {
        panic!("what was written cannot be read: {written:?}")
    };
    assert!(written.is_empty(), "another request was smuggled behind the first");
    assert_eq!((head.message.method(), head.framing), (again.message.method(), again.framing));
}

/// The head of a response is read alike in one piece and in two; and alike again after it was written.
pub fn response_head(data: &[u8]) {
    let Some(([flags, cut], data)) = data.split_first_chunk() else { return };
    let to = if flags & 1 == 0 { Method::GET } else { Method::HEAD };
    let case = Case::kept(flags & 2 != 0);
    let read = |cut| pieces(data, cut, |buffer, seen| h1::response(buffer, seen, &to, case));
    let (first, rest) = read(0);
    for cut in cuts(*cut, data.len()) {
        let (again, left) = read(cut);
        // Content that has come with its head is looked at. If the cut lies in it, it has not come yet.
        if first.is_some() || cut >= data.len() {
            assert_eq!(
                first.as_ref().map(|h| (h.message.code, h.framing)),
                again.as_ref().map(|h| (h.message.code, h.framing)),
                "cut at {cut}"
            );
            assert_eq!(rest, left, "cut at {cut}");
        }
    }
    let Some(mut head) = first else { return };
    assert!(data.len() - rest >= "HTTP/1.1 200\n\n".len());
    assert!(head.message.code.as_u16() >= 100);
    let mut written = Vec::new();
    let date = http::HeaderValue::from_static("now");
    h1::response_head(&mut written, head.message.code, &head.message.fields, head.framing, to == Method::HEAD, h1::Connection::Kept, &date);
    let again = h1::response(&mut BytesMut::from(&written[..]), 0, &to, Case::Any);
    let again = again.ok().flatten().map(|mut head| (head.message.code, head.message.fields.map().len()));
    // A date, framing and what nominates an upgrade may be added, and fields of this hop are removed.
    assert!(again.is_some_and(|(code, fields)| code == head.message.code && fields <= head.message.fields.map().len() + 3), "{written:?}");
}

/// The places where data are cut in two.
fn cuts(cut: u8, length: usize) -> std::ops::RangeInclusive<usize> {
    if length <= EVERY_CUT { 0..=length } else { usize::from(cut).min(length)..=usize::from(cut).min(length) }
}

/// What is read of data that come in two pieces, and how much is left. A cut at 0: they come in one piece.
fn pieces<T, E>(data: &[u8], cut: usize, read: impl Fn(&mut BytesMut, usize) -> Result<Option<T>, E>) -> (Option<T>, usize) {
    let mut buffer = BytesMut::from(&data[..cut]);
    let mut found = if cut == 0 { Ok(None) } else { read(&mut buffer, 0) };
    buffer.extend_from_slice(&data[cut..]);
    if let Ok(None) = found {
        found = read(&mut buffer, cut);
    }
    (found.ok().flatten(), buffer.len())
}

/// Chunked content is decoded alike in whatever pieces it comes.
pub fn content(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let whole = decode(data, data.len().max(1));
    assert_eq!(whole, decode(data, usize::from(*piece).max(1)));
    // Looking ahead finds no fault in what is well formed.
    assert!(whole.is_none() || Decoder::from(Framing::Chunked).look(data).is_ok());
}

/// A PROXY header is recognized as soon as its last byte is there, and no sooner; and is read alike again after it was written.
pub fn proxy_header(data: &[u8]) {
    let Ok(Parsed::Header(header, length)) = proxy_protocol::parse(data) else { return };
    assert!((0..length).all(|cut| proxy_protocol::parse(&data[..cut]) == Ok(Parsed::More)));
    let socket = SocketAddr::from(([127, 0, 0, 1], 80));
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let written = proxy_protocol::write(version, socket, socket, Some(&header));
        let Ok(Parsed::Header(again, all)) = proxy_protocol::parse(&written) else {
            panic!("what was written cannot be read: {written:?}")
        };
        assert_eq!(all, written.len());
        if version == ProxyVersion::V2 {
            assert_eq!((&again.tlvs, again.checksum), (&header.tlvs, header.checksum));
        }
    }
}

/// A client hello is read alike in whatever pieces it comes, and its server name is what rustls reads, if rustls takes it.
pub fn client_hello(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let told = hello(data, data.len().max(1));
    assert_eq!(told, hello(data, usize::from(*piece).max(1)));
    let (Some(told), mut rest, mut acceptor) = (told, data, rustls::server::Acceptor::default()) else { return };
    while !rest.is_empty() && acceptor.read_tls(&mut rest).is_ok() {
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
                return assert_eq!(told.server_name, name);
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// What comes out of a stream of HTTP/3 is the same in whatever pieces it comes, and never more than came.
pub fn http3_frames(data: &[u8]) {
    let Some(([kind, piece], data)) = data.split_first_chunk() else { return };
    let kind = if kind & 1 == 0 { Kind::Request } else { Kind::Unidirectional };
    let whole = frames(kind, data, data.len().max(1));
    assert_eq!(whole, frames(kind, data, usize::from(*piece).max(1)));
    assert!(whole.0.len() <= data.len());
}

/// What comes out of a stream, and whether it may end where it does; false: it is malformed.
fn frames(kind: Kind, data: &[u8], piece: usize) -> (Vec<u8>, bool) {
    let (mut frames, mut out) = (Frames::new(kind), Vec::new());
    for piece in data.chunks(piece) {
        let mut bytes = Bytes::copy_from_slice(piece);
        loop {
            match frames.next(&mut bytes, |_| {}) {
                Ok(Some(piece)) => out.extend_from_slice(&piece),
                Ok(None) => break,
                Err(_) => return (out, false),
            }
        }
    }
    (out, frames.end().is_ok())
}

/// Reads a hello. None: it is malformed, or not whole.
fn hello(data: &[u8], piece: usize) -> Option<Hello> {
    let mut reader = HelloReader::default();
    for piece in data.chunks(piece) {
        reader.raw.extend_from_slice(piece);
        if let Some(hello) = reader.look().ok()? {
            return Some(hello);
        }
    }
    None
}

/// The data, the number of trailers, and what is left over; none: it is malformed.
fn decode(data: &[u8], piece: usize) -> Option<(Vec<u8>, usize, usize)> {
    let (mut buffer, mut decoder) = (BytesMut::new(), Decoder::from(Framing::Chunked));
    let (mut decoded, mut trailers) = (Vec::new(), 0);
    for piece in data.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.step(&mut buffer).ok()? {
                Step::Part(Part::Data(part)) => decoded.extend_from_slice(&part),
                Step::Part(Part::Trailers(fields)) => trailers += fields.len(),
                Step::More | Step::End => break,
            }
        }
    }
    decoder.close().ok().map(|()| (decoded, trailers, buffer.len()))
}
