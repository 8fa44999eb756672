//! Reads the client hello before anybody answers it: the server name and the protocols that it asks for.
//!
//! The parser is our own, rather than rustls' `Acceptor`. What is passed through is the endpoint's affair, so a hello must be routed even if rustls would refuse it
//! for a version, suites or extensions that it does not know. If TLS is ended here, rustls is given the hello as it came, and judges it. A message may have 64 KiB,
//! in records of at least one byte.

use std::borrow::Cow;

use rustls::AlertDescription;
use rustls_pki_types::DnsName;

/// The longest hello, in bytes: what rustls takes, less the heads of its records. With post-quantum key shares a hello has about 1.8 KiB.
const MAX_HELLO: usize = 64 << 10;
/// How many bytes are read of a connection without finding a hello. One that is cut into tiny records has a head of five bytes for each.
const MAX_RAW: usize = 80 << 10;
/// From this size on, rustls is given a hello in records as large as they may be, as it counts their heads as part of what it takes.
const REJOIN: usize = 32 << 10;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The server name in lower case; none: none was sent.
    pub(crate) server_name: Option<String>,
    /// The protocols that are offered (RFC 7301), as far as they are text (RFC 8701 has clients send others).
    pub(crate) alpn: Vec<String>,
}

/// It is not a client hello, or a larger one than is read. It holds what the client is told (RFC 8446 §6.2). None: the client does not speak TLS at all, so that an
/// alert would mean nothing to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHello(pub(crate) Option<AlertDescription>);

const NOT_TLS: BadHello = BadHello(None);
/// The hello is malformed; also if it is too large, as its length is out of range then.
const MALFORMED: BadHello = BadHello(Some(AlertDescription::DecodeError));
/// Something is there twice that may be there once (§4.2).
const DOUBLED: BadHello = BadHello(Some(AlertDescription::IllegalParameter));
const OVERFLOW: BadHello = BadHello(Some(AlertDescription::RecordOverflow));
const UNEXPECTED: BadHello = BadHello(Some(AlertDescription::UnexpectedMessage));

/// Reads a hello as QUIC carries it, which has no records (RFC 9001 §4); none: more is needed.
pub(crate) fn message(bytes: &[u8]) -> Result<Option<Hello>, BadHello> {
    let Some((head, rest)) = bytes.split_at_checked(4) else { return Ok(None) };
    if head.first() != Some(&CLIENT_HELLO) {
        return Err(UNEXPECTED);
    }
    let length = u24(head.get(1..).unwrap_or_default());
    if length > MAX_HELLO {
        return Err(MALFORMED);
    }
    rest.get(..length).map(parse).transpose()
}

/// Takes a hello from the bytes of a connection, however they are cut.
#[derive(Default)]
pub(crate) struct HelloReader {
    /// All bytes that were read.
    pub(crate) raw: Vec<u8>,
    /// Where in them the next record begins.
    next: usize,
    /// What the records before it held.
    message: Vec<u8>,
}

impl HelloReader {
    /// Looks at what was read since. None: more is needed.
    pub(crate) fn look(&mut self) -> Result<Option<Hello>, BadHello> {
        loop {
            if self.message.len() >= 4 {
                let length = 4 + u24(&self.message[1..4]);
                if self.message[0] != CLIENT_HELLO {
                    return Err(UNEXPECTED);
                }
                if length > MAX_HELLO {
                    return Err(MALFORMED);
                }
                if self.message.len() >= length {
                    return parse(&self.message[4..length]).map(Some);
                }
            }
            let rest = &self.raw[self.next..];
            // The first bytes tell it already. A client of another protocol may wait for the server to speak first.
            match *rest {
                [kind, ..] if !KINDS.contains(&kind) => return Err(NOT_TLS),
                [_, major, ..] if major != 3 => return Err(NOT_TLS),
                // A client that sends an alert is told nothing, as it has ended its connection by that.
                [ALERT, _, ..] => return Err(NOT_TLS),
                [kind, _, ..] if kind != HANDSHAKE => return Err(UNEXPECTED),
                _ if self.raw.len() > MAX_RAW => return Err(MALFORMED),
                _ => {}
            }
            let Some(head) = rest.get(..5) else { return Ok(None) };
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            // A record of a handshake must not be empty (§5.1), and none may be larger.
            if length == 0 {
                return Err(UNEXPECTED);
            }
            if length > MAX_RECORD {
                return Err(OVERFLOW);
            }
            let Some(fragment) = rest.get(5..5 + length) else { return Ok(None) };
            self.message.extend_from_slice(fragment);
            self.next += 5 + length;
        }
    }

