//! What a CustomResourceDefinition lets pass and the router plugin `rules` would refuse, with all other rules of the listener: it is found here, and costs
//! its own rule.

use regex_lite::RegexBuilder;
use serde_json::{Map, Value};

/// As the plugin limits them.
const LARGEST_REGEX: usize = 32 << 10;
const LONGEST_REGEX: usize = 1024;
const LONGEST_VALUE: usize = 4096;
/// Fields that belong to the connection (RFC 9112 §11.2).
const UNCHANGEABLE: [&str; 4] = ["connection", "content-length", "transfer-encoding", "upgrade"];

type Checked = Result<(), String>;

/// Regular expressions of a rule's matches.
pub(super) fn matches(rule: &Map<String, Value>) -> Checked {
    for (i, one) in list(rule.get("matches")).enumerate() {
        let conditions = ["headers", "queryParams"].into_iter().flat_map(|field| list(one.get(field)));
        for condition in conditions.chain(one.get("path")).filter(|condition| condition["type"] == "RegularExpression") {
            pattern(condition["value"].as_str().unwrap_or_default()).map_err(|wrong| format!("matches[{i}]: {wrong}"))?;
        }
        let method = one.get("grpc").filter(|method| method["type"] == "RegularExpression");
        for part in ["service", "method"].into_iter().filter_map(|part| method?.get(part)?.as_str()) {
            pattern(part).map_err(|wrong| format!("matches[{i}].method: {wrong}"))?;
        }
    }
    Ok(())
}

fn pattern(pattern: &str) -> Checked {
    if pattern.is_empty() || pattern.len() > LONGEST_REGEX {
        return Err(format!("a regular expression must be 1 to {LONGEST_REGEX} bytes"));
    }
    let build = |text: &str| RegexBuilder::new(text).size_limit(LARGEST_REGEX).build().map(drop);
    let wrong = |error| format!("{pattern:?} is not a regular expression that can be used: {error}");
    build(pattern).map_err(wrong)?;
    build(&format!("^(?:{pattern})$")).map_err(wrong)
}

/// The filters of a rule.
pub(super) fn filters(filters: &[Value]) -> Checked {
    let with = |kinds: &[&str]| filters.iter().filter(|filter| filter["type"].as_str().is_some_and(|kind| kinds.contains(&kind))).count();
    if with(&[DIRECT]) > 0 && with(&[DIRECT, "RequestRedirect", "URLRewrite"]) > 1 {
        return Err("one filter answers, and others would answer or rewrite as well".to_owned());
    }
    filters.iter().try_for_each(filter)
}

/// Whether a filter answers that stands for an `extensionRef`; of a redirect the schema says that its rule has no backends.
pub(super) fn answers(filters: &[Value]) -> bool {
    filters.iter().any(|filter| filter["type"] == DIRECT)
}

/// The plugin's own filter, which HTTPRoute does not have.
const DIRECT: &str = "DirectResponse";

/// The filters of a backend: what answers is settled before one is chosen.
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
            if value.len() > LONGEST_VALUE || !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
                return Err(format!("the value of header {} must be visible ASCII, spaces and tabs", header["name"]));
            }
        }
        let names = given.filter_map(|header| header["name"].as_str()).chain(list(modifier.get("remove")).filter_map(Value::as_str));
        if let Some(name) = names.into_iter().find(|name| UNCHANGEABLE.contains(&name.to_ascii_lowercase().as_str())) {
            return Err(format!("the header {name:?} belongs to the connection and cannot be changed"));
        }
    }
    for path in ["requestRedirect", "urlRewrite"].into_iter().filter_map(|field| filter.get(field)?.get("path")) {
        let (full, prefix) = (path["replaceFullPath"].as_str(), path["replacePrefixMatch"].as_str());
        // A prefix may be replaced by nothing.
        for new in full.into_iter().chain(prefix.filter(|prefix| !prefix.is_empty())) {
            new_path(new)?;
        }
    }
    Ok(())
}

/// A path as a request line can carry it (RFC 3986 §3.3).
fn new_path(path: &str) -> Checked {
    let bytes = path.as_bytes();
    let allowed = |(i, b): (usize, &u8)| match b {
        b'%' => bytes.get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        _ => b.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(b),
    };
    if path.starts_with('/') && path.len() <= 1024 && bytes.iter().enumerate().all(allowed) {
        Ok(())
    } else {
        Err(format!("the new path {path:?} must begin with / and have only what a path may have"))
    }
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> + Clone {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default().iter()
}
