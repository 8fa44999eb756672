//! BackendTLSPolicies (GEP-1897): which one counts for a service port, and what each means by itself, for its status.

use gateway_api::apis::standard::backendtlspolicies::{BackendTlsPolicy, BackendTlsPolicyTargetRefs};
use sluicegate_model::tls::Trust;

use super::compile::Compiler;
use super::policies::{best, rank};
use super::references::Reference;
use super::*;
use crate::object::{Body, warning};

/// A BackendTLSPolicy.
#[derive(Clone, Debug)]
pub struct PlannedTlsPolicy {
    /// The policy.
    pub object: Arc<Object>,
    /// Whether the policy can be followed, whatever its targets are.
    pub accepted: Verdict,
    /// Whether the certificates of authorities that the policy refers to can be used.
    pub resolved: Verdict,
    /// The Services that the policy targets, as far as they exist.
    pub targets: Vec<TlsTarget>,
}

/// A Service, or ports of it, that a BackendTLSPolicy targets.
#[derive(Clone, Debug)]
pub struct TlsTarget {
    /// The name of the Service, which is in the policy's namespace.
    pub service: String,
    /// The numbers of the ports that are meant.
    pub ports: Vec<u16>,
    /// Whether the policy counts at this target.
    pub accepted: Verdict,
}

impl<'a> Compiler<'a> {
    pub(super) fn tls_policy(&mut self, object: &Arc<Object>, policy: &BackendTlsPolicy) {
        let refs = policy.spec.validation.ca_certificate_refs.as_deref().unwrap_or_default();
        let before = self.refused.len();
        let trust = self.standard_trust(object, policy);
        let refused = &self.refused[before..];
        let all: Vec<&str> = refused.iter().map(|refused| refused.refusal.message.as_str()).collect();
        let all = all.join("; ");
        let resolved = match refused.first() {
            None => Ok(()),
            Some(first) if first.refusal.reason == Reason::InvalidKind => Err(Refusal::new(Reason::InvalidKind, all.clone())),
            Some(_) => Err(Refusal::new(Reason::InvalidCACertificateRef, all.clone())),
        };
        let accepted = if refs.is_empty() && trust.is_none() {
            Err(Refusal::new(Reason::Invalid, "spec.validation.wellKnownCACertificates: supported values: \"System\""))
        } else if !refused.is_empty() && refused.len() == refs.len() {
            Err(Refusal::new(Reason::NoValidCACertificate, all))
        } else {
            Ok(())
        };
        let targets = self.tls_targets(object, policy);
        self.part.tls_policy = Some(Arc::new(PlannedTlsPolicy { object: object.clone(), accepted, resolved, targets }));
    }

    fn tls_targets(&mut self, object: &Object, policy: &BackendTlsPolicy) -> Vec<TlsTarget> {
        let mut targets = Vec::new();
        for (i, target) in policy.spec.target_refs.iter().enumerate() {
            // Targets of other kinds were reported when the object was validated.
            if target.kind != "Service" || !target.group.is_empty() {
                continue;
            }
            let (namespace, section) = (&object.key.namespace, target.section_name.as_deref());
            let Some(Body::Service(service)) = self.object("Service", namespace, &target.name).map(|there| &there.body) else {
                let path = format!("spec.targetRefs[{i}].name");
                let message = format!("{path}: there is no Service {:?} in namespace {namespace:?}", target.name);
                self.part.policy_faults[0].push(warning(&object.origin, &object.key, &path, message, None));
                continue;
            };
            let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
            let meant = ports.iter().filter(|port| section.is_none_or(|section| port.name.as_deref() == Some(section)));
            let meant: Vec<u16> = meant.filter_map(|port| u16::try_from(port.port).ok()).collect();
            let accepted = match section.filter(|_| meant.is_empty()) {
                Some(section) => {
                    let path = format!("spec.targetRefs[{i}].sectionName");
                    let message = format!("{path}: Service {namespace}/{} has no port {section:?}", target.name);
                    self.part.policy_faults[0].push(warning(&object.origin, &object.key, &path, message.clone(), None));
                    Err(Refusal::new(Reason::TargetNotFound, message))
                }
                None => self.undisputed(object, i, &target.name, section),
            };
            targets.push(TlsTarget { service: target.name.clone(), ports: meant, accepted });
        }
        targets
    }

    /// Checks that no other policy with the same target, a Service or a section of it, counts before this one.
    fn undisputed(&mut self, object: &Object, i: usize, service: &str, section: Option<&str>) -> Verdict {
        let others = self.tls_policies(&object.key.namespace, service).filter(|(_, other)| {
            let same = |t: &BackendTlsPolicyTargetRefs| t.kind == "Service" && t.name == service && t.section_name.as_deref() == section;
            other.spec.target_refs.iter().any(same)
        });
        match best(others.map(|(other, _)| (rank(other, 0), other))).filter(|winner| winner.key != object.key) {
            None => Ok(()),
            Some(winner) => Err(self.conflicted(object, i, winner)),
        }
    }

    fn tls_policies(&self, namespace: &str, service: &str) -> impl Iterator<Item = (&'a Arc<Object>, &'a BackendTlsPolicy)> + use<'a> {
        self.policies("Service", namespace, service).filter_map(|object| match &object.body {
            Body::BackendTlsPolicy(policy) => Some((object, &**policy)),
            _ => None,
        })
    }

    /// The BackendTLSPolicy that counts for a service port: the more specific, then the oldest (GEP-713).
    pub(super) fn backend_tls_policy(&self, service: &Object, port: &str) -> Option<(&'a Arc<Object>, &'a BackendTlsPolicy)> {
        let policies = self.tls_policies(&service.key.namespace, &service.key.name);
        best(policies.filter_map(|(object, policy)| {
            let fits = policy.spec.target_refs.iter().filter(|t| t.kind == "Service" && t.name == service.key.name);
            let specificity = fits.filter_map(|target| match &target.section_name {
                None => Some(1),
                Some(section) => (section == port).then_some(2),
            });
            Some((rank(object, specificity.max()?), (object, policy)))
        }))
    }

    /// The authorities that a policy trusts. `None`: none that are known here, or those that it refers to cannot be used.
    pub(super) fn standard_trust(&mut self, object: &Object, policy: &BackendTlsPolicy) -> Option<Trust> {
        let validation = &policy.spec.validation;
        match validation.ca_certificate_refs.as_deref().unwrap_or_default() {
            // Well-known authorities of another implementation are not known here, so nobody is trusted.
            [] => (validation.well_known_ca_certificates.as_deref() == Some("System")).then_some(Trust::System),
            refs => {
                let path = |i| format!("spec.validation.caCertificateRefs[{i}]");
                let refs = refs.iter().enumerate();
                let refs: Vec<_> = refs.map(|(i, r)| Reference::new(object, path(i), (Some(&r.group), &r.kind), &r.name, None)).collect();
                Some(Trust::Only(self.authorities(&refs)?))
            }
        }
    }
}
