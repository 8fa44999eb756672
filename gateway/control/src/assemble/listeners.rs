//! Assembles listeners and the routers that they lead to. Each is made anew when it is planned otherwise, or leads elsewhere.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate_config::object::ours::FailurePolicy;
use sluicegate_config::plan::{
    Listens, Order, Plan, PlannedFront, PlannedIdentity, PlannedListener, PlannedRouter, PlannedRule, PlannedTarget,
    RuleBalancer as PlannedRuleBalancer,
};
use sluicegate_host::Loaded;
use sluicegate_model::fault::Fault;
use sluicegate_model::limiter::Limiter;
use sluicegate_model::persistent::Map;
use sluicegate_model::plugin::{BalancerGeneration, RouterGeneration};
use sluicegate_model::route::{ListenerInfo, Protocol, RouteTable, Rule, ServiceRef, Transport};
use sluicegate_model::snapshot::{
    At, BoundRule, Front, Listener, RouterBinding, RouterRung, ServiceIndex, ServiceSide, Taken, Target, TlsHost, VirtualHost,
};
use sluicegate_model::sorted::Sorted;
use sluicegate_model::status::ListenerStatus;

use super::record::Entry;
use super::tls::Tls;
use super::views::{RuleBalancer, View};
use super::{limiter, refused, router_use, rule_balancer_use};
use crate::plugins::{Registry, Use};

/// Listeners that are planned otherwise than before.
#[derive(Default)]
pub(crate) struct Moved {
    /// Listeners that are new, or planned otherwise than before.
    pub(crate) planned: Vec<Arc<PlannedListener>>,
    /// Where nobody listens any more.
    pub(crate) gone: Vec<At>,
}

/// What is assembled besides what has moved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    None,
    /// Routers, and the listeners whose routers have changed, as a service port that they name may have another index.
    Routers,
    All,
}

/// The generations and tables that serve a router's use.
type Ladder = Vec<(Arc<dyn RouterGeneration>, Arc<RouteTable>)>;
/// Finds service ports.
#[derive(Clone, Copy)]
pub(super) struct Entries<'e> {
    pub(super) of: &'e dyn Fn(&ServiceRef, Protocol) -> Option<Entry>,
    /// The index of a service port as it is for this view of it.
    pub(super) seen_by: &'e dyn Fn(ServiceIndex, View<'_>) -> ServiceIndex,
}

#[derive(Default)]
pub(super) struct Listeners {
    planned: HashMap<At, (Order, Arc<PlannedListener>)>,
    /// The listeners that lead to routers.
    routed: HashSet<At>,
    limiters: HashMap<At, Option<Arc<Limiter>>>,
    /// The limiters of rules that have limits of their own, by the rule's name.
    rule_limiters: HashMap<(ListenerInfo, String), Option<Arc<Limiter>>>,
    /// What has served each use last. If its listener has had other configurations, they are its past.
    routers: HashMap<Use, Ladder>,
    /// The use that has served each listener last.
    served: HashMap<ListenerInfo, Use>,
    bindings: HashMap<Use, Arc<RouterBinding>>,
    /// The listeners of bound routers that are not [plain](is_plain).
    ruled: HashSet<ListenerInfo>,
    /// In the place of routers that cannot be had.
    unbound: HashMap<Transport, Arc<RouterBinding>>,
    faults: BTreeMap<At, Vec<Fault>>,
    router_faults: Vec<Fault>,
    /// The places of listeners in what the admin API shows, which is in the plan's order.
    places: HashMap<At, Box<str>>,
    shown: Sorted<ListenerStatus>,
}

impl Listeners {
    /// Takes in what listens where now. Returns the listeners that have changed.
    pub(super) fn plan(&mut self, changed: &Listens) -> Moved {
        let mut moved = Moved::default();
        for (at, listener) in changed {
            let Some((order, listener)) = listener else {
                if self.planned.remove(at).is_some() {
                    moved.gone.push(*at);
                }
                continue;
            };
            if self.planned.get(at).is_some_and(|(place, known)| Arc::ptr_eq(known, listener) && place == order) {
                continue;
            }
            self.planned.insert(*at, (order.clone(), listener.clone()));
            let routed = targets(listener).any(|target| matches!(target, PlannedTarget::Router(_)));
            _ = if routed { self.routed.insert(*at) } else { self.routed.remove(at) };
            moved.planned.push(listener.clone());
        }
        moved
    }

