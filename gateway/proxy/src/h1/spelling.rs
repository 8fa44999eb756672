//! How field names were spelt. They mean the same in any case (RFC 9110 §5.1), and a map has them in lower case; but some peers of HTTP/1.1 look for one
//! spelling only. Spellings are noted only if a policy asks for it.

use bytes::Bytes;

/// What becomes of the case of a message's field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// They are written in lower case, unless nobody looks at them.
    Any,
    /// They are kept as their sender spelt them.
    Kept,
}

impl Case {
    pub(crate) fn kept(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Any }
    }
}

/// The names of a message as they were spelt, in its order. As a request's extension, it asks for those of the response, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spellings(Vec<Bytes>);

impl Spellings {
    /// Notes the name of the next field.
    pub(super) fn note(&mut self, name: Bytes) {
        self.0.push(name);
    }

    /// How the `nth` field of this name, which is in lower case, was spelt. If there were fewer, it is the last one's spelling; none: the sender has no such
    /// field.
    pub(super) fn of(&self, name: &str, nth: usize) -> Option<&[u8]> {
        let mut all = self.0.iter().filter(|spelt| spelt.eq_ignore_ascii_case(name.as_bytes()));
        let mut found = all.next()?;
        for next in all.take(nth) {
            found = next;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_the_spelling_it_came_with() {
        let mut spellings = Spellings::default();
        for name in ["X-MiXeD", "SOAPAction", "x-mixed", "X-Mixed"] {
            spellings.note(Bytes::from_static(name.as_bytes()));
        }
        let of = |name, nth| spellings.of(name, nth).map(String::from_utf8_lossy);
        assert_eq!(
            [of("x-mixed", 0), of("x-mixed", 1), of("x-mixed", 2)].map(Option::unwrap_or_default),
            ["X-MiXeD", "x-mixed", "X-Mixed"]
        );
        assert_eq!(of("x-mixed", 3).as_deref(), Some("X-Mixed"));
        assert_eq!((of("soapaction", 0).as_deref(), of("x-other", 0)), (Some("SOAPAction"), None));
    }
}
