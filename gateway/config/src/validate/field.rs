//! Faults of fields in the API server's words (`field.Error` of apimachinery), and how Go writes values.

use std::fmt::Display;

use serde_json::Value;
use sluicegate_model::fault::Fault;

use crate::object::{Object, error};

/// Collects an object's faults: each is what the API server says of it, with `Service "web" is invalid: ` before it.
pub(super) struct Fields<'o> {
    object: &'o Object,
    head: String,
    pub(super) faults: Vec<Fault>,
}

impl<'o> Fields<'o> {
    pub(super) fn new(object: &'o Object) -> Self {
        let tree = object.value.rest();
        let api = tree.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let group = api.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
        Self { object, head: format!("{}{group} {} is invalid: ", object.key.kind, quoted(&object.key.name)), faults: Vec::new() }
    }

    /// What is wrong with a field, as it stands behind the field's name.
    pub(super) fn wrong(&mut self, path: &str, what: impl Display) {
        let message = format!("{}{path}: {what}", self.head);
        // The API server says the same of one field once.
        if self.faults.iter().all(|known| known.message != message) {
            let path = self.standing(path);
            self.faults.push(error(&self.object.origin, &self.object.key, &path, message, None));
        }
    }

    /// Where a field stands that the API server names otherwise, or fills in itself.
    fn standing(&self, path: &str) -> String {
        if let Some(rest) = path.strip_prefix("spec.LoadBalancerSourceRanges") {
            return format!("spec.loadBalancerSourceRanges{rest}");
        }
        let given = |field: &str| self.object.value.rest().get("spec").and_then(|spec| spec.get(field)).is_some();
        if path.starts_with("spec.clusterIPs") && !given("clusterIPs") {
            return "spec.clusterIP".to_owned();
        }
        if path == "spec.ipFamilyPolicy" && !given("ipFamilyPolicy") {
            return if given("ipFamilies") { "spec.ipFamilies" } else { "spec.clusterIPs" }.to_owned();
        }
        path.to_owned()
    }

    pub(super) fn required(&mut self, path: &str, detail: &str) {
        self.wrong(path, format_args!("Required value{}", behind(detail)));
    }

    pub(super) fn forbidden(&mut self, path: &str, detail: &str) {
        self.wrong(path, format_args!("Forbidden: {detail}"));
    }

    /// `value` as Go writes it: [`quoted`], a number, or [`json`].
    pub(super) fn invalid(&mut self, path: &str, value: impl Display, detail: &str) {
        self.wrong(path, format_args!("Invalid value: {value}{}", behind(detail)));
    }

    /// One fault for each detail.
    pub(super) fn invalid_text(&mut self, path: &str, text: &str, details: impl IntoIterator<Item = impl AsRef<str>>) {
        for detail in details {
            self.invalid(path, quoted(text), detail.as_ref());
        }
    }

    pub(super) fn unsupported(&mut self, path: &str, text: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|value| quoted(value)).collect();
        self.wrong(path, format_args!("Unsupported value: {}: supported values: {}", quoted(text), supported.join(", ")));
    }

    pub(super) fn duplicate(&mut self, path: &str, value: impl Display) {
        self.wrong(path, format_args!("Duplicate value: {value}"));
    }

    pub(super) fn too_many(&mut self, path: &str, count: usize, most: usize) {
        self.wrong(path, format_args!("Too many: {count}: must have at most {most} item{}", if most == 1 { "" } else { "s" }));
    }

    pub(super) fn too_long(&mut self, path: &str, most: usize) {
        self.wrong(path, format_args!("Too long: may not be more than {most} byte{}", if most == 1 { "" } else { "s" }));
    }
}

fn behind(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// A text as Go's `%q` writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            // Go leaves alone what it can print; of other white space and marks without width, only the space is.
            c if c.is_whitespace() && c != ' ' || c.is_control() || ('\u{200b}'..='\u{200f}').contains(&c) || c == '\u{feff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A value as Go's `encoding/json` writes it.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
