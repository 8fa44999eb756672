//! Query parameters. Those that rules name are read once for each request, into buffers that are kept, so reading does not allocate.

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::names::Uses;

/// The parameters that rules name, and their values in the current request.
#[derive(Debug, Default)]
pub(crate) struct Params {
    index: FxHashMap<Box<str>, usize>,
    values: Vec<Option<Range<usize>>>,
    uses: Uses,
    /// The text that `values` point into.
    text: String,
    /// A buffer for a name or value that is being decoded.
    decoded: Vec<u8>,
}

impl Params {
    /// Returns the index of a parameter, which is added if it is new.
    pub(crate) fn intern(&mut self, name: &str) -> usize {
        if let Some(&index) = self.index.get(name) {
            return index;
        }
        self.values.push(None);
        self.index.insert(name.into(), self.values.len() - 1);
        self.values.len() - 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Notes one more condition on a parameter.
    pub(crate) fn uses(&mut self, index: usize) {
        self.uses.up(index);
    }

    /// One condition on it goes; whether it was the last.
    pub(crate) fn leaves(&mut self, index: usize) -> bool {
        self.uses.down(index)
    }

    /// Reads a query, which is encoded as forms are (WHATWG URL §5.1). As in HTTPRoute, the first value of a repeated parameter counts.
    pub(crate) fn read(&mut self, query: &str) {
        self.values.fill(None);
        self.text.clear();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let index = if needs_decoding(name) {
                decode(name, &mut self.decoded);
                std::str::from_utf8(&self.decoded).ok().and_then(|name| self.index.get(name))
            } else {
                self.index.get(name)
            };
            let Some(&index) = index else { continue };
            if self.values[index].is_some() {
                continue;
            }
            let start = self.text.len();
            if needs_decoding(value) {
                decode(value, &mut self.decoded);
                self.text.push_str(&String::from_utf8_lossy(&self.decoded));
            } else {
                self.text.push_str(value);
            }
            self.values[index] = Some(start..self.text.len());
        }
    }

    /// The value of a parameter in the query that was read last.
    pub(crate) fn value(&self, index: usize) -> Option<&str> {
        self.text.get(self.values.get(index)?.clone()?)
    }
}

fn needs_decoding(text: &str) -> bool {
    text.bytes().any(|b| b == b'%' || b == b'+')
}

/// Decodes a name or value. A `%` that is not followed by two hexadecimal digits stands for itself.
fn decode(text: &str, out: &mut Vec<u8>) {
    let hex = |b: u8| (b as char).to_digit(16).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    out.clear();
    let mut i = 0;
    while i < bytes.len() {
        let escaped = match bytes[i..] {
            [b'%', high, low, ..] => hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(if bytes[i] == b'+' { b' ' } else { bytes[i] });
                i += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(query: &str) -> Option<String> {
        let mut params = Params::default();
        params.intern("other");
        let index = params.intern("a b");
        assert_eq!(params.intern("a b"), index);
        params.read("a+b=stale");
        params.read(query);
        params.value(index).map(str::to_owned)
    }

    #[test]
    fn queries_are_read_as_forms() {
        assert_eq!(value("a+b=1").as_deref(), Some("1"));
        assert_eq!(value("x=2&a%20b=%C3%A9+%41&other=3").as_deref(), Some("é A"));
        assert_eq!(value("a+b=first&a+b=second").as_deref(), Some("first"));
        assert_eq!(value("a+b").as_deref(), Some(""));
        assert_eq!(value("a+b=1=2").as_deref(), Some("1=2"));
        assert_eq!(value("a+b=100%&x").as_deref(), Some("100%"));
        assert_eq!(value("a+b=%4").as_deref(), Some("%4"));
        assert_eq!(value("a+b=%ff").as_deref(), Some("\u{fffd}"));
        assert_eq!(value("A+b=1&a=2"), None);
        assert_eq!(value(""), None);
        assert_eq!(value("&&=&"), None);
    }
}
