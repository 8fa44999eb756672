//! Objects: typed, with the place they came from. Kubernetes kinds are `k8s-openapi`'s and `gateway-api`'s types; ours are in [`mod@ours`].

pub mod ours;
mod secret;
mod typed;

use std::fmt;
use std::sync::Arc;

use gateway_api::apis::standard::backendtlspolicies::BackendTlsPolicy;
use gateway_api::apis::standard::gatewayclasses::GatewayClass;
use gateway_api::apis::standard::gateways::Gateway;
use gateway_api::apis::standard::referencegrants::ReferenceGrant;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fault::{Fault, Severity};
use crate::manifest::{Document, Origin};

pub use ours::{BackendTrafficPolicy, ClientTrafficPolicy, Plugin, SluicegateConfiguration};
pub use secret::{Secret, TLS_TYPE};

/// What names an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: String,
    /// Its namespace; `default` unless given.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// One object.
#[derive(Debug)]
pub struct Object {
    /// What names it.
    pub key: ObjectKey,
    /// Its content, typed.
    pub body: Body,
    /// Its content as given.
    pub value: Arc<Value>,
    /// Where it stands.
    pub origin: Arc<Origin>,
}

/// An object's content.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are the kinds")]
pub enum Body {
    Service(Box<Service>),
    Pod(Box<Pod>),
    Node(Box<Node>),
    Namespace(Box<Namespace>),
    EndpointSlice(Box<EndpointSlice>),
    Deployment(Box<Deployment>),
    Secret(Box<Secret>),
    ConfigMap(Box<ConfigMap>),
    Gateway(Box<Gateway>),
    GatewayClass(Box<GatewayClass>),
    BackendTlsPolicy(Box<BackendTlsPolicy>),
    ReferenceGrant(Box<ReferenceGrant>),
    Plugin(Box<Plugin>),
    BackendTrafficPolicy(Box<BackendTrafficPolicy>),
    ClientTrafficPolicy(Box<ClientTrafficPolicy>),
    SluicegateConfiguration(Box<SluicegateConfiguration>),
}

/// An error fault of a field.
pub fn error(origin: &Origin, key: &ObjectKey, path: &str, message: String, expected: Option<String>) -> Fault {
    Fault { severity: Severity::Error, place: Some(origin.place(path)), object: Some(key.to_string()), message, expected }
}

/// A warning of a field.
pub fn warning(origin: &Origin, key: &ObjectKey, path: &str, message: String, expected: Option<String>) -> Fault {
    Fault { severity: Severity::Warning, ..error(origin, key, path, message, expected) }
}

/// Types a document. An object is returned also when it has faults, if its key and type could be told; it is then only good for finding more:
/// something else stands where its fields are wrong.
pub fn decode(document: Document) -> (Option<Object>, Vec<Fault>) {
    let Document { value, origin } = document;
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let api = text("/apiVersion").unwrap_or_default();
    let kind = text("/kind").unwrap_or_default();
    let mut key = ObjectKey {
        kind: kind.clone(),
        namespace: text("/metadata/namespace").unwrap_or_else(|| "default".to_owned()),
        name: text("/metadata/name").unwrap_or_default(),
    };
    if matches!(kind.as_str(), "Node" | "Namespace" | "GatewayClass") {
        // Objects of the cluster have no namespace.
        key.namespace.clear();
    }
    if api.is_empty() || kind.is_empty() {
        let message = format!("{} is not set", if kind.is_empty() { "kind" } else { "apiVersion" });
        return (
            None,
            vec![Fault {
                object: None,
                ..error(&origin, &key, "", message, Some("a Kubernetes object: apiVersion, kind, metadata, spec".to_owned()))
            }],
        );
    }
    let singleton = kind == "SluicegateConfiguration";
    if singleton && key.name.is_empty() {
        "sluicegate".clone_into(&mut key.name);
    }
    if key.name.is_empty() {
        return (
            None,
            vec![Fault {
                object: None,
                ..error(&origin, &key, "metadata.name", "metadata.name: Required value: name or generateName is required".to_owned(), None)
            }],
        );
    }
    let mut faults = Vec::new();
    if !is_subdomain(&key.name) {
        let message = format!(
            "metadata.name: Invalid value: {:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            key.name
        );
        faults.push(error(&origin, &key, "metadata.name", message, None));
    }
    let typed = (&value, &*origin, &key);
    let body = match (api.as_str(), kind.as_str()) {
        ("v1", "Service") => kubernetes(typed, Body::Service, &mut faults),
        ("v1", "Pod") => kubernetes(typed, Body::Pod, &mut faults),
        ("v1", "Node") => kubernetes(typed, Body::Node, &mut faults),
        ("v1", "Namespace") => kubernetes(typed, Body::Namespace, &mut faults),
        ("v1", "Secret") => kubernetes(typed, Body::Secret, &mut faults),
        ("v1", "ConfigMap") => kubernetes(typed, Body::ConfigMap, &mut faults),
        ("apps/v1", "Deployment") => kubernetes(typed, Body::Deployment, &mut faults),
        ("discovery.k8s.io/v1", "EndpointSlice") => kubernetes(typed, Body::EndpointSlice, &mut faults),
        ("gateway.networking.k8s.io/v1", "Gateway") => kubernetes(typed, Body::Gateway, &mut faults),
        ("gateway.networking.k8s.io/v1", "GatewayClass") => kubernetes(typed, Body::GatewayClass, &mut faults),
        ("gateway.networking.k8s.io/v1", "BackendTLSPolicy") => kubernetes(typed, Body::BackendTlsPolicy, &mut faults),
        ("gateway.networking.k8s.io/v1" | "gateway.networking.k8s.io/v1beta1", "ReferenceGrant") => {
            kubernetes(typed, Body::ReferenceGrant, &mut faults)
        }
        ("sluicegate.dev/v1alpha1", "Plugin") => ours(typed, Body::Plugin, &mut faults),
        ("sluicegate.dev/v1alpha1", "BackendTrafficPolicy") => ours(typed, Body::BackendTrafficPolicy, &mut faults),
        ("sluicegate.dev/v1alpha1", "ClientTrafficPolicy") => ours(typed, Body::ClientTrafficPolicy, &mut faults),
        ("sluicegate.dev/v1alpha1", "SluicegateConfiguration") => ours(typed, Body::SluicegateConfiguration, &mut faults),
        ("gateway.networking.k8s.io/v1", "HTTPRoute") => {
            faults.push(warning(
                &origin,
                &key,
                "kind",
                "HTTPRoute is not served yet".to_owned(),
                Some("a ClientTrafficPolicy with a router serves the listener".to_owned()),
            ));
            return (None, faults);
        }
        _ => {
            faults.push(warning(&origin, &key, "kind", format!("{kind} of {api} is not a kind this gateway reads; it is skipped"), None));
            return (None, faults);
        }
    };
    if kind == "Secret" {
        conceal(&mut faults);
    }
    let object = body.map(|body| Object { key, body, value: Arc::new(value), origin });
    (object, faults)
}

