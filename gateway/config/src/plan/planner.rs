//! Keeps the plan up to date. Each object is one [`Part`] of it. A part notes what else was looked at while it was made, and is made again when any of that
//! changes. So a change costs what it reaches, however many objects there are. Two things are joined from all parts: who listens where ([`Addresses`]), and
//! what each policy counts for.

use std::collections::{HashMap, HashSet};

use sluicegate_builtins::DNS;
use sluicegate_model::egress::AllowedHost;

use super::addresses::Addresses;
use super::compile::{Compiler, Part, Read, loopback_endpoints};
use super::effect::Counted;
use super::routes::{AttachedRoutes, ByAge};
use super::settings::Defaults;
use super::*;
use crate::object::{Body, warning};
use crate::objects::{Change, Objects, targets};

/// Makes a plan of all objects from nothing.
pub fn compile(objects: &[Arc<Object>], allocations: &Allocations, settings: &Settings) -> Plan {
    let objects = Objects::new(objects);
    let mut planner = Planner::new(settings.clone());
    let changes: Vec<Change> = objects.iter().cloned().map(Change::Applied).collect();
    planner.update(&objects, changes.iter().map(|change| (change, None)), allocations, []);
    planner.plan
}

/// What an update of the plan has changed.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// The Services that are planned otherwise than before, by namespace and name.
    pub services: BTreeMap<(String, String), Planned>,
    /// The addresses whose listener may have been added, changed or removed.
    pub listeners: Listens,
    /// How many parts of the plan were made again.
    pub made: usize,
}

/// How a Service was planned before, and how it is now. `None`: it was not, or is not.
pub type Planned = (Option<Arc<PlannedService>>, Option<Arc<PlannedService>>);

/// A plan that is kept up to date.
#[derive(Default)]
pub struct Planner {
    settings: Settings,
    defaults: Defaults,
    parts: HashMap<ObjectKey, Box<Part>>,
    /// For each thing that was looked at, the objects whose parts looked at it: mostly one or two.
    readers: HashMap<Arc<Read>, BTreeSet<ObjectKey>>,
    /// The Secrets and ConfigMaps that somebody has looked at, be they there or not.
    referenced: BTreeSet<ObjectKey>,
    /// The `Plugin` objects.
    plugins: BTreeMap<ObjectKey, (String, PluginKind)>,
    /// For each policy, what it counts for, in the order of the rank and key of the objects that noted it.
    counted: HashMap<ObjectKey, Vec<(u8, ObjectKey, Arc<Counted>)>>,
    /// How many parts use each plugin.
    used: BTreeMap<(String, PluginKind), usize>,
    addresses: Addresses,
    /// The objects whose parts have routers or health checks, by rank.
    routing: BTreeSet<(u8, ObjectKey)>,
    checking: BTreeSet<ObjectKey>,
    /// The GatewayClasses that are planned; routes, Gateways and ListenerSets follow.
    classes: BTreeSet<ObjectKey>,
    routes: BTreeMap<ObjectKey, Arc<PlannedRoute>>,
    attached: AttachedRoutes,
    /// Whether routes have changed since the plan was last joined.
    other_routes: bool,
    gateways: BTreeSet<ObjectKey>,
    listener_sets: BTreeSet<ObjectKey>,
    /// The BackendTLSPolicies that are planned.
    tls_policies: BTreeSet<ObjectKey>,
    backends: BTreeSet<ObjectKey>,
    /// The Services of which this gateway is the load balancer.
    balanced: BTreeSet<ObjectKey>,
    /// The objects whose parts have faults, by rank.
    faulty: BTreeSet<(u8, ObjectKey)>,
    plan: Plan,
}

/// How many ranks there are.
const RANKS: usize = 6;
/// The rank of policies.
const POLICIES: usize = 5;

/// The objects whose parts must be made again, by rank.
type Dirty = [BTreeSet<ObjectKey>; RANKS];

