//! Finds what the CustomResourceDefinitions allow and the router plugin `rules` would refuse, together with all other rules of the listener. Found here, it
//! costs only its own rule.

use serde_json::{Map, Value};
use sluicegate_rule_values::{changeable_header_name, header_value, new_path, regular_expression};

type Checked = Result<(), String>;

/// Checks the regular expressions in a rule's matches.
pub(super) fn matches(rule: &Map<String, Value>) -> Checked {
    for (i, one) in list(rule.get("matches")).enumerate() {
        let conditions = ["headers", "queryParams"].into_iter().flat_map(|field| list(one.get(field)));
        for condition in conditions.chain(one.get("path")).filter(|condition| condition["type"] == "RegularExpression") {
            regular_expression(condition["value"].as_str().unwrap_or_default()).map_err(|wrong| format!("matches[{i}]: {wrong}"))?;
        }
        let method = one.get("grpc").filter(|method| method["type"] == "RegularExpression");
        for part in ["service", "method"].into_iter().filter_map(|part| method?.get(part)?.as_str()) {
            regular_expression(part).map_err(|wrong| format!("matches[{i}].method: {wrong}"))?;
        }
    }
    Ok(())
}

/// Checks the filters of a rule.
pub(super) fn filters(filters: &[Value]) -> Checked {
    let with = |kinds: &[&str]| filters.iter().filter(|filter| filter["type"].as_str().is_some_and(|kind| kinds.contains(&kind))).count();
    if with(&[DIRECT]) > 0 && with(&[DIRECT, "RequestRedirect", "URLRewrite"]) > 1 {
        return Err("one filter answers, and others would answer or rewrite as well".to_owned());
    }
    filters.iter().try_for_each(filter)
}

/// Checks that a rule has nothing that cannot stand beside a router of its own: that router's rules say what becomes of a request.
pub(super) fn beside_router(rule: &Map<String, Value>, filters: &[Value]) -> Checked {
    let fields =
        ["timeouts", "retry", "sessionPersistence"].into_iter().find(|field| rule.get(*field).is_some_and(|given| !given.is_null()));
    let of_backends = list(rule.get("backendRefs")).flat_map(|backend| list(backend.get("filters")));
    match (fields, filters.iter().chain(of_backends).next()) {
        (Some(field), _) => Err(format!("where a router decides {field} has no place: policies and that router's rules say it")),
        (None, Some(filter)) => {
            Err(format!("where a router decides a filter {} has no place: that router's rules have filters", filter["type"]))
        }
        (None, None) => Ok(()),
    }
}

/// Whether a filter that an `extensionRef` stands for answers by itself. For redirects the schema makes sure that their rule has no backends.
pub(super) fn answers(filters: &[Value]) -> bool {
    filters.iter().any(|filter| filter["type"] == DIRECT)
}

/// The plugin's filter that answers by itself, which HTTPRoute does not have.
const DIRECT: &str = "DirectResponse";

/// Checks the filters of a backend. Filters that answer by themselves are refused, as these decide before a backend is chosen.
pub(super) fn backend_filters(filters: &[Value]) -> Checked {
    for filter in filters {
        if matches!(filter["type"].as_str(), Some("RequestRedirect" | "CORS" | DIRECT)) {
            return Err(format!("a filter {} is settled before a backend is chosen", filter["type"]));
        }
        self::filter(filter)?;
    }
    Ok(())
}

fn filter(filter: &Value) -> Checked {
    for modifier in ["requestHeaderModifier", "responseHeaderModifier"].into_iter().filter_map(|field| filter.get(field)) {
        let given = ["set", "add"].into_iter().flat_map(|field| list(modifier.get(field)));
        for header in given.clone() {
            let value = header["value"].as_str().unwrap_or_default();
            header_value(value).map_err(|wrong| format!("the value of header {} {wrong}", header["name"]))?;
        }
        let names = given.filter_map(|header| header["name"].as_str()).chain(list(modifier.get("remove")).filter_map(Value::as_str));
        for name in names {
            changeable_header_name(name).map_err(|wrong| format!("the header {wrong}"))?;
        }
    }
    for path in ["requestRedirect", "urlRewrite"].into_iter().filter_map(|field| filter.get(field)?.get("path")) {
        let (full, prefix) = (path["replaceFullPath"].as_str(), path["replacePrefixMatch"].as_str());
        // A prefix may be replaced by the empty text.
        for new in full.into_iter().chain(prefix.filter(|prefix| !prefix.is_empty())) {
            new_path(new).map_err(|wrong| format!("the new path {new:?} {wrong}"))?;
        }
    }
    Ok(())
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> + Clone {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default().iter()
}
