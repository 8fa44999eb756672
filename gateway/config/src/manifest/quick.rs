//! A fast way to read documents that are JSON, as programs write them: it takes a small part of the time that YAML takes. Only such documents are read so
//! that mean the same as YAML and need no warning: no key twice, no fractions, nothing but ASCII. Others are read as YAML.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Position, split};

/// Values that are nested deeper are read as YAML, which says that they are too deep.
pub(super) const DEEP: usize = 60;
/// Longer keys are read as YAML, which limits them (YAML 1.1 §7.4).
pub(super) const LONG: usize = 1000;

/// The value of a part, and where it begins.
pub(super) fn read(part: &split::Part<'_>) -> Option<(Value, Position)> {
    let text = part.text.strip_prefix("---").unwrap_or(part.text);
    let body = text.trim_start_matches([' ', '\n']);
    if !body.starts_with('{') || !means_the_same(body) {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_str(body);
    let value = reader.deserialize_any(Strict { depth: 0 }).ok()?;
    reader.end().ok()?;
    let before = &part.text[..part.text.len() - body.len()];
    let line = before.rsplit('\n').next().unwrap_or_default();
    Some((value, (part.first_line + before.matches('\n').count() + 1, line.len() + 1)))
}

/// A value that stands a few levels deep in a document.
pub(super) fn element(text: &str) -> Option<Value> {
    /// As many levels may be around it.
    const AROUND: usize = 8;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = means_the_same(text).then(|| reader.deserialize_any(Strict { depth: AROUND }).ok())??;
    reader.end().ok()?;
    Some(value)
}

/// Whether JSON and YAML read a text alike, if JSON reads it at all: the two have different line ends, control characters and escapes.
fn means_the_same(text: &str) -> bool {
    let simple = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    // Each piece is looked at as a whole, which processors do many bytes at a time.
    text.as_bytes().chunks(64).all(|piece| piece.iter().fold(true, |all, byte| all & simple(byte))) && !text.contains("\\u")
}

/// Reads a value, and refuses one that YAML would read otherwise.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEEP { Err(E::custom("too deep")) } else { Ok(Self { depth: self.depth + 1 }) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without fractions")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_string<E>(self, it: String) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(deeper)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut all = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if key.len() > LONG || all.contains_key(&key) {
                return Err(A::Error::custom("too long, or there already"));
            }
            let value = fields.next_value_seed(deeper)?;
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::super::{compose, node};
    use super::*;

    pub(in super::super) fn part(text: &str) -> split::Part<'_> {
        split::Part { text, first_line: 6 }
    }

    /// The same document as the library reads it; none if it has a warning or an error, or is not the only one.
    pub(in super::super) fn slowly(part: &split::Part<'_>) -> Option<(Value, Position)> {
        let mut documents = node::Documents::new(part).map(|root| root.and_then(|root| compose::compose(&root, compose::Places::Unasked)));
        let read = documents.next()?.ok()?;
        (documents.next().is_none() && read.readings.is_empty()).then_some((read.value, read.start))
    }

    fn value(random: &mut StdRng, depth: usize) -> Value {
        match random.random_range(0..if depth > 4 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => random.random_range(0..2).eq(&0).into(),
            2 => random.random_range(-5_i64..100_000).into(),
            3 => u64::MAX.into(),
            4 | 5 => ["", "yes", "0x1f", "a: b", "- c # d", "\"'\\/", "{}", "~", "<<", "a\nb\tc"][random.random_range(0..10)].into(),
            6 => Value::Array((0..random.random_range(0..4)).map(|_| value(random, depth + 1)).collect()),
            _ => {
                let keys = ["a", "no", "<<", "1", "", "x y", "'", "\\"];
                let mut field = |_| (keys[random.random_range(0..keys.len())].to_owned(), value(random, depth + 1));
                Value::Object((0..3).map(&mut field).collect())
            }
        }
    }

    #[test]
    fn what_is_read_as_json_is_what_yaml_makes_of_it() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..2000 {
            let value = Value::Object([("spec".to_owned(), value(&mut random, 0))].into_iter().collect());
            let text = if random.random_range(0..2) == 0 { value.to_string() } else { format!("{value:#}") };
            let text = format!(
                "{}{text}{}",
                ["", "---\n", "--- ", "---\n\n   "][random.random_range(0..4)],
                ["", "\n", "\n\n"][random.random_range(0..3)]
            );
            let quickly = read(&part(&text));
            assert_eq!(quickly.as_ref().map(|(read, _)| read), Some(&value), "{text}");
            assert_eq!(quickly, slowly(&part(&text)), "{text}");
        }
    }

    #[test]
    fn what_yaml_reads_otherwise_or_remarks_on_is_left_to_it() {
        let deep = format!("{}1{}", "{\"a\":".repeat(61), "}".repeat(61));
        let long = format!("{{\"{}\": 1}}", "k".repeat(1001));
        for text in [
            "{\"a\": 1, \"a\": 2}",
            "{\"a\": 1.0}",
            "{\"a\": 1e3}",
            "{\"a\": -0}",
            "{\"a\": 123456789012345678901234567890}",
            "{\"a\": \"\\u0041\"}",
            "{\"a\": \"é\"}",
            "{\"a\":\r\n1}",
            "{\"a\": 1} # b",
            "{\"a\": 1} {\"b\": 2}",
            "{a: 1}",
            "{\"a\": 01}",
            "[1]",
            "",
            &deep,
            &long,
        ] {
            assert_eq!(read(&part(text)), None, "{text}");
        }
        let text = "--- {\"a\": [1, -2, true, null, \"b\"]}\n";
        assert_eq!(
            read(&part(text)).map(|(value, at)| (value.to_string(), at)),
            Some(("{\"a\":[1,-2,true,null,\"b\"]}".to_owned(), (7, 5)))
        );
    }
}
