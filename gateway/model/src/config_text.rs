//! A plugin's configuration as it is given to the plugin: JSON. A router's configuration may be megabytes, of which one rule changes at a time, and many maps are keyed by it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::{Arc, LazyLock, OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::hash::hash_bytes;

/// The list whose elements are held one by one.
const LIST: &str = "rules";
/// A shorter list of an object's is held as the text that it is.
const LONG: usize = 64;

/// JSON text that is held once and hashed once: a copy costs a reference count, a look-up by it what a look-up by a number costs. A long list `rules` is
/// held element by element, so that two configurations share what they have in common.
#[derive(Clone)]
pub struct ConfigText {
    form: Form,
    hash: u64,
    made: bool,
}

#[derive(Clone)]
enum Form {
    Whole(Arc<str>),
    Parts(Arc<Parts>),
}

/// An object with a list `rules`.
struct Parts {
    /// The object without its end and without the list: `{"a":1`.
    head: Box<str>,
    rules: Vec<RuleText>,
    /// All of it, once somebody has asked for it.
    whole: OnceLock<Arc<str>>,
}

/// An element of a list `rules`: JSON, held and hashed once.
#[derive(Clone, Debug)]
pub struct RuleText {
    text: Arc<str>,
    hash: u64,
}

impl Deref for RuleText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl From<&str> for RuleText {
    fn from(text: &str) -> Self {
        Self { hash: hash_bytes(text.as_bytes()), text: text.into() }
    }
}

impl PartialEq for RuleText {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.text, &other.text) || self.text == other.text)
    }
}

impl Eq for RuleText {}

/// Elements of a list that stand in the place of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where the first of the others stood in the list before.
    pub at: usize,
    /// How many others there were.
    pub removed: usize,
    /// Where they stand in the list now.
    pub inserted: Range<usize>,
}

impl Parts {
    /// The object with some of the rules.
    fn text(&self, rules: &[RuleText]) -> String {
        let length = rules.iter().map(|rule| rule.len() + 1).sum::<usize>();
        let mut text = String::with_capacity(self.head.len() + length + LIST.len() + 8);
        text.push_str(&self.head);
        text.push_str(if self.head.len() > 1 { ",\"" } else { "\"" });
        text.push_str(LIST);
        text.push_str("\":[");
        for (i, rule) in rules.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            text.push_str(rule);
        }
        text.push_str("]}");
        text
    }
}

impl ConfigText {
    /// The text.
    pub fn text(&self) -> &Arc<str> {
        match &self.form {
            Form::Whole(text) => text,
            Form::Parts(parts) => parts.whole.get_or_init(|| parts.text(&parts.rules).into()),
        }
    }

    /// The same, which is not kept if it is held in parts.
    pub fn whole(&self) -> Cow<'_, str> {
        match &self.form {
            Form::Whole(text) => Cow::Borrowed(text),
            Form::Parts(parts) => Cow::Owned(parts.text(&parts.rules)),
        }
    }

    /// One that the gateway has made itself, of objects that were judged already, for a plugin that comes with it: it need not be judged by that plugin's
    /// schema. `head`: an object without its end, to which the list of `rules` is added.
    pub fn made(head: &str, rules: Vec<RuleText>) -> Self {
        Self { made: true, ..Self::of_parts(head.into(), rules) }
    }

    /// An object with this list of `rules`. `head`: the object without its end, and without the list.
    pub fn of_rules(head: &str, rules: Vec<RuleText>) -> Self {
        Self::of_parts(head.into(), rules)
    }

    /// Whether it was made by [`ConfigText::made`].
    pub fn is_made(&self) -> bool {
        self.made
    }

    fn of_parts(head: Box<str>, rules: Vec<RuleText>) -> Self {
        // As FxHash does.
        let mix = |hash: u64, more: u64| (hash.rotate_left(5) ^ more).wrapping_mul(0x517c_c1b7_2722_0a95);
        let hash = rules.iter().fold(hash_bytes(head.as_bytes()), |hash, rule| mix(hash, rule.hash));
        Self { form: Form::Parts(Arc::new(Parts { head, rules, whole: OnceLock::new() })), hash, made: false }
    }

    /// The elements of its list `rules`, if they are held one by one.
    pub fn rules(&self) -> Option<&[RuleText]> {
        match &self.form {
            Form::Whole(_) => None,
            Form::Parts(parts) => Some(&parts.rules),
        }
    }

    /// The same configuration with these of its rules only.
    pub fn with_rules(&self, some: impl IntoIterator<Item = Range<usize>>) -> Option<Self> {
        let Form::Parts(parts) = &self.form else { return None };
        let rules = some.into_iter().flat_map(|range| parts.rules.get(range).unwrap_or_default()).cloned().collect();
        Some(Self { made: self.made, ..Self::of_parts(parts.head.clone(), rules) })
    }

    /// What of the list `rules` is another than before. None: something else is, or most of it.
    pub fn changes_since(&self, before: &Self) -> Option<Vec<Splice>> {
        let (Form::Parts(old), Form::Parts(new)) = (&before.form, &self.form) else { return None };
        if Arc::ptr_eq(old, new) {
            return Some(Vec::new());
        }
        let splices = (old.head == new.head).then(|| splices(&old.rules, &new.rules))?;
        let changed: usize = splices.iter().map(|splice| splice.removed + splice.inserted.len()).sum();
        (changed <= new.rules.len()).then_some(splices)
    }
}

