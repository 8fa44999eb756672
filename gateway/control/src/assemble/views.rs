//! Service ports as some rules of routers see them: their Gateway has a certificate of its own to show to endpoints (GEP-3155), or policies say something of
//! them. Each is one more service port of the snapshot, which is the same in all, its pools and counters too, but in how its endpoints are met and how
//! long they may take, or in its balancer, for which it has pools of its own of the same endpoints; so nothing on a request's way need know of it.

use std::collections::HashMap;
use std::sync::Arc;

use sluicegate_config::plan::PlannedIdentity;
use sluicegate_model::persistent::Map;
use sluicegate_model::plugin::BalancerGeneration;
use sluicegate_model::pool::{Pool, unique};
use sluicegate_model::settings::RuleTraffic;
use sluicegate_model::snapshot::{BalancerTrial, EndpointTls, HashKey, ServiceIndex, ServicePort};
use sluicegate_model::tls::{UpstreamSettings, UpstreamTls};

use super::indices::Indices;
use crate::plugins::Use;

/// The views, by the index of the service port that they are made from.
#[derive(Default)]
pub(super) struct Views(HashMap<ServiceIndex, Vec<Seen>>);

/// How service ports are seen.
#[derive(Clone, Copy)]
pub(super) struct View<'v> {
    /// The certificate that the router's Gateway shows to endpoints.
    pub(super) identity: &'v PlannedIdentity,
    /// What policies say of the rule; none: they say nothing.
    pub(super) traffic: Option<&'v Arc<RuleTraffic>>,
    /// The balancer that policies name; none: the service port's own.
    pub(super) balancer: Option<&'v RuleBalancer>,
}

/// A balancer that policies name for a rule.
#[derive(Clone)]
pub(super) struct RuleBalancer {
    /// The use of the balancer, by which it is the same in all snapshots.
    pub(super) wanted: Use,
    /// What a pick is hashed by.
    pub(super) hash: Option<HashKey>,
    /// The generations that serve now.
    pub(super) balancers: Vec<Arc<dyn BalancerGeneration>>,
    pub(super) trial: Option<BalancerTrial>,
    pub(super) fail_closed: bool,
}

impl RuleBalancer {
    fn is_of(&self, other: &Self) -> bool {
        self.wanted == other.wanted && self.hash == other.hash
    }

    /// Whether the same generations serve. A generation on trial may be judged at any time.
    fn serves_as(&self, other: &Self) -> bool {
        self.balancers.len() == other.balancers.len()
            && self.balancers.iter().zip(&other.balancers).all(|(a, b)| Arc::ptr_eq(a, b))
            && self.trial.is_none()
            && other.trial.is_none()
            && self.fail_closed == other.fail_closed
    }
}

struct Seen {
    identity: PlannedIdentity,
    traffic: Option<Arc<RuleTraffic>>,
    balancer: Option<RuleBalancer>,
    /// For a balancer of its own: the ids of its pools, and the pools that were made last with what they were made from.
    ids: (u64, u64),
    pools: Option<[Both; 2]>,
    index: ServiceIndex,
    used: bool,
    /// Whether it was made with another generation of its balancer than the one that serves.
    stale: bool,
    /// The service port that it was made from, and how TLS is spoken with its endpoints.
    made: Option<(Arc<ServicePort>, EndpointTls)>,
}

/// The pools of a service port, for traffic from inside and from outside.
type Both = (Arc<Pool>, Arc<Pool>);

impl Views {
    /// Begins to bind all routers anew. A view that none of them [asks for](Self::of) is not used any more.
    pub(super) fn begin(&mut self) {
        self.0.values_mut().flatten().for_each(|seen| seen.used = false);
    }

