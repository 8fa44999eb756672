//! Text of somebody else, made fit to be shown: guests', clients' and files' words stand in the log, in `/metrics`, in tables on a terminal and in pages,
//! and must not look like the gateway's own. A line break would forge a line, a control character would move the terminal's cursor or colour what
//! follows, a bidirectional control would show a line in another order than it has ("Trojan Source", CVE-2021-42574), and what has no width would make two different
//! names look the same. All that writes such text uses this: [`line()`] for one line, [`lines`] for text of several lines whose parts went through [`line()`],
//! [`json`] for JSON.
//!
//! [`line()`] leaves backslashes alone, so that it may be used twice; what must be read back exactly is JSON.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text as one line in which everything can be seen: what cannot is written as Rust writes it, `\n`, `\u{202e}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// Likewise, but line breaks and tabs stay. What comes after a break begins a line of the reader's: use [`line()`] for each part that is not the gateway's own.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| matches!(c, '\n' | '\t'))
}

/// The text with its line breaks, but of different texts different ones: a backslash that would look like an escape is one itself.
pub fn distinct(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c == '\\' || (is_hidden(c) && c != '\n')) {
        return Cow::Borrowed(text);
    }
    let escaped = |(at, c): (usize, char)| match c {
        '\\' if text[at..].starts_with(r"\u{") => r"\u{5c}".to_owned(),
        '\n' => c.into(),
        _ if is_hidden(c) => c.escape_unicode().to_string(),
        _ => c.into(),
    };
    Cow::Owned(text.char_indices().map(escaped).collect())
}

/// JSON text that means the same, with everything in it that cannot be seen escaped, such as `\u001b` (RFC 8259 §7). Line breaks between its values stay.
pub fn json(json: &str) -> Cow<'_, str> {
    // What is hidden can only stand within strings, where an escape is the character; white space between values is not of that kind.
    if !json.chars().any(|c| is_hidden(c) && c != '\n') {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 32);
    for c in json.chars() {
        if is_hidden(c) && c != '\n' {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", JsonChar(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A character of a JSON string as an escape, `\u` and four hexadecimal digits, or two of them (RFC 8259 §7).
pub struct JsonChar(pub char);

impl std::fmt::Display for JsonChar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))
    }
}

/// Text of an HTML or SVG element or a quoted attribute.
pub fn html(text: &str) -> String {
    line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Whether nobody sees the character: controls (C0, DEL and C1), line and paragraph separators, bidirectional controls, what has no width or fills,
/// spaces other than the usual one, and what is private or unassigned.
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_control() } else { is_ignorable(c) || !is_printable(c) }
}

fn escape(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let hidden = |c: char| is_hidden(c) && !stays(c);
    // A mark that combines would change what stands before the text.
    let combines = |c: char| !c.is_ascii() && c.escape_debug().len() > 1;
    let first = text.chars().next().filter(|c| combines(*c));
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || (first.is_none() && !text.chars().any(hidden)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 32);
    for (at, c) in text.char_indices() {
        match c {
            '\0' | '\t' | '\n' | '\r' if hidden(c) => out.extend(c.escape_debug()),
            _ if hidden(c) || (at == 0 && first.is_some()) => {
                let _ = write!(out, "{}", c.escape_unicode());
            }
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// By the standard library's table, of the compiler's version of Unicode: it is asked behind a letter, as it would escape combining marks elsewhere.
fn is_printable(c: char) -> bool {
    let mut behind = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut behind[1..]).len();
    std::str::from_utf8(&behind[..length]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

/// Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt), as far as the table of [`is_printable`] lets them pass: fillers, joiners and selectors
/// of variants. The selector of an emoji's look is among them.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character that a terminal, a log's reader or a browser obeys or does not show.
    const HOSTILE: [char; 33] = [
        '\0',
        '\n',
        '\r',
        '\t',
        '\u{7}',
        '\u{8}',
        '\u{b}',
        '\u{c}',
        '\u{1b}',
        '\u{7f}',
        '\u{80}',
        '\u{85}',
        '\u{9b}',
        '\u{9f}',
        '\u{a0}',
        '\u{ad}',
        '\u{61c}',
        '\u{115f}',
        '\u{180e}',
        '\u{200b}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2066}',
        '\u{2069}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn nothing_hidden_is_left_and_twice_is_once() {
        for c in HOSTILE {
            assert!(is_hidden(c), "{c:?}");
            let text = format!("a{c}b");
            let once = line(&text).into_owned();
            assert!(once.starts_with("a\\") && once.ends_with('b') && !once.contains(c), "{once:?}");
            assert_eq!(line(&once), once);
            assert_eq!(lines(&text) == text, matches!(c, '\n' | '\t'), "{c:?}");
        }
        for c in ('\u{202a}'..='\u{202e}').chain('\u{2060}'..='\u{2069}').chain('\u{80}'..='\u{9f}').chain('\0'..='\u{1f}') {
            assert!(is_hidden(c), "{c:?}");
        }
        assert_eq!(line("x\r\n\u{1b}[31m\0\u{202e}"), r"x\r\n\u{1b}[31m\0\u{202e}");
    }

    #[test]
    fn what_people_write_stays() {
        for text in ["", "plain \"text\" with C:\\path", "Grüße, Ελλάδα, 日本語, हिन्दी, e\u{301}té, 🦀", "= % # {}"]
        {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text:?} becomes {:?}", line(text));
        }
        assert_eq!(line("\u{301}a\u{301}"), "\\u{301}a\u{301}", "a mark at the beginning would change what stands before");
    }

    #[test]
    fn different_texts_stay_different_where_that_is_wanted() {
        let texts = ["a\u{202e}", r"a\u{202e}", r"a\u{5c}u{202e}", "a\r", r"a\r", r"a\u{d}", "a\n", r"a\n", r"C:\users", "a"];
        let shown: std::collections::BTreeSet<_> = texts.iter().map(|text| distinct(text)).collect();
        assert_eq!(shown.len(), texts.len(), "{shown:?}");
        assert!(shown.iter().all(|text| !text.chars().any(|c| is_hidden(c) && c != '\n')), "{shown:?}");
        assert_eq!((distinct(r"C:\users").as_ref(), distinct("a\n").as_ref()), (r"C:\users", "a\n"));
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "a\u{202e}": HOSTILE.iter().collect::<String>(), "b": ["é", "\\u0000", "\u{10ffff}"] });
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = json(&text);
            assert!(!shown.chars().any(|c| is_hidden(c) && c != '\n'), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).ok().as_ref(), Some(&value), "{shown}");
        }
        assert!(matches!(json("{\n  \"ü\": 1\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn html_has_no_element_of_its_own() {
        assert_eq!(html("<b a='1' c=\"2\">&\u{202e}"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\\u{202e}");
    }
}
