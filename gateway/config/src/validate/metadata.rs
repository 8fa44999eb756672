//! Rules of every object's metadata (apimachinery's `ValidateObjectMeta`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::field::{Fields, quoted};
use super::names;

/// What a kind's names are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    Label,
    Subdomain,
}

impl Naming {
    pub(super) fn of(kind: &str) -> Self {
        if matches!(kind, "Service" | "Namespace") { Self::Label } else { Self::Subdomain }
    }

    fn wrong(self, name: &str) -> Vec<String> {
        match self {
            Self::Label => names::label(name),
            Self::Subdomain => names::subdomain(name),
        }
    }
}

/// Of all annotations together.
const MOST_ANNOTATIONS: usize = 256 << 10;

pub(super) fn check(naming: Naming, metadata: &ObjectMeta, fields: &mut Fields<'_>) {
    let prefix = metadata.generate_name.as_deref().unwrap_or_default();
    if !prefix.is_empty() {
        // The name goes on behind a hyphen. (Go replaces the last two characters by one, which makes no difference.)
        let masked = prefix.strip_suffix('-').filter(|rest| !rest.is_empty()).map(|rest| format!("{rest}a"));
        fields.invalid_text("metadata.generateName", prefix, naming.wrong(masked.as_deref().unwrap_or(prefix)));
    }
    if let Some(name) = metadata.name.as_deref().filter(|name| !name.is_empty()) {
        fields.invalid_text("metadata.name", name, naming.wrong(name));
    }
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    if !namespace.is_empty() {
        fields.invalid_text("metadata.namespace", namespace, names::label(namespace));
    }
    labels("metadata.labels", metadata.labels.iter().flatten(), fields);
    let annotations = || metadata.annotations.iter().flatten();
    for (key, _) in annotations() {
        fields.invalid_text("metadata.annotations", key, names::qualified_name(&key.to_lowercase()));
    }
    if annotations().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_ANNOTATIONS {
        fields.too_long("metadata.annotations", MOST_ANNOTATIONS);
    }
    for (i, owner) in metadata.owner_references.iter().flatten().enumerate() {
        let at = |field: &str| format!("metadata.ownerReferences[{i}].{field}");
        for (field, value) in [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
            if value.is_empty() {
                fields.required(&at(field), "must not be empty");
            }
        }
        if owner.api_version.split('/').count() > 2 {
            fields.invalid(&at("apiVersion"), quoted(&owner.api_version), "must be <group>/<version> or <version>");
        }
    }
    for finalizer in metadata.finalizers.iter().flatten() {
        fields.invalid_text("metadata.finalizers", finalizer, names::qualified_name(finalizer));
    }
}

/// Labels, and selectors, which are made of the same.
pub(super) fn labels<'l>(path: &str, labels: impl IntoIterator<Item = (&'l String, &'l String)>, fields: &mut Fields<'_>) {
    for (key, value) in labels {
        fields.invalid_text(path, key, names::qualified_name(key));
        fields.invalid_text(path, value, names::label_value(value));
    }
}
