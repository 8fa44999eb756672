//! Which policy counts for what (GEP-713), and policies that count for nothing.

use serde_json::Value;

use super::compile::Compiler;
use super::*;
use crate::object::ours::TargetRef;
use crate::object::{BackendTrafficPolicy, Body, ClientTrafficPolicy, warning};

impl<'a> Compiler<'a> {
    pub(super) fn backend_policy(&self, service: &Object, port: &str) -> Option<(&'a Arc<Object>, &'a BackendTrafficPolicy)> {
        let policies = self.objects.iter().filter_map(|o| match &o.body {
            Body::BackendTrafficPolicy(policy) if o.key.namespace == service.key.namespace => Some((o, &**policy)),
            _ => None,
        });
        best(policies.filter_map(|(o, p)| Some((rank(o, specificity(&p.spec.target_refs, "Service", &service.key.name, port)?), (o, p)))))
    }

    pub(super) fn client_policy(&self, kind: &str, target: &Object, section: &str) -> Option<(&'a Arc<Object>, &'a ClientTrafficPolicy)> {
        let policies = self.objects.iter().filter_map(|o| match &o.body {
            Body::ClientTrafficPolicy(policy) if o.key.namespace == target.key.namespace => Some((o, &**policy)),
            _ => None,
        });
        best(policies.filter_map(|(o, p)| Some((rank(o, specificity(&p.spec.target_refs, kind, &target.key.name, section)?), (o, p)))))
    }

    /// Policies that lose the very same target to another of their kind.
    pub(super) fn shadowed(&mut self) {
        let mut winners: BTreeMap<(&str, &str, &str, &str, &str), (Rank, &Object)> = BTreeMap::new();
        let policies = || self.objects.iter().filter_map(|o| targets(o).map(|targets| (o, targets)));
        let id = |o: &'a Object, t: &'a TargetRef| {
            (o.key.kind.as_str(), o.key.namespace.as_str(), t.kind.as_str(), t.name.as_str(), t.section_name.as_deref().unwrap_or_default())
        };
        for (object, targets) in policies() {
            for target in targets {
                let (rank, id) = (rank(object, 0), id(object, target));
                if winners.get(&id).is_none_or(|(other, _)| rank < *other) {
                    winners.insert(id, (rank, object));
                }
            }
        }
        let mut faults = Vec::new();
        for (object, targets) in policies() {
            for (i, target) in targets.iter().enumerate() {
                if let Some((_, winner)) = winners.get(&id(object, target)).filter(|(_, winner)| winner.key != object.key) {
                    let path = format!("spec.targetRefs[{i}]");
                    let message = format!("{path}: Conflicted: {} targets the same, and is older or comes first by name", winner.key);
                    faults.push(warning(&object.origin, &object.key, &path, message, None));
                }
            }
        }
        self.plan.faults.append(&mut faults);
    }

    /// Policies whose target is not there.
    pub(super) fn dangling(&mut self) {
        for object in self.objects {
            let Some(targets) = targets(object) else { continue };
            for (i, target) in targets.iter().enumerate() {
                let there = self
                    .objects
                    .iter()
                    .any(|o| o.key.kind == target.kind && o.key.namespace == object.key.namespace && o.key.name == target.name);
                if !there {
                    let path = format!("spec.targetRefs[{i}].name");
                    let message = format!("{path}: there is no {} {:?} in namespace {:?}", target.kind, target.name, object.key.namespace);
                    self.plan.faults.push(warning(&object.origin, &object.key, &path, message, None));
                }
            }
        }
    }
}

/// How policies compete, the least wins: the more specific, then the older, then the first by name (GEP-713).
type Rank = (std::cmp::Reverse<u8>, bool, String, String);

pub(super) fn rank(policy: &Object, specificity: u8) -> Rank {
    let created = created(policy).unwrap_or_default();
    (std::cmp::Reverse(specificity), created.is_empty(), created, policy.key.name.clone())
}

/// `creationTimestamp`; RFC 3339 in UTC sorts as text. Files seldom have one, and then the name decides.
pub(super) fn created(policy: &Object) -> Option<String> {
    policy.value.pointer("/metadata/creationTimestamp").and_then(Value::as_str).map(str::to_owned)
}

pub(super) fn targets(object: &Object) -> Option<&Vec<TargetRef>> {
    match &object.body {
        Body::BackendTrafficPolicy(p) => Some(&p.spec.target_refs),
        Body::ClientTrafficPolicy(p) => Some(&p.spec.target_refs),
        _ => None,
    }
}

/// 1 for the whole object, 2 for the section; none when the policy does not target it.
pub(super) fn specificity(targets: &[TargetRef], kind: &str, name: &str, section: &str) -> Option<u8> {
    let fits = targets.iter().filter(|t| t.kind == kind && t.name == name);
    fits.filter_map(|t| match &t.section_name {
        None => Some(1),
        Some(wanted) => (wanted == section).then_some(2),
    })
    .max()
}

pub(super) fn best<T>(found: impl Iterator<Item = (Rank, T)>) -> Option<T> {
    found.min_by(|a, b| a.0.cmp(&b.0)).map(|(_, found)| found)
}