/// How one list becomes another one: what they begin and end with alike stays, and of the rest what comes in the same order. Something that moves is removed and
/// inserted.
fn splices(old: &[RuleText], new: &[RuleText]) -> Vec<Splice> {
    let begin = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let end = old[begin..].iter().rev().zip(new[begin..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[begin..old.len() - end], &new[begin..new.len() - end]);
    let mut left: HashSet<u64> = old.iter().map(|rule| rule.hash).collect();
    let coming: HashSet<u64> = new.iter().map(|rule| rule.hash).collect();
    let mut all: Vec<Splice> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if let (Some(a), Some(b)) = (old.get(i), new.get(j))
            && a == b
        {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        // Side by side, what is removed and what is inserted is one splice.
        let open = all.last_mut().filter(|last| last.at + last.removed == begin + i && last.inserted.end == begin + j);
        let splice = match open {
            Some(open) => open,
            None => {
                all.push(Splice { at: begin + i, removed: 0, inserted: begin + j..begin + j });
                let Some(opened) = all.last_mut() else { break };
                opened
            }
        };
        match (old.get(i), new.get(j)) {
            (Some(gone), None) => {
                left.remove(&gone.hash);
                splice.removed += 1;
                i += 1;
            }
            (Some(gone), Some(come)) if left.contains(&come.hash) || !coming.contains(&gone.hash) => {
                left.remove(&gone.hash);
                splice.removed += 1;
                i += 1;
            }
            _ => {
                splice.inserted.end += 1;
                j += 1;
            }
        }
    }
    all
}

/// The default is `{}`: nothing is set.
impl Default for ConfigText {
    fn default() -> Self {
        static NOTHING: LazyLock<ConfigText> = LazyLock::new(|| ConfigText::from("{}"));
        NOTHING.clone()
    }
}

impl From<&str> for ConfigText {
    fn from(text: &str) -> Self {
        Self { hash: hash_bytes(text.as_bytes()), form: Form::Whole(text.into()), made: false }
    }
}

impl From<String> for ConfigText {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Value> for ConfigText {
    fn from(mut value: Value) -> Self {
        let long = |list: &mut Value| list.as_array_mut().filter(|list| list.len() >= LONG).map(std::mem::take);
        let Some(rules) = value.get_mut(LIST).and_then(long) else { return value.to_string().into() };
        if let Some(object) = value.as_object_mut() {
            object.remove(LIST);
        }
        let head = value.to_string();
        let head = head.strip_suffix('}').unwrap_or(&head);
        // Each of them goes when its text is there.
        Self::of_parts(head.into(), rules.into_iter().map(|rule| RuleText::from(&*rule.to_string())).collect())
    }
}

/// As an object has it: whatever it is; `null` is nothing. As a tree it would take ten times the memory.
impl<'de> Deserialize<'de> for ConfigText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        Ok(if value.is_null() { Self::default() } else { value.into() })
    }
}

/// The schema takes any JSON.
impl JsonSchema for ConfigText {
    fn inline_schema() -> bool {
        Value::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        Value::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        Value::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Value::json_schema(generator)
    }
}

impl Deref for ConfigText {
    type Target = str;

    fn deref(&self) -> &str {
        self.text()
    }
}

impl PartialEq for ConfigText {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && match (&self.form, &other.form) {
                (Form::Whole(a), Form::Whole(b)) => a == b,
                (Form::Parts(a), Form::Parts(b)) => Arc::ptr_eq(a, b) || (a.head == b.head && a.rules == b.rules),
                _ => false,
            }
    }
}

