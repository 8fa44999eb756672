//! Conditions on the value of a header or query parameter, and regular expressions with a limit on what they may cost.

use std::cell::Cell;

use regex_lite::Regex;
use sluicegate_rule_values::regular_expression;

use crate::config::ValueMatchType;

/// What regular expressions may cost for one request: the sum of pattern size times text length, in bytes squared. `regex-lite` needs time in proportion to
/// that. The slowest pattern that was tried took 160 ps for each unit natively, so this is about 5 ms. The deadline of a call is 20 ms, and exceeding it would
/// count as a failure of the plugin.
const REGEX_BUDGET: usize = 32 << 20;

/// What is left of [`REGEX_BUDGET`].
pub(crate) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(REGEX_BUDGET))
    }
}

/// A regular expression was not tried, as the request has used up its budget. Skipping the rule would let a long request get around it.
#[derive(Debug, PartialEq)]
pub(crate) struct OverBudget;

/// A regular expression that must match the whole of a text.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// The compiled size, rounded up to a power of two.
    size: usize,
    /// The text with which everything begins that it matches. Other texts cost only a comparison, and nothing of the budget.
    literal: Box<str>,
}

/// The literal text with which a pattern begins, as far as that is easily found.
fn literal(pattern: &str) -> &str {
    let text = pattern.strip_prefix('^').unwrap_or(pattern);
    // Another alternative may begin differently.
    if text.contains('|') && (text.contains('[') || has_alternatives(text)) {
        return "";
    }
    let Some(end) = text.find(|c: char| r"\.+*?()|[]{}^$".contains(c)) else { return text };
    let literal = &text[..end];
    // A repetition behind the text may make its last character optional.
    let optional = matches!(text.as_bytes()[end], b'*' | b'?' | b'{');
    match literal.char_indices().next_back() {
        Some((last, _)) if optional => &literal[..last],
        _ => literal,
    }
}

/// Whether a pattern without classes has alternatives outside of groups.
fn has_alternatives(pattern: &str) -> bool {
    let mut depth = 0_usize;
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

impl Pattern {
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let (regex, size) = regular_expression(pattern)?;
        Ok(Self { regex, size, literal: literal(pattern).into() })
    }

    /// The size of the pattern in bytes.
    pub(crate) fn len(&self) -> usize {
        self.regex.as_str().len()
    }

    pub(crate) fn matches(&self, text: &str, budget: &Budget) -> Result<bool, OverBudget> {
        if !text.starts_with(&*self.literal) {
            return Ok(false);
        }
        budget.0.set(budget.0.get().checked_sub(self.size.saturating_mul(text.len())).ok_or(OverBudget)?);
        Ok(self.regex.is_match(text))
    }
}

/// A condition on a value.
#[derive(Debug)]
pub(crate) enum Test {
    Exact(Box<str>),
    Pattern(Box<Pattern>),
}

impl Test {
    pub(crate) fn new(kind: ValueMatchType, value: &str) -> Result<Self, String> {
        match kind {
            ValueMatchType::Exact => Ok(Self::Exact(value.into())),
            ValueMatchType::RegularExpression => Ok(Self::Pattern(Box::new(Pattern::new(value)?))),
        }
    }

    pub(crate) fn holds(&self, value: &str, budget: &Budget) -> Result<bool, OverBudget> {
        match self {
            Self::Exact(wanted) => Ok(**wanted == *value),
            Self::Pattern(pattern) => pattern.matches(value, budget),
        }
    }
}

/// A condition on one of the headers of the interests, or one of the query parameters that rules name.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) index: usize,
    pub(crate) test: Test,
}

/// Whether all conditions hold. `value` returns the values by their index. No condition holds for a header or parameter that is absent.
pub(crate) fn all_hold<'a>(
    conditions: &[Condition],
    value: impl Fn(usize) -> Option<&'a str>,
    budget: &Budget,
) -> Result<bool, OverBudget> {
    for condition in conditions {
        let holds = match value(condition.index) {
            Some(value) => condition.test.holds(value, budget)?,
            None => false,
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text() {
        let budget = Budget::default();
        let pattern = Pattern::new("a|bc").unwrap();
        assert_eq!(pattern.matches("a", &budget), Ok(true));
        assert_eq!(pattern.matches("bc", &budget), Ok(true));
        assert_eq!(pattern.matches("abc", &budget), Ok(false));
        assert_eq!(pattern.matches("a\n", &budget), Ok(false));
    }

    #[test]
    fn patterns_begin_with_their_literal_text() {
        for (pattern, begin) in [
            ("/api/v[0-9]+", "/api/v"),
            ("^/api/.*", "/api/"),
            ("/api", "/api"),
            ("/apis?/x", "/api"),
            ("/ab*", "/a"),
            ("/ab{2}", "/a"),
            ("/ab+", "/ab"),
            ("/é?", "/"),
            ("/a(b|c)", "/a"),
            ("/a|/b", ""),
            ("/a(b)|c", ""),
            ("/a[(]b|c", ""),
            (r"/a\(b|c\)", ""),
            ("(?i)/A", ""),
            (r"/a\.b", "/a"),
            (".*", ""),
        ] {
            assert_eq!(literal(pattern), begin, "{pattern}");
        }
        let budget = Budget::default();
        let pattern = Pattern::new("/a[(]b|c").unwrap();
        assert_eq!((pattern.matches("/a(b", &budget), pattern.matches("c", &budget)), (Ok(true), Ok(true)));
        let pattern = Pattern::new("/long/.*").unwrap();
        for _ in 0..10 {
            assert_eq!(pattern.matches(&"x".repeat(REGEX_BUDGET / 2), &budget), Ok(false), "it costs nothing of the budget");
        }
    }

    #[test]
    fn the_budget_bounds_what_patterns_read() {
        let budget = Budget::default();
        let pattern = Pattern::new("a*").unwrap();
        assert_eq!(pattern.matches(&"a".repeat(REGEX_BUDGET / pattern.size), &budget), Ok(true));
        assert_eq!(pattern.matches("a", &budget), Err(OverBudget));
    }
}
