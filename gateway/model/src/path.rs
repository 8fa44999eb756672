//! The spelling of paths (RFC 3986 §3.3, §6.2.2): which characters stand in one as they are. What clients send is brought into it before anything
//! is decided by it, and so is what policies compare it with.

/// Whether a character means the same escaped and not: letters, digits and four marks (§2.3).
pub const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a reserved character may stand in a path as data (`pchar`), and most endpoints take it for the same escaped and not. `;` is not among them, as
/// it may separate parameters.
pub const fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// Appends a byte as `%XX`, in capitals.
pub fn escape(byte: u8, to: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    to.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// The byte that three bytes stand for; none if they are not an escape.
pub fn escaped(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(*high)? << 4 | digit(*low)?) as u8)
}

/// Spells the path of a policy as requests' paths are spelt: what need not be escaped is not, and what must be is. A `%` that escapes nothing stands for
/// itself, and then no request has such a path.
pub fn spell(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut spelt = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        let escaped = escaped(&bytes[at..]);
        let value = escaped.unwrap_or(byte);
        at += if escaped.is_some() { 3 } else { 1 };
        if is_unreserved(value) || is_delimiter(value) || (escaped.is_none() && matches!(value, b'/' | b';' | b'%')) {
            spelt.push(value);
        } else {
            escape(value, &mut spelt);
        }
    }
    // All of it is ASCII.
    String::from_utf8(spelt).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_paths_are_spelt_as_requests_are() {
        for (path, spelt) in [
            ("/", "/"),
            ("/%61dmin/%40me", "/admin/@me"),
            ("/ä", "/%C3%A4"),
            ("/%c3%a4 b", "/%C3%A4%20b"),
            ("/a%2fb;c%3bd", "/a%2Fb;c%3Bd"),
            ("/100%", "/100%"),
        ] {
            assert_eq!(spell(path), spelt);
            assert_eq!(spell(spelt), spelt, "it stays");
        }
    }
}
