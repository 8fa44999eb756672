//! Whether a plugin's configuration fits the JSON Schema (2020-12) that the plugin declares.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

mod weight;

/// More violations than this are not listed.
const MAX_VIOLATIONS: usize = 20;

/// One way in which a configuration does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field inside the configuration, `rules[0].path`; empty for the whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// Every violation, at most 20 of them; none when the configuration fits. An error says that the schema itself cannot be used.
pub fn violations(schema: &Value, config: &Value) -> Result<Vec<Violation>, String> {
    weight::bearable(schema, config).map_err(|e| format!("its configuration schema cannot be used: {e}"))?;
    // References to elsewhere are not followed: the library is built without its resolvers.
    let validator = jsonschema::validator_for(schema).map_err(|e| format!("its configuration schema is not a JSON Schema: {e}"))?;
    let violation = |error: &ValidationError<'_>| {
        let mut path = String::new();
        for segment in error.instance_path().as_str().split('/').skip(1) {
            // RFC 6901 §4: how `/` and `~` are written in a JSON pointer.
            let segment = segment.replace("~1", "/").replace("~0", "~");
            match segment.parse::<usize>() {
                Ok(index) => path.push_str(&format!("[{index}]")),
                Err(_) if path.is_empty() => path = segment,
                Err(_) => path.push_str(&format!(".{segment}")),
            }
        }
        Violation { path, message: error.to_string() }
    };
    let mut found = Vec::new();
    for error in validator.iter_errors(config) {
        each(&error, &mut |one| found.push(violation(one)));
        if found.len() >= MAX_VIOLATIONS {
            break;
        }
    }
    found.truncate(MAX_VIOLATIONS);
    Ok(found)
}

/// Tells each violation. Where none of several alternatives fits (an optional field is "this or null"), those of the alternative that fits best are told:
/// the one whose first violation lies deepest.
fn each(error: &ValidationError<'_>, tell: &mut impl FnMut(&ValidationError<'_>)) {
    let (ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }) = error.kind() else {
        return tell(error);
    };
    let depth = |e: &ValidationError<'_>| e.instance_path().as_str().matches('/').count();
    let best = context.iter().max_by_key(|branch| branch.iter().map(depth).min().unwrap_or(0));
    match best.filter(|branch| branch.iter().all(|e| depth(e) > depth(error))) {
        Some(branch) => branch.iter().for_each(|e| each(e, &mut *tell)),
        None => tell(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_violation_names_its_field() {
        let schema = serde_json::json!({
            "type": "object", "additionalProperties": false,
            "properties": {"size": {"type": "integer", "minimum": 1}, "names": {"type": "array", "items": {"type": "string"}}},
        });
        let found = violations(&schema, &serde_json::json!({"size": 0, "names": ["a", 1], "other": true})).expect("a schema");
        let mut paths: Vec<&str> = found.iter().map(|v| v.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["", "names[1]", "size"], "{found:?}");
        assert_eq!(violations(&schema, &serde_json::json!({"size": 3})), Ok(Vec::new()));
        assert!(violations(&serde_json::json!({"type": 7}), &serde_json::json!({})).is_err());
    }
}
