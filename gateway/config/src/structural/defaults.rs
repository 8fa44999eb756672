//! Defaults of a schema, and nulls that give way to them (apiextensions' `PruneNonNullableDefaults` and `Default`).

use serde_json::Value;

use super::schema::Schema;

/// Fills in what is not set.
pub(super) fn fill(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                if fields.get(name).is_none_or(|given| given.is_null() && !property.nullable) {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                match (schema.properties.get(name), &schema.additional_properties) {
                    (Some(property), _) => fill(property, value),
                    (None, Some(property)) => fill(property, value),
                    (None, None) => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|item| fill(schema, item));
            }
        }
        _ => {}
    }
}
