//! The CustomResourceDefinitions of our kinds, made from the very types that read them. `SluicegateConfiguration` has none: it is the process's
//! own file, as `KubeProxyConfiguration` is.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;
use serde_json::{Map, Value, json};

use crate::object::ours::{
    BackendSpec, BackendTrafficPolicySpec, ClientTrafficPolicySpec, GatewayParametersSpec, HttpRouteFilterSpec, PluginSpec,
    SluicegateConfiguration,
};

/// All CustomResourceDefinitions, in the order of their names.
pub fn all() -> Vec<Value> {
    vec![
        crd::<BackendSpec>("Backend", "backends", "be", "What routes may lead to besides Services."),
        crd::<BackendTrafficPolicySpec>("BackendTrafficPolicy", "backendtrafficpolicies", "btp", "How traffic to Services is balanced."),
        crd::<ClientTrafficPolicySpec>("ClientTrafficPolicy", "clienttrafficpolicies", "ctp", "How clients' traffic is taken."),
        crd::<GatewayParametersSpec>("GatewayParameters", "gatewayparameters", "gwp", "Defaults of Gateways, by parametersRef."),
        crd::<HttpRouteFilterSpec>("HTTPRouteFilter", "httproutefilters", "hrf", "What HTTPRoute has no filter for."),
        crd::<PluginSpec>("Plugin", "plugins", "", "A plugin's code and limits."),
    ]
}

/// The schema of `SluicegateConfiguration`.
pub fn process() -> Value {
    schema::<SluicegateConfiguration>()
}

fn crd<Spec: JsonSchema>(kind: &str, plural: &str, short: &str, description: &str) -> Value {
    let group = "sluicegate.dev";
    let mut names = json!({"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()});
    names["categories"] = json!(["sluicegate"]);
    if !short.is_empty() {
        names["shortNames"] = json!([short]);
    }
    let mut metadata = json!({"name": format!("{plural}.{group}")});
    if kind.ends_with("Policy") {
        // How tools find policies (GEP-713). What is said of a Gateway counts for its ListenerSets and routes too.
        metadata["labels"] = json!({"gateway.networking.k8s.io/policy": "Inherited"});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names,
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": description,
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": structural(schema::<Spec>()),
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            }],
        },
    })
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.with_transform(AddNullable::default()).into_generator().into_root_schema_for::<T>().to_value()
}

