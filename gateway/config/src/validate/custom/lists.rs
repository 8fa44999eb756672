//! Lists whose items are told apart by keys, or are all different (`x-kubernetes-list-type`).

use serde_json::{Map, Value};

use super::structure::Found;
use crate::structural::child;
use crate::structural::schema::Schema;
use crate::validate::field::{json, quoted};

pub(super) fn check(schema: &Schema, path: &str, value: &Value, found: &mut Found) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(schema) = schema.properties.get(name).or(schema.additional_properties.as_deref()) {
                    check(schema, &child(path, name), value, found);
                }
            }
        }
        Value::Array(items) => {
            let keys: Option<Vec<Value>> = match schema.list_type.as_str() {
                "map" => Some(items.iter().map(|item| key(schema, item)).collect()),
                "set" => Some(items.clone()),
                _ => None,
            };
            for (i, key) in keys.iter().flatten().enumerate() {
                let before = keys.iter().flatten().take(i).filter(|other| *other == key).count();
                if before == 1 {
                    let key = key.as_str().map_or_else(|| json(key), quoted);
                    found.add(&format!("{path}[{i}]"), format!("Duplicate value: {key}"));
                }
            }
            if let Some(schema) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| check(schema, &format!("{path}[{i}]"), item, found));
            }
        }
        _ => {}
    }
}

/// What tells an item from others: those of its keys that are set.
fn key(schema: &Schema, item: &Value) -> Value {
    let keys = schema.list_keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(keys.collect::<Map<_, _>>())
}
