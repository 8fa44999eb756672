//! Which policy counts for what (GEP-713), what becomes of each policy at its targets, and which policies count for nothing.

use sluicegate_model::sorted::Named;

use super::compile::Compiler;
use super::effect::Counted;
use super::gateways::Apart;
use super::services::Forwarding;
use super::*;
use crate::object::ours::TargetRef;
use crate::object::{BackendTrafficPolicy, Body, ClientTrafficPolicy, warning};

/// A BackendTrafficPolicy, ClientTrafficPolicy or XBackendTrafficPolicy.
#[derive(Clone, Debug)]
pub struct PlannedPolicy {
    /// The policy.
    pub object: Arc<Object>,
    /// The targets of the policy, without those that another implementation serves.
    pub targets: Vec<PolicyTarget>,
    /// Which of the policy's settings have no effect, and why.
    pub without_effect: Vec<String>,
}

impl Named for PlannedPolicy {
    fn name(&self) -> (&str, &str) {
        (&self.object.key.namespace, &self.object.key.name)
    }
}

/// A target of a policy.
#[derive(Clone, Debug)]
pub struct PolicyTarget {
    /// The reference as it is written.
    pub reference: TargetRef,
    /// Whether the policy counts at this target.
    pub accepted: Verdict,
}

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

    /// Plans a policy of ours: what becomes of it at each of its targets. `uses` is what the policy counts for.
    pub(super) fn policy(&mut self, object: &Arc<Object>, uses: &[&Counted]) {
        let dangling = self.dangling(object);
        self.without_effect(object, uses);
        let shadowed = self.shadowed(object);
        let mut targets = Vec::new();
        for (target, (dangling, shadowed)) in targets_of(object).zip(dangling.into_iter().zip(shadowed)) {
            // A target of another gateway is not reported here.
            if let Some(accepted) = dangling {
                targets.push(PolicyTarget { reference: target.clone(), accepted: accepted.and(shadowed) });
            }
        }
        let without_effect = self.part.policy_faults[1].iter().map(|fault| fault.message.clone()).collect();
        self.part.policy = Some(Arc::new(PlannedPolicy { object: object.clone(), targets, without_effect }));
    }

    /// For each target of a policy, whether the policy loses it to another of its kind.
    fn shadowed(&mut self, object: &Arc<Object>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (i, target) in targets_of(object).enumerate() {
            let others = self.policies(&target.kind, &object.key.namespace, &target.name).filter(|o| o.key.kind == object.key.kind);
            let same = |t: &TargetRef| {
                let section = |t: &TargetRef| t.section_name.clone().unwrap_or_default();
                t.kind == target.kind && t.name == target.name && section(t) == section(target)
            };
            let others = others.filter(|o| targets_of(o).any(same));
            let winner = best(others.map(|o| (rank(o, 0), o))).filter(|winner| winner.key != object.key);
            verdicts.push(winner.map_or(Ok(()), |winner| Err(self.conflicted(object, i, winner))));
        }
        verdicts
    }

    /// Refuses a policy at its target `i`, for which another one counts.
    pub(super) fn conflicted(&mut self, object: &Object, i: usize, winner: &Object) -> Refusal {
        let path = format!("spec.targetRefs[{i}]");
        let refusal = Refusal::new(Reason::Conflicted, format!("{} targets the same, and is older or comes first by name", winner.key));
        self.part.policy_faults[2].push(warning(&object.origin, &object.key, &path, refusal.at(&path), None));
        Refusal { message: format!("{path}: {}", refusal.message), ..refusal }
    }

    /// For each target of a policy, whether it exists and is served here. `None`: it is left to another implementation.
    fn dangling(&mut self, object: &Arc<Object>) -> Vec<Option<Verdict>> {
        let mut verdicts = Vec::new();
        for (i, target) in targets_of(object).enumerate() {
            let (field, reason, what, hint) = match self.object(&target.kind, &object.key.namespace, &target.name) {
                None => {
                    let what = format!("there is no {} {:?} in namespace {:?}", target.kind, target.name, object.key.namespace);
                    ("name", Some(Reason::TargetNotFound), what, None)
                }
                Some(there) => match self.not_served(there, target.section_name.as_deref(), &object.key.kind) {
                    Some(NotServed::Whole(why)) => ("name", Some(Reason::Invalid), format!("has no effect: {} {why}", there.key), None),
                    Some(NotServed::Others(why)) => ("name", None, format!("has no effect: {} {why}", there.key), None),
                    Some(NotServed::Section(what, names)) => {
                        let section = target.section_name.as_deref().unwrap_or_default();
                        let hint = if names.is_empty() { "none has a name".to_owned() } else { format!("one of: {}", names.join(", ")) };
                        ("sectionName", Some(Reason::TargetNotFound), format!("{} has no {what} {section:?}", there.key), Some(hint))
                    }
                    None => {
                        verdicts.push(Some(Ok(())));
                        continue;
                    }
                },
            };
            let path = format!("spec.targetRefs[{i}].{field}");
            let message = format!("{path}: {what}");
            self.part.policy_faults[0].push(warning(&object.origin, &object.key, &path, message.clone(), hint));
            verdicts.push(reason.map(|reason| Err(Refusal::new(reason, message))));
        }
        verdicts
    }

    /// Why nothing of a policy's target is served. `None`: it is served.
    fn not_served(&self, target: &Object, section: Option<&str>, policy: &str) -> Option<NotServed> {
        let whole = |why: &str| Some(NotServed::Whole(why.to_owned()));
        let others = |why: &str| Some(NotServed::Others(why.to_owned()));
        let (what, names): (_, Vec<String>) = match &target.body {
            body if policy == "XBackendTrafficPolicy" && !matches!(body, Body::Service(_)) => {
                return whole("is no Service, which alone such a policy can be for");
            }
            Body::Service(service) => {
                let Some(spec) = self.our_service(service) else { return others("is left to another proxy") };
                if policy == "ClientTrafficPolicy" && !self.serves(service) {
                    return others("is left to another proxy");
                }
                match Forwarding::of(spec) {
                    // Routes may lead to the endpoints of a headless Service, and a BackendTrafficPolicy counts for them.
                    Forwarding::Headless if policy == "ClientTrafficPolicy" => return whole("is headless, and not forwarded"),
                    Forwarding::ExternalName => return whole("is of type ExternalName, and not forwarded"),
                    Forwarding::Forwarded | Forwarding::Headless => {}
                }
                let ports = spec.ports.iter().flatten().filter(|port| u16::try_from(port.port).is_ok());
                ("port", ports.filter_map(|port| port.name.clone()).filter(|name| !name.is_empty()).collect())
            }
            Body::Gateway(gateway) => {
                if !self.ours(&gateway.spec.gateway_class_name) {
                    return others("is another gateway's, by its gatewayClassName");
                }
                ("listener", gateway.spec.listeners.iter().map(|l| l.name.clone()).collect())
            }
            Body::ListenerSet(set) => {
                match self.gateway_of(target, set) {
                    Err(Apart::Others) => return others("is of another gateway's Gateway"),
                    Err(Apart::Nowhere(what, _) | Apart::Refused(_, what)) => {
                        return whole(&format!("adds its listeners to no Gateway: {what}"));
                    }
                    Ok(_) => {}
                }
                ("listener", set.spec.listeners.iter().map(|l| l.name.clone()).collect())
            }
            Body::HttpRoute(route) => ("rule", route.spec.rules.iter().flatten().filter_map(|rule| rule.name.clone()).collect()),
            Body::GrpcRoute(route) => ("rule", route.spec.rules.iter().flatten().filter_map(|rule| rule.name.clone()).collect()),
            Body::TlsRoute(route) => ("rule", route.spec.rules.iter().filter_map(|rule| rule.name.clone()).collect()),
            Body::TcpRoute(route) | Body::UdpRoute(route) => {
                ("rule", route.spec.rules.iter().filter_map(|rule| rule.name.clone()).collect())
            }
            _ => return None,
        };
        let section = section?;
        (!names.iter().any(|name| name == section)).then_some(NotServed::Section(what, names))
    }
}

