//! A plugin's configuration as it is given to the plugin: JSON. A router's configuration may be a megabyte, and many maps are keyed by it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::hash::hash_bytes;

/// JSON text that is held once and hashed once: a copy costs a reference count, and a look-up by it what one by a number costs.
#[derive(Clone)]
pub struct ConfigText {
    text: Arc<str>,
    hash: u64,
    made: bool,
}

impl ConfigText {
    /// The text.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// A configuration that the gateway has made itself, from objects that were judged already, for a built-in plugin. It need not be judged by that plugin's
    /// schema.
    pub fn made(text: &str) -> Self {
        Self { made: true, ..Self::from(text) }
    }

    /// Whether it was made by [`ConfigText::made`].
    pub fn is_made(&self) -> bool {
        self.made
    }
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
        Self { hash: hash_bytes(text.as_bytes()), text: text.into(), made: false }
    }
}

impl From<String> for ConfigText {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// Takes any JSON, as an object has it; `null` means nothing. It is kept as text, as a tree would take ten times the memory.
impl<'de> Deserialize<'de> for ConfigText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        Ok(if value.is_null() { Self::default() } else { value.to_string().into() })
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
        &self.text
    }
}

impl PartialEq for ConfigText {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
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
        if Arc::ptr_eq(&self.text, &other.text) { Ordering::Equal } else { self.text.cmp(&other.text) }
    }
}

impl PartialOrd for ConfigText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl fmt::Display for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
}