    pub(super) fn assemble(
        &mut self,
        plan: &Plan,
        moved: Moved,
        again: Again,
        (last, moves): (&Map<At, Listener>, bool),
        registry: &mut Registry,
        tls: &mut Tls,
        entries: Entries<'_>,
    ) -> Map<At, Listener> {
        let mut listeners = last.clone();
        for at in &moved.gone {
            listeners.remove(at);
            self.routed.remove(at);
            self.limiters.remove(at);
            self.faults.remove(at);
            self.hide(at);
        }
        let mut wanted: HashMap<At, Arc<PlannedListener>> = moved.planned.iter().map(|planned| (planned.at(), planned.clone())).collect();
        if again != Again::None {
            let others = self.bind(plan, moves, registry, entries);
            let routed = self.routed.iter().filter_map(|at| Some((*at, &self.planned.get(at)?.1)));
            let leads = |target: &PlannedTarget| matches!(target, PlannedTarget::Router(router) if others.contains(&router.listener));
            wanted.extend(
                routed.filter(|(_, planned)| !others.is_empty() && targets(planned).any(leads)).map(|(at, planned)| (at, planned.clone())),
            );
        }
        if again == Again::All {
            wanted.extend(self.planned.iter().map(|(at, (_, planned))| (*at, planned.clone())));
        }
        let mut changes = !moved.gone.is_empty();
        let mut shown = Vec::new();
        for (at, planned) in wanted {
            let mut faults = Vec::new();
            let made = self.listener(&planned, tls, entries, &mut faults);
            _ = if faults.is_empty() { self.faults.remove(&at) } else { self.faults.insert(at, faults) };
            let place = self.planned.get(&at).map(|(order, _)| order.text()).unwrap_or_default();
            if listeners.get(&at).is_none_or(|known| !known.is_same(&made)) {
                shown.push((at, ListenerStatus::of(&made, place)));
                listeners.insert(at, Arc::new(made));
                changes = true;
            } else if self.places.get(&at).is_none_or(|known| **known != *place) {
                // Another object listens there in the same way.
                shown.push((at, ListenerStatus::of(&made, place)));
            }
        }
        // All are hidden first, as one may get the place that another one had.
        shown.iter().for_each(|(at, _)| self.hide(at));
        for (at, status) in shown {
            self.places.insert(at, status.place.clone());
            self.shown.insert(Arc::new(status));
        }
        if changes {
            tls.forget(&listeners);
        }
        listeners
    }

    /// What the admin API shows of listeners, in the plan's order.
    pub(super) fn shown(&self) -> &Sorted<ListenerStatus> {
        &self.shown
    }

    /// Makes anew what is shown of the listeners at these addresses.
    pub(super) fn show_again(&mut self, listeners: &Map<At, Listener>, addresses: impl IntoIterator<Item = SocketAddr>) {
        for address in addresses {
            let at = (Protocol::Tcp, address);
            let Some((listener, place)) = listeners.get(&at).zip(self.places.get(&at)) else { continue };
            self.shown.insert(Arc::new(ListenerStatus::of(listener, place.clone())));
        }
    }

    fn hide(&mut self, at: &At) {
        if let Some(place) = self.places.remove(at) {
            self.shown.remove((&place, ""));
        }
    }