    /// All that was read, for rustls: the same messages, in as few records as hold them if they are long. A handshake signs its messages and not its records, so the
    /// client cannot tell.
    pub(crate) fn rejoined(&self) -> Cow<'_, [u8]> {
        if self.raw.len() < REJOIN {
            return Cow::Borrowed(&self.raw);
        }
        let mut all = Vec::with_capacity(self.raw.len());
        for fragment in self.message.chunks(MAX_RECORD) {
            // It cannot be cut: a fragment has 16 KiB at most.
            let length = u16::try_from(fragment.len()).unwrap_or(u16::MAX);
            all.extend_from_slice(&[HANDSHAKE, 3, 1]);
            all.extend_from_slice(&length.to_be_bytes());
            all.extend_from_slice(fragment);
        }
        all.extend_from_slice(&self.raw[self.next..]);
        Cow::Owned(all)
    }
}

/// The kinds of records (RFC 8446 §5.1): from `change_cipher_spec` to `heartbeat` (RFC 6520).
const KINDS: std::ops::RangeInclusive<u8> = 20..=24;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const MAX_RECORD: usize = 1 << 14;
/// The type of a client hello (§4).
const CLIENT_HELLO: u8 = 1;
/// The type of the extension `server_name` (§4.2).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

fn u24(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
}

/// Splits off a vector whose length takes so many bytes (RFC 8446 §3.4).
fn vector<'b>(from: &mut &'b [u8], width: usize) -> Option<&'b [u8]> {
    let (length, rest) = from.split_at_checked(width)?;
    let (vector, rest) = rest.split_at_checked(u24(length))?;
    *from = rest;
    Some(vector)
}

fn parse(hello: &[u8]) -> Result<Hello, BadHello> {
    let mut found = Hello::default();
    let Some(mut extensions) = extensions(hello).ok_or(MALFORMED)? else { return Ok(found) };
    let (mut named, mut offered) = (false, false);
    while !extensions.is_empty() {
        let (kind, after) = extensions.split_at_checked(2).ok_or(MALFORMED)?;
        extensions = after;
        let content = vector(&mut extensions, 2).ok_or(MALFORMED)?;
        match u16::from_be_bytes([kind[0], kind[1]]) {
            // Each may be there once (§4.2): which of two counts would depend on the reader.
            SERVER_NAME if std::mem::replace(&mut named, true) => return Err(DOUBLED),
            ALPN if std::mem::replace(&mut offered, true) => return Err(DOUBLED),
            SERVER_NAME => found.server_name = server_name(content)?,
            ALPN => found.alpn = protocols(content).ok_or(MALFORMED)?,
            _ => {}
        }
    }
    Ok(found)
}

/// The extensions of a hello; none within: it has none, which is possible before TLS 1.3.
fn extensions(hello: &[u8]) -> Option<Option<&[u8]>> {
    // Version and random bytes.
    let mut rest = hello.get(2 + 32..)?;
    vector(&mut rest, 1).filter(|session| session.len() <= 32)?;
    vector(&mut rest, 2).filter(|suites| !suites.is_empty() && suites.len() % 2 == 0)?;
    vector(&mut rest, 1).filter(|compressions| !compressions.is_empty())?;
    if rest.is_empty() {
        return Some(None);
    }
    vector(&mut rest, 2).filter(|_| rest.is_empty()).map(Some)
}

/// The server name (RFC 6066 §3): one name of type `host_name`. An address is not one, as in rustls.
fn server_name(mut content: &[u8]) -> Result<Option<String>, BadHello> {
    let mut names = vector(&mut content, 2).filter(|_| content.is_empty()).ok_or(MALFORMED)?;
    let mut found = None;
    while let Some((kind, after)) = names.split_first() {
        names = after;
        let name = vector(&mut names, 2).ok_or(MALFORMED)?;
        if *kind != 0 {
            continue;
        }
        let name = std::str::from_utf8(name).map_err(|_| MALFORMED)?;
        if found.is_some() {
            return Err(DOUBLED);
        }
        found = Some(match name.parse::<std::net::IpAddr>() {
            Ok(_) => None,
            Err(_) => Some(DnsName::try_from(name).map_err(|_| MALFORMED)?.as_ref().trim_end_matches('.').to_ascii_lowercase()),
        });
    }
    Ok(found.flatten())
}

