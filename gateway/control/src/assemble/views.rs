//! Service ports as some rules of routers see them: their Gateway has a certificate of its own to show to endpoints (GEP-3155), or policies say something of
//! them. Each is one more service port of the snapshot, which is the same in all, its pools and counters too, but in how its endpoints are met and how
//! long they may take; so nothing on a request's way need know of it.

use std::collections::HashMap;
use std::sync::Arc;

use sluicegate_config::plan::PlannedIdentity;
use sluicegate_model::persistent::Map;
use sluicegate_model::settings::RuleTraffic;
use sluicegate_model::snapshot::{EndpointTls, ServiceIndex, ServicePort};
use sluicegate_model::tls::{UpstreamSettings, UpstreamTls};

use super::indices::Indices;

/// By the index of the service port that they are made of.
#[derive(Default)]
pub(super) struct Views(HashMap<ServiceIndex, Vec<Seen>>);

/// How service ports are seen.
#[derive(Clone, Copy)]
pub(super) struct View<'v> {
    /// Of the router's Gateway.
    pub(super) identity: &'v PlannedIdentity,
    /// What policies say of the rule; none: nothing.
    pub(super) traffic: Option<&'v Arc<RuleTraffic>>,
}

struct Seen {
    identity: PlannedIdentity,
    traffic: Option<Arc<RuleTraffic>>,
    index: ServiceIndex,
    used: bool,
    /// What it was made of, and how its endpoints are met.
    made: Option<(Arc<ServicePort>, EndpointTls)>,
}

impl Views {
    /// All routers are bound anew: what none of them [asks for](Self::of) is not used any more.
    pub(super) fn begin(&mut self) {
        self.0.values_mut().flatten().for_each(|seen| seen.used = false);
    }

    /// Where a service port stands for those that see it so.
    pub(super) fn of(&mut self, port: ServiceIndex, view: View<'_>, indices: &mut Indices) -> ServiceIndex {
        let View { identity, traffic } = view;
        if *identity == PlannedIdentity::Unset && traffic.is_none() {
            return port;
        }
        let all = self.0.entry(port).or_default();
        if let Some(known) = all.iter_mut().find(|seen| seen.is_of(view)) {
            known.used = true;
            return known.index;
        }
        let index = indices.take();
        all.push(Seen { identity: identity.clone(), traffic: traffic.cloned(), index, used: true, made: None });
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
                let settings =
                    seen.traffic.as_ref().map_or_else(|| now.settings.clone(), |traffic| Arc::new(traffic.merged(&now.settings)));
                let made = ServicePort { tls: tls.clone(), settings, kept_as: None, ..ServicePort::clone(now) };
                services.insert(seen.index, Arc::new(made));
                seen.made = Some((now.clone(), tls));
            }
        }
    }
}

impl Seen {
    fn is_of(&self, view: View<'_>) -> bool {
        let same = match (&self.traffic, view.traffic) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other) || own == other,
            (own, other) => own.is_none() && other.is_none(),
        };
        same && self.identity == *view.identity
    }

    /// How the endpoints of a service port are met. The certificate that its own policy names counts first.
    fn tls(&self, port: &ServicePort) -> EndpointTls {
        let EndpointTls::On(met) = &port.tls else { return port.tls.clone() };
        if self.identity == PlannedIdentity::Unset {
            return port.tls.clone();
        }
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
