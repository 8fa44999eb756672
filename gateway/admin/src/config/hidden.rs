//! Hides what looks like a secret: values of header fields and settings that are credentials by their name.

use serde_json::Value;

/// What stands in the place of a secret.
const HIDDEN: &str = "(hidden)";

/// Hides secrets, wherever they are.
pub(super) fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // `{name: Authorization, value: …}`, as filters of routes have it.
            let named = fields.get("name").and_then(Value::as_str).is_some_and(is_secret);
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if !text.is_empty() && (is_secret(name) || (named && name == "value")) => *text = HIDDEN.to_owned(),
                    other => hide(other),
                }
            }
        }
        Value::Array(items) => match items.as_mut_slice() {
            // A field's name and its value.
            [Value::String(name), Value::String(value)] if is_secret(name) => *value = HIDDEN.to_owned(),
            items => items.iter_mut().for_each(hide),
        },
        _ => {}
    }
}

/// Whether a field or a setting of this name is a credential.
fn is_secret(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    // Where a secret is to be found is none, nor is a key that decides, such as that of a hash.
    if ["file", "name", "names", "path", "ref"].iter().any(|end| name.ends_with(end)) {
        return false;
    }
    let parts = ["authorization", "password", "passwd", "secret", "token", "apikey", "privatekey", "credential", "accesskey", "signature"];
    parts.iter().any(|part| name.contains(part)) || name == "cookie" || name == "setcookie"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_hidden_wherever_they_are() {
        let mut value = json!({
            "set": [["authorization", "Basic YTpi"], ["x-team", "edge"]],
            "filters": [{"name": "X-API-Key", "value": "k"}, {"name": "x-team", "value": "edge"}],
            "headers": {"set-cookie": "a=b", "content-type": "text/plain"},
            "config": {"bearerToken": "t", "nested": [{"client_secret": "s"}], "tokenFile": "/run/token", "hash": {"key": "user"}},
        });
        hide(&mut value);
        let wanted = json!({
            "set": [["authorization", HIDDEN], ["x-team", "edge"]],
            "filters": [{"name": "X-API-Key", "value": HIDDEN}, {"name": "x-team", "value": "edge"}],
            "headers": {"set-cookie": HIDDEN, "content-type": "text/plain"},
            "config": {"bearerToken": HIDDEN, "nested": [{"client_secret": HIDDEN}], "tokenFile": "/run/token", "hash": {"key": "user"}},
        });
        assert_eq!(value, wanted);
    }
}