fn protocols(mut content: &[u8]) -> Option<Vec<String>> {
    let mut list = vector(&mut content, 2).filter(|list| !list.is_empty() && content.is_empty())?;
    let mut found = Vec::new();
    while !list.is_empty() {
        let name = vector(&mut list, 1).filter(|name| !name.is_empty())?;
        if name.iter().all(|b| b.is_ascii_graphic() && *b != b',') {
            found.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Some(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A hello that rustls sends, which is an implementation independent of this parser.
    fn hello(name: &str, alpn: &[&str]) -> Vec<u8> {
        let provider = sluicegate_model::tls::provider().clone();
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn read(bytes: &[u8], step: usize) -> Result<Option<Hello>, BadHello> {
        let mut reader = HelloReader::default();
        for piece in bytes.chunks(step) {
            reader.raw.extend_from_slice(piece);
            if let Some(hello) = reader.look()? {
                assert_eq!(reader.raw, bytes[..reader.raw.len()]);
                return Ok(Some(hello));
            }
        }
        Ok(None)
    }

    /// The same message in records of so many bytes.
    fn recut(record: &[u8], size: usize) -> Vec<u8> {
        let pieces = record[5..].chunks(size);
        pieces.flat_map(|p| [&[22, 3, 1][..], &u16::try_from(p.len()).unwrap().to_be_bytes(), p].concat()).collect()
    }

    #[test]
    fn name_and_protocols_however_it_is_cut() {
        let bytes = hello("A.Example", &["h2", "http/1.1"]);
        let wanted = Hello { server_name: Some("a.example".into()), alpn: vec!["h2".into(), "http/1.1".into()] };
        for step in [1, 2, 5, 7, 100, 1 << 14] {
            assert_eq!(read(&bytes, step), Ok(Some(wanted.clone())), "read by {step}");
            assert_eq!(read(&recut(&bytes, step.min(1 << 14)), 3), Ok(Some(wanted.clone())), "records of {step}");
        }
        assert_eq!(read(&hello("192.0.2.1", &[]), 99), Ok(Some(Hello::default())));
        assert_eq!(read(&bytes[..bytes.len() - 1], 99), Ok(None));
    }

    #[test]
    fn what_is_none_is_told_by_its_first_bytes() {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x80", b"SSH-2.0-x", &[22, 2], &[21, 3, 3, 0, 2, 2, 40]] {
            assert_eq!(read(garbage, 1), Err(NOT_TLS), "{garbage:?}");
        }
        for (bad, told) in [
            (&[23, 3, 3, 0, 1, 0][..], UNEXPECTED),
            (&[20, 3, 3, 0, 1, 1], UNEXPECTED),
            (&[22, 3, 1, 0, 0], UNEXPECTED),
            (&[22, 3, 1, 0x40, 1], OVERFLOW),
            (&[22, 3, 1, 0, 4, 2, 0, 0, 0], UNEXPECTED),
            // It is longer than is read.
            (&[22, 3, 1, 0, 4, 1, 1, 0, 0], MALFORMED),
            (&[22, 3, 1, 0, 8, 1, 0, 0, 4, 3, 3, 0, 0], MALFORMED),
        ] {
            assert_eq!(read(bad, 1), Err(told), "{bad:?}");
        }
    }

    #[test]
    fn a_broken_one_is_refused_whatever_byte_is_wrong() {
        let bytes = hello("a.example", &["h2"]);
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = bytes.clone();
                broken[at] = value;
                // Any answer will do, but no panic.
                let _ = read(&broken, 1 << 14);
            }
        }
    }

    #[test]
    fn doubled_extensions_and_names_are_refused() {
        let name = |name: &[u8]| [&[0, 0, u8::try_from(name.len()).unwrap()][..], name].concat();
        let list = |names: &[u8]| [&u16::try_from(names.len()).unwrap().to_be_bytes()[..], names].concat();
        assert_eq!(server_name(&list(&name(b"a"))), Ok(Some("a".into())));
        assert_eq!(server_name(&list(&[name(b"a"), name(b"b")].concat())), Err(DOUBLED));
        for bad in [&b"a b"[..], b"", b"a/b", b"\xff"] {
            assert_eq!(server_name(&list(&name(bad))), Err(MALFORMED), "{bad:?}");
        }
        let extension = |content: &[u8]| [&[0, 0][..], &list(content)].concat();
        let hello = |extensions: &[u8]| [&[3; 34][..], &[0, 0, 2, 0, 1, 1, 0], &list(extensions)].concat();
        let once = extension(&list(&name(b"a")));
        assert!(parse(&hello(&once)).is_ok());
        assert_eq!(parse(&hello(&[once.clone(), once].concat())), Err(DOUBLED));
    }
}
