//! A structural schema of a CustomResourceDefinition, as far as the Gateway API uses it.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::child;
use super::rule::Rule;

/// What a value may be.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Schema {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) properties: BTreeMap<String, Schema>,
    pub(crate) additional_properties: Option<Box<Schema>>,
    pub(crate) items: Option<Box<Schema>>,
    pub(crate) required: Vec<String>,
    #[serde(rename = "enum")]
    pub(crate) values: Vec<Value>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: String,
    pub(crate) min_length: Option<usize>,
    pub(crate) max_length: Option<usize>,
    pub(crate) min_items: Option<usize>,
    pub(crate) max_items: Option<usize>,
    pub(crate) max_properties: Option<usize>,
    pub(crate) minimum: Option<i64>,
    pub(crate) maximum: Option<i64>,
    pub(crate) nullable: bool,
    pub(crate) default: Option<Value>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) not: Option<Box<Schema>>,
    #[serde(rename = "x-kubernetes-list-type")]
    pub(crate) list_type: String,
    #[serde(rename = "x-kubernetes-list-map-keys")]
    pub(crate) list_keys: Vec<String>,
    #[serde(rename = "x-kubernetes-validations")]
    pub(crate) rules: Vec<Rule>,
}

/// A pattern as it is written, and compiled.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pattern {
    pub(crate) text: String,
    regex: Regex,
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        Ok(Self { regex: Regex::new(&text)?, text })
    }
}

impl Pattern {
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl Schema {
    /// Reads a file of `gateway/config/crds`. A schema that cannot be read takes everything; a test reads them all.
    pub(crate) fn read(text: &str) -> Self {
        Self::parse(text).unwrap_or_default()
    }

    pub(crate) fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Whether there are rules in it anywhere.
    pub(crate) fn has_rules(&self) -> bool {
        let inner = self.additional_properties.iter().chain(&self.items).map(|inner| &**inner);
        !self.rules.is_empty() || self.properties.values().chain(inner).any(Self::has_rules)
    }

    /// The fields that it does not have. An object without properties (such as `metadata`) is not looked into.
    pub(crate) fn unknown(&self, path: &str, value: &Value, unknown: &mut Vec<String>) {
        match value {
            Value::Object(fields) if !self.properties.is_empty() => {
                for (name, value) in fields {
                    match self.properties.get(name) {
                        Some(schema) => schema.unknown(&child(path, name), value, unknown),
                        None => unknown.push(child(path, name)),
                    }
                }
            }
            Value::Object(fields) => {
                if let Some(schema) = &self.additional_properties {
                    fields.iter().for_each(|(name, value)| schema.unknown(&child(path, name), value, unknown));
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    items.iter().enumerate().for_each(|(i, item)| schema.unknown(&format!("{path}[{i}]"), item, unknown));
                }
            }
            _ => {}
        }
    }
}
