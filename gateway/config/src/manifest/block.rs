//! A fast way to read documents in plain block style, as programs and most people write them: a line for each field and each item. Only such documents are
//! read so that mean the same in any reading and need no warning: no key twice, no flow style but `{}` and `[]`, no text over several lines, no escapes, no
//! anchors and tags, nothing but ASCII. Others are read by the library for YAML, which takes ten times as long.

use serde_json::{Map, Value};

use super::node::Scalar;
use super::quick::{DEEP, LONG};
use super::{Position, scalar, split};

/// The value of a part, and where it begins.
pub(super) fn read(part: &split::Part<'_>) -> Option<(Value, Position)> {
    let mut lines = Lines::of(part.text)?;
    let first = lines.now?;
    let start = (part.first_line + first.number + 1, first.indent + 1);
    if first.is_item() {
        return None;
    }
    let value = lines.mapping(first.indent, 0)?;
    lines.now.is_none().then_some((value, start))
}

/// The only item of a list that stands a few levels deep in a document. It has its indentation.
pub(super) fn item(text: &str) -> Option<Value> {
    /// As many levels may be around it.
    const AROUND: usize = 8;
    let mut lines = Lines::of(text)?;
    let first = lines.now.filter(Line::is_item)?;
    let Value::Array(items) = lines.list(first.indent, AROUND)? else { return None };
    let [item] = <[Value; 1]>::try_from(items).ok()?;
    lines.now.is_none().then_some(item)
}

/// A line without its indentation, or what is left of it behind the `-` of an item.
#[derive(Clone, Copy)]
struct Line<'t> {
    number: usize,
    indent: usize,
    text: &'t str,
}

impl Line<'_> {
    fn is_item(&self) -> bool {
        self.text == "-" || self.text.starts_with("- ")
    }
}

/// The lines that say something.
struct Lines<'t> {
    rest: std::iter::Enumerate<std::str::Split<'t, char>>,
    /// The line that is to be read next.
    now: Option<Line<'t>>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Option<Self> {
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
            return None;
        }
        let mut lines = Self { rest: text.split('\n').enumerate(), now: None };
        lines.step();
        if lines.now.is_some_and(|line| line.text == "---" && line.indent == 0) {
            lines.step();
        }
        Some(lines)
    }

    /// Goes to the next line that is neither blank nor a comment.
    fn step(&mut self) {
        let said = |(number, line): (usize, &'t str)| {
            let text = line.trim_start_matches(' ');
            let indent = line.len() - text.len();
            let text = text.trim_end_matches(' ');
            (!text.is_empty() && !text.starts_with('#')).then_some(Line { number, indent, text })
        };
        self.now = self.rest.find_map(said);
    }

    /// What is nested deeper than its parent: a list or a mapping.
    fn nested(&mut self, depth: usize) -> Option<Value> {
        let line = self.now?;
        if line.is_item() { self.list(line.indent, depth) } else { self.mapping(line.indent, depth) }
    }

    /// The mapping whose keys are indented so far. None: it is not that simple.
    fn mapping(&mut self, indent: usize, depth: usize) -> Option<Value> {
        if depth == DEEP {
            return None;
        }
        let mut fields = Map::new();
        while let Some(line) = self.now.filter(|line| line.indent >= indent) {
            if line.indent > indent || line.is_item() {
                return None;
            }
            let (key, rest) = field(line.text)?;
            self.step();
            let value = if rest.is_empty() {
                match self.now {
                    Some(next) if next.indent > indent => self.nested(depth + 1)?,
                    // The items of a list may stand below the key.
                    Some(next) if next.indent == indent && next.is_item() => self.list(indent, depth + 1)?,
                    _ => Value::Null,
                }
            } else {
                single(rest)?
            };
            if fields.insert(key, value).is_some() {
                return None;
            }
        }
        Some(Value::Object(fields))
    }

    /// The list whose items are indented so far.
    fn list(&mut self, indent: usize, depth: usize) -> Option<Value> {
        if depth == DEEP {
            return None;
        }
        let mut items = Vec::new();
        while let Some(line) = self.now.filter(|line| line.indent >= indent) {
            if line.indent > indent {
                return None;
            }
            if !line.is_item() {
                // It goes on in the mapping that has the list.
                break;
            }
            let text = line.text.strip_prefix("- ")?.trim_start_matches(' ');
            let inner = Line { indent: indent + line.text.len() - text.len(), text, ..line };
            let item = if inner.is_item() || field(text).is_some() {
                self.now = Some(inner);
                self.nested(depth + 1)?
            } else {
                self.step();
                single(text)?
            };
            items.push(item);
        }
        Some(Value::Array(items))
    }
}

/// The key of a line, and what stands behind it.
fn field(text: &str) -> Option<(String, &str)> {
    let (key, rest) = text.split_once(": ").or_else(|| Some((text.strip_suffix(':')?, "")))?;
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
    if !key.starts_with(|c: char| c.is_ascii_alphabetic()) || !key.bytes().all(letters) || key.len() > LONG {
        return None;
    }
    match plain(key)? {
        Value::String(key) => Some((key, rest.trim_start_matches(' '))),
        _ => None,
    }
}

/// A value in one line.
fn single(text: &str) -> Option<Value> {
    match text.as_bytes().first()? {
        b'{' => (text == "{}").then(|| Value::Object(Map::new())),
        b'[' => (text == "[]").then(|| Value::Array(Vec::new())),
        quote @ (b'"' | b'\'') => {
            let inner = text.get(1..text.len() - 1).filter(|_| text.len() > 1 && text.as_bytes().last() == Some(quote))?;
            let simple = !inner.bytes().any(|byte| byte == *quote || byte == b'\\' && *quote == b'"');
            simple.then(|| inner.into())
        }
        first => {
            let begins = first.is_ascii_alphanumeric() || matches!(first, b'/' | b'.' | b'_' | b'~' | b'+' | b'-');
            let else_where = text.contains(": ") || text.ends_with(':') || text.contains(" #") || text == "-" || text.starts_with("- ");
            if begins && !else_where { plain(text) } else { None }
        }
    }
}

