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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sluicegate_model::pool::{Distribution, Here, Pool, TrafficPolicy, unique};
    use sluicegate_model::route::ServiceRef;
    use sluicegate_model::settings::TrafficSettings;
    use sluicegate_model::snapshot::AppProtocol;
    use sluicegate_model::stats::ServiceStats;
    use sluicegate_model::tls::{Certificate, Verify};

    use super::*;

    fn port(tls: EndpointTls) -> Arc<ServicePort> {
        let pool = Arc::new(Pool::select(unique(), &[], TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50));
        Arc::new(ServicePort {
            id: ServiceRef { namespace: "a".to_owned(), name: "b".to_owned(), port: 443 },
            port_name: String::new(),
            family: None,
            protocol: AppProtocol::Http,
            internal: pool.clone(),
            external: pool,
            balancers: Vec::new(),
            balancer_config: "{}".into(),
            kept_as: Some("b".into()),
            trial: None,
            fail_closed: false,
            hash: None,
            affinity: None,
            settings: Arc::default(),
            limiter: None,
            tls,
            stats: Arc::new(ServiceStats::default()),
        })
    }

    fn certificate(name: &str) -> Arc<Certificate> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Arc::new(Certificate::from_pem(name, made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap())
    }

    fn speaking(certificate: Option<Arc<Certificate>>) -> EndpointTls {
        let settings = UpstreamSettings { verify: Verify::Nothing, sni: None, certificate };
        EndpointTls::On(Arc::new(UpstreamTls::build(Arc::new(settings)).unwrap()))
    }

    /// What the endpoints of the service port at an index are shown.
    fn shown(services: &Map<ServiceIndex, ServicePort>, index: ServiceIndex) -> Option<Arc<Certificate>> {
        match &services.get(&index).unwrap().tls {
            EndpointTls::On(met) => met.settings.certificate.clone(),
            _ => None,
        }
    }

    fn seen_by(identity: &PlannedIdentity) -> View<'_> {
        View { identity, traffic: None }
    }

    #[test]
    fn endpoints_are_shown_the_certificate_of_the_gateway_unless_their_own_policy_names_another() {
        let (mut views, mut indices, mut services) = (Views::default(), Indices::default(), Map::default());
        let [plain, own, none] = [indices.take(), indices.take(), indices.take()];
        let (of_gateway, of_policy) = (certificate("gateway.example"), certificate("policy.example"));
        services.insert(plain, port(speaking(None)));
        services.insert(own, port(speaking(Some(of_policy.clone()))));
        services.insert(none, port(EndpointTls::Off));
        let identity = PlannedIdentity::Certificate(of_gateway.clone());
        let seen = [plain, own, none].map(|port| views.of(port, seen_by(&identity), &mut indices));
        assert_eq!(
            views.of(plain, seen_by(&PlannedIdentity::Unset), &mut indices),
            plain,
            "without an identity it is the service port itself"
        );
        assert_eq!(views.of(plain, seen_by(&identity), &mut indices), seen[0], "two Gateways with one certificate see the same");
        let broken = views.of(plain, seen_by(&PlannedIdentity::Broken), &mut indices);
        views.settle(&mut services, &mut indices);
        assert_eq!(shown(&services, seen[0]), Some(of_gateway.clone()));
        assert_eq!(shown(&services, seen[1]), Some(of_policy), "the policy of the Service counts first");
        assert!(matches!(services.get(&seen[2]).unwrap().tls, EndpointTls::Off), "who speaks no TLS is shown nothing");
        assert!(matches!(services.get(&broken).unwrap().tls, EndpointTls::Broken), "and nothing is sent where the reference is broken");
        assert_eq!((shown(&services, plain), &services.get(&seen[0]).unwrap().kept_as), (None, &None));
        // It follows the service port.
        let gone = port(EndpointTls::Off);
        services.insert(plain, gone);
        views.follow(&mut services);
        assert!(matches!(services.get(&seen[0]).unwrap().tls, EndpointTls::Off));
        // What no router asks for goes.
        views.begin();
        views.of(own, seen_by(&identity), &mut indices);
        views.settle(&mut services, &mut indices);
        assert!(services.get(&seen[0]).is_none() && services.get(&broken).is_none() && services.get(&seen[1]).is_some());
    }

    #[test]
    fn what_policies_say_of_a_rule_is_merged_with_what_the_service_has() {
        let (mut views, mut indices, mut services) = (Views::default(), Indices::default(), Map::default());
        let at = indices.take();
        let tls = speaking(None);
        services.insert(at, port(tls));
        let request = Some(std::time::Duration::from_secs(3));
        let of_route = TrafficSettings { request, ..TrafficSettings::default() };
        let [traffic, same] =
            [(); 2].map(|()| Arc::new(RuleTraffic { of_route: of_route.clone(), of_gateway: TrafficSettings::default() }));
        let [one, two] =
            [&traffic, &same].map(|traffic| views.of(at, View { identity: &PlannedIdentity::Unset, traffic: Some(traffic) }, &mut indices));
        assert_eq!(one, two, "what comes to the same is one");
        views.settle(&mut services, &mut indices);
        let (port, seen) = (services.get(&at).unwrap(), services.get(&one).unwrap());
        assert_eq!((seen.settings.timeouts.request, port.settings.timeouts.request), (request, None));
        assert!(
            Arc::ptr_eq(&port.stats, &seen.stats) && Arc::ptr_eq(&port.internal, &seen.internal),
            "its pools and its counters are the same"
        );
        assert!(matches!((&port.tls, &seen.tls), (EndpointTls::On(a), EndpointTls::On(b)) if Arc::ptr_eq(a, b)), "and its TLS");
    }
}
