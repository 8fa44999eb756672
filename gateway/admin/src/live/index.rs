//! What a snapshot leads to, as lists: routers with the listeners that they are bound to, all their rules, and the listeners of each service port. It is made anew
//! for each snapshot that is sampled.

use std::collections::HashMap;
use std::sync::Arc;

use sluicegate_model::route::ServiceRef;
use sluicegate_model::snapshot::{Front, Listener, RouterBinding, RouterRung, Snapshot, Target};

/// A router.
pub(super) struct Router {
    pub(super) binding: Arc<RouterBinding>,
    /// The listeners that it is bound to, each with a host name.
    pub(super) at: Vec<(usize, Option<String>)>,
}

impl Router {
    /// What serves of it; none: nothing does.
    pub(super) fn rung(&self) -> Option<&RouterRung> {
        self.binding.ladder.first()
    }
}

/// A rule of a router.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub(super) router: usize,
    pub(super) rule: usize,
}

/// The lists of one snapshot.
#[derive(Default)]
pub(super) struct Index {
    pub(super) version: u64,
    pub(super) listeners: Vec<Arc<Listener>>,
    pub(super) routers: Vec<Router>,
    pub(super) routes: Vec<Route>,
    /// The listeners that lead straight to a service port.
    pub(super) straight: HashMap<ServiceRef, Vec<usize>>,
}

impl Index {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let listeners: Vec<Arc<Listener>> = snapshot.listeners.sorted().into_iter().map(|(_, listener)| listener.clone()).collect();
        let mut index = Self { version: snapshot.version, ..Self::default() };
        let mut known = HashMap::new();
        for (at, listener) in listeners.iter().enumerate() {
            match &listener.front {
                Front::Tcp(target) | Front::Udp(target) => index.note(at, None, target, snapshot, &mut known),
                Front::Http(hosts) => hosts.iter().for_each(|h| index.note(at, h.hostname.as_ref(), &h.target, snapshot, &mut known)),
                Front::Tls(hosts) => hosts.iter().for_each(|h| index.note(at, h.hostname.as_ref(), &h.target, snapshot, &mut known)),
            }
        }
        let rules = |(router, bound): (usize, &Router)| {
            let rules = bound.rung().map_or(0, |rung| rung.table.rules.len());
            (0..rules).map(move |rule| Route { router, rule }).collect::<Vec<_>>()
        };
        index.routes = index.routers.iter().enumerate().flat_map(rules).collect();
        index.listeners = listeners;
        index
    }

    fn note(
        &mut self,
        at: usize,
        hostname: Option<&String>,
        target: &Target,
        snapshot: &Snapshot,
        known: &mut HashMap<*const RouterBinding, usize>,
    ) {
        match target {
            Target::Nothing => {}
            Target::Service(to) => {
                let Some(service) = snapshot.services.get(&to.service) else { return };
                let listeners = self.straight.entry(service.id.clone()).or_default();
                if listeners.last() != Some(&at) {
                    listeners.push(at);
                }
            }
            Target::Router(binding) => {
                let place = *known.entry(Arc::as_ptr(binding)).or_insert_with(|| {
                    self.routers.push(Router { binding: binding.clone(), at: Vec::new() });
                    self.routers.len() - 1
                });
                if let Some(router) = self.routers.get_mut(place) {
                    router.at.push((at, hostname.cloned()));
                }
            }
        }
    }

    /// A route's router, the rung that serves, and the rule's name.
    pub(super) fn route(&self, route: Route) -> Option<(&Router, &RouterRung, String)> {
        let router = self.routers.get(route.router)?;
        let rung = router.rung()?;
        let name = rung.table.rules.get(route.rule)?.name.clone().unwrap_or_else(|| format!("rules[{}]", route.rule));
        Some((router, rung, name))
    }
}
