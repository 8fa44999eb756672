//! Types, lengths, patterns and the like, in the words of kube-openapi's validation and in its order: of a text only the first fault is told.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::structural::child;
use crate::structural::schema::Schema;
use crate::validate::field::{json, quoted};

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    /// The fields, and what is wrong with them.
    pub(super) faults: Vec<(String, String)>,
    /// Rules cannot be relied on.
    pub(super) blocks_rules: bool,
}

impl Found {
    pub(super) fn add(&mut self, path: &str, what: String) {
        self.faults.push((path.to_owned(), what));
    }

    fn block(&mut self, path: &str, what: String) {
        self.blocks_rules = true;
        self.add(path, what);
    }

    fn invalid(&mut self, path: &str, value: &str, rule: &str) {
        self.add(path, format!("Invalid value: {value}: {path} in body {rule}"));
    }
}

pub(super) fn check(schema: &Schema, path: &str, value: &Value, found: &mut Found) {
    if value.is_null() && schema.nullable {
        return;
    }
    if !is_of(&schema.kind, value) {
        let (kind, name) = (&schema.kind, name(value));
        found.block(path, format!("Invalid value: {}: {path} in body must be of type {kind}: {}", quoted(name), quoted(name)));
        return;
    }
    alternatives(schema, path, value, found);
    match value {
        Value::String(text) => check_text(schema, path, text, found),
        Value::Number(_) => number(schema, path, value, found),
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| check(schema, &format!("{path}[{i}]"), item, found));
            }
            if let Some(least) = schema.min_items.filter(|least| items.len() < *least) {
                found.invalid(path, &items.len().to_string(), &format!("should have at least {least} items"));
            }
            if let Some(most) = schema.max_items.filter(|most| items.len() > *most) {
                found.block(path, too_many(items.len(), most));
            }
        }
        _ => {}
    }
    if !schema.values.is_empty() && !schema.values.contains(value) {
        // The values that are supported are all written as texts, the one that is not as it is.
        let supported: Vec<String> = schema.values.iter().map(|value| quoted(value.as_str().unwrap_or(&json(value)))).collect();
        found.block(path, format!("Unsupported value: {}: supported values: {}", written(value), supported.join(", ")));
    }
    let Value::Object(fields) = value else { return };
    if let Some(most) = schema.max_properties.filter(|most| fields.len() > *most) {
        found.block(path, too_many(fields.len(), most));
        return;
    }
    for name in schema.required.iter().filter(|name| !fields.contains_key(*name)) {
        found.block(&child(path, name), "Required value".to_owned());
    }
    for (name, value) in fields {
        if let Some(schema) = schema.properties.get(name).or(schema.additional_properties.as_deref()) {
            check(schema, &child(path, name), value, found);
        }
    }
}

fn too_many(count: usize, most: usize) -> String {
    format!("Too many: {count}: must have at most {most} item{}", if most == 1 { "" } else { "s" })
}

fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| json(value), quoted)
}

fn check_text(schema: &Schema, path: &str, text: &str, found: &mut Found) {
    let length = text.chars().count();
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        found.block(path, format!("Too long: may not be more than {most} byte{}", if most == 1 { "" } else { "s" }));
    } else if let Some(least) = schema.min_length.filter(|least| length < *least) {
        found.invalid(path, &quoted(text), &format!("should be at least {least} chars long"));
    } else if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        found.invalid(path, &quoted(text), &format!("should match '{}'", pattern.text));
    }
    let wrong = match schema.format.as_str() {
        "ipv4" => text.parse::<Ipv4Addr>().is_err(),
        "ipv6" => text.parse::<Ipv6Addr>().is_err(),
        _ => false,
    };
    if wrong {
        let (format, value) = (&schema.format, quoted(text));
        found.block(path, format!("Invalid value: {value}: {path} in body must be of type {format}: {value}"));
    }
}

fn number(schema: &Schema, path: &str, value: &Value, found: &mut Found) {
    let number = value.as_f64().unwrap_or_default();
    if let Some(most) = schema.maximum.filter(|most| number > *most as f64) {
        found.invalid(path, &value.to_string(), &format!("should be less than or equal to {most}"));
    }
    if let Some(least) = schema.minimum.filter(|least| number < *least as f64) {
        found.invalid(path, &value.to_string(), &format!("should be greater than or equal to {least}"));
    }
}

/// Of several schemas, one, or at least one, has to fit. What is said of it names no field.
fn alternatives(schema: &Schema, path: &str, value: &Value, found: &mut Found) {
    let fits = |schema: &Schema| {
        let mut inner = Found::default();
        check(schema, path, value, &mut inner);
        inner.faults.is_empty()
    };
    if !schema.any_of.is_empty() && !schema.any_of.iter().any(fits) {
        found.add("<nil>", format!("Invalid value: \"\": {} must validate at least one schema (anyOf)", quoted(path)));
    }
    let fitting = schema.one_of.iter().filter(|schema| fits(schema)).count();
    if !schema.one_of.is_empty() && fitting != 1 {
        let count = if fitting == 0 { "Found none valid".to_owned() } else { format!("Found {fitting} valid alternatives") };
        found.add("<nil>", format!("Invalid value: \"\": {} must validate one and only one schema (oneOf). {count}", quoted(path)));
    }
    if schema.not.as_ref().is_some_and(|schema| fits(schema)) {
        found.add("<nil>", format!("Invalid value: \"\": {} must not validate the schema (not)", quoted(path)));
    }
}

/// Whether a value is of a type. What stands in `oneOf` and the like has none.
fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
