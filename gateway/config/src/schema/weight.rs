//! What a schema would cost to check a configuration against, found before it is. A few kilobytes of references to references can take longer
//! than the world stands, or more stack than a thread has, and the library that checks has a limit for neither.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// Parts that are looked at for one value of the configuration: the largest built-in plugin has some hundreds.
const MAX_WEIGHT: u64 = 100_000;
/// References and parts within each other.
const MAX_DEPTH: usize = 128;

/// Whether this configuration can be checked against the schema.
pub(super) fn bearable(schema: &Value, config: &Value) -> Result<(), String> {
    let mut scales = Scales { root: schema, known: HashMap::new(), open: HashSet::new() };
    match scales.weigh(schema, depth(config))? {
        weight if weight > MAX_WEIGHT => Err(format!("it has more than {MAX_WEIGHT} parts, with those that it refers to")),
        _ => Ok(()),
    }
}

fn depth(config: &Value) -> usize {
    match config {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

struct Scales<'s> {
    root: &'s Value,
    /// By the part's place in memory, and how much deeper the configuration goes.
    known: HashMap<(usize, usize), u64>,
    /// Those that are being weighed, one inside the other.
    open: HashSet<(usize, usize)>,
}

impl<'s> Scales<'s> {
    /// The weight of a part which is applied to a value that has `left` levels below it.
    fn weigh(&mut self, part: &'s Value, left: usize) -> Result<u64, String> {
        let Value::Object(keywords) = part else { return Ok(1) };
        let place = (std::ptr::from_ref(part) as usize, left);
        if let Some(weight) = self.known.get(&place) {
            return Ok(*weight);
        }
        if !self.open.insert(place) {
            return Err("it refers to itself without a step into the configuration".to_owned());
        }
        if self.open.len() > MAX_DEPTH {
            return Err(format!("its parts and references are more than {MAX_DEPTH} deep"));
        }
        let weight = self.keywords(keywords, left)?;
        self.open.remove(&place);
        self.known.insert(place, weight);
        Ok(weight)
    }

    fn keywords(&mut self, keywords: &'s Map<String, Value>, left: usize) -> Result<u64, String> {
        let mut weight = 1_u64;
        // What is unevaluated is found out by evaluating the siblings again; alternatives that do not fit are looked at again for the reasons.
        let again = if keywords.keys().any(|keyword| keyword.starts_with("unevaluated")) { 3 } else { 1 };
        for (keyword, value) in keywords {
            let more = match keyword.as_str() {
                "$ref" => {
                    let target = self.target(value)?;
                    self.weigh(target, left)?
                }
                "$dynamicRef" | "$recursiveRef" => return Err(format!("it uses {keyword}; the one reference that is followed is $ref")),
                // A part with a base of its own: references in it would lead elsewhere than they seem to.
                "$id" if !std::ptr::eq(keywords, self.root.as_object().unwrap_or(keywords)) => {
                    return Err("a part of it has an $id; only the whole may have one".to_owned());
                }
                "allOf" | "then" | "else" | "dependentSchemas" | "dependencies" => self.each(value, left)?,
                "anyOf" | "oneOf" | "not" | "if" => self.each(value, left)?.saturating_mul(2),
                "properties"
                | "patternProperties"
                | "items"
                | "prefixItems"
                | "additionalItems"
                | "additionalProperties"
                | "contains"
                | "propertyNames"
                | "unevaluatedItems"
                | "unevaluatedProperties" => match left.checked_sub(1) {
                    Some(left) => self.each(value, left)?,
                    None => 0,
                },
                _ => 0,
            };
            weight = weight.saturating_add(more.saturating_mul(again));
        }
        Ok(weight)
    }

    /// Of one part, or of several by position or name. One that has keywords for names weighs too much, at worst.
    fn each(&mut self, value: &'s Value, left: usize) -> Result<u64, String> {
        let mut weight = self.weigh(value, left)?;
        let parts: Box<dyn Iterator<Item = &'s Value>> = match value {
            Value::Array(parts) => Box::new(parts.iter()),
            Value::Object(parts) => Box::new(parts.values()),
            _ => return Ok(weight),
        };
        for part in parts.filter(|part| part.is_object()) {
            weight = weight.saturating_add(self.weigh(part, left)?);
        }
        Ok(weight)
    }

    fn target(&self, reference: &Value) -> Result<&'s Value, String> {
        let pointer = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
        let found = pointer.and_then(|pointer| self.root.pointer(pointer));
        found.ok_or_else(|| format!("its reference {reference} is no JSON Pointer into itself (#/$defs/...)"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// So many definitions, of which each is `part` of the next one.
    fn chain(length: usize, part: impl Fn(Value) -> Value) -> Value {
        let name = |i: usize| format!("d{i}");
        let mut defs: Map<String, Value> =
            (0..length).map(|i| (name(i), part(json!({"$ref": format!("#/$defs/{}", name(i + 1))})))).collect();
        defs.insert(name(length), json!({"type": "object"}));
        json!({"$ref": "#/$defs/d0", "$defs": defs})
    }

    #[test]
    fn what_would_take_too_long_or_too_deep_is_refused() {
        let of = |schema: Value, config: Value| bearable(&schema, &config).expect_err("refused");
        let twice = |part: Value| json!({"allOf": [part.clone(), part]});
        assert!(of(chain(40, twice), json!({})).contains("more than 100000 parts"));
        assert!(of(chain(100_000, |part| part), json!({})).contains("deep"));
        assert!(of(json!({"$ref": "#"}), json!({})).contains("refers to itself"));
        let everyone = json!({"allOf": (0..20).map(|i| json!({"$ref": format!("#/$defs/{i}")})).collect::<Vec<_>>()});
        let defs: Map<String, Value> = (0..20).map(|i| (i.to_string(), everyone.clone())).collect();
        assert!(of(json!({"$ref": "#/$defs/0", "$defs": defs}), json!({})).contains("refers to itself"));
        let each = json!({"properties": {"a": {"allOf": vec![json!({"$ref": "#"}); 100]}}});
        assert!(of(each.clone(), json!({"a": {"a": {"a": {"a": 1}}}})).contains("parts"));
        assert_eq!(bearable(&each, &json!({"a": {"a": 1}})), Ok(()));
        let mut nested = json!({"type": "string"});
        (0..40).for_each(|_| nested = json!({"anyOf": [nested.clone()]}));
        assert!(of(nested, json!({})).contains("parts"));
        assert!(of(json!({"$ref": "http://a.example/"}), json!({})).contains("no JSON Pointer"));
        assert!(of(json!({"$dynamicRef": "#x"}), json!({})).contains("$dynamicRef"));
        assert!(of(json!({"items": {"$id": "x"}}), json!([1])).contains("$id"));
    }

    #[test]
    fn a_schema_as_derived_from_types_is_borne() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "$id": "mine",
            "$defs": {"rule": {"type": "object", "properties": {
                "name": {"type": ["string", "null"]}, "within": {"anyOf": [{"$ref": "#/$defs/rule"}, {"type": "null"}]}}}},
            "properties": {"rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}}},
        });
        let deep = json!({"rules": [{"name": "a", "within": {"name": "b", "within": {"name": "c", "within": null}}}]});
        assert_eq!(bearable(&schema, &deep), Ok(()));
    }
}
