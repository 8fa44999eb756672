//! Objects of the Gateway API are judged as an API server judges them: by the [schemas](crate::structural) and the CEL rules of their
//! CustomResourceDefinitions, in this order: fields that the schema does not have; nulls and defaults; types, lengths, patterns ([`structure`]); lists whose
//! items have keys ([`lists`]); and, unless something of a kind that keeps rules from being read was found, the rules ([`rules`]).

mod lists;
mod rules;
mod structure;

use serde_json::Value;

use super::field::Fields;
use crate::structural::{schema, set_defaults};

/// Judges an object by its kind's schema and rules.
pub(super) fn check(kind: &str, value: &Value, fields: &mut Fields<'_>) {
    let Some(schema) = schema(kind) else { return };
    let mut value = value.clone();
    set_defaults(kind, &mut value);
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
