//! The structural schemas of the Gateway API's kinds, as their CustomResourceDefinitions have them (`gateway/config/crds`), with their [defaults] and [rules](rule).
//!
//! A schema is read once, when the first object of its kind comes, and a rule compiled when it is first asked.

mod defaults;
pub(crate) mod rule;
pub(crate) mod schema;

use std::sync::LazyLock;

use serde_json::Value;

use schema::Schema;

/// A kind's schema, read when it is first wanted.
struct Kind {
    name: &'static str,
    schema: LazyLock<Schema>,
}

macro_rules! kinds {
    ($($name:literal),* $(,)?) => {
        static KINDS: [Kind; [$($name),*].len()] = [$(
            Kind { name: $name, schema: LazyLock::new(|| Schema::read(include_str!(concat!("../../crds/", $name, ".json")))) }
        ),*];
    };
}

kinds!(
    "BackendTLSPolicy",
    "GRPCRoute",
    "Gateway",
    "GatewayClass",
    "HTTPRoute",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "UDPRoute",
    "XBackendTrafficPolicy",
);

/// The schema of a kind, if it is one of the Gateway API's.
pub(crate) fn schema(kind: &str) -> Option<&'static Schema> {
    KINDS.iter().find(|known| known.name == kind).map(|known| &*known.schema)
}

/// The fields of an object that its kind does not have, without those of its metadata.
pub(crate) fn unknown_fields(kind: &str, value: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(schema) = schema(kind) {
        schema.unknown("", value, &mut unknown);
    }
    unknown
}

/// Sets the defaults of an object's kind, as an API server does before it judges an object.
pub(crate) fn set_defaults(kind: &str, value: &mut Value) {
    if let Some(schema) = schema(kind) {
        defaults::fill(schema, value);
    }
}

/// `spec` and `rules` are `spec.rules`.
pub(crate) fn child(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_can_be_read_and_every_rule_compiled() {
        for kind in &KINDS {
            let text = std::fs::read_to_string(format!("{}/crds/{}.json", env!("CARGO_MANIFEST_DIR"), kind.name)).expect("the file");
            let schema = Schema::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", kind.name));
            rule::compile_all(&schema);
        }
    }
}
