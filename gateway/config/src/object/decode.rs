//! From a document to an object of its kind's type.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::Value;
use sluicegate_model::fault::{Fault, Severity};
use xxhash_rust::xxh3::xxh3_64;

use super::misfit::{Misfit, Wanted};
use super::{Body, Given, Object, ObjectKey, conceal, defaults, error, foreign, go, nulls, ours, typed};
use crate::manifest::{Document, Origin, Rules};
use crate::structural;

/// Reads a document as an object of its kind. An object that has faults is returned, too, if its key and type could be told. It only serves to find more
/// faults, as its wrong fields are filled with something else. A [`foreign`] document gives neither an object nor faults.
pub fn decode(document: Document) -> (Option<Object>, Vec<Fault>) {
    let Decoded { object, faults, .. } = decode_whole(document);
    (object, faults)
}

/// What came of a document.
#[derive(Default)]
pub struct Decoded {
    /// The object, as [`decode`] returns it.
    pub object: Option<Object>,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
    /// How many of the faults are fields that its kind does not have. If there are no other faults, the object is usable without those fields.
    pub unknown_fields: usize,
}

/// Does what [`decode`] does, and tells unknown fields from other faults.
pub fn decode_whole(document: Document) -> Decoded {
    if foreign(&document).is_some() {
        return Decoded::default();
    }
    let only = |faults| Decoded { faults, ..Decoded::default() };
    let Document { value, origin, readings, rules } = document;
    let (api, kind) = (text(Some(&value), "apiVersion"), text(Some(&value), "kind"));
    let metadata = value.get("metadata");
    let namespace = match text(metadata, "namespace") {
        // Objects that belong to the whole cluster have no namespace.
        _ if matches!(kind, "Node" | "Namespace" | "GatewayClass") => "",
        "" => "default",
        given => given,
    };
    let mut key = ObjectKey::new(kind, namespace, text(metadata, "name"));
    if api.is_empty() || kind.is_empty() {
        let message = format!("{} is not set", if kind.is_empty() { "kind" } else { "apiVersion" });
        let expected = Some("a Kubernetes object: apiVersion, kind, metadata, spec".to_owned());
        return only(vec![Fault { object: None, ..error(&origin, &key, "", message, expected) }]);
    }
    if key.name.is_empty() {
        match name(&value, &origin, api, kind) {
            Ok(name) => key = ObjectKey::new(kind, namespace, name),
            Err(message) => return only(nameless(&origin, &key, message, readings)),
        }
    }
    let (mut faults, mut unknown_fields) = (Vec::new(), 0);
    let mut typed = Typed { unknown_fields: &mut unknown_fields, api, kind, value: &value, origin: &origin, key: &key };
    let body = match (api, kind) {
        ("v1", "Service") => typed.kubernetes(Body::Service, &mut faults),
        ("v1", "Pod") => typed.kubernetes(Body::Pod, &mut faults),
        ("v1", "Node") => typed.kubernetes(Body::Node, &mut faults),
        ("v1", "Namespace") => typed.kubernetes(Body::Namespace, &mut faults),
        ("v1", "Secret") => typed.kubernetes(Body::Secret, &mut faults),
        ("v1", "ConfigMap") => typed.kubernetes(Body::ConfigMap, &mut faults),
        ("apps/v1", "Deployment") => typed.kubernetes(Body::Deployment, &mut faults),
        ("discovery.k8s.io/v1", "EndpointSlice") => typed.kubernetes(Body::EndpointSlice, &mut faults),
        (_, "Gateway") => typed.custom(Body::Gateway, &mut faults),
        (_, "GatewayClass") => typed.custom(Body::GatewayClass, &mut faults),
        (_, "BackendTLSPolicy") => typed.custom(Body::BackendTlsPolicy, &mut faults),
        (_, "ReferenceGrant") => typed.custom(Body::ReferenceGrant, &mut faults),
        (_, "HTTPRoute") => typed.custom(Body::HttpRoute, &mut faults),
        (_, "GRPCRoute") => typed.custom(Body::GrpcRoute, &mut faults),
        (_, "TLSRoute") => typed.custom(Body::TlsRoute, &mut faults),
        (_, "TCPRoute") => typed.custom(Body::TcpRoute, &mut faults),
        (_, "XBackendTrafficPolicy") => typed.custom(Body::XBackendTrafficPolicy, &mut faults),
        (_, "UDPRoute") => typed.custom(Body::UdpRoute, &mut faults),
        ("sluicegate.dev/v1alpha1", "Plugin") => typed.ours(Body::Plugin, &mut faults),
        ("sluicegate.dev/v1alpha1", "BackendTrafficPolicy") => typed.ours(Body::BackendTrafficPolicy, &mut faults),
        ("sluicegate.dev/v1alpha1", "ClientTrafficPolicy") => typed.ours(Body::ClientTrafficPolicy, &mut faults),
        ("sluicegate.dev/v1alpha1", "Backend") => typed.ours(Body::Backend, &mut faults),
        ("sluicegate.dev/v1alpha1", "GatewayParameters") => typed.ours(Body::GatewayParameters, &mut faults),
        ("sluicegate.dev/v1alpha1", "HTTPRouteFilter") => typed.ours(Body::HttpRouteFilter, &mut faults),
        ("sluicegate.dev/v1alpha1", "SluicegateConfiguration") => typed.ours(Body::SluicegateConfiguration, &mut faults),
        // Of the kinds that are read, only this one is left.
        _ => typed.custom(Body::ListenerSet, &mut faults),
    };
    read_otherwise(readings, &key, &mut faults);
    if kind == "Secret" {
        conceal(&mut faults);
    }
    let object = body.map(|mut body| {
        defaults::set(&mut body);
        if let Some(rules) = &rules {
            put_in(&mut body, rules);
        }
        Object { key, body, value: Given::with_rules(value, rules), origin }
    });
    Decoded { object, faults, unknown_fields }
}