/// Faults show the line they are in, and go to logs and the admin API: a Secret's lines are left out.
pub fn conceal(faults: &mut [Fault]) {
    for place in faults.iter_mut().filter_map(|f| f.place.as_mut()) {
        place.text.clear();
    }
}

/// RFC 1123: labels of letters, digits and hyphens, joined by dots; 253 characters at most.
fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |l: &str| {
        let bytes = l.as_bytes();
        bytes.first().copied().is_some_and(alphanumeric)
            && bytes.last().copied().is_some_and(alphanumeric)
            && bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

type Typed<'a> = (&'a Value, &'a Origin, &'a ObjectKey);

/// Unknown fields are warnings in kubectl's words.
fn kubernetes<T: DeserializeOwned>(typed: Typed<'_>, wrap: fn(Box<T>) -> Body, faults: &mut Vec<Fault>) -> Option<Body> {
    let (_, origin, key) = typed;
    let (body, unknown) = deserialize::<T>(typed, faults);
    faults.extend(unknown.iter().map(|path| warning(origin, key, path, format!("unknown field {path:?}"), None)));
    body.map(|b| wrap(Box::new(b)))
}

/// Reads a document that is no object, with every fault; unknown fields are errors.
pub fn plain<T: DeserializeOwned>(document: &Document) -> (Option<T>, Vec<Fault>) {
    let read = typed::read::<T>(&document.value);
    let fault = |path: &str, message: String| Fault {
        severity: Severity::Error,
        place: Some(document.origin.place(path)),
        object: None,
        message: if path.is_empty() { message } else { format!("{path}: {message}") },
        expected: None,
    };
    let wrong = read.wrong.into_iter().map(|(path, message)| fault(&path, message));
    let unknown = read.unknown.iter().map(|path| fault(path, "there is no such field".to_owned()));
    let faults: Vec<Fault> = wrong.chain(unknown).collect();
    (read.body, faults)
}

/// Unknown fields are errors.
fn ours<T: DeserializeOwned>(typed: Typed<'_>, wrap: fn(Box<T>) -> Body, faults: &mut Vec<Fault>) -> Option<Body> {
    let (_, origin, key) = typed;
    let (body, unknown) = deserialize::<T>(typed, faults);
    for path in &unknown {
        // The metadata are Kubernetes' own type; the process's configuration need not have any.
        if path == "metadata" || path.starts_with("metadata.") {
            if path != "metadata" {
                faults.push(warning(origin, key, path, format!("unknown field {path:?}"), None));
            }
            continue;
        }
        let field = path.rsplit('.').next().unwrap_or(path);
        let close = ours::FIELDS.iter().map(|known| (strsim::jaro_winkler(field, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = close.filter(|(score, _)| *score > 0.8).map(|(_, known)| format!("did you mean {known:?}?"));
        faults.push(error(origin, key, path, format!("unknown field {path:?}"), hint));
    }
    body.map(|b| wrap(Box::new(b)))
}

fn deserialize<T: DeserializeOwned>((value, origin, key): Typed<'_>, faults: &mut Vec<Fault>) -> (Option<T>, Vec<String>) {
    let read = typed::read::<T>(value);
    faults.extend(read.wrong.iter().map(|(path, what)| {
        let message = if path.is_empty() { what.clone() } else { format!("{path}: {what}") };
        error(origin, key, path, message, None)
    }));
    (read.body, read.unknown)
}