/// The rank of a kind: Services are planned before routes, routes before Gateways, Gateways before ListenerSets, and ListenerSets before policies. `None`:
/// objects of this kind have no part of their own.
fn rank(kind: &str) -> Option<u8> {
    match kind {
        "Plugin" | "GatewayClass" => Some(0),
        "Service" | "Backend" => Some(1),
        "Gateway" => Some(3),
        "ListenerSet" => Some(4),
        "BackendTLSPolicy" | "BackendTrafficPolicy" | "ClientTrafficPolicy" | "XBackendTrafficPolicy" => Some(5),
        _ => RouteKind::named(kind).map(|_| 2),
    }
}

impl Planner {
    /// Makes a plan without objects.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The plan as it is.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A Service of the plan.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<PlannedService>> {
        self.plan.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The Secrets and ConfigMaps that objects refer to and may refer to, be they there or not.
    pub fn referenced(&self) -> &BTreeSet<ObjectKey> {
        &self.referenced
    }

    /// Brings the plan up to date. `objects` are all there are now; of each change the object as it was before is given. `allocated` are the Services
    /// and Gateways of which something else is allocated than before.
    pub fn update<'c>(
        &mut self,
        objects: &Objects,
        changes: impl IntoIterator<Item = (&'c Change, Option<Arc<Object>>)>,
        allocations: &Allocations,
        allocated: impl IntoIterator<Item = ObjectKey>,
    ) -> Delta {
        let mut dirty = Dirty::default();
        for (change, old) in changes {
            self.reach(change, old.as_deref(), objects, &mut dirty);
        }
        for key in allocated {
            if let Some(rank) = rank(&key.kind) {
                dirty[usize::from(rank)].insert(key);
            }
        }
        let mut delta = Delta::default();
        for rank in 0..RANKS {
            // A part that is made now may require that parts of later ranks are made again.
            for key in std::mem::take(&mut dirty[rank]) {
                self.make(&key, objects, allocations, &mut dirty, &mut delta);
            }
        }
        delta.listeners = self.addresses.settle(&mut self.plan.listeners);
        if delta.made > 0 || !delta.listeners.is_empty() {
            self.join();
        }
        delta
    }

    /// Marks what a change reaches: the object itself, and the parts that looked at it, in its old form or its new one.
    fn reach(&mut self, change: &Change, old: Option<&Object>, objects: &Objects, dirty: &mut Dirty) {
        let key = change.key();
        let new = objects.of_key(key).map(|object| &**object);
        let mut reads = vec![Read::Object(key.clone())];
        for object in [old, new].into_iter().flatten() {
            if let Some(rank) = rank(&object.key.kind) {
                dirty[usize::from(rank)].insert(key.clone());
            }
            reads.extend(targets(object).map(Read::Targeting));
            if let Body::ReferenceGrant(_) = &object.body {
                reads.push(Read::Grants(key.namespace.clone()));
            }
        }
        for read in reads {
            self.dirty(&read, dirty);
        }
    }

    fn dirty(&self, read: &Read, dirty: &mut Dirty) {
        for key in self.readers.get(read).into_iter().flatten() {
            if let Some(rank) = rank(&key.kind) {
                dirty[usize::from(rank)].insert(key.clone());
            }
        }
    }

