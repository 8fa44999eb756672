//! Rights, as roles name them: those that were needed for what the server was asked, and those that a role grants.

use std::collections::BTreeSet;

use serde_json::Value;

/// A right: a verb for the objects of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The group, which is empty for the core.
    pub group: String,
    /// The resource in the plural; a subresource stands behind it, as in `gateways/status`.
    pub resource: String,
    /// What may be done, such as `list`.
    pub verb: String,
}

impl Right {
    /// The rights that the rules of a Role or ClusterRole grant.
    pub fn granted(role: &Value) -> BTreeSet<Self> {
        let words = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let mut all = BTreeSet::new();
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    let verbs = words(&rule["verbs"]).into_iter();
                    all.extend(verbs.map(|verb| Self { group: group.clone(), resource: resource.clone(), verb }));
                }
            }
        }
        all
    }

    /// The right that a request needs, given as `METHOD PATH?QUERY`; none if it is about no object.
    pub fn needed(request: &str) -> Option<Self> {
        let (method, uri) = request.split_once(' ')?;
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match &parts[..] {
            ["api", _, rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let rest = match rest {
            ["namespaces", _, rest @ ..] if !rest.is_empty() && rest[0] != "status" => rest,
            rest => rest,
        };
        let (resource, name) = (rest.first()?, rest.get(1));
        let watched = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
        let verb = match method {
            "GET" if name.is_some() => "get",
            "GET" if watched => "watch",
            "GET" => "list",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            _ => "delete",
        };
        let resource = rest.get(2).map_or_else(|| (*resource).to_owned(), |part| format!("{resource}/{part}"));
        Some(Self { group: group.to_owned(), resource, verb: verb.to_owned() })
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}