    /// The index of a service port as a view has it.
    pub(super) fn of(&mut self, port: ServiceIndex, view: View<'_>, indices: &mut Indices) -> ServiceIndex {
        let View { identity, traffic, balancer } = view;
        if *identity == PlannedIdentity::Unset && traffic.is_none() && balancer.is_none() {
            return port;
        }
        let all = self.0.entry(port).or_default();
        if let Some(known) = all.iter_mut().find(|seen| seen.is_of(view)) {
            known.used = true;
            if let (Some(known_as), Some(now)) = (&mut known.balancer, balancer)
                && !known_as.serves_as(now)
            {
                *known_as = now.clone();
                known.stale = true;
            }
            return known.index;
        }
        let index = indices.take();
        let (identity, traffic, balancer) = (identity.clone(), traffic.cloned(), balancer.cloned());
        all.push(Seen { identity, traffic, balancer, ids: (unique(), unique()), pools: None, index, used: true, stale: false, made: None });
        index
    }

    /// Removes views that are not used any more, and has the others [follow](Self::follow).
    pub(super) fn settle(&mut self, services: &mut Map<ServiceIndex, ServicePort>, indices: &mut Indices) {
        self.0.retain(|port, all| {
            for gone in all.extract_if(.., |seen| !seen.used) {
                services.remove(&gone.index);
                indices.give_back(gone.index);
                // To workers its pools would be gone, so they are told that it still has them.
                if let Some(port_itself) = services.get(port).map(|known| ServicePort::clone(known)) {
                    services.insert(*port, Arc::new(port_itself));
                }
            }
            !all.is_empty()
        });
        self.follow(services);
    }

    /// Makes views anew whose service port has changed.
    pub(super) fn follow(&mut self, services: &mut Map<ServiceIndex, ServicePort>) {
        for (port, all) in &mut self.0 {
            let now = services.get(port).cloned();
            for seen in all {
                let Some(now) = &now else {
                    services.remove(&seen.index);
                    seen.made = None;
                    continue;
                };
                if !seen.stale && seen.made.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, now)) {
                    continue;
                }
                seen.stale = false;
                let tls = seen.tls(now);
                // The state of the pools is kept once.
                let settings =
                    seen.traffic.as_ref().map_or_else(|| now.settings.clone(), |traffic| Arc::new(traffic.merged(&now.settings)));
                let mut made = ServicePort { tls: tls.clone(), settings, kept_as: None, ..ServicePort::clone(now) };
                seen.balance(&mut made);
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
        let balanced = match (&self.balancer, view.balancer) {
            (Some(own), Some(other)) => own.is_of(other),
            (own, other) => own.is_none() && other.is_none(),
        };
        same && balanced && self.identity == *view.identity
    }

    /// Gives it the balancer that policies name. That balancer must not meet the pools under the ids by which the service port's own balancer knows them.
    fn balance(&mut self, made: &mut ServicePort) {
        let Some(RuleBalancer { wanted, hash, balancers, trial, fail_closed }) = &self.balancer else { return };
        made.balancers.clone_from(balancers);
        made.balancer_config = wanted.config.text().clone();
        made.hash.clone_from(hash);
        made.trial.clone_from(trial);
        made.fail_closed = *fail_closed;
        let of = (made.internal.clone(), made.external.clone());
        let known = self.pools.as_ref().filter(|[before, _]| Arc::ptr_eq(&before.0, &of.0) && Arc::ptr_eq(&before.1, &of.1));
        let own = match known {
            Some([_, own]) => own.clone(),
            None => {
                let internal = again(&of.0, self.ids.0);
                let external = if Arc::ptr_eq(&of.0, &of.1) { internal.clone() } else { again(&of.1, self.ids.1) };
                (internal, external)
            }
        };
        (made.internal, made.external) = own.clone();
        self.pools = Some([of, own]);
    }

    /// How TLS is spoken with the endpoints of a service port. The certificate that its own policy names counts first.
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
            // What can be wrong is wrong with the service port's own rules, where it is told.
            _ => UpstreamTls::build(Arc::new(settings)).map_or(EndpointTls::Broken, |made| EndpointTls::On(Arc::new(made))),
        }
    }
}