    fn make(&mut self, key: &ObjectKey, objects: &Objects, allocations: &Allocations, dirty: &mut Dirty, delta: &mut Delta) {
        delta.made += 1;
        let (object, Some(rank)) = (objects.of_key(key), rank(&key.kind)) else { return };
        let mut compiler =
            Compiler::new(objects, allocations, &self.settings, &self.defaults, &self.plugins, (&self.parts, &self.attached));
        match object.map(|object| (object, &object.body)) {
            Some((object, Body::Plugin(plugin))) => compiler.plugin_object(object, plugin),
            Some((object, Body::GatewayClass(class))) => {
                compiler.gateway_class(object, class);
            }
            Some((object, Body::Service(service))) => compiler.service(object, service),
            Some((object, Body::Backend(backend))) => compiler.backend_object(object, backend),
            Some((object, Body::HttpRoute(_) | Body::GrpcRoute(_) | Body::TlsRoute(_) | Body::TcpRoute(_) | Body::UdpRoute(_))) => {
                compiler.route(object)
            }
            Some((object, Body::Gateway(gateway))) => compiler.gateway(object, gateway),
            Some((object, Body::ListenerSet(set))) => compiler.listener_set(object, set),
            Some((object, Body::BackendTrafficPolicy(_) | Body::ClientTrafficPolicy(_) | Body::XBackendTrafficPolicy(_))) => {
                let uses: Vec<&Counted> = self.counted.get(key).into_iter().flatten().map(|(_, _, counted)| &**counted).collect();
                compiler.policy(object, &uses);
            }
            Some((object, Body::BackendTlsPolicy(policy))) => compiler.tls_policy(object, policy),
            _ => {}
        }
        let mut part = compiler.done();
        for read in &mut part.reads {
            if let Some((known, _)) = self.readers.get_key_value(&**read) {
                *read = known.clone();
            }
        }
        let old = self.parts.remove(key).unwrap_or_default();
        if let (Some(before), Some(now)) = (&old.route, &mut part.route)
            && before.is_same(now)
        {
            *now = before.clone();
        }
        self.replace((rank, key), &old, &part, dirty, delta);
        if object.is_some() {
            self.parts.insert(key.clone(), Box::new(part));
        }
    }

