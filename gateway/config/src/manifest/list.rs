//! Lists of objects: a `List`, a `ServiceList` and the like stand for their items, as in kubectl.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::compose::{Composed, Reading};

/// The objects of a document: its items if it is a list, else the document itself. A list among the items is taken apart likewise.
pub(super) fn items(mut composed: Composed) -> Vec<Composed> {
    let Some(items) = take(&mut composed.value) else { return vec![composed] };
    let (api, kind) = (text(&composed.value, "apiVersion"), text(&composed.value, "kind"));
    let of = kind.strip_suffix("List").unwrap_or_default();
    let mut positions: Vec<HashMap<String, (usize, usize)>> = items.iter().map(|_| HashMap::new()).collect();
    for (path, at) in composed.positions {
        if let Some((i, rest)) = item(&path)
            && let Some(positions) = positions.get_mut(i)
        {
            positions.insert(rest.to_owned(), at);
        }
    }
    let mut readings: Vec<Vec<Reading>> = items.iter().map(|_| Vec::new()).collect();
    for reading in composed.readings {
        if let Some((i, rest)) = item(&reading.path)
            && let Some(readings) = readings.get_mut(i)
        {
            readings.push(Reading { path: rest.to_owned(), ..reading });
        }
    }
    let placed = items.into_iter().zip(positions).zip(readings);
    let item = |((mut value, positions), readings): ((Value, HashMap<String, (usize, usize)>), Vec<Reading>)| {
        // Items of a typed list need not say what they are.
        if let Value::Object(object) = &mut value
            && !of.is_empty()
            && (is_unset(object, "kind") || is_unset(object, "apiVersion"))
        {
            object.insert("kind".to_owned(), of.into());
            object.insert("apiVersion".to_owned(), api.as_str().into());
        }
        let start = positions.get("").copied().unwrap_or(composed.start);
        Composed { value, positions, start, readings }
    };
    placed.map(item).filter(|item| !item.value.is_null()).flat_map(self::items).collect()
}

/// Whether a document is a list.
pub(super) fn is_list(value: &Value) -> bool {
    let (api, kind) = (value.get("apiVersion").and_then(Value::as_str), value.get("kind").and_then(Value::as_str));
    api.is_some_and(|api| !api.is_empty()) && kind.is_some_and(|kind| kind.ends_with("List"))
}

/// The items of a list.
fn take(value: &mut Value) -> Option<Vec<Value>> {
    if !is_list(value) {
        return None;
    }
    let kind = text(value, "kind");
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Some(items),
        None | Some(Value::Null) if kind == "List" => Some(Vec::new()),
        _ => None,
    }
}

/// The number of the item that a path leads into, and the rest of the path: `items[2].spec` is 2 and `spec`.
fn item(path: &str) -> Option<(usize, &str)> {
    let (number, rest) = path.strip_prefix("items[")?.split_once(']')?;
    Some((number.parse().ok()?, rest.trim_start_matches('.')))
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn is_unset(object: &Map<String, Value>, field: &str) -> bool {
    object.get(field).and_then(Value::as_str).is_none_or(str::is_empty)
}