/// Makes a schema structural, as an API server demands it: alternatives are kept only where they can be written as one type, and the configuration of a
/// plugin is left open, as the plugin's own schema is for that.
/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>
fn structural(schema: Value) -> Value {
    let mut fields = match schema {
        Value::Object(fields) => fields,
        // The schema `true` takes anything.
        _ => Map::new(),
    };
    for keyword in ["title", "$schema", "format", "deprecated"] {
        // An API server knows other formats of numbers. The limits that stand beside the format say the same.
        fields.remove(keyword);
    }
    if let Some(alternatives) = fields.remove("oneOf").or_else(|| fields.remove("anyOf")).and_then(|found| match found {
        Value::Array(alternatives) => Some(alternatives),
        _ => None,
    }) {
        join(&mut fields, alternatives);
    }
    if let Some(parts) = fields.remove("allOf").and_then(|parts| parts.as_array().cloned()) {
        // `allOf` is how a description stands beside a referenced type.
        for part in parts {
            if let Value::Object(part) = part {
                for (keyword, value) in part {
                    fields.entry(keyword).or_insert(value);
                }
            }
        }
        return structural(Value::Object(fields));
    }
    if let Some(value) = fields.remove("const") {
        fields.insert("enum".to_owned(), json!([value]));
    }
    if let Some(Value::String(description)) = fields.get_mut("description") {
        // Descriptions are rustdoc's text; its links become plain code.
        *description = description.replace("[`", "`").replace("`]", "`");
    }
    if fields.get("default").is_some_and(Value::is_null) {
        fields.remove("default");
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        for (_, property) in properties.iter_mut() {
            *property = structural(property.take());
        }
    }
    for inner in ["items", "additionalProperties"] {
        match fields.get_mut(inner) {
            // It may not stand beside `properties`, and an API server drops or refuses unknown fields anyway.
            Some(Value::Bool(false)) => drop(fields.remove(inner)),
            Some(schema) => *schema = structural(schema.take()),
            None => {}
        }
    }
    if fields.get("enum").is_some() && !fields.contains_key("type") {
        fields.insert("type".to_owned(), "string".into());
    }
    if !fields.contains_key("type") {
        fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
    Value::Object(fields)
}

/// Joins alternatives in one type: words become one enumeration; objects become one with the fields of all, of which only those are required that every
/// alternative requires.
fn join(fields: &mut Map<String, Value>, alternatives: Vec<Value>) {
    let (mut words, mut properties, mut required): (Vec<Value>, Map<String, Value>, Option<Vec<Value>>) = (Vec::new(), Map::new(), None);
    for alternative in alternatives.into_iter().map(structural) {
        if alternative.get("nullable") == Some(&Value::Bool(true)) {
            fields.insert("nullable".to_owned(), true.into());
        }
        words.extend(alternative.get("enum").and_then(Value::as_array).into_iter().flatten().filter(|w| !w.is_null()).cloned());
        let Some(Value::Object(own)) = alternative.get("properties") else {
            for keyword in ["type", "items", "additionalProperties", "x-kubernetes-int-or-string"] {
                if let Some(value) = alternative.get(keyword) {
                    fields.entry(keyword.to_owned()).or_insert(value.clone());
                }
            }
            continue;
        };
        let theirs = alternative.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        required = Some(match required {
            None => theirs,
            Some(all) => all.into_iter().filter(|field| theirs.contains(field)).collect(),
        });
        for (name, property) in own {
            match properties.get_mut(name) {
                // This field is the tag: each alternative has a value of its own for it.
                Some(Value::Object(known)) => {
                    let more = property.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
                    if let Some(Value::Array(words)) = known.get_mut("enum") {
                        words.extend(more);
                    }
                }
                _ => drop(properties.insert(name.clone(), property.clone())),
            }
        }
    }
    if !properties.is_empty() {
        fields.insert("type".to_owned(), "object".into());
        fields.insert("properties".to_owned(), Value::Object(properties));
        if let Some(required) = required.filter(|required| !required.is_empty()) {
            fields.insert("required".to_owned(), Value::Array(required));
        }
    } else if !words.is_empty() {
        fields.insert("type".to_owned(), "string".into());
        fields.insert("enum".to_owned(), Value::Array(words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what an API server demands of a structural schema.
    fn check(schema: &Value, at: &str) {
        let fields = schema.as_object().unwrap_or_else(|| panic!("{at}: {schema}"));
        let anything = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        assert!(anything || fields.get("type").is_some_and(Value::is_string), "{at}: no type: {schema}");
        for keyword in ["oneOf", "anyOf", "allOf", "$ref", "not", "const", "definitions", "$defs"] {
            assert!(!fields.contains_key(keyword), "{at}: {keyword}: {schema}");
        }
        assert!(!(fields.contains_key("properties") && fields.contains_key("additionalProperties")), "{at}: both: {schema}");
        assert!(fields.get("default").is_none_or(|default| !default.is_null()), "{at}: default");
        for (name, property) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            check(property, &format!("{at}.{name}"));
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = fields.get(inner) {
                check(inner, &format!("{at}[]"));
            }
        }
        assert!(fields.get("type") != Some(&"array".into()) || fields.contains_key("items"), "{at}: no items");
    }

    #[test]
    fn schemas_are_structural() {
        for crd in all() {
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            check(schema, crd["spec"]["names"]["kind"].as_str().expect("a kind"));
        }
    }

    #[test]
    fn alternatives_become_one_type() {
        let spec = &all()[1]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let hash = &spec["properties"]["loadBalancer"]["properties"]["hash"];
        let mut kinds: Vec<&str> = hash["properties"]["type"]["enum"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["Cookie", "Header", "Path", "SourceIP"]);
        assert_eq!(hash["required"], json!(["type"]));
        assert_eq!(hash["properties"]["header"]["required"], json!(["name"]));
        assert_eq!(spec["properties"]["loadBalancer"]["properties"]["config"]["x-kubernetes-preserve-unknown-fields"], true);
        let plugin = &all()[5]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_eq!(plugin["properties"]["kind"]["enum"], json!(["router", "balancer", "discovery"]));
        assert_eq!(plugin["properties"]["failurePolicy"]["enum"], json!(["Fallback", "Fail"]));
    }
}
