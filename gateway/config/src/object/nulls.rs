//! Null means "not set". Go leaves a field alone that is null, and in a map of texts it reads null as the empty text.

use serde_json::Value;

/// The names of fields that are maps from text to text.
const TEXTS: [&str; 8] = ["labels", "annotations", "matchLabels", "nodeSelector", "selector", "data", "binaryData", "stringData"];

/// Whether a value has nulls anywhere.
pub(super) fn any(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(any),
        Value::Object(fields) => fields.values().any(any),
        _ => false,
    }
}

/// Removes nulls from objects, and makes them empty texts in maps of texts. Nulls in lists stay.
pub(super) fn unset(value: &mut Value, name: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| unset(item, "")),
        Value::Object(fields) => {
            if TEXTS.contains(&name) {
                fields.values_mut().filter(|value| value.is_null()).for_each(|value| *value = "".into());
            } else {
                fields.retain(|_, value| !value.is_null());
            }
            fields.iter_mut().for_each(|(name, value)| unset(value, name));
        }
        _ => {}
    }
}
