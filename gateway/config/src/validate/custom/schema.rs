//! A structural schema of a CustomResourceDefinition, as far as the Gateway API uses it.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::child;
use super::rules::Rule;

/// What a value may be.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Schema {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) properties: BTreeMap<String, Schema>,
    pub(super) additional_properties: Option<Box<Schema>>,
    pub(super) items: Option<Box<Schema>>,
    pub(super) required: Vec<String>,
    #[serde(rename = "enum")]
    pub(super) values: Vec<Value>,
    pub(super) pattern: Option<Pattern>,
    pub(super) format: String,
    pub(super) min_length: Option<usize>,
    pub(super) max_length: Option<usize>,
    pub(super) min_items: Option<usize>,
    pub(super) max_items: Option<usize>,
    pub(super) max_properties: Option<usize>,
    pub(super) minimum: Option<i64>,
    pub(super) maximum: Option<i64>,
    pub(super) nullable: bool,
    pub(super) default: Option<Value>,
    pub(super) one_of: Vec<Schema>,
    pub(super) any_of: Vec<Schema>,
    pub(super) not: Option<Box<Schema>>,
    #[serde(rename = "x-kubernetes-list-type")]
    pub(super) list_type: String,
    #[serde(rename = "x-kubernetes-list-map-keys")]
    pub(super) list_keys: Vec<String>,
    #[serde(rename = "x-kubernetes-validations")]
    pub(super) rules: Vec<Rule>,
}

/// A pattern as it is written, and compiled.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Pattern {
    pub(super) text: String,
    regex: Regex,
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        Ok(Self { regex: Regex::new(&text)?, text })
    }
}

impl Pattern {
    pub(super) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl Schema {
    /// Reads a file of `gateway/config/crds`. A schema that cannot be read takes everything; a test reads them all.
    pub(super) fn read(text: &str) -> Self {
        Self::parse(text).unwrap_or_default()
    }

    pub(super) fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Whether there are rules in it anywhere.
    pub(super) fn has_rules(&self) -> bool {
        let inner = self.additional_properties.iter().chain(&self.items).map(|inner| &**inner);
        !self.rules.is_empty() || self.properties.values().chain(inner).any(Self::has_rules)
    }

    /// The fields that it does not have. An object without properties (such as `metadata`) is not looked into.
    pub(super) fn unknown(&self, path: &str, value: &Value, unknown: &mut Vec<String>) {
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