    pub(super) fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.router_faults.iter().chain(self.faults.values().flatten())
    }

    fn listener(&mut self, planned: &PlannedListener, tls: &mut Tls, entries: Entries<'_>, faults: &mut Vec<Fault>) -> Listener {
        let (protocol, address) = planned.at();
        let mut target = |target: &PlannedTarget| match target {
            PlannedTarget::Service(ServiceSide { service, side }) => match (entries.of)(service, protocol) {
                Some(entry) => Target::Service(ServiceSide { service: entry.at(address), side: *side }),
                None => Target::Nothing,
            },
            // One whose plugin has refused its configuration from the beginning decides nothing: 503, and not 404 as if nobody was asked to decide.
            PlannedTarget::Router(router) => {
                let known = self.bindings.get(&router_use(router)).cloned();
                Target::Router(known.unwrap_or_else(|| unbound(&mut self.unbound, router.listener.transport).clone()))
            }
            PlannedTarget::Nothing => Target::Nothing,
        };
        let front = match &planned.front {
            PlannedFront::Tcp(to) => Front::Tcp(target(to)),
            PlannedFront::Udp(to) => Front::Udp(target(to)),
            PlannedFront::Http(hosts) => {
                let hosts = hosts.iter().map(|host| VirtualHost { hostname: host.hostname.clone(), target: target(&host.target) });
                Front::Http(hosts.collect::<Vec<_>>().into())
            }
            PlannedFront::Tls(hosts) => {
                let hosts = hosts.iter().map(|host| TlsHost {
                    hostname: host.hostname.clone(),
                    mode: tls.mode(address, host, faults),
                    target: target(&host.target),
                });
                Front::Tls(hosts.collect::<Vec<_>>().into())
            }
        };
        let limiter = limiter(self.limiters.entry((protocol, address)).or_default(), &planned.settings.rates);
        Listener { address, name: planned.name.clone(), front, settings: planned.settings.clone(), limiter }
    }

    /// Binds all routers. Returns the listeners whose routers have changed.
    fn bind(&mut self, plan: &Plan, moves: bool, registry: &mut Registry, entries: Entries<'_>) -> HashSet<ListenerInfo> {
        self.router_faults.clear();
        let mut bindings = HashMap::with_capacity(plan.routers.len());
        let mut others = HashSet::new();
        for router in &plan.routers {
            let wanted = router_use(router);
            let known = self.bindings.get(&wanted).cloned();
            // Those that lead where all service ports stand as before are shared with the binding that this one comes after.
            let before = known.clone().or_else(|| self.bindings.get(self.served.get(&router.listener)?).cloned());
            let shared = before.filter(|_| !moves && is_plain(router) && !self.ruled.contains(&router.listener));
            let Some(made) = self.router(router, &wanted, (&bindings, shared.as_deref()), registry, entries) else {
                others.extend(known.map(|_| router.listener.clone()));
                continue;
            };
            let binding = match known {
                Some(known) if known.is_same(&made) => known,
                _ => {
                    others.insert(router.listener.clone());
                    Arc::new(made)
                }
            };
            bindings.insert(wanted, binding);
        }
        self.ruled = plan.routers.iter().filter(|router| !is_plain(router)).map(|router| router.listener.clone()).collect();
        // A listener that led to one that is gone is planned otherwise.
        self.bindings = bindings;
        // A limiter that no router has any more goes with the last snapshot that has it.
        self.rule_limiters.retain(|_, limiter| limiter.as_ref().is_some_and(|limiter| Arc::strong_count(limiter) > 1));
        if self.served.len() > plan.routers.len() {
            let live: HashSet<&ListenerInfo> = plan.routers.iter().map(|router| &router.listener).collect();
            self.served.retain(|listener, _| live.contains(listener));
            self.routers.retain(|used, _| used.listener.as_ref().is_some_and(|listener| live.contains(listener)));
        }
        others
    }

    /// Makes a router's binding. `bound`: the routers before it, and so those of its rules. `shared`: a binding from which the rules that are still there are taken.
    fn router(
        &mut self,
        router: &PlannedRouter,
        wanted: &Use,
        (bound, shared): (&HashMap<Use, Arc<RouterBinding>>, Option<&RouterBinding>),
        registry: &mut Registry,
        entries: Entries<'_>,
    ) -> Option<RouterBinding> {
        match registry.ladder(wanted) {
            Ok(ladder) => {
                let ladder = ladder.into_iter().filter_map(|(loaded, table)| match (loaded, table) {
                    (Loaded::Router(router), Some(table)) => Some((router as Arc<dyn RouterGeneration>, table)),
                    _ => None,
                });
                let ladder: Ladder = ladder.collect();
                if let Some(past) = self.served.insert(router.listener.clone(), wanted.clone()).filter(|past| past != wanted) {
                    self.routers.remove(&past);
                }
                self.routers.insert(wanted.clone(), ladder);
            }
            Err(error) => self.router_faults.extend(refused(&router.plugin, &error, registry)),
        }
        let ladder = self.routers.get(wanted).or_else(|| self.routers.get(self.served.get(&router.listener)?))?;
        let protocol = router.listener.transport.protocol();
        let rules = router.rules.values().chain([&router.other_rules]);
        let mut balancers: HashMap<*const PlannedRule, RuleBalancer> = HashMap::new();
        for (rule, planned) in rules.filter_map(|rule| Some((rule, rule.balancer.as_ref()?))) {
            match rule_balancer(planned, registry) {
                Ok(balancer) => drop(balancers.insert(std::ptr::from_ref(rule), balancer)),
                // The service port's own balancer decides.
                Err(faults) => self.router_faults.extend(faults),
            }
        }
        let balancer_of = |of: &PlannedRule| balancers.get(&std::ptr::from_ref(of));
        let found = |service: &ServiceRef, rule: Option<&PlannedRule>| {
            if router.within.as_ref().is_some_and(|within| !within.contains(service)) {
                return None;
            }
            let entry = (entries.of)(service, protocol)?;
            let traffic = rule.and_then(|rule| rule.traffic.as_ref());
            let counts = |balancer: &&PlannedRuleBalancer| !(balancer.default && entry.own_balancer);
            let balancer = rule.filter(|rule| rule.balancer.as_ref().is_some_and(|balancer| counts(&balancer))).and_then(balancer_of);
            Some((entries.seen_by)(entry.route, View { identity: &router.identity, traffic, balancer }))
        };
        let limited = router.rules.values().chain([&router.other_rules]).any(|rule| !rule.rates.is_empty());
        let rule_limiters = RefCell::new(&mut self.rule_limiters);
        let limiter_of = |(i, rule): (usize, &Rule)| {
            let rates = &planned_rule(router, rule).rates;
            let name = || match router.within {
                Some(_) => String::new(),
                None => rule.name.clone().unwrap_or_else(|| format!("rules[{i}]")),
            };
            (!rates.is_empty()).then(|| limiter(rule_limiters.borrow_mut().entry((router.listener.clone(), name())).or_default(), rates))?
        };
        let hands_over = router.rules.values().any(|rule| rule.router.is_some());
        // A rule whose router cannot be had is answered 503.
        let unbound = hands_over.then(|| unbound(&mut self.unbound, router.listener.transport).clone());
        let next = |rule: &Rule| {
            let next = planned_rule(router, rule).router.as_ref()?;
            bound.get(&router_use(next)).cloned().or_else(|| unbound.clone())
        };
        let bind = |(i, rule): (usize, &Arc<Rule>)| {
            let planned = Some(planned_rule(router, rule));
            let backends = rule.backends.iter();
            Arc::new(BoundRule {
                backends: backends.map(|b| found(&b.service, planned).ok_or_else(|| missing(router, &b.service, protocol))).collect(),
                mirrors: rule.mirrors().map(|(_, m)| found(&m.service, None)).collect(),
                limiter: if limited { limiter_of((i, rule)) } else { None },
                next: if hands_over { next(rule) } else { None },
                sessions: rule.backends.len() > 1
                    && rule.backends.iter().any(|b| (entries.of)(&b.service, protocol).is_some_and(|entry| entry.sessions)),
                taken: Taken::of(rule.backends.len()),
            })
        };
        let rung = |(generation, table): &(Arc<dyn RouterGeneration>, Arc<RouteTable>)| {
            let before = shared.and_then(|shared| shared.ladder.iter().find(|rung| Arc::ptr_eq(&rung.generation, generation)));
            let (generation, rules) = (generation.clone(), rules_of(table, before, bind));
            RouterRung { generation, table: table.clone(), rules, hands_over }
        };
        Some(RouterBinding { transport: router.listener.transport, ladder: ladder.iter().map(rung).collect() })
    }
}

