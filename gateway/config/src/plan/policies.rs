//! Which policy counts for what (GEP-713), and policies that count for nothing.

use super::compile::Compiler;
use super::services::{Forwarding, ours};
use super::*;
use crate::object::ours::TargetRef;
use crate::object::{BackendTrafficPolicy, Body, ClientTrafficPolicy, warning};

impl<'a> Compiler<'a> {
    pub(super) fn backend_policy(&self, service: &Object, port: &str) -> Option<(&'a Arc<Object>, &'a BackendTrafficPolicy)> {
        let policies = self.policies("Service", &service.key.namespace, &service.key.name);
        let policies = policies.filter_map(|o| match &o.body {
            Body::BackendTrafficPolicy(policy) => Some((o, &**policy)),
            _ => None,
        });
        best(policies.filter_map(|(o, p)| Some((rank(o, specificity(&p.spec.target_refs, "Service", &service.key.name, port)?), (o, p)))))
    }

    pub(super) fn client_policy(&self, kind: &str, target: &Object, section: &str) -> Option<(&'a Arc<Object>, &'a ClientTrafficPolicy)> {
        let policies = self.policies(kind, &target.key.namespace, &target.key.name);
        let policies = policies.filter_map(|o| match &o.body {
            Body::ClientTrafficPolicy(policy) => Some((o, &**policy)),
            _ => None,
        });
        best(policies.filter_map(|(o, p)| Some((rank(o, specificity(&p.spec.target_refs, kind, &target.key.name, section)?), (o, p)))))
    }

    /// Targets that a policy loses to another of its kind.
    pub(super) fn shadowed(&mut self, object: &Arc<Object>) {
        let Some(targets) = targets(object) else { return };
        for (i, target) in targets.iter().enumerate() {
            let others = self.policies(&target.kind, &object.key.namespace, &target.name).filter(|o| o.key.kind == object.key.kind);
            let same = |t: &TargetRef| {
                let section = |t: &TargetRef| t.section_name.clone().unwrap_or_default();
                t.kind == target.kind && t.name == target.name && section(t) == section(target)
            };
            let others = others.filter(|o| self::targets(o).is_some_and(|targets| targets.iter().any(same)));
            let Some(winner) = best(others.map(|o| (rank(o, 0), o))).filter(|winner| winner.key != object.key) else { continue };
            let path = format!("spec.targetRefs[{i}]");
            let message = format!("{path}: Conflicted: {} targets the same, and is older or comes first by name", winner.key);
            self.part.policy_faults[2].push(warning(&object.origin, &object.key, &path, message, None));
        }
    }

    /// Targets of a policy that are not there, or are nothing that is served here.
    pub(super) fn dangling(&mut self, object: &Arc<Object>) {
        let Some(targets) = targets(object) else { return };
        for (i, target) in targets.iter().enumerate() {
            let (field, what, hint) = match self.object(&target.kind, &object.key.namespace, &target.name) {
                None => ("name", format!("there is no {} {:?} in namespace {:?}", target.kind, target.name, object.key.namespace), None),
                Some(there) => match self.not_served(there, target.section_name.as_deref()) {
                    Some(NotServed::Whole(why)) => ("name", format!("has no effect: {} {why}", there.key), None),
                    Some(NotServed::Section(what, names)) => {
                        let section = target.section_name.as_deref().unwrap_or_default();
                        let hint = if names.is_empty() { "none has a name".to_owned() } else { format!("one of: {}", names.join(", ")) };
                        ("sectionName", format!("{} has no {what} {section:?}", there.key), Some(hint))
                    }
                    None => continue,
                },
            };
            let path = format!("spec.targetRefs[{i}].{field}");
            self.part.policy_faults[0].push(warning(&object.origin, &object.key, &path, format!("{path}: {what}"), hint));
        }
    }

    /// Why nothing of a policy's target is served.
    fn not_served(&self, target: &Object, section: Option<&str>) -> Option<NotServed> {
        let whole = |why: &str| Some(NotServed::Whole(why.to_owned()));
        let (what, names): (_, Vec<String>) = match &target.body {
            Body::Service(service) => {
                let Some(spec) = ours(service) else { return whole("is left to another proxy") };
                match Forwarding::of(spec) {
                    Forwarding::Headless => return whole("is headless, and not forwarded"),
                    Forwarding::ExternalName => return whole("is of type ExternalName, and not forwarded"),
                    Forwarding::Forwarded => {}
                }
                let ports = spec.ports.iter().flatten().filter(|port| u16::try_from(port.port).is_ok());
                ("port", ports.filter_map(|port| port.name.clone()).filter(|name| !name.is_empty()).collect())
            }
            Body::Gateway(gateway) => {
                if !self.ours(&gateway.spec.gateway_class_name) {
                    return whole("is another gateway's, by its gatewayClassName");
                }
                ("listener", gateway.spec.listeners.iter().map(|l| l.name.clone()).collect())
            }
            _ => return None,
        };
        let section = section?;
        (!names.iter().any(|name| name == section)).then_some(NotServed::Section(what, names))
    }
}

/// See [`Compiler::not_served`].
enum NotServed {
    Whole(String),
    /// What sections are here, and how they are called.
    Section(&'static str, Vec<String>),
}

/// How policies compete, the least wins: the more specific, then the older, then the first by name (GEP-713).
type Rank = (std::cmp::Reverse<u8>, bool, String, String);

pub(super) fn rank(policy: &Object, specificity: u8) -> Rank {
    let created = created(policy).unwrap_or_default();
    (std::cmp::Reverse(specificity), created.is_empty(), created, policy.key.name.clone())
}

/// `creationTimestamp` as an API server writes it: in UTC and whole seconds, which sorts as text. Files seldom have one, and then the name decides.
pub(super) fn created(object: &Object) -> Option<String> {
    let time = object.body.metadata()?.creation_timestamp.as_ref()?;
    serde_json::to_value(time).ok()?.as_str().map(str::to_owned)
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