/// A plain scalar, if it is the same in YAML 1.1 and YAML 1.2.
fn plain(text: &str) -> Option<Value> {
    let first = *text.as_bytes().first()?;
    let word = first.is_ascii_alphabetic() && !b"nNtTfFyYoO".contains(&first);
    // Addresses and versions are no numbers.
    if word || (first.is_ascii_digit() && text.bytes().filter(|byte| *byte == b'.').count() > 1) {
        return Some(text.into());
    }
    if text.len() < 16 && text.bytes().all(|byte| byte.is_ascii_digit()) && (first != b'0' || text.len() == 1) {
        return text.parse::<u64>().ok().map(Value::from);
    }
    let scalar = Scalar { text: text.to_owned(), plain: true, tag: None };
    if scalar::reading(&scalar).is_some() { None } else { scalar::value(&scalar).ok() }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::super::quick::tests::{part, slowly};
    use super::*;

    const SCALARS: [&str; 40] = [
        "a",
        "web",
        "80",
        "0",
        "-1",
        "+1",
        "1.5",
        "127.0.0.1",
        "10.0.0.0/8",
        "true",
        "no",
        "null",
        "~",
        "nil",
        "0120",
        "1e3",
        "a:b",
        "a b",
        "a#b",
        "http://x/y?z=1",
        "\"a: b\"",
        "\"\"",
        "'a # b'",
        "'it''s'",
        "\"a\\n\"",
        "{}",
        "[]",
        "{a: b}",
        "a # b",
        "2001-12-14",
        "1_000",
        "0x1f",
        ".5",
        "1.2.3",
        "/a/b",
        "12345678901234567890",
        "v1",
        "- a",
        "|",
        "yes",
    ];

    fn write(text: &mut String, random: &mut StdRng, indent: usize, depth: usize, first: bool) {
        let pad = |text: &mut String, first: bool| {
            if !first {
                text.push_str(&" ".repeat(indent));
            }
        };
        let list = depth > 0 && random.random_range(0..3) == 0;
        for i in 0..random.random_range(1..4) {
            pad(text, first && i == 0);
            let key = ["name", "a.b/c", "port", "y", "kind", "true", "k-1", "Z_", "x y"][random.random_range(0..9)];
            let scalar = SCALARS[random.random_range(0..SCALARS.len())];
            let inner = random.random_range(0..3) == 0 && depth < 5;
            let wide = ["", " "][random.random_range(0..2)];
            match (list, inner) {
                (true, true) => {
                    _ = write!(text, "- {wide}");
                    write(text, random, indent + 2 + wide.len(), depth + 1, true);
                }
                (true, false) => _ = writeln!(text, "- {wide}{scalar}"),
                (false, true) => {
                    _ = writeln!(text, "{key}{i}:{wide}");
                    let deeper = random.random_range(0..3) * 2;
                    write(text, random, indent + deeper, depth + 1, false);
                }
                (false, false) => _ = writeln!(text, "{key}{i}: {wide}{scalar}{wide}"),
            }
            if random.random_range(0..12) == 0 {
                _ = writeln!(text, "{}# comment", " ".repeat(random.random_range(0..4)));
            }
        }
    }

    /// Whatever it reads, the library reads alike, also where lines were changed at random.
    #[test]
    fn what_is_read_is_what_the_library_makes_of_it() {
        let mut random = StdRng::seed_from_u64(1);
        let (mut quick, mut spoilt) = (0, 0);
        for round in 0..20_000 {
            let mut text = ["", "---\n", "# a\n\n", "--- # b\n"][random.random_range(0..4)].to_owned();
            write(&mut text, &mut random, 0, 0, false);
            let change = round % 3 == 0;
            if change {
                let at = random.random_range(0..text.len());
                let new = [" ", "\n", ":", "-", "#", "\"", "a", "  ", ": ", "- "][random.random_range(0..10)];
                text.replace_range(at..=at, new);
            }
            if let Some(read) = read(&part(&text)) {
                assert_eq!(Some(read), slowly(&part(&text)), "{text}");
                quick += 1;
                spoilt += usize::from(change);
            }
        }
        assert!(quick > 2_000 && spoilt > 200, "{quick} and {spoilt} were read");
    }

    #[test]
    fn objects_as_they_are_written_are_read() {
        let text = "# The web.\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    app.kubernetes.io/name: 'web'\nspec:\n  selector: {}\n  ports:\n  - name: http\n    port: 80\n    targetPort: \"http\"\n  - port: 53\n    protocol: UDP\n  externalIPs:\n    - 192.0.2.1\n    - fd00::1\n";
        let (value, start) = read(&part(text)).expect("it is simple");
        assert_eq!(Some((value.clone(), start)), slowly(&part(text)));
        assert_eq!((value["spec"]["ports"][1]["port"].as_u64(), start), (Some(53), (9, 1)));
        for left in [
            "a: 1\na: 2\n",
            "a: yes\n",
            "a: 0120\n",
            "a: {b: c}\n",
            "a: |\n  b\n",
            "a: b\n  c\n",
            "a: &x b\n",
            "a: é\n",
            "- a\n",
            "",
            "a: !!str 1\n",
            "a:\tb\n",
        ] {
            assert_eq!(read(&part(left)), None, "{left}");
        }
    }
}
