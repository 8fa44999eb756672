//! Where each setting of the process comes from: a flag, the object, or the default.

use serde_json::{Value, json};
use sluicegate_config::settings;

/// Each setting with its value and its origin. `flags`: flags and the fields for which they stand; `given`: what flags say; `object`: the fields of the object.
pub(super) fn origins(flags: &[(&str, &str)], given: &[Value], object: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for setting in settings::process() {
        let flag = flags.iter().find(|(_, field)| *field == setting.field).map(|(flag, _)| *flag);
        let by_flag = flag.and_then(|flag| given.iter().find_map(|all| find(all, &flag.replace('-', "")))).filter(|value| *value != false);
        let written = setting.field.split('.').try_fold(object, |at, name| find(at, name));
        let (value, from) = match (flag, by_flag.filter(|value| is_given(value)), written.filter(|value| is_given(value))) {
            (Some(flag), Some(value), _) => (plain(value), format!("flag --{flag}")),
            (_, _, Some(value)) => (plain(value), "object".to_owned()),
            _ => (Value::from(setting.default.replace('`', "")), "default".to_owned()),
        };
        all.push(json!({"setting": setting.field, "value": value, "from": from}));
    }
    if let Some(level) = std::env::var("SLUICEGATE_LOG").ok().filter(|level| !level.is_empty()) {
        all.push(json!({"setting": "logLevel", "value": level, "from": "variable SLUICEGATE_LOG"}));
    }
    all
}

/// A field, however its name is written.
fn find<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.as_object()?.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn is_given(value: &Value) -> bool {
    !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty())
}

/// Without the types around values.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => match fields.iter().next() {
            Some((_, inner)) if fields.len() == 1 => plain(inner),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}
