//! Rules in CEL (`x-kubernetes-validations`), evaluated by the crate `cel` with what Kubernetes adds to the language and the Gateway API uses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use cel::{Context, ExecutionError};
use serde_json::Value;
use sluicegate_model::duration;

use crate::structural::child;
use crate::structural::rule::ENVIRONMENT;
use crate::structural::schema::Schema;
use crate::validate::field::{Fields, json, quoted};

/// Checks the rules of a value and of all within it.
pub(super) fn check(schema: &Schema, path: &str, value: &Value, fields: &mut Fields<'_>) {
    if value.is_null() || !schema.has_rules() {
        return;
    }
    if !schema.rules.is_empty() {
        evaluate(schema, path, value, fields);
    }
    match value {
        Value::Object(inner) => {
            for (name, value) in inner {
                if let Some(schema) = schema.properties.get(name).or(schema.additional_properties.as_deref()) {
                    check(schema, &child(path, name), value, fields);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| check(schema, &format!("{path}[{i}]"), item, fields));
            }
        }
        _ => {}
    }
}

fn evaluate(schema: &Schema, path: &str, value: &Value, fields: &mut Fields<'_>) {
    let mut context = Context::with_env(ENVIRONMENT.clone());
    // Names that CEL does not have.
    let _ = context.add_function("isIP", |text: Arc<String>| text.parse::<IpAddr>().is_ok());
    let _ = context.add_function("duration", |text: Arc<String>| {
        let milliseconds = duration::parse(&text).and_then(|duration| i64::try_from(duration.as_millis()).ok());
        milliseconds.ok_or_else(|| ExecutionError::function_error("duration", "no duration"))
    });
    context.add_variable_from_value("self", to_cel(value));
    // Of objects and lists the value is not shown.
    let shown = match value {
        Value::Object(_) | Value::Array(_) => String::new(),
        Value::String(text) => format!(": {}", quoted(text)),
        other => format!(": {}", json(other)),
    };
    for rule in &schema.rules {
        let Some(program) = rule.program() else { continue };
        let message = if rule.message.is_empty() { format!("failed rule: {}", rule.rule.trim()) } else { rule.message.trim().to_owned() };
        match program.execute(&context) {
            Ok(cel::Value::Bool(true)) => {}
            Ok(_) => fields.wrong(path, format_args!("Invalid value{shown}: {message}")),
            Err(error) => fields.wrong(path, format_args!("Invalid value: {}: {error} evaluating rule: {message}", quoted(&schema.kind))),
        }
    }
}

/// A value in CEL. Names that are words of CEL's own are written with underscores (`__namespace__`).
fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        Value::Number(n) => n.as_i64().map_or_else(|| cel::Value::Float(n.as_f64().unwrap_or_default()), cel::Value::Int),
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(fields) => {
            let map: HashMap<String, cel::Value> = fields.iter().map(|(name, value)| (escaped(name), to_cel(value))).collect();
            map.into()
        }
    }
}

fn escaped(name: &str) -> String {
    const WORDS: [&str; 17] = [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "true",
    ];
    if WORDS.contains(&name) || matches!(name, "return" | "var" | "void" | "while") { format!("__{name}__") } else { name.to_owned() }
}