/// Gives a router its configuration with the rules that were read apart.
fn put_in(body: &mut Body, rules: &Rules) {
    let router = match body {
        Body::ClientTrafficPolicy(policy) => policy.spec.router.as_mut(),
        Body::HttpRouteFilter(filter) => filter.spec.router.as_mut(),
        _ => None,
    };
    if let Some(router) = router {
        router.config = rules.config().clone();
    }
}

/// The text in a field; empty if there is none.
fn text<'v>(of: Option<&'v Value>, field: &str) -> &'v str {
    of.and_then(|of| of.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// The name of an object, which `metadata.generateName` may stand for.
fn name(value: &Value, origin: &Origin, api: &str, kind: &str) -> Result<String, String> {
    if kind == "SluicegateConfiguration" {
        return Ok("sluicegate".to_owned());
    }
    let named = value.pointer("/metadata/name").filter(|name| !name.is_null() && !name.is_string());
    if named.is_some() {
        let words = go::cannot_unmarshal(api, kind, value, "metadata.name", Wanted::String);
        return Err(words.unwrap_or_else(|| "metadata.name: invalid type, expected a string".to_owned()));
    }
    match value.pointer("/metadata/generateName").and_then(Value::as_str).filter(|prefix| !prefix.is_empty()) {
        Some(prefix) => Ok(generate(prefix, origin)),
        None => Err("metadata.name: Required value: name or generateName is required".to_owned()),
    }
}

/// The name that `generateName` stands for. An API server appends five random letters; here the file and the place in it decide, so that a restart finds
/// the same object.
fn generate(prefix: &str, origin: &Origin) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const LONGEST: usize = 63 - 5;
    let end = (0..=prefix.len().min(LONGEST)).rev().find(|end| prefix.is_char_boundary(*end)).unwrap_or(0);
    let mut seed = xxh3_64(format!("{}\n{}\n{prefix}", origin.file().display(), origin.number()).as_bytes());
    let mut name = prefix[..end].to_owned();
    for _ in 0..5 {
        let letters = LETTERS.len() as u64;
        name.push(char::from(LETTERS[usize::try_from(seed % letters).unwrap_or(0)]));
        seed /= letters;
    }
    name
}

fn nameless(origin: &Origin, key: &ObjectKey, message: String, readings: Vec<Fault>) -> Vec<Fault> {
    let mut fault = error(origin, key, "metadata.name", message, None);
    fault.object = None;
    fault.expected = readings.into_iter().find(|reading| reading.place == fault.place).map(|reading| reading.message);
    let mut faults = [fault];
    if key.kind == "Secret" {
        conceal(&mut faults);
    }
    faults.into()
}

/// Scalars that may be read otherwise than they were meant: each is the hint of the error at its place if there is one, else a warning.
fn read_otherwise(readings: Vec<Fault>, key: &ObjectKey, faults: &mut Vec<Fault>) {
    let mut warnings = Vec::new();
    for mut reading in readings {
        if key.kind == "Secret" {
            "a value here is another one in YAML 1.1, as kubectl reads it, than in YAML 1.2".clone_into(&mut reading.message);
            reading.expected = Some("quotes around it".to_owned());
        }
        match faults.iter_mut().find(|fault| fault.severity == Severity::Error && fault.place == reading.place && fault.expected.is_none())
        {
            Some(fault) => fault.expected = Some(reading.message),
            None => warnings.push(Fault { object: Some(key.to_string()), ..reading }),
        }
    }
    faults.splice(0..0, warnings);
}

/// A document while it is read as its kind.
struct Typed<'d> {
    api: &'d str,
    kind: &'d str,
    value: &'d Value,
    origin: &'d Origin,
    key: &'d ObjectKey,
    /// Counts as [`Decoded::unknown_fields`] does.
    unknown_fields: &'d mut usize,
}

