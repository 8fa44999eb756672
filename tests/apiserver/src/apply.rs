//! Server-side apply: who has said which fields. A list is one field, but for conditions, which are told apart by their types, and listeners, by names.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use axum::response::Response;
use serde_json::{Value, json};

use super::answers::failure;

/// A step of a path to a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Field(String),
    /// An item of a list, by a field of it.
    Item(&'static str, String),
}

type Path = Vec<Step>;

/// Of each manager, and its side of the object, the fields.
pub(super) type Owners = Vec<(String, bool, BTreeSet<Path>)>;

/// Who applies, and how.
pub(super) struct Applied {
    pub(super) manager: String,
    pub(super) status: bool,
    pub(super) force: bool,
}

/// By which field the items of a list are told apart.
fn told_apart_by(list: &str) -> Option<&'static str> {
    match list {
        "conditions" => Some("type"),
        "listeners" => Some("name"),
        _ => None,
    }
}

fn fields(value: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                path.push(Step::Field(name.clone()));
                let key = told_apart_by(name);
                match (value, key) {
                    (Value::Array(items), Some(key)) => {
                        for item in items {
                            path.push(Step::Item(key, item[key].as_str().unwrap_or_default().to_owned()));
                            fields(item, path, found);
                            path.pop();
                        }
                    }
                    _ => fields(value, path, found),
                }
                path.pop();
            }
        }
        _ => drop(found.insert(path.clone())),
    }
}

/// The fields of an object's side; not what names it.
fn side(object: &Value, status: bool) -> BTreeSet<Path> {
    let mut found = BTreeSet::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        if (name == "status") == status && !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            let mut path = vec![Step::Field(name.clone())];
            fields(value, &mut path, &mut found);
        }
    }
    if !status {
        for part in ["labels", "annotations"] {
            let mut path = vec![Step::Field("metadata".to_owned()), Step::Field(part.to_owned())];
            if object["metadata"][part].is_object() {
                fields(&object["metadata"][part], &mut path, &mut found);
            }
        }
    }
    found
}

fn at<'v>(object: &'v Value, path: &[Step]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Item(key, is) => value.as_array()?.iter().find(|item| item[*key] == is.as_str()),
    })
}

fn set(object: &mut Value, path: &[Step], new: Value) {
    let Some((step, rest)) = path.split_first() else {
        *object = new;
        return;
    };
    match step {
        Step::Field(name) => set(&mut object[name.as_str()], rest, new),
        Step::Item(key, is) => {
            if !object.is_array() {
                *object = json!([]);
            }
            let items = object.as_array_mut().expect("a list");
            let position = items.iter().position(|item| item[*key] == is.as_str()).unwrap_or_else(|| {
                items.push(json!({*key: is}));
                items.len() - 1
            });
            set(&mut items[position], rest, new);
        }
    }
}

/// Takes a field away, and what is empty without it.
fn remove(object: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match step {
        Step::Field(name) => {
            if rest.is_empty() {
                object.as_object_mut().map(|map| map.remove(name));
            } else if let Some(value) = object.get_mut(name) {
                remove(value, rest);
                if value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty) {
                    object.as_object_mut().map(|map| map.remove(name));
                }
            }
        }
        Step::Item(key, is) => {
            let Some(items) = object.as_array_mut() else { return };
            if let Some(position) = items.iter().position(|item| item[*key] == is.as_str()) {
                remove(&mut items[position], rest);
                if items[position].as_object().is_some_and(serde_json::Map::is_empty) {
                    items.remove(position);
                }
            }
        }
    }
}

fn shown(path: &[Step]) -> String {
    path.iter().fold(String::new(), |mut text, step| {
        let _ = match step {
            Step::Field(name) => write!(text, ".{name}"),
            Step::Item(key, is) => write!(text, "[{key}=\"{is}\"]"),
        };
        text
    })
}

/// What comes of an object when this is applied to it.
pub(super) fn apply(before: &Value, applied: &Value, by: Applied, owners: &mut Owners) -> Result<Value, Box<Response>> {
    let said = side(applied, by.status);
    let own = |(manager, status, _): &&(String, bool, BTreeSet<Path>)| *manager == by.manager && *status == by.status;
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for path in said.iter().filter(|path| at(before, path) != at(applied, path)) {
        for (manager, status, _) in owners.iter().filter(|owner| !own(owner) && owner.2.contains(path)) {
            let subresource = if *status { " with subresource \"status\"" } else { "" };
            conflicts.push((format!("\"{manager}\"{subresource}"), shown(path)));
        }
    }
    if !conflicts.is_empty() && !by.force {
        let who = &conflicts[0].0;
        let message = match &conflicts[..] {
            [(who, path)] => format!("Apply failed with 1 conflict: conflict with {who}: {path}"),
            all => {
                let paths: String = all.iter().map(|(_, path)| format!("\n- {path}")).collect();
                format!("Apply failed with {} conflicts: conflicts with {who}:{paths}", all.len())
            }
        };
        let cause = |(who, path): &(String, String)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path});
        let causes: Vec<Value> = conflicts.iter().map(cause).collect();
        return Err(Box::new(failure(409, "Conflict", &message, Some(json!({"causes": causes})))));
    }
    let mut after = before.clone();
    let last = owners.iter().find(own).map(|(_, _, paths)| paths.clone()).unwrap_or_default();
    let others: BTreeSet<&Path> = owners.iter().filter(|owner| !own(owner)).flat_map(|owner| &owner.2).collect();
    for path in last.difference(&said).filter(|path| !others.contains(path)) {
        remove(&mut after, path);
    }
    for path in &said {
        set(&mut after, path, at(applied, path).cloned().unwrap_or_default());
    }
    owners.retain(|owner| !own(&owner));
    overwritten(owners, before, &after);
    owners.push((by.manager, by.status, said));
    Ok(after)
}

/// Who has said a field that is another one now has said it no more.
pub(super) fn overwritten(owners: &mut Owners, before: &Value, after: &Value) {
    for (_, _, paths) in owners {
        paths.retain(|path| at(before, path) == at(after, path));
    }
}
