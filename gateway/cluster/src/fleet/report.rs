//! What a node tells of the plugins that objects name.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sluicegate_model::status::{PluginState, Status};

/// The largest report, in bytes of JSON; all annotations of an object together may have 256 KiB. Plugins beyond it are not told of.
const LARGEST: usize = 100 << 10;
/// The longest reason, in characters.
const REASON: usize = 300;
/// The longest version that is believed, in characters.
const VERSION: usize = 100;

/// What a node runs of each plugin, by `NAMESPACE/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report(pub(super) BTreeMap<String, OfPlugin>);

/// What a node runs of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfPlugin {
    /// The digest of the generation that serves; empty if none does.
    pub(super) sha256: String,
    /// The version that this generation says of itself.
    pub(super) version: String,
    /// Why the newest code is refused; none if it is not.
    pub(super) refused: Option<String>,
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Report {
    /// What this process runs.
    pub(crate) fn of(status: &Status) -> Self {
        let named = status.plugins.iter().filter_map(|plugin| Some((format!("{}/{}", plugin.namespace.as_ref()?, plugin.name), plugin)));
        let of = named.map(|(name, plugin)| {
            let refused = matches!(plugin.state, PluginState::Degraded | PluginState::Failed);
            let serving = plugin.generation.as_ref();
            let of = OfPlugin {
                sha256: serving.map(|generation| generation.sha256.to_string()).unwrap_or_default(),
                version: serving.map(|generation| cut(&generation.version, VERSION)).unwrap_or_default(),
                refused: refused.then(|| cut(plugin.reason.as_deref().unwrap_or("no reason is given"), REASON)),
            };
            (name, of)
        });
        Self(of.collect())
    }

    /// As it is told.
    pub(crate) fn text(&self) -> String {
        let (mut told, mut size) = (Map::new(), 2);
        for (name, of) in &self.0 {
            let mut one = json!({"sha256": of.sha256, "version": of.version});
            if let Some(refused) = &of.refused {
                one["refused"] = refused.as_str().into();
            }
            size += name.len() + one.to_string().len() + 4;
            if size > LARGEST {
                break;
            }
            told.insert(name.clone(), one);
        }
        Value::Object(told).to_string()
    }

    /// As it was told. What cannot be understood is left out.
    pub(super) fn read(text: &str) -> Self {
        let told: Value = serde_json::from_str(text).unwrap_or_default();
        let of = |(name, of): (&String, &Value)| {
            let text = |field: &str, most| of[field].as_str().map(|text| cut(text, most));
            let digest = text("sha256", 64)?;
            let of =
                OfPlugin { sha256: digest, version: text("version", VERSION).unwrap_or_default(), refused: text("refused", REASON + 1) };
            Some((name.clone(), of))
        };
        Self(told.as_object().into_iter().flatten().filter_map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_told_and_has_an_end() {
        let of =
            |refused: Option<&str>| OfPlugin { sha256: "a".repeat(64), version: "1.2".to_owned(), refused: refused.map(str::to_owned) };
        let report = Report([("shop/a".to_owned(), of(None)), ("shop/b".to_owned(), of(Some("stage compile: no module")))].into());
        assert_eq!(Report::read(&report.text()), report);
        assert_eq!(Report::read("{\"shop/a\": 7, \"shop/b\": {\"version\": \"1\"}}"), Report::default());
        assert_eq!(Report::read("nonsense"), Report::default());
        let many = Report((0..2_000).map(|i| (format!("shop/p{i}"), of(None))).collect());
        assert!(many.text().len() <= LARGEST, "{}", many.text().len());
        assert!(Report::read(&many.text()).0.len() > 500);
    }
}
