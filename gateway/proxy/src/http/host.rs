//! The host a request asks for.

/// Whether a Host, with or without a port, is one: `uri-host [ ":" port ]` (RFC 9110 §7.2), empty where the target has no authority.
pub(super) fn is_valid(host: &str) -> bool {
    split(host).is_some()
}

/// Without its port. None: it is no host.
pub(super) fn split(field: &str) -> Option<&str> {
    let (host, port) = match field.rfind(':') {
        // The last colon of an address in brackets is its own.
        Some(at) if !field[at..].contains(']') => (&field[..at], &field[at + 1..]),
        _ => (field, ""),
    };
    let named = |b: u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'.' | b'-' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
    };
    let fits = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(address) => address.is_some_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok()),
        None => host.bytes().all(named),
    };
    (fits && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (field, host) in [
            ("a.example", "a.example"),
            ("a:80", "a"),
            ("a:", "a"),
            ("", ""),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("x_y.z", "x_y.z"),
        ] {
            assert_eq!(split(field), Some(host), "{field}");
        }
        for field in
            ["a b", "a/b", "a,b", "a@b", "a?b", "a#b", "a:80:80", "a:x", "a:123456", "::1", "[::1", "[x]", "a\"", "<a>", "a\\b", "ä"]
        {
            assert_eq!(split(field), None, "{field}");
        }
    }
}