impl Eq for ConfigText {}

impl Hash for ConfigText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Ord for ConfigText {
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other { Ordering::Equal } else { self.whole().cmp(&other.whole()) }
    }
}

impl PartialOrd for ConfigText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.whole(), f)
    }
}

impl fmt::Display for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_object_has_becomes_text_and_null_is_nothing() {
        let read = |text: &str| serde_json::from_str::<ConfigText>(text).expect("any JSON").to_string();
        assert_eq!(
            (read(r#"{ "b": [1], "a": null }"#), read("null"), read("7")),
            (r#"{"a":null,"b":[1]}"#.to_owned(), "{}".to_owned(), "7".to_owned())
        );
        assert_eq!(ConfigText::default(), ConfigText::from("{}".to_owned()));
        assert!(ConfigText::from("a") < ConfigText::from("b") && ConfigText::from("a") != ConfigText::from("b"));
    }

    fn list(rules: &[&str]) -> ConfigText {
        ConfigText::made("{\"a\":1", rules.iter().map(|rule| RuleText::from(*rule)).collect())
    }

    #[test]
    fn a_long_list_is_held_element_by_element_and_comes_to_the_same_text() {
        let rules: Vec<Value> = (0..LONG).map(|i| serde_json::json!({"name": i})).collect();
        for head in [serde_json::json!({}), serde_json::json!({"b": true, "z": [1]})] {
            let mut value = head;
            value["rules"] = rules.clone().into();
            let text: ConfigText = value.clone().into();
            assert_eq!(text.rules().map(<[_]>::len), Some(LONG));
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
            assert_eq!(text.whole(), &*text);
            assert_eq!(
                serde_json::from_str::<Value>(&text.with_rules(std::iter::once(1..2)).expect("parts")).expect("JSON")["rules"][0]["name"],
                1
            );
        }
        let short: ConfigText = serde_json::json!({"rules": rules[1..]}).into();
        assert!(short.rules().is_none() && short.with_rules(std::iter::once(0..1)).is_none());
        assert_eq!(&*ConfigText::made("{", Vec::new()), "{\"rules\":[]}");
    }

    #[test]
    fn changes_are_what_makes_one_list_of_the_other() {
        let splice = |at, removed, inserted| Splice { at, removed, inserted };
        let abc = list(&["a", "b", "c", "d", "e", "f"]);
        let since = |rules: &[&str]| list(rules).changes_since(&abc);
        assert_eq!(since(&["a", "b", "c", "d", "e", "f"]), Some(vec![]));
        assert_eq!(since(&["a", "B", "c", "d", "e", "f"]), Some(vec![splice(1, 1, 1..2)]));
        assert_eq!(since(&["a", "B", "c", "d", "E", "f"]), Some(vec![splice(1, 1, 1..2), splice(4, 1, 4..5)]));
        assert_eq!(since(&["a", "c", "d", "x", "e", "f"]), Some(vec![splice(1, 1, 1..1), splice(4, 0, 3..4)]));
        assert_eq!(since(&["x", "a", "b", "c", "d", "e", "f"]), Some(vec![splice(0, 0, 0..1)]));
        assert_eq!(since(&["a", "b", "c", "d", "e"]), Some(vec![splice(5, 1, 5..5)]));
        assert_eq!(since(&["x", "y"]), None, "nearly all of it is another");
        let other = ConfigText::made("{\"a\":2", abc.rules().unwrap_or_default().to_vec());
        assert_eq!((other.changes_since(&abc), abc.changes_since(&ConfigText::default())), (None, None));
        assert!(abc == list(&["a", "b", "c", "d", "e", "f"]) && abc != other);
    }

    #[test]
    fn splices_of_any_two_lists_lead_from_one_to_the_other() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        for _ in 0..2_000 {
            let mut random = || -> Vec<RuleText> { (0..below(9)).map(|_| RuleText::from(&*below(6).to_string())).collect() };
            let (old, new) = (random(), random());
            let mut made = old.clone();
            let all = splices(&old, &new);
            assert!(all.windows(2).all(|two| two[0].at + two[0].removed <= two[1].at), "{all:?}");
            for Splice { at, removed, inserted } in all.into_iter().rev() {
                made.splice(at..at + removed, new[inserted].iter().cloned());
            }
            assert_eq!(made, new, "of {old:?}");
        }
    }
}
