//! What the fuzz targets (`tests/fuzz`) call: the parsers of what comes from the network, and what must hold of them. Compiled only there.

use std::net::SocketAddr;

use bytes::BytesMut;
use http::{HeaderMap, Method};
use sluicegate_model::settings::ProxyVersion;

use crate::h1::{self, Decoder, Framing, Part, Step};
use crate::proxy_protocol::{self, Parsed};
use crate::tls::{Hello, HelloReader};

/// A head is read the same in one piece and in two, and the same again after it was written.
pub fn request_head(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let (mut whole, mut spare) = (BytesMut::from(data), HeaderMap::new());
    let first = h1::request(&mut whole, 0, &mut spare);
    let cut = usize::from(*cut).min(data.len());
    let mut pieces = BytesMut::from(&data[..cut]);
    if let Ok(None) = h1::request(&mut pieces, 0, &mut spare) {
        pieces.extend_from_slice(&data[cut..]);
        let again = h1::request(&mut pieces, cut, &mut spare);
        // What is malformed may be told later, when its end has come; what is whole must be told now.
        assert_eq!(matches!(first, Ok(Some(_))), matches!(again, Ok(Some(_))));
    }
    let Ok(Some(head)) = first else { return };
    let mut written = Vec::new();
    h1::request_head(&mut written, &head.message, head.framing, None, |_| {});
    let mut written = BytesMut::from(&written[..]);
    if head.message.method() == Method::CONNECT || head.message.uri().path_and_query().is_none() {
        return;
    }
    let Ok(Some(again)) = h1::request(&mut written, 0, &mut spare) else { panic!("what was written cannot be read: {written:?}") };
    assert!(written.is_empty(), "another request was smuggled behind the first");
    assert_eq!((head.message.method(), head.framing), (again.message.method(), again.framing));
}

/// The head of a response.
pub fn response_head(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let to = if flags & 1 == 0 { Method::GET } else { Method::HEAD };
    let mut whole = BytesMut::from(data);
    if let Ok(Some(head)) = h1::response(&mut whole, 0, &to) {
        assert!(data.len() - whole.len() >= "HTTP/1.1 200\n\n".len());
        assert!(head.message.code.as_u16() >= 100);
    }
}

/// Chunked content is decoded the same in whatever pieces it comes.
pub fn content(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    assert_eq!(decode(data, data.len().max(1)), decode(data, usize::from(*piece).max(1)));
}

/// A PROXY header is told as soon as its last byte is there and no sooner, and says the same again after it was written.
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

/// A client hello says the same in whatever pieces it comes, and what rustls says of its server name, where rustls takes it.
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

/// None: it is malformed, or not whole.
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

/// The data, the count of trailers and what is left over; none: it is malformed.
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
