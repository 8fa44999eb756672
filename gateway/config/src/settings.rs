//! The settings of the process as people read them. What a field of `SluicegateConfiguration` means, and what counts where it is not given, is written once: at
//! the field. `sluicegate run --help` and the table in `config/README.md` are made of it.

use serde_json::Value;

use crate::crd;

/// A field of `SluicegateConfiguration`, or of one of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The field's path, such as `shutdown.delay`.
    pub field: String,
    /// What it is, in Markdown and without the last full stop.
    pub meaning: String,
    /// What counts where it is not given, likewise.
    pub default: String,
}

/// All of them.
pub fn all() -> Vec<Setting> {
    let mut found = Vec::new();
    collect(&crd::process(), "", &mut found);
    found
}

fn collect(schema: &Value, within: &str, found: &mut Vec<Setting>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let field = format!("{within}{name}");
        if property.get("properties").is_some() {
            collect(property, &format!("{field}."), found);
            continue;
        }
        let text = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        let (meaning, default) = text.split_once(" Default: ").unwrap_or((&text, ""));
        let whole = |text: &str| text.strip_suffix('.').unwrap_or(text).to_owned();
        found.push(Setting { field, meaning: whole(meaning), default: whole(default) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_says_what_it_is_and_what_counts_without_it() {
        let settings = all();
        for setting in &settings {
            assert!(!setting.meaning.is_empty() && !setting.default.is_empty(), "{setting:?}");
        }
        let delay = settings.iter().find(|setting| setting.field == "shutdown.delay").expect("a field of a part");
        assert_eq!(delay.default, "0s");
        assert!(delay.meaning.starts_with("How long everything goes on"), "{delay:?}");
    }
}
