//! Makes a text that a regular expression matches.

use regex_syntax::hir::{Class, Hir, HirKind};

/// A short text that matches: of each repetition as few as possible, of alternatives the first, of classes a character that a request may have. None: it is not a
/// regular expression, or it matches only bytes that are not text.
pub(super) fn of(pattern: &str) -> Option<String> {
    let mut text = String::new();
    // It is read as the router reads it.
    write(&regex_syntax::parse(pattern).ok()?, &mut text)?;
    Some(text)
}

fn write(hir: &Hir, text: &mut String) -> Option<()> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(class) => text.push(character(class)?),
        HirKind::Repetition(repetition) => (0..repetition.min).try_for_each(|_| write(&repetition.sub, text))?,
        HirKind::Capture(capture) => write(&capture.sub, text)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, text))?,
        HirKind::Alternation(parts) => write(parts.first()?, text)?,
    }
    Some(())
}

/// A character of a class: a letter or a digit if it has one.
fn character(class: &Class) -> Option<char> {
    let has = |c: char| match class {
        Class::Unicode(class) => class.iter().any(|range| (range.start()..=range.end()).contains(&c)),
        Class::Bytes(class) => class.iter().any(|range| u8::try_from(c).is_ok_and(|c| (range.start()..=range.end()).contains(&c))),
    };
    ('a'..='z').chain('0'..='9').chain('!'..='~').find(|c| has(*c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_what_is_matched() {
        for pattern in ["/v[0-9]+/.*", "(a|b){2,3}c?", "^/x$", "[^a-z]", ".+\\.png", "/(?:old|new)/\\d{3}", ""] {
            let text = of(pattern).expect("a text");
            assert!(regex_lite::Regex::new(&format!("^(?:{pattern})$")).expect("a pattern").is_match(&text), "{pattern}: {text:?}");
        }
        assert_eq!((of("("), of("[^\\x00-\\x7f]")), (None, None));
    }
}
