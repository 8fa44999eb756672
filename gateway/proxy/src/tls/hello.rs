//! The client hello, read before anybody answers it: the server name and the protocols it asks for.
//!
//! A parser of our own rather than rustls' `Acceptor`: what is passed through is the endpoint's affair, so a hello that rustls would refuse (a
//! version, suites or extensions it does not know) must be routed all the same. One that is ended here is given to rustls as it came, and
//! rustls judges it. Bounded: a message of 16 KiB, records of at least one byte.

use rustls_pki_types::DnsName;

/// A hello may be so long; Envoy's limit too. With post-quantum key shares one has about 1.8 KiB.
const MAX_HELLO: usize = 16 << 10;
/// So much is read of a connection in vain: a hello cut into tiny records has a head of five bytes for each.
const MAX_RAW: usize = 64 << 10;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    /// In lower case; none: none was sent.
    pub(crate) server_name: Option<String>,
    /// Protocols offered (RFC 7301), those of them that are text (RFC 8701 has clients send others).
    pub(crate) alpn: Vec<String>,
}

/// It is no client hello, or a larger one than is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHello;

/// Takes a hello from the bytes of a connection, however they are cut.
#[derive(Default)]
pub(crate) struct HelloReader {
    /// All that was read.
    pub(crate) raw: Vec<u8>,
    /// Where in it the next record begins.
    next: usize,
    /// What the records before held.
    message: Vec<u8>,
}

impl HelloReader {
    /// Looks at what was read since. None: there must be more.
    pub(crate) fn look(&mut self) -> Result<Option<Hello>, BadHello> {
        loop {
            if self.message.len() >= 4 {
                let length = 4 + u24(&self.message[1..4]);
                if self.message[0] != CLIENT_HELLO || length > MAX_HELLO {
                    return Err(BadHello);
                }
                if self.message.len() >= length {
                    return parse(&self.message[4..length]).map(Some).ok_or(BadHello);
                }
            }
            let rest = &self.raw[self.next..];
            // Told by the first bytes already: what speaks another protocol may wait for us to speak first.
            if rest.first().is_some_and(|t| *t != HANDSHAKE) || rest.get(1).is_some_and(|major| *major != 3) || self.raw.len() > MAX_RAW {
                return Err(BadHello);
            }
            let Some(head) = rest.get(..5) else { return Ok(None) };
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            if length == 0 || length > MAX_RECORD {
                return Err(BadHello);
            }
            let Some(fragment) = rest.get(5..5 + length) else { return Ok(None) };
            self.message.extend_from_slice(fragment);
            self.next += 5 + length;
        }
    }
}

/// RFC 8446 §5.1.
const HANDSHAKE: u8 = 22;
const MAX_RECORD: usize = 1 << 14;
/// §4.
const CLIENT_HELLO: u8 = 1;
/// §4.2.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

fn u24(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
}

/// Splits off a vector with a length of so many bytes (RFC 8446 §3.4).
fn vector<'b>(from: &mut &'b [u8], width: usize) -> Option<&'b [u8]> {
    let (length, rest) = from.split_at_checked(width)?;
    let (vector, rest) = rest.split_at_checked(u24(length))?;
    *from = rest;
    Some(vector)
}

fn parse(hello: &[u8]) -> Option<Hello> {
    // Version and random.
    let mut rest = hello.get(2 + 32..)?;
    vector(&mut rest, 1).filter(|session| session.len() <= 32)?;
    vector(&mut rest, 2).filter(|suites| !suites.is_empty() && suites.len() % 2 == 0)?;
    vector(&mut rest, 1).filter(|compressions| !compressions.is_empty())?;
    let mut found = Hello::default();
    // Before TLS 1.3 there may be none.
    if rest.is_empty() {
        return Some(found);
    }
    let mut extensions = vector(&mut rest, 2).filter(|_| rest.is_empty())?;
    let (mut named, mut offered) = (false, false);
    while !extensions.is_empty() {
        let (kind, after) = extensions.split_at_checked(2)?;
        extensions = after;
        let content = vector(&mut extensions, 2)?;
        match u16::from_be_bytes([kind[0], kind[1]]) {
            // Each at most once (§4.2): which of two counts would depend on who reads.
            SERVER_NAME if std::mem::replace(&mut named, true) => return None,
            ALPN if std::mem::replace(&mut offered, true) => return None,
            SERVER_NAME => found.server_name = server_name(content)?,
            ALPN => found.alpn = protocols(content)?,
            _ => {}
        }
    }
    Some(found)
}

/// RFC 6066 §3: one name of type `host_name`. An address is none, as rustls has it.
fn server_name(mut content: &[u8]) -> Option<Option<String>> {
    let mut names = vector(&mut content, 2).filter(|_| content.is_empty())?;
    let mut found = None;
    while !names.is_empty() {
        let (kind, after) = names.split_first()?;
        names = after;
        let name = vector(&mut names, 2)?;
        if *kind != 0 {
            continue;
        }
        let name = std::str::from_utf8(name).ok()?;
        if found.is_some() {
            return None;
        }
        found = Some(match name.parse::<std::net::IpAddr>() {
            Ok(_) => None,
            Err(_) => Some(DnsName::try_from(name).ok()?.as_ref().trim_end_matches('.').to_ascii_lowercase()),
        });
    }
    Some(found.flatten())
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

    /// What rustls sends, an implementation that is not this parser.
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
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x80",
            b"SSH-2.0-x",
            &[22, 2],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0x40, 1],
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
        ] {
            assert_eq!(read(garbage, 1), Err(BadHello), "{garbage:?}");
        }
        // Longer than is read.
        assert_eq!(read(&[22, 3, 1, 0, 4, 1, 0, 0x40, 1], 1), Err(BadHello));
    }

    #[test]
    fn a_broken_one_is_refused_whatever_byte_is_wrong() {
        let bytes = hello("a.example", &["h2"]);
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = bytes.clone();
                broken[at] = value;
                // Any answer will do; a panic will not.
                let _ = read(&broken, 1 << 14);
            }
        }
    }

    #[test]
    fn doubled_extensions_and_names_are_refused() {
        let name = |name: &[u8]| [&[0, 0, u8::try_from(name.len()).unwrap()][..], name].concat();
        let list = |names: &[u8]| [&u16::try_from(names.len()).unwrap().to_be_bytes()[..], names].concat();
        assert_eq!(server_name(&list(&name(b"a"))), Some(Some("a".into())));
        assert_eq!(server_name(&list(&[name(b"a"), name(b"b")].concat())), None);
        for bad in [&b"a b"[..], b"", b"a/b", b"\xff"] {
            assert_eq!(server_name(&list(&name(bad))), None, "{bad:?}");
        }
        let extension = |content: &[u8]| [&[0, 0][..], &list(content)].concat();
        let hello = |extensions: &[u8]| [&[3; 34][..], &[0, 0, 2, 0, 1, 1, 0], &list(extensions)].concat();
        let once = extension(&list(&name(b"a")));
        assert!(parse(&hello(&once)).is_some());
        assert_eq!(parse(&hello(&[once.clone(), once].concat())), None);
    }
}