impl Typed<'_> {
    /// Reads a kind of Kubernetes' own, with the API server's messages.
    fn kubernetes<T: DeserializeOwned>(&mut self, wrap: fn(Box<T>) -> Body, faults: &mut Vec<Fault>) -> Option<Body> {
        let read = typed::read::<T>(&self.without_nulls());
        faults.extend(read.wrong.iter().map(|(path, what)| {
            let words = self.unmarshal(path, what);
            // The value of a Secret's field is not shown.
            let what = match what {
                Misfit::Value { .. } if self.kind == "Secret" => "invalid value".to_owned(),
                what => what.to_string(),
            };
            self.error(path, words.unwrap_or_else(|| if path.is_empty() { what } else { format!("{path}: {what}") }))
        }));
        *self.unknown_fields += read.unknown.len();
        faults.extend(read.unknown.iter().map(|path| self.error(path, go::unknown_field(self.api, self.kind, path))));
        read.body.map(|body| wrap(Box::new(body)))
    }

    /// Reads a kind of the Gateway API, with the defaults of its schema. Validation judges it by the schema later, so what serde finds wrong counts only if
    /// nothing could be read.
    fn custom<T: DeserializeOwned>(&mut self, wrap: fn(Box<T>) -> Body, faults: &mut Vec<Fault>) -> Option<Body> {
        let mut value = self.without_nulls().into_owned();
        structural::set_defaults(self.kind, &mut value);
        let read = typed::read::<T>(&value);
        let metadata = read.unknown.into_iter().filter(|path| path.starts_with("metadata."));
        let unknown: Vec<String> = metadata.chain(structural::unknown_fields(self.kind, self.value)).collect();
        *self.unknown_fields += unknown.len();
        faults.extend(unknown.iter().map(|path| self.error(path, go::unknown_field(self.api, self.kind, path))));
        for (path, what) in read.wrong.iter().filter(|(path, _)| read.body.is_none() || path.starts_with("metadata")) {
            let words = self.unmarshal(path, what);
            faults.push(self.error(path, words.unwrap_or_else(|| format!("{path}: {what}"))));
        }
        read.body.map(|body| wrap(Box::new(body)))
    }

    /// Reads a kind of ours. For an unknown field the most similar known one is named.
    fn ours<T: DeserializeOwned>(&mut self, wrap: fn(Box<T>) -> Body, faults: &mut Vec<Fault>) -> Option<Body> {
        let read = typed::read::<T>(self.value);
        let message = |path: &str, what: &Misfit| if path.is_empty() { what.to_string() } else { format!("{path}: {what}") };
        faults.extend(read.wrong.iter().map(|(path, what)| self.error(path, message(path, what))));
        // `metadata` is Kubernetes' own type, and the process's configuration may have none. `status` is what a cluster says of an object.
        for path in read.unknown.iter().filter(|path| !matches!(path.as_str(), "metadata" | "status")) {
            let field = path.rsplit('.').next().unwrap_or(path);
            let close = ours::FIELDS.iter().map(|known| (strsim::jaro_winkler(field, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = close.filter(|(score, _)| *score > 0.8).map(|(_, known)| format!("did you mean {known:?}?"));
            *self.unknown_fields += 1;
            faults.push(error(self.origin, self.key, path, format!("unknown field {path:?}"), hint));
        }
        read.body.map(|body| wrap(Box::new(body)))
    }

    fn without_nulls(&self) -> Cow<'_, Value> {
        if !nulls::any(self.value) {
            return Cow::Borrowed(self.value);
        }
        let mut value = self.value.clone();
        nulls::unset(&mut value, "");
        Cow::Owned(value)
    }

    /// The API server's message for a value that does not fit its type, where its message is known.
    fn unmarshal(&self, path: &str, what: &Misfit) -> Option<String> {
        let Misfit::Value { wanted, .. } = what else { return None };
        go::cannot_unmarshal(self.api, self.kind, self.value, path, *wanted)
    }

    fn error(&self, path: &str, message: String) -> Fault {
        error(self.origin, self.key, path, message, None)
    }
}

/// Reads a document that is no object, and tells every fault. Unknown fields are errors.
pub fn plain<T: DeserializeOwned>(document: &Document) -> (Option<T>, Vec<Fault>) {
    let read = typed::read::<T>(&document.value);
    let fault = |path: &str, message: String| Fault {
        severity: Severity::Error,
        place: Some(document.origin.place(path)),
        object: None,
        message: if path.is_empty() { message } else { format!("{path}: {message}") },
        expected: None,
    };
    let wrong = read.wrong.into_iter().map(|(path, what)| fault(&path, what.to_string()));
    let unknown = read.unknown.iter().map(|path| fault(path, "there is no such field".to_owned()));
    let faults: Vec<Fault> = wrong.chain(unknown).collect();
    (read.body, faults)
}