/// The same pool under another id.
fn again(pool: &Pool, id: u64) -> Arc<Pool> {
    let Pool { version, endpoints, draining, panic, empty, .. } = pool;
    Arc::new(Pool { id, version: *version, endpoints: endpoints.clone(), draining: draining.clone(), panic: *panic, empty: *empty })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sluicegate_model::pool::{Distribution, Here, TrafficPolicy};
    use sluicegate_model::route::ServiceRef;
    use sluicegate_model::settings::TrafficSettings;
    use sluicegate_model::tls::{Certificate, Verify};

    use super::*;

    fn port(tls: EndpointTls) -> Arc<ServicePort> {
        let pool = Arc::new(Pool::select(unique(), &[], TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50));
        let id = ServiceRef { namespace: "a".to_owned(), name: "b".to_owned(), port: 443 };
        Arc::new(ServicePort { kept_as: Some("b".into()), tls, ..ServicePort::of(id, pool) })
    }

    fn certificate(name: &str) -> Arc<Certificate> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Arc::new(Certificate::from_pem(name, made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap())
    }

    fn speaking(certificate: Option<Arc<Certificate>>) -> EndpointTls {
        let settings = UpstreamSettings { verify: Verify::Nothing, sni: None, certificate };
        EndpointTls::On(Arc::new(UpstreamTls::build(Arc::new(settings)).unwrap()))
    }

    /// The certificate that the endpoints of the service port at an index are shown.
    fn shown(services: &Map<ServiceIndex, ServicePort>, index: ServiceIndex) -> Option<Arc<Certificate>> {
        match &services.get(&index).unwrap().tls {
            EndpointTls::On(met) => met.settings.certificate.clone(),
            _ => None,
        }
    }

    fn seen_by(identity: &PlannedIdentity) -> View<'_> {
        View { identity, traffic: None, balancer: None }
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
        // The view follows its service port.
        let gone = port(EndpointTls::Off);
        services.insert(plain, gone);
        views.follow(&mut services);
        assert!(matches!(services.get(&seen[0]).unwrap().tls, EndpointTls::Off));
        // A view that no router asks for goes.
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
        let [one, two] = [&traffic, &same]
            .map(|traffic| views.of(at, View { identity: &PlannedIdentity::Unset, traffic: Some(traffic), balancer: None }, &mut indices));
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

    #[test]
    fn a_rule_with_a_balancer_of_its_own_has_pools_of_its_own_of_the_same_endpoints() {
        let (mut views, mut indices, mut services) = (Views::default(), Indices::default(), Map::default());
        let at = indices.take();
        services.insert(at, port(EndpointTls::Off));
        let wanted = Use { plugin: "maglev".to_owned(), config: "{}".to_owned().into(), listener: None };
        let balancer = RuleBalancer { wanted, hash: Some(HashKey::Path), balancers: Vec::new(), trial: None, fail_closed: false };
        fn view(balancer: &RuleBalancer) -> View<'_> {
            View { identity: &PlannedIdentity::Unset, traffic: None, balancer: Some(balancer) }
        }
        let one = views.of(at, view(&balancer), &mut indices);
        views.settle(&mut services, &mut indices);
        let (of, seen) = (services.get(&at).unwrap().clone(), services.get(&one).unwrap().clone());
        assert_eq!((&seen.hash, &of.hash), (&Some(HashKey::Path), &None));
        assert!(seen.internal.id != of.internal.id && Arc::ptr_eq(&seen.internal, &seen.external));
        assert!(Arc::ptr_eq(&seen.internal.endpoints, &of.internal.endpoints));
        // Its pools stay while those that they are made from do.
        services.insert(at, Arc::new(ServicePort { settings: Arc::default(), ..ServicePort::clone(&of) }));
        views.follow(&mut services);
        assert!(Arc::ptr_eq(&services.get(&one).unwrap().internal, &seen.internal));
        // It may have another generation under the same index; with another configuration it is another view.
        let closed = RuleBalancer { fail_closed: true, ..balancer.clone() };
        assert_eq!(views.of(at, view(&closed), &mut indices), one);
        views.settle(&mut services, &mut indices);
        assert!(services.get(&one).unwrap().fail_closed && services.get(&one).unwrap().internal.id == seen.internal.id);
        let other = RuleBalancer { hash: None, ..balancer };
        assert_ne!(views.of(at, view(&other), &mut indices), one);
    }
}
