//! Objects of the Gateway API are judged as an API server judges them: by the schemas and the CEL rules of their CustomResourceDefinitions (`gateway/config/crds`),
//! in this order: fields that the schema does not have; nulls and defaults ([`defaults`]); types, lengths, patterns ([`structure`]); lists whose
//! items have keys ([`lists`]); and, unless something of a kind that keeps rules from being read was found, the rules ([`rules`]).
//!
//! A schema is read once, when the first object of its kind comes, and a rule compiled when it is first asked.

mod defaults;
mod lists;
mod rules;
mod schema;
mod structure;

use std::sync::LazyLock;

use serde_json::Value;

use super::field::Fields;
use schema::Schema;

/// A kind's schema, read when it is first wanted.
struct Kind {
    name: &'static str,
    schema: LazyLock<Schema>,
}

macro_rules! kinds {
    ($($name:literal),* $(,)?) => {
        static KINDS: [Kind; [$($name),*].len()] = [$(
            Kind { name: $name, schema: LazyLock::new(|| Schema::read(include_str!(concat!("../../../crds/", $name, ".json")))) }
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
);

fn schema(kind: &str) -> Option<&'static Schema> {
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

/// Judges an object by its kind's schema and rules.
pub(super) fn check(kind: &str, value: &Value, fields: &mut Fields<'_>) {
    let Some(schema) = schema(kind) else { return };
    let mut value = value.clone();
    defaults::fill(schema, &mut value);
    let mut found = structure::Found::default();
    structure::check(schema, "", &value, &mut found);
    lists::check(schema, "", &value, &mut found);
    for (path, what) in found.faults {
        fields.wrong(&path, what);
    }
    if !schema.has_rules() {
        return;
    }
    if found.blocks_rules {
        let why =
            "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        fields.wrong("<nil>", format_args!("Invalid value: null: {why}"));
    } else {
        rules::check(schema, "", &value, fields);
    }
}

/// `spec` and `rules` are `spec.rules`.
fn child(path: &str, field: &str) -> String {
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
            rules::compile_all(&schema);
        }
    }
}
