//! References to Secrets and ConfigMaps with certificates and authorities. If something is wrong with one, the fault is at the reference.

use sluicegate_model::tls::{Authorities, Certificate as Chain};

use super::compile::{Compiler, Read};
use super::*;
use crate::object::ours::ObjectRef;
use crate::object::{Body, Secret, TLS_TYPE, error};

use Referent::{Authority, Certificate};

/// A reference at the field `path` of an object.
pub(super) struct Reference<'r> {
    at: &'r Object,
    path: String,
    kind: &'r str,
    group: Option<&'r str>,
    name: &'r str,
    namespace: &'r str,
}

/// What a reference should lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Referent {
    /// A certificate that is shown to the other side.
    Certificate,
    /// Certificates of authorities, by which the other side's certificate is verified.
    Authority,
}

/// A reference that may not be used.
pub(super) struct Refused {
    /// What the reference should have led to.
    pub(super) of: Referent,
    /// Why the reference may not be used.
    pub(super) refusal: Refusal,
}

/// The field of a reference that is at fault.
#[derive(Clone, Copy)]
enum Field {
    Group,
    Kind,
    Name,
    Namespace,
}

impl<'r> Reference<'r> {
    pub(super) fn new(
        at: &'r Object,
        path: String,
        (group, kind): (Option<&'r str>, &'r str),
        name: &'r str,
        namespace: Option<&'r str>,
    ) -> Self {
        Self { at, path, kind, group, name, namespace: namespace.unwrap_or(&at.key.namespace) }
    }

    /// The group that the reference names, if it is not the target's. Secrets and ConfigMaps are of the core group, `""`.
    fn wrong_group(&self) -> Option<&'r str> {
        self.group.filter(|group| !group.is_empty())
    }

    pub(super) fn ours(at: &'r Object, path: String, given: &'r ObjectRef) -> Self {
        Self::new(at, path, (Some(&given.group), &given.kind), &given.name, given.namespace.as_deref())
    }
}

impl<'a> Compiler<'a> {
    /// The certificate in the Secret that is referred to. If something is wrong with it, the fault is at the reference.
    pub(super) fn certificate(&mut self, reference: &Reference<'_>) -> Option<Arc<Chain>> {
        if let Some(group) = reference.wrong_group() {
            return self.wrong_group(Certificate, reference, group);
        }
        if reference.kind != "Secret" {
            return self.broken(
                Certificate,
                reference,
                Field::Kind,
                format!("Unsupported value: {:?}: supported values: \"Secret\"", reference.kind),
                None,
            );
        }
        match self.referred(Certificate, reference)? {
            Body::Secret(secret) if secret.type_() != TLS_TYPE => {
                let what = format!("Secret {}/{} is of type {:?}", reference.namespace, reference.name, secret.type_());
                self.broken(Certificate, reference, Field::Name, what, Some(format!("a Secret of type {TLS_TYPE}")))
            }
            // A Secret with a bad certificate is not among the objects, but its last good version may be.
            Body::Secret(secret) => secret.certificate().ok().cloned(),
            _ => None,
        }
    }

    /// The authorities of all references. `None`: one of the references is broken.
    pub(super) fn authorities(&mut self, references: &[Reference<'_>]) -> Option<Authorities> {
        let read: Vec<Option<Authorities>> = references.iter().map(|reference| self.authority(reference)).collect();
        Authorities::join(read.into_iter().collect::<Option<Vec<_>>>()?)
    }

    fn authority(&mut self, reference: &Reference<'_>) -> Option<Authorities> {
        if let Some(group) = reference.wrong_group() {
            return self.wrong_group(Authority, reference, group);
        }
        if !matches!(reference.kind, "ConfigMap" | "Secret") {
            let what = format!("Unsupported value: {:?}: supported values: \"ConfigMap\", \"Secret\"", reference.kind);
            return self.broken(Authority, reference, Field::Kind, what, None);
        }
        let pem = match self.referred(Authority, reference)? {
            Body::Secret(secret) => Secret::field(secret, "ca.crt"),
            Body::ConfigMap(map) => {
                let text = map.data.as_ref().and_then(|data| data.get("ca.crt")).map(|text| text.as_bytes());
                text.or_else(|| map.binary_data.as_ref()?.get("ca.crt").map(|bytes| bytes.0.as_slice()))
            }
            _ => None,
        };
        match pem.ok_or_else(|| "is not set".to_owned()).and_then(Authorities::from_pem) {
            Ok(authorities) => Some(authorities),
            Err(wrong) => {
                let what = format!("data[ca.crt] of {} {}/{} {wrong}", reference.kind, reference.namespace, reference.name);
                self.broken(Authority, reference, Field::Name, what, Some("certificates of authorities in PEM".to_owned()))
            }
        }
    }

    /// The object that a reference names, if it exists and may be referred to.
    fn referred(&mut self, of: Referent, reference: &Reference<'_>) -> Option<&'a Body> {
        let Reference { at, kind, name, namespace, .. } = reference;
        if *namespace != at.key.namespace && !self.granted(reference) {
            let what = format!("no ReferenceGrant in namespace {namespace:?} lets {} refer to {kind} {name:?}", at.key);
            return self.broken(of, reference, Field::Namespace, what, None);
        }
        match self.object(kind, namespace, name) {
            Some(object) => Some(&object.body),
            None => self.broken(of, reference, Field::Name, format!("there is no {kind} {name:?} in namespace {namespace:?}"), None),
        }
    }

    /// Whether a ReferenceGrant of the target's namespace allows the reference (GEP-709).
    pub(super) fn granted(&self, reference: &Reference<'_>) -> bool {
        let Reference { at, kind, name, namespace, .. } = reference;
        let to_group = reference.group.unwrap_or_default();
        let standard = matches!(at.key.kind.as_str(), "Gateway" | "ListenerSet") || RouteKind::named(&at.key.kind).is_some();
        let group = if standard { "gateway.networking.k8s.io" } else { "sluicegate.dev" };
        self.read(Read::Grants((*namespace).to_owned()));
        self.objects.of_namespace("ReferenceGrant", namespace).any(|o| {
            let Body::ReferenceGrant(grant) = &o.body else { return false };
            let from = grant.spec.from.iter().any(|f| f.group == group && f.kind == at.key.kind && f.namespace == at.key.namespace);
            let to = |name: &str| {
                grant.spec.to.iter().any(|t| t.group == to_group && t.kind == *kind && t.name.as_deref().is_none_or(|n| n == name))
            };
            from && to(name)
        })
    }

    fn wrong_group<T>(&mut self, of: Referent, reference: &Reference<'_>, group: &str) -> Option<T> {
        let hint = format!("{} is of the core group, which is written \"\" or left out", reference.kind);
        self.broken(of, reference, Field::Group, format!("Unsupported value: {group:?}: supported values: \"\""), Some(hint))
    }

    fn broken<T>(&mut self, of: Referent, reference: &Reference<'_>, field: Field, what: String, expected: Option<String>) -> Option<T> {
        let (field, reason) = match field {
            Field::Group => ("group", Reason::InvalidKind),
            Field::Kind => ("kind", Reason::InvalidKind),
            Field::Name => ("name", Reason::NotFound),
            Field::Namespace => ("namespace", Reason::RefNotPermitted),
        };
        let path = format!("{}.{field}", reference.path);
        let at = reference.at;
        self.refused.push(Refused { of, refusal: Refusal::new(reason, format!("{path}: {what}")) });
        self.part.faults.push(error(&at.origin, &at.key, &path, format!("{path}: {what}"), expected));
        None
    }
}
