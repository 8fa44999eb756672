//! What settings mean and which defaults they have, as people read them. Both are written once: at the fields of `SluicegateConfiguration`, of policies and of
//! plugins. `sluicegate run --help` and the table of the process's settings in `config/README.md` are made of it; the other tables are compared with it.

use serde_json::Value;

use crate::crd;

/// A setting: a field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The field's path, such as `shutdown.delay`; that of an item has the list's name.
    pub field: String,
    /// What the setting means, in Markdown and without the last full stop.
    pub meaning: String,
    /// What counts where the setting is not given, in Markdown and without the last full stop; empty where nothing is said.
    pub default: String,
}

/// The settings of the process: the fields of `SluicegateConfiguration`.
pub fn process() -> Vec<Setting> {
    let mut found = Vec::new();
    collect(&crd::process(), "", &mut found);
    found
}

/// The fields of the `spec` of one of our kinds.
pub fn of_kind(kind: &str) -> Vec<Setting> {
    let mut found = Vec::new();
    for crd in crd::all().iter().filter(|crd| crd["spec"]["names"]["kind"] == kind) {
        collect(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], "", &mut found);
    }
    found
}

fn collect(schema: &Value, within: &str, found: &mut Vec<Setting>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let field = format!("{within}{name}");
        let inner = property.get("items").unwrap_or(property);
        if inner.get("properties").is_some() {
            collect(inner, &format!("{field}."), found);
            continue;
        }
        let text = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        let said = text.split_once(" Default: ").or_else(|| text.split_once(" Default "));
        let (meaning, default) = said.unwrap_or((&text, ""));
        let whole = |text: &str| text.strip_suffix('.').unwrap_or(text).to_owned();
        found.push(Setting { field, meaning: whole(meaning), default: whole(default) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_says_what_it_is_and_what_counts_without_it() {
        let settings = process();
        for setting in &settings {
            assert!(!setting.meaning.is_empty() && !setting.default.is_empty(), "{setting:?}");
        }
        let delay = settings.iter().find(|setting| setting.field == "shutdown.delay").expect("a field of a part");
        assert_eq!(delay.default, "0s");
        assert!(delay.meaning.starts_with("How long everything goes on"), "{delay:?}");
    }
}
