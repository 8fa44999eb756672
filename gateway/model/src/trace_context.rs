//! W3C Trace Context: which trace a request belongs to, as `traceparent` says it between processes.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A place in a trace: the trace, and the span that what comes next is a child of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not 0.
    pub trace: u128,
    /// The span; not 0.
    pub span: u64,
    /// Whether whoever began the trace, or was asked last, records it.
    pub sampled: bool,
}

impl TraceContext {
    /// The length of a `traceparent` of version 00, in bytes.
    pub const LENGTH: usize = 55;

    /// Reads a `traceparent`: `version-traceid-parentid-flags` (Trace Context §3.2). A version after 00 may have more behind it. None: it cannot be read, and
    /// counts as if there were none.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, more) = value.split_at_checked(Self::LENGTH)?;
        let part = |from: usize, to: usize| number(head.get(from..to)?);
        let dashes = [2, 35, 52].iter().all(|at| head.get(*at) == Some(&b'-'));
        let version = part(0, 2).filter(|version| *version != 0xff)?;
        let (trace, span, flags) = (part(3, 35)?, part(36, 52)?, part(53, 55)?);
        let ends = more.is_empty() || (version != 0 && more.first() == Some(&b'-'));
        (dashes && ends && trace != 0 && span != 0).then_some(Self { trace, span: span as u64, sampled: flags & 1 == 1 })
    }

    /// The `traceparent`, of version 00.
    pub fn text(self) -> [u8; Self::LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(self.trace, &mut text[3..35]);
        hex(self.span.into(), &mut text[36..52]);
        text[54] = if self.sampled { b'1' } else { b'0' };
        text
    }
}

/// A trace's name, as people and other tools write it.
pub fn trace_text(trace: u128) -> String {
    format!("{trace:032x}")
}

/// A span's name, likewise.
pub fn span_text(span: u64) -> String {
    format!("{span:016x}")
}

/// A number in lower-case hexadecimal digits, which alone are allowed.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

fn hex(mut number: u128, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = HEX[(number & 0xf) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn contexts_of_the_specification() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = TraceContext::parse(text.as_bytes()).unwrap();
        assert_eq!(read, TraceContext { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0x00f0_67aa_0ba9_02b7, sampled: true });
        assert_eq!(std::str::from_utf8(&read.text()).unwrap(), text);
        assert_eq!((trace_text(read.trace), span_text(read.span)), (text[3..35].to_owned(), text[36..52].to_owned()));
        let flags = |flags: &str| TraceContext::parse(format!("{}{flags}", &text[..53]).as_bytes()).map(|read| read.sampled);
        assert_eq!([flags("00"), flags("02"), flags("03"), flags("ff")], [Some(false), Some(false), Some(true), Some(true)]);
        for later in
            ["01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"]
        {
            assert!(TraceContext::parse(later.as_bytes()).is_some(), "{later}");
        }
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