/// Why nothing of a policy's target is served; see [`Compiler::not_served`].
enum NotServed {
    Whole(String),
    /// Another implementation serves the target.
    Others(String),
    /// The target has no such section. This is what sections of it are called, and the names of those that it has.
    Section(&'static str, Vec<String>),
}

/// The rank of a policy among those with the same target; the least wins: the more specific, then the older, then the first by name (GEP-713).
type Rank = (std::cmp::Reverse<u8>, bool, String, String);

pub(super) fn rank(policy: &Object, specificity: u8) -> Rank {
    let created = created(policy).unwrap_or_default();
    (std::cmp::Reverse(specificity), created.is_empty(), created, policy.key.name.clone())
}

/// The `creationTimestamp` as an API server writes it: in UTC and whole seconds, so it sorts as text. Objects in files seldom have one; then the name decides.
pub(crate) fn created(object: &Object) -> Option<String> {
    let time = object.body.metadata()?.creation_timestamp.as_ref()?;
    serde_json::to_value(time).ok()?.as_str().map(str::to_owned)
}

pub(super) fn targets(object: &Object) -> Option<&Vec<TargetRef>> {
    match &object.body {
        Body::BackendTrafficPolicy(p) => Some(&p.spec.target_refs),
        Body::ClientTrafficPolicy(p) => Some(&p.spec.target_refs),
        Body::XBackendTrafficPolicy(p) => Some(&p.spec.target_refs),
        _ => None,
    }
}

/// The targets of a policy of ours. Other objects have none.
fn targets_of(object: &Object) -> impl Iterator<Item = &TargetRef> {
    targets(object).into_iter().flatten()
}

/// How specific a policy's target is: 1 for the whole object, 2 for the section. `None`: the policy does not target it.
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
