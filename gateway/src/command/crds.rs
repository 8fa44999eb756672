//! `sluicegate crds`: the CustomResourceDefinitions, as YAML.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;
use sluicegate_config::crd;

use super::out;

pub(super) fn execute() -> ExitCode {
    let mut yaml = String::from("# Made by `sluicegate crds`.\n");
    for crd in crd::all() {
        yaml.push_str("---\n");
        fields(&crd, 0, &mut yaml);
    }
    out(yaml.trim_end());
    ExitCode::SUCCESS
}

/// A value as YAML.
pub(super) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    fields(value, 0, &mut text);
    text
}

/// Writes YAML in block style. Scalars are written as in JSON, which is a part of YAML; plain words have no quotes.
fn fields(value: &Value, indent: usize, to: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                let _ = write!(to, "{:indent$}{}:", "", word(name));
                inner(value, indent + 2, to);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut text = String::new();
                fields(item, indent + 2, &mut text);
                let _ = write!(to, "{:indent$}- {}", "", text.trim_start());
            }
        }
        scalar => {
            let text = scalar.as_str().map_or_else(|| scalar.to_string(), word);
            let _ = writeln!(to, "{:indent$}{text}", "");
        }
    }
}

fn inner(value: &Value, indent: usize, to: &mut String) {
    let block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    let mut text = String::new();
    fields(value, indent, &mut text);
    let _ = if block { write!(to, "\n{text}") } else { writeln!(to, " {}", text.trim()) };
}

/// A text in quotes, unless it is a word that cannot be read as anything else.
fn word(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-./_".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}