    /// Joins a part with the others, in place of the object's former part.
    fn replace(&mut self, (rank, key): (u8, &ObjectKey), old: &Part, new: &Part, dirty: &mut Dirty, delta: &mut Delta) {
        for read in difference(&old.reads, &new.reads) {
            if let Some(readers) = self.readers.get_mut(read) {
                readers.remove(key);
                if readers.is_empty() {
                    self.readers.remove(read);
                    if let Read::Object(key) = &**read {
                        self.referenced.remove(key);
                    }
                }
            }
        }
        for read in difference(&new.reads, &old.reads) {
            if let Read::Object(object) = &**read
                && matches!(object.kind.as_str(), "Secret" | "ConfigMap")
            {
                self.referenced.insert(object.clone());
            }
            self.readers.entry(read.clone()).or_default().insert(key.clone());
        }
        let named = |part: &Part| part.plugin.as_ref().map(|plugin| (plugin.name.clone(), plugin.kind));
        if named(old) != named(new) {
            match named(new) {
                Some(new) => drop(self.plugins.insert(key.clone(), new)),
                None => drop(self.plugins.remove(key)),
            }
            self.dirty(&Read::Plugins, dirty);
            self.dirty(&Read::Plugin(key.name.clone()), dirty);
        }
        if old.route.as_ref().map(Arc::as_ptr) != new.route.as_ref().map(Arc::as_ptr) {
            self.other_routes = true;
            match &new.route {
                Some(route) => drop(self.routes.insert(key.clone(), route.clone())),
                None => drop(self.routes.remove(key)),
            }
            for (route, comes) in [(&old.route, false), (&new.route, true)] {
                let Some(route) = route else { continue };
                for parent in route.targets() {
                    self.dirty(&Read::Attached(parent.clone()), dirty);
                    #[expect(clippy::mutable_key_type, reason = "a route's order goes by its age and its key, which stay what they are")]
                    let routes = self.attached.entry(parent.clone()).or_default();
                    if comes {
                        routes.insert(ByAge(route.clone()));
                    } else {
                        routes.remove(&ByAge(route.clone()));
                        if routes.is_empty() {
                            self.attached.remove(&parent);
                        }
                    }
                }
            }
        }
        let same = match (&old.gateway, &new.gateway) {
            (Some(old), Some(new)) => old.is_same_for_sets(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !same {
            self.dirty(&Read::Gateway(key.clone()), dirty);
        }
        note(&mut self.classes, key.clone(), new.class.is_some());
        note(&mut self.gateways, key.clone(), new.gateway.is_some());
        note(&mut self.listener_sets, key.clone(), new.listener_set.is_some());
        note(&mut self.tls_policies, key.clone(), new.tls_policy.is_some());
        match &new.policy {
            Some(policy) => self.plan.policies.entry(key.kind.clone()).or_default().insert(policy.clone()),
            None if old.policy.is_some() => {
                if let Some(policies) = self.plan.policies.get_mut(&key.kind) {
                    policies.remove((&key.namespace, &key.name));
                }
            }
            None => {}
        }
        note(&mut self.backends, key.clone(), key.kind == "Backend" && new.service.is_some());
        note(&mut self.balanced, key.clone(), new.service.as_ref().is_some_and(|service| service.is_balanced_here()));
        // Both are planned from one object, so they have the same name.
        if let Some(named) = new.service.as_ref().or(old.service.as_ref()) {
            let id = (named.namespace.clone(), named.name.clone());
            delta.services.insert(id.clone(), (old.service.clone(), new.service.clone()));
            match &new.service {
                Some(service) => drop(self.plan.services.insert(id, service.clone())),
                None => drop(self.plan.services.remove(&id)),
            }
        }
        for counted in &old.counted {
            if let Some(of) = self.counted.get_mut(&counted.policy) {
                of.retain(|(by, object, _)| (*by, object) != (rank, key));
                if of.is_empty() {
                    self.counted.remove(&counted.policy);
                }
            }
        }
        for counted in &new.counted {
            let of = self.counted.entry(counted.policy.clone()).or_default();
            let at = of.partition_point(|(by, object, _)| (*by, object) <= (rank, key));
            of.insert(at, (rank, key.clone(), counted.clone()));
        }
        dirty[POLICIES].extend(old.counted.iter().chain(&new.counted).map(|counted| counted.policy.clone()));
        for used in new.used.iter().map(|(name, kind)| (name.clone(), *kind)) {
            *self.used.entry(used).or_default() += 1;
        }
        for used in old.used.iter().map(|(name, kind)| (name.clone(), *kind)) {
            if let Some(count) = self.used.get_mut(&used) {
                *count -= 1;
                if *count == 0 {
                    self.used.remove(&used);
                }
            }
        }
        self.addresses.change(rank, &old.claims, &new.claims);
        note(&mut self.routing, (rank, key.clone()), !new.routers.is_empty());
        note(&mut self.checking, key.clone(), new.health_check.is_some());
        note(&mut self.faulty, (rank, key.clone()), !new.faults.is_empty() || new.policy_faults.iter().any(|faults| !faults.is_empty()));
    }

    /// Joins the rest of the plan, of which there is little. Services, listeners and policies are not joined here: they are kept up to date as they change.
    fn join(&mut self) {
        // There may be ten thousand routes, so those that did not change are reused.
        let known = std::mem::take(&mut self.plan.routes);
        let routes = if std::mem::take(&mut self.other_routes) { self.routes.values().cloned().collect() } else { known };
        let parts = &self.parts;
        let of = |(_, key): &(u8, ObjectKey)| parts.get(key);
        self.plan = Plan {
            services: std::mem::take(&mut self.plan.services),
            listeners: std::mem::take(&mut self.plan.listeners),
            routers: self.routing.iter().filter_map(of).flat_map(|part| part.routers.iter().cloned()).collect(),
            classes: self.classes.iter().filter_map(|key| parts.get(key)?.class.clone()).collect(),
            gateways: self.gateways.iter().filter_map(|key| parts.get(key)?.gateway.clone()).collect(),
            listener_sets: self.listener_sets.iter().filter_map(|key| parts.get(key)?.listener_set.clone()).collect(),
            routes,
            tls_policies: self.tls_policies.iter().filter_map(|key| parts.get(key)?.tls_policy.clone()).collect(),
            policies: std::mem::take(&mut self.plan.policies),
            backends: self.backends.iter().filter_map(|key| parts.get(key)?.service.clone()).collect(),
            balanced: self.balanced.iter().filter_map(|key| self.balanced(key)).collect(),
            conflicts: self.addresses.conflicts().cloned().collect(),
            shadows: self.addresses.shadows().cloned().collect(),
            health_checks: self.checking.iter().filter_map(|key| parts.get(key)?.health_check.clone()).collect(),
            plugins: self.all_plugins(),
            faults: self.faults(),
        };
    }

    /// A Service of which this gateway is the load balancer, and what of it another object has.
    fn balanced(&self, key: &ObjectKey) -> Option<(Arc<PlannedService>, BTreeSet<At>)> {
        let service = self.parts.get(key)?.service.clone()?;
        let all = service.ports.iter().flat_map(|port| service.balanced_at(port));
        let lost = all.filter(|at| self.addresses.holder(at) != Some(key)).collect();
        Some((service, lost))
    }

    /// All plugins: those of `Plugin` objects, and then the built-in ones that are used by their own names.
    fn all_plugins(&self) -> Vec<PlannedPlugin> {
        let objects = self.plugins.keys().filter_map(|key| self.parts.get(key)?.plugin.as_deref().cloned());
        let mut all: Vec<PlannedPlugin> = objects.collect();
        for (name, kind) in self.used.keys() {
            if all.iter().any(|plugin| plugin.name == *name) {
                continue;
            }
            // The host names come from Backends, which are the operator's own objects, so any host may be looked up.
            let backends = name == backends::LOOK_UP;
            let source = PluginSource::Builtin(if backends { DNS.to_owned() } else { name.clone() });
            let allowed_hosts = backends.then(AllowedHost::any).into_iter().collect();
            all.push(PlannedPlugin {
                loopback_endpoints: loopback_endpoints(&source, false, &self.settings),
                name: name.clone(),
                kind: *kind,
                source,
                limits: Limits { allowed_hosts, ..Limits::default() },
                failure_policy: FailurePolicy::default(),
                persists: false,
                rollout: Rollout::default(),
                place: None,
                object: None,
            });
        }
        all
    }

    /// All faults, each once: a policy is read for each port that it targets, and has the same faults each time.
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let refused = self.addresses.faulty().map(|(rank, key)| (rank, key.clone()));
        for (rank, key) in self.faulty.iter().cloned().chain(refused).collect::<BTreeSet<_>>() {
            faults.extend(self.parts.get(&key).into_iter().flat_map(|part| &part.faults));
            faults.extend(self.addresses.faults(rank, &key));
        }
        let policies = || self.faulty.iter().filter_map(|(_, key)| self.parts.get(key));
        faults.extend((0..3).flat_map(|kind| policies().flat_map(move |part| &part.policy_faults[kind])));
        let of_listeners = self.addresses.shadows().map(|Shadow { policy, message }| {
            let path = "spec.targetRefs";
            warning(&policy.origin, &policy.key, path, format!("{path}: {message}"), Some("another port for one of them".to_owned()))
        });
        let of_listeners: Vec<Fault> = of_listeners.collect();
        let mut seen = HashSet::new();
        faults.into_iter().chain(&of_listeners).filter(|fault| seen.insert(*fault)).cloned().collect()
    }
}

/// What is in the first list and not in the second. Both are sorted.
fn difference<'r>(these: &'r [Arc<Read>], others: &'r [Arc<Read>]) -> impl Iterator<Item = &'r Arc<Read>> {
    these.iter().filter(|read| others.binary_search(read).is_err())
}

fn note<T: Ord>(set: &mut BTreeSet<T>, key: T, there: bool) {
    if there {
        set.insert(key);
    } else {
        set.remove(&key);
    }
}
