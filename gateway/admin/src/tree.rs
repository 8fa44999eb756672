//! What derived `Debug` says of a value, as JSON: so that everything that is configured can be shown, also what was added yesterday, and nothing needs a second
//! description of its fields.

use serde_json::{Map, Value};

/// How deep values within values are looked into.
const DEEPEST: usize = 32;

/// What `Debug` says of a value. Fields are in camelCase, and those that are none are left out; a variant with a value is an object with its name.
pub fn tree(of: &impl std::fmt::Debug) -> Value {
    value(&format!("{of:?}"), DEEPEST)
}

fn value(raw: &str, deep: usize) -> Value {
    let raw = raw.trim();
    let Some(deep) = deep.checked_sub(1) else { return Value::from(raw) };
    match raw {
        "None" | "()" => return Value::Null,
        "true" => return true.into(),
        "false" => return false.into(),
        _ => {}
    }
    if let Ok(number) = raw.parse::<i64>() {
        return number.into();
    }
    if raw.contains('.')
        && raw.bytes().all(|b| b.is_ascii_digit() || b".-".contains(&b))
        && let Ok(number) = raw.parse::<f64>()
    {
        return number.into();
    }
    if let Some(text) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Value::from(unescaped(text));
    }
    let within = |open: char, close: char| raw.strip_suffix(close).and_then(|rest| rest.split_once(open));
    match (within('{', '}'), within('[', ']'), within('(', ')')) {
        (Some((name, fields)), _, _) if is_name(name) => object(fields, deep),
        (_, Some(("", items)), _) => parts(items).map(|item| value(item, deep)).collect(),
        (_, _, Some((name, items))) if is_name(name) => tuple(name.trim(), items, deep),
        _ => Value::from(raw),
    }
}

/// The name of a type or a variant, or none.
fn is_name(text: &str) -> bool {
    text.trim_end().chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Fields of a struct, or entries of a map or a set.
fn object(fields: &str, deep: usize) -> Value {
    let entries: Vec<(Option<String>, &str)> = parts(fields).filter(|part| *part != "..").map(entry).collect();
    if entries.iter().any(|(name, _)| name.is_none()) {
        return entries.into_iter().map(|(_, item)| value(item, deep)).collect();
    }
    let all = entries.into_iter().filter_map(|(name, item)| Some((name?, value(item, deep))));
    Value::Object(all.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
}

/// The name of a field and its value; without a name it is an item of a set.
fn entry(part: &str) -> (Option<String>, &str) {
    if let Some(rest) = part.strip_prefix('"') {
        let end = rest.char_indices().find(|(i, c)| *c == '"' && !rest[..*i].ends_with('\\'));
        let split = end.and_then(|(i, _)| Some((rest.get(..i)?, rest.get(i + 1..)?.strip_prefix(": ")?)));
        return split.map_or((None, part), |(name, value)| (Some(unescaped(name)), value));
    }
    match part.split_once(": ") {
        Some((name, value)) if is_name(name) => (Some(camel_case(name)), value),
        _ => (None, part),
    }
}

fn tuple(name: &str, items: &str, deep: usize) -> Value {
    let mut items: Vec<Value> = parts(items).map(|item| value(item, deep)).collect();
    let inner = if items.len() == 1 { items.remove(0) } else { Value::Array(items) };
    match name {
        "" | "Some" | "Ok" => inner,
        name => Value::Object([(camel_case(name), inner)].into_iter().collect()),
    }
}

/// The parts between commas that are in no brackets and no quotes.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (mut depth, mut quoted, mut escaped) = (0_i32, false, false);
        let end = rest.char_indices().find(|(_, c)| {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ if quoted => {}
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                ',' => return depth == 0,
                _ => {}
            }
            false
        });
        let (part, after) = match end {
            Some((at, _)) => (rest.get(..at)?, rest.get(at + 1..)?),
            None => (rest, ""),
        };
        rest = after;
        (!part.trim().is_empty()).then_some(part.trim())
    })
}

/// The text of a literal.
fn unescaped(literal: &str) -> String {
    let (mut text, mut chars) = (String::with_capacity(literal.len()), literal.chars());
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => text.push('\n'),
            ('\\', Some('r')) => text.push('\r'),
            ('\\', Some('t')) => text.push('\t'),
            ('\\', Some('0')) => text.push('\0'),
            ('\\', Some('u')) => {
                let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
            }
            ('\\', Some(other)) => text.push(other),
            (c, _) => text.push(c),
        }
    }
    text
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_').filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    let mut out: String = first.chars().take(1).flat_map(char::to_lowercase).chain(first.chars().skip(1)).collect();
    for word in words {
        out.extend(word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    #[expect(dead_code, reason = "they are shown")]
    enum Choice {
        Plain,
        With(Duration),
        Both { a_name: String, address: SocketAddr },
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "they are shown")]
    struct All {
        time_out: Option<Duration>,
        none: Option<u8>,
        list: Vec<Choice>,
        pairs: Vec<(&'static str, Option<u32>)>,
        map: BTreeMap<String, bool>,
        share: f64,
        ranges: std::ops::RangeInclusive<u16>,
    }

    #[test]
    fn everything_that_is_derived_becomes_json() {
        let all = All {
            time_out: Some(Duration::from_millis(1500)),
            none: None,
            list: vec![
                Choice::Plain,
                Choice::With(Duration::ZERO),
                Choice::Both { a_name: "x, \"y\": {[(\n\u{1b}".to_owned(), address: "[::1]:80".parse().expect("an address") },
            ],
            pairs: vec![("a", Some(1)), ("b", None)],
            map: [("k: v".to_owned(), true)].into(),
            share: 0.5,
            ranges: 1..=9,
        };
        let wanted = json!({
            "timeOut": "1.5s",
            "list": ["Plain", {"with": "0ns"}, {"aName": "x, \"y\": {[(\n\u{1b}", "address": "[::1]:80"}],
            "pairs": [["a", 1], ["b", null]],
            "map": {"k: v": true},
            "share": 0.5,
            "ranges": "1..=9",
        });
        assert_eq!(tree(&all), wanted);
        assert_eq!((tree(&Vec::<u8>::new()), tree(&"")), (json!([]), json!("")));
    }

    #[test]
    fn what_is_not_derived_is_a_text() {
        for text in ["Certificate a/b for [\"x\"]", "}{", "[", "a(b", "\"", "X { a: 1", "))", "a { \"b: c }"] {
            let _ = value(text, DEEPEST);
        }
        assert_eq!(value("10.0.0.0/8", DEEPEST), json!("10.0.0.0/8"));
        assert_eq!(value(&"Some(".repeat(10_000), DEEPEST), json!("Some(".repeat(10_000)));
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(value(&deep, DEEPEST).is_array());
    }
}
