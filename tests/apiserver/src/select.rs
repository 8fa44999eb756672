//! Which objects a request is about.

use serde_json::Value;

/// Selectors of labels and fields, all of which have to be met.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<(String, Want)>,
    fields: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Want {
    Is(String),
    IsNot(String),
    There,
    Missing,
}

impl Selector {
    /// Reads them; the error is the server's message.
    pub(super) fn read(labels: &str, fields: &str) -> Result<Self, String> {
        let label = |part: &str| match part.split_once("!=") {
            Some((name, value)) => (name.to_owned(), Want::IsNot(value.to_owned())),
            None => match part.split_once('=') {
                Some((name, value)) => (name.to_owned(), Want::Is(value.trim_start_matches('=').to_owned())),
                None => part.strip_prefix('!').map_or((part.to_owned(), Want::There), |name| (name.to_owned(), Want::Missing)),
            },
        };
        let labels = labels.split(',').filter(|part| !part.is_empty()).map(label).collect();
        let mut selected = Vec::new();
        for part in fields.split(',').filter(|part| !part.is_empty()) {
            let (field, value) = part.split_once('=').unwrap_or((part, ""));
            if !matches!(field, "metadata.name" | "metadata.namespace") {
                return Err(format!("field label not supported: {field}"));
            }
            selected.push((field.trim_start_matches("metadata.").to_owned(), value.trim_start_matches('=').to_owned()));
        }
        Ok(Self { labels, fields: selected })
    }

    pub(super) fn takes(&self, object: &Value) -> bool {
        let label = |name: &str| object["metadata"]["labels"][name].as_str();
        let labels = self.labels.iter().all(|(name, want)| match want {
            Want::Is(value) => label(name) == Some(value),
            Want::IsNot(value) => label(name) != Some(value),
            Want::There => label(name).is_some(),
            Want::Missing => label(name).is_none(),
        });
        labels && self.fields.iter().all(|(field, value)| object["metadata"][field].as_str().unwrap_or_default() == value)
    }
}