/// A router that can decide nothing.
fn unbound(known: &mut HashMap<Transport, Arc<RouterBinding>>, transport: Transport) -> &Arc<RouterBinding> {
    known.entry(transport).or_insert_with(|| Arc::new(RouterBinding { transport, ladder: Vec::new() }))
}

/// Whether nothing counts for a router's rules besides what it is told: where they lead depends on where service ports stand, and on nothing else.
fn is_plain(router: &PlannedRouter) -> bool {
    let PlannedRule { rates, traffic, balancer, router: next } = &router.other_rules;
    router.rules.is_empty()
        && router.within.is_none()
        && router.identity == PlannedIdentity::Unset
        && rates.is_empty()
        && traffic.is_none()
        && balancer.is_none()
        && next.is_none()
}

/// The rules of a table, bound; those that a rung before has too are taken from there.
fn rules_of(table: &RouteTable, before: Option<&RouterRung>, bind: impl Fn((usize, &Arc<Rule>)) -> Arc<BoundRule>) -> Vec<Arc<BoundRule>> {
    let Some(before) = before else { return table.rules.iter().enumerate().map(bind).collect() };
    let known = &before.table.rules;
    let same = |(a, b): &(&Arc<Rule>, &Arc<Rule>)| Arc::ptr_eq(a, b);
    // Mostly all but one.
    let begin = table.rules.iter().zip(known).take_while(same).count();
    let end = table.rules[begin..].iter().rev().zip(known[begin..].iter().rev()).take_while(same).count();
    let between = begin..known.len() - end;
    let between: HashMap<*const Rule, &Arc<BoundRule>> =
        known[between.clone()].iter().map(Arc::as_ptr).zip(before.rules.get(between).unwrap_or_default()).collect();
    let rest = table.rules.len() - end;
    let rule = |(i, rule): (usize, &Arc<Rule>)| {
        let known = match i {
            _ if i < begin => before.rules.get(i),
            _ if i >= rest => before.rules.get(i + known.len() - table.rules.len()),
            _ => between.get(&Arc::as_ptr(rule)).copied(),
        };
        known.cloned().unwrap_or_else(|| bind((i, rule)))
    };
    table.rules.iter().enumerate().map(rule).collect()
}

