//! Service ports as those routers see them whose Gateway has a certificate of its own to show to endpoints (GEP-3155). Each is one more service port of the
//! snapshot, which is the same in all, its pools and counters too, but in how its endpoints are met; so nothing on a request's way need know of it.

use std::collections::HashMap;
use std::sync::Arc;

use sluicegate_config::plan::PlannedIdentity;
use sluicegate_model::persistent::Map;
use sluicegate_model::snapshot::{EndpointTls, ServiceIndex, ServicePort};
use sluicegate_model::tls::{UpstreamSettings, UpstreamTls};

use super::indices::Indices;

/// By the index of the service port that they are made of.
#[derive(Default)]
pub(super) struct Identities(HashMap<ServiceIndex, Vec<Seen>>);

struct Seen {
    identity: PlannedIdentity,
    index: ServiceIndex,
    used: bool,
    /// What it was made of, and how its endpoints are met.
    made: Option<(Arc<ServicePort>, EndpointTls)>,
}

impl Identities {
    /// All routers are bound anew: what none of them [asks for](Self::of) is not used any more.
    pub(super) fn begin(&mut self) {
        self.0.values_mut().flatten().for_each(|seen| seen.used = false);
    }

    /// Where a service port stands for routers of this identity.
    pub(super) fn of(&mut self, port: ServiceIndex, identity: &PlannedIdentity, indices: &mut Indices) -> ServiceIndex {
        if *identity == PlannedIdentity::Unset {
            return port;
        }
        let all = self.0.entry(port).or_default();
        if let Some(known) = all.iter_mut().find(|seen| seen.identity == *identity) {
            known.used = true;
            return known.index;
        }
        let index = indices.take();
        all.push(Seen { identity: identity.clone(), index, used: true, made: None });
        index
    }

    /// Removes what is not used any more, and has the rest [follow](Self::follow).
    pub(super) fn settle(&mut self, services: &mut Map<ServiceIndex, ServicePort>, indices: &mut Indices) {
        self.0.retain(|port, all| {
            for gone in all.extract_if(.., |seen| !seen.used) {
                services.remove(&gone.index);
                indices.give_back(gone.index);
                // To workers its pools would be gone: they are told that it has them still.
                if let Some(port_itself) = services.get(port).map(|known| ServicePort::clone(known)) {
                    services.insert(*port, Arc::new(port_itself));
                }
            }
            !all.is_empty()
        });
        self.follow(services);
    }

    /// Makes those anew whose service port is another one than before.
    pub(super) fn follow(&mut self, services: &mut Map<ServiceIndex, ServicePort>) {
        for (port, all) in &mut self.0 {
            let now = services.get(port).cloned();
            for seen in all {
                let Some(now) = &now else {
                    services.remove(&seen.index);
                    seen.made = None;
                    continue;
                };
                if seen.made.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, now)) {
                    continue;
                }
                let tls = seen.tls(now);
                // The state of its pools is put aside once.
                let made = ServicePort { tls: tls.clone(), kept_as: None, ..ServicePort::clone(now) };
                services.insert(seen.index, Arc::new(made));
                seen.made = Some((now.clone(), tls));
            }
        }
    }
}

impl Seen {
    /// How the endpoints of a service port are met. The certificate that its own policy names counts first.
    fn tls(&self, port: &ServicePort) -> EndpointTls {
        let EndpointTls::On(met) = &port.tls else { return port.tls.clone() };
        if met.settings.certificate.is_some() {
            return port.tls.clone();
        }
        let PlannedIdentity::Certificate(certificate) = &self.identity else { return EndpointTls::Broken };
        let settings = UpstreamSettings { certificate: Some(certificate.clone()), ..UpstreamSettings::clone(&met.settings) };
        match &self.made {
            Some((_, EndpointTls::On(known))) if *known.settings == settings => EndpointTls::On(known.clone()),
            // What can be wrong is wrong with the service port's own rules, and told there.
            _ => UpstreamTls::build(Arc::new(settings)).map_or(EndpointTls::Broken, |made| EndpointTls::On(Arc::new(made))),
        }
    }
}
