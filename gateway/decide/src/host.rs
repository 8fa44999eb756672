//! The host that a request is for. The host in the target, in HTTP/2's `:authority` and in the field `Host` passes one check.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::{HeaderMap, HeaderValue, Request, Uri, Version, header};

use crate::answer::Reason;

/// Checks the host, and puts it into one place, `Host`, with the target in origin form (RFC 9112 §3.2.2, §7.2). Errors: the host is missing, stands there
/// twice, or is malformed, in either place.
pub fn settle<B>(request: &mut Request<B>) -> Result<(), Reason> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Reason::BadHost),
        // RFC 9112 §3.2: `Host` must be valid beside an absolute target, too.
        (Some(host), None) => drop(host.to_str().ok().and_then(split).ok_or(Reason::BadHost)?),
        (None, None) if request.version() == Version::HTTP_10 => {
            // The request is sent on as HTTP/1.1, which must have the field.
            request.headers_mut().insert(header::HOST, const { HeaderValue::from_static("") });
        }
        (None, None) => return Err(Reason::BadHost),
    }
    if let Some(authority) = request.uri().authority() {
        let host = Some(authority.as_str()).filter(|authority| split(authority).is_some());
        let host = host.and_then(|authority| HeaderValue::from_str(authority).ok()).ok_or(Reason::BadHost)?;
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = request.uri().path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    Ok(())
}

/// The name in `Host`, in lower case, without its port and without a last dot, which only says that the name is whole (RFC 1034 §3.1): server names in TLS
/// have none (RFC 6066 §3), nor have certificates and listeners. Empty: an HTTP/1.0 request names no host. None: it is malformed.
pub fn of(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let field = headers.get(header::HOST)?.to_str().ok()?;
    Some(matched(if field.is_empty() { field } else { split(field)? }))
}

/// A host as names are matched: in lower case and without a last dot. It has no port any more.
pub fn matched(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) }
}

/// Whether a text is a host, with or without a port: `uri-host [ ":" port ]` (RFC 9110 §7.2).
pub fn is_valid(host: &str) -> bool {
    split(host).is_some()
}

/// A host without its port. None: it is malformed. Hosts are malformed that are empty, as http and https must have one (RFC 9110 §4.2.1); that have a name
/// and password (§4.2.4), a port that cannot be, something in brackets that is not an address, or an empty label in the name.
pub fn split(field: &str) -> Option<&str> {
    let end = match field.strip_prefix('[') {
        Some(rest) => {
            let length = rest.rfind(']')?;
            rest[..length].parse::<Ipv6Addr>().ok()?;
            length + "[]".len()
        }
        None => name(field.as_bytes())?,
    };
    let port = match &field.as_bytes()[end..] {
        [] => &[],
        [b':', port @ ..] => port,
        _ => return None,
    };
    let digits = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    let number = || port.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    (digits && number() <= u32::from(u16::MAX)).then(|| &field[..end])
}

/// The length of the name that a host without brackets begins with, up to the colon of a port: RFC 3986 §3.2.2's `reg-name`, with labels that are not empty;
/// only the last one may be. None: it is malformed.
fn name(host: &[u8]) -> Option<usize> {
    let mut before = b'.';
    for (at, byte) in host.iter().enumerate() {
        let fits = IN_NAMES[usize::from(*byte)]
            || match byte {
                b'.' => before != b'.',
                b'%' => host.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
                b':' => return (at > 0).then_some(at),
                _ => false,
            };
        if !fits {
            return None;
        }
        before = *byte;
    }
    (!host.is_empty()).then_some(host.len())
}

/// The characters of a name but for the dot and escapes.
const IN_NAMES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let other = matches!(byte as u8, b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        bytes[byte] = other || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    bytes
};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (field, host) in [
            ("a.example", "a.example"),
            ("a:80", "a"),
            ("a:", "a"),
            ("a:65535", "a"),
            ("a.", "a."),
            ("a.:80", "a."),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("x_y.z", "x_y.z"),
            ("a%20b", "a%20b"),
        ] {
            assert_eq!(split(field), Some(host), "{field}");
        }
        for field in [
            "", ":", ":80", "a b", "a/b", "a,b", "a@b", "a?b", "a#b", "a:80:80", "a:x", "a:65536", "a:99999", "a:123456", "a:+1", "::1",
            "[::1", "[x]", "[]", "[::1]x", "[::1]80", "a\"", "<a>", "a\\b", "ä", "a%", "a%zz", ".", "..", ".a", "a..", "a..b",
        ] {
            assert_eq!(split(field), None, "{field}");
        }
    }

    fn settled(uri: &str, version: Version, hosts: &[&str]) -> Result<(String, String), Reason> {
        let mut request = Request::get(uri).version(version).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        settle(&mut request)?;
        Ok((request.headers()[header::HOST].to_str().unwrap().to_owned(), request.uri().to_string()))
    }

    #[test]
    fn the_target_counts_before_host_and_both_must_be_good() {
        let told = |host: &str, uri: &str| Ok((host.to_owned(), uri.to_owned()));
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        assert_eq!(settled("/x", new, &["A.example:8080"]), told("A.example:8080", "/x"));
        assert_eq!(settled("http://b.example:1/x?y", new, &["a.example"]), told("b.example:1", "/x?y"));
        assert_eq!(settled("http://b.example/x", old, &[]), told("b.example", "/x"));
        assert_eq!(settled("/x", old, &[]), told("", "/x"));
        for (uri, version, hosts) in [
            ("/", new, &[][..]),
            ("/", new, &[""]),
            ("/", new, &["a", "a"]),
            ("/", old, &["a", "a"]),
            ("/", new, &["a b"]),
            ("http://a/", new, &["b/c d"]),
            ("http://a/", new, &[""]),
            ("http://a/", new, &[]),
            ("http://a:80abc/", new, &["a"]),
            ("http://[zz]/", new, &["a"]),
            ("http://u@a/", new, &["a"]),
        ] {
            assert_eq!(settled(uri, version, hosts), Err(Reason::BadHost), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn names_are_matched_in_lower_case_without_port_and_last_dot() {
        let host = |field| of(&HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(field))])).map(Cow::into_owned);
        for (field, wanted) in
            [("A.Example:8080", "a.example"), ("a.example.", "a.example"), ("A.:80", "a"), ("[::1]:80", "[::1]"), ("", "")]
        {
            assert_eq!(host(field).as_deref(), Some(wanted), "{field}");
        }
        assert_eq!(host("a b"), None);
        assert_eq!(of(&HeaderMap::new()), None);
    }
}