/// What counts for a rule besides what its router was told.
fn planned_rule<'r>(router: &'r PlannedRouter, rule: &Rule) -> &'r PlannedRule {
    rule.name.as_ref().and_then(|name| router.rules.get(name)).unwrap_or(&router.other_rules)
}

/// What serves the balancer that policies say for a rule.
fn rule_balancer(planned: &PlannedRuleBalancer, registry: &mut Registry) -> Result<RuleBalancer, Vec<Fault>> {
    let wanted = rule_balancer_use(planned);
    let ladder = registry.ladder(&wanted).map_err(|error| refused(&planned.plugin, &error, registry))?;
    let balancers = ladder.into_iter().filter_map(|(loaded, _)| match loaded {
        Loaded::Balancer(balancer) => Some(balancer as Arc<dyn BalancerGeneration>),
        _ => None,
    });
    let (balancers, trial) = (balancers.collect(), registry.trial(&wanted));
    let fail_closed = registry.failure_policy(&wanted.plugin) == FailurePolicy::Fail;
    Ok(RuleBalancer { wanted, hash: planned.hash.clone(), balancers, trial, fail_closed })
}

/// Where a listener leads.
fn targets(listener: &PlannedListener) -> Box<dyn Iterator<Item = &PlannedTarget> + '_> {
    match &listener.front {
        PlannedFront::Tcp(target) | PlannedFront::Udp(target) => Box::new(std::iter::once(target)),
        PlannedFront::Http(hosts) => Box::new(hosts.iter().map(|host| &host.target)),
        PlannedFront::Tls(hosts) => Box::new(hosts.iter().map(|host| &host.target)),
    }
}

fn missing(router: &PlannedRouter, service: &ServiceRef, protocol: Protocol) -> Arc<str> {
    if router.within.as_ref().is_some_and(|within| !within.contains(service)) {
        return format!("{service} is none of the backends of the rule whose router this is").into();
    }
    let protocol = if protocol == Protocol::Udp { "UDP " } else { "" };
    format!("{protocol}service port {service} does not exist").into()
}
