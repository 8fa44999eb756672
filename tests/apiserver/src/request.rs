//! What a request is about: its path, its query, and who asks.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method, header};

use super::kinds::Kind;

/// A path of the server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Path {
    /// Objects of a kind.
    Objects(Target),
    /// A group that is there, but has no such resource.
    NoResource,
    /// A group that is not there.
    NoGroup,
    /// `/api`, `/apis/GROUP/VERSION`, `/version`, `/readyz`.
    Other(String),
}

/// Which objects.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// Empty: of all namespaces, or of none.
    pub(super) namespace: String,
    /// Empty: all of them.
    pub(super) name: String,
    /// `status`, or empty.
    pub(super) subresource: String,
}

impl Path {
    pub(super) fn read(path: &str, kinds: &[Kind]) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match &parts[..] {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            ["apis", group, ..] if !kinds.iter().any(|kind| kind.group == *group) => return Self::NoGroup,
            _ => return Self::Other(path.to_owned()),
        };
        let of_group = || kinds.iter().filter(|kind| kind.group == group && kind.version == version);
        if of_group().next().is_none() {
            return Self::NoGroup;
        }
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest[0] != "status" => (*namespace, rest),
            rest => ("", rest),
        };
        let Some(kind) = of_group().find(|kind| kind.plural == rest[0]) else { return Self::NoResource };
        let part = |at: usize| rest.get(at).copied().unwrap_or_default().to_owned();
        Self::Objects(Target { kind: *kind, namespace: namespace.to_owned(), name: part(1), subresource: part(2) })
    }
}

/// The query, decoded; of a field that is there twice the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn read(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self.text(name), "1" | "true")
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a request does, as roles name it.
pub(super) fn verb(method: &Method, target: &Target, query: &Query) -> &'static str {
    match *method {
        Method::GET if !target.name.is_empty() => "get",
        Method::GET if query.is("watch") => "watch",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        _ => "delete",
    }
}

/// The token of a request.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
