//! From what sources tell to the plan, the plugins and the targets of discovery.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluicegate_config::builtins::DEFAULT_DISCOVERY;
use sluicegate_config::object::{Body, Given, Object, ObjectKey};
use sluicegate_config::objects::Change;
use sluicegate_config::plan::{AskedAddresses, PlannedService, PluginSource, ServiceAddresses, default_addresses, is_own};
use sluicegate_host::Loaded;
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::discovery::{DiscoveryGeneration, Key};
use sluicegate_model::fault::{Fault, Severity};
use tokio::time::Instant;

use super::Controller;
use crate::allocate::{everywhere, is_balanced};
use crate::assemble::{router_use, rule_balancer_use};
use crate::discovery::Target;
use crate::plugins::{Files, Use};
use crate::sources::folder::Followed;
use crate::sources::{self, Sources, Taken};
use crate::store::Update;

/// The label of a Node that says in which zone it is.
const ZONE: &str = "topology.kubernetes.io/zone";
/// How long a change waits for what it refers to.
const ANSWERED: Duration = Duration::from_secs(2);

impl Controller {
    /// Takes in what sources have told.
    pub(super) async fn follow(&mut self, sources: &Sources, followed: &Followed) {
        let Taken { changes, other, complete } = sources.take();
        self.complete = complete;
        let (waiting, changed) = (followed.waiting(), followed.take_changed());
        self.registry.wait_for(waiting.keys().cloned());
        let files = (other || !changed.is_empty()).then_some(Files::These(changed));
        self.load(changes, files).await;
        self.want(sources).await;
        self.faults.extend(waiting.into_iter().filter_map(|(path, why)| {
            Some(Fault {
                severity: Severity::Warning,
                place: None,
                object: None,
                message: format!("{}: {}", path.display(), why?),
                expected: Some("what was loaded of it serves".to_owned()),
            })
        }));
        followed.follow(self.registry.files());
    }

    /// Tells sources which Secrets and ConfigMaps are wanted now, and takes in what they answer at once: a listener that names another certificate than before
    /// is not to be without one meanwhile.
    pub(super) async fn want(&mut self, sources: &Sources) {
        let Some(wanted) = self.wanted.clone() else { return };
        while wanted.want(self.planner.referenced(), &self.watched()) {
            if tokio::time::timeout(ANSWERED, wanted.answered()).await.is_err() {
                tracing::debug!("what objects refer to is not answered yet; the rest is served");
                return;
            }
            let Taken { changes, other, complete } = sources.take();
            self.complete = complete;
            self.load(changes, other.then_some(Files::All)).await;
        }
    }

    /// The kinds whose objects discovery plugins watch. The built-in one looks at Pods only for Services that have no EndpointSlices, and in a cluster those
    /// with a selector have.
    fn watched(&self) -> BTreeSet<String> {
        let plugins = &self.planner.plan().plugins;
        let built_in = |name: &str| {
            let source = plugins.iter().find(|plugin| plugin.name == name).map(|plugin| &plugin.source);
            matches!(source, Some(PluginSource::Builtin(built_in)) if built_in == DEFAULT_DISCOVERY)
        };
        self.runner.watched(|name| !built_in(name))
    }

    /// Takes in changes of units: they become objects, a plan, plugins and the targets of discovery. `files`: something has happened to
    /// files of plugins, of which these may have changed.
    pub(super) async fn load(&mut self, told: Vec<sources::Change>, files: Option<Files>) {
        let unread = self.store.unread().clone();
        let Update { changes, mut faults } = self.store.update(told);
        if let Some(saver) = &mut self.saver {
            saver.note(&changes);
        }
        self.place(&changes);
        let allocated = self.allocate(&changes, *self.store.unread() != unread);
        faults.extend(self.allocated.iter().cloned());
        let changes_of = changes.iter().map(|(change, old)| (change, old.clone()));
        let delta = self.planner.update(self.store.objects(), changes_of, &self.allocations, allocated);
        self.changed.plan |= delta.made > 0;
        self.changed.listeners.extend(delta.listeners.iter().map(|(at, listener)| (*at, listener.clone())));
        faults.extend(self.planner.plan().faults.iter().cloned());
        faults.extend(self.own_faults.iter().cloned());
        faults.extend(self.needs_restart());
        self.faults = faults;
        let uses = |service: &Option<Arc<PlannedService>>| -> Vec<(String, ConfigText)> {
            let ports = service.iter().flat_map(|service| &service.ports);
            ports.map(|port| (port.balancer.plugin.clone(), port.balancer.config.clone())).collect()
        };
        for (old, new) in delta.services.values() {
            for used in uses(new) {
                *self.balancers.entry(used).or_default() += 1;
            }
            for used in uses(old) {
                if let Some(count) = self.balancers.get_mut(&used) {
                    *count -= 1;
                    if *count == 0 {
                        self.balancers.remove(&used);
                    }
                }
            }
        }
        let targets = delta.services.iter().map(|((namespace, name), (_, new))| {
            let key = Key { namespace: namespace.clone(), name: name.clone() };
            (key, new.as_deref().and_then(target))
        });
        self.changed
            .services
            .extend(delta.services.keys().map(|(namespace, name)| Key { namespace: namespace.clone(), name: name.clone() }));
        self.runner.change(&changes, targets);
        self.sync_plugins(files).await;
    }

    /// Takes this node's zone from its Node, unless one is configured. A Node that is gone leaves its zone.
    fn place(&mut self, changes: &[(Change, Option<Arc<Object>>)]) {
        let here = &mut self.options.settings.here;
        let Some(name) = here.node.as_ref().filter(|_| !self.zone_is_given) else { return };
        if !changes.iter().any(|(change, _)| change.key().kind == "Node" && change.key().name == *name) {
            return;
        }
        let Some(Body::Node(node)) = self.store.objects().get("Node", "", name).map(|node| &node.body) else { return };
        let zone = node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE)).cloned();
        if zone != here.zone {
            tracing::info!(node = name, zone, "this node's zone is that of its Node");
            here.zone = zone;
            // Hints of endpoints may lead elsewhere now.
            let key = |(namespace, name): &(String, String)| Key { namespace: namespace.clone(), name: name.clone() };
            self.changed.services.extend(self.planner.plan().services.keys().map(key));
        }
    }

    /// Allocates for the Services and Gateways that have changed. Returns those whose allocations have changed.
    pub(super) fn allocate(&mut self, changes: &[(Change, Option<Arc<Object>>)], all: bool) -> BTreeSet<ObjectKey> {
        let in_cluster = self.options.settings.services == ServiceAddresses::Cluster;
        // There a Gateway's status says which address it has.
        let asks = |(change, old): &(Change, Option<Arc<Object>>)| {
            asks_otherwise(change, old.as_deref()) || (in_cluster && change.key().kind == "Gateway")
        };
        let all = all || self.allocator.is_stale() || (self.allocator.has_addresses() && changes.iter().any(asks));
        let mut shown = BTreeSet::new();
        if in_cluster && changes.iter().any(|(change, _)| change.key().kind == "Node") {
            let everywhere = everywhere(self.store.objects().of_kind("Node"));
            if everywhere != self.allocations.everywhere {
                self.allocations.everywhere = everywhere;
                shown.extend(self.store.objects().of_kind("Gateway").map(|gateway| gateway.key.clone()));
                shown.extend(
                    self.store.objects().of_kind("Service").filter(|service| is_balanced(service)).map(|service| service.key.clone()),
                );
            }
        }
        self.allocations.on_nodes = in_cluster && !self.allocator.has_addresses();
        let services = changes.iter().filter(|(change, _)| change.key().kind == "Service");
        let changed: Vec<_> = services
            .map(|(change, _)| match change {
                Change::Applied(object) => (object.key.clone(), Some(object.clone())),
                Change::Gone(key) => (key.clone(), None),
            })
            .collect();
        // These are planned anew in any case.
        if !all && (changed.is_empty() || self.allocator.allocate_changed(&changed, self.store.unread(), &mut self.allocations)) {
            return shown;
        }
        let objects = self.store.objects();
        let own = |object: &&Arc<Object>| matches!(&object.body, Body::Gateway(gateway) if is_own(objects, gateway));
        // Who listens where its parameters say needs no address.
        let mut reserved = BTreeSet::new();
        let needing = |object: &&Arc<Object>| {
            let Body::Gateway(gateway) = &object.body else { return false };
            let elsewhere = default_addresses(objects, object, gateway);
            let elsewhere = if AskedAddresses::of(gateway).named.is_empty() { elsewhere } else { &[] };
            reserved.extend(elsewhere);
            elsewhere.is_empty()
        };
        let gateways = objects.of_kind("Gateway").filter(own).filter(needing);
        let asking: Vec<Arc<Object>> = objects.of_kind("Service").chain(gateways).cloned().collect();
        self.allocator.reserve(reserved);
        let (mut allocations, wrong) = self.allocator.allocate(&asking, self.store.unread());
        allocations.everywhere.clone_from(&self.allocations.everywhere);
        allocations.on_nodes = self.allocations.on_nodes;
        let mut allocated = allocations.differences(&self.allocations);
        allocated.append(&mut shown);
        (self.allocations, self.allocated) = (allocations, wrong);
        allocated
    }

    /// Loads the plugins of the plan that have changed, and those that are used otherwise. Of their files those are read that may have changed (`files`).
    pub(super) async fn sync_plugins(&mut self, files: Option<Files>) {
        let balancers = self.balancers.keys();
        let balancers = balancers.map(|(plugin, config)| Use { plugin: plugin.clone(), config: config.clone(), listener: None });
        let (mut seen, mut uses): (HashSet<Use>, Vec<Use>) = (HashSet::new(), balancers.collect());
        uses.extend(self.planner.plan().routers.iter().map(|router| router_use(router)).filter(|wanted| seen.insert(wanted.clone())));
        let rules = self.planner.plan().routers.iter().flat_map(|router| router.rules.values().chain([&router.other_rules]));
        let of_rules = rules.filter_map(|rule| rule.balancer.as_ref().map(rule_balancer_use));
        let known = |wanted: &Use| self.balancers.contains_key(&(wanted.plugin.clone(), wanted.config.clone()));
        uses.extend(of_rules.filter(|wanted| !known(wanted) && seen.insert(wanted.clone())));
        let plugins = &self.planner.plan().plugins;
        if files.is_some() || self.loaded.as_ref().is_none_or(|(of, with)| of != plugins || *with != uses) {
            let files = files.unwrap_or(Files::These(BTreeSet::new()));
            self.changed.plugins.append(&mut self.registry.sync(plugins, &uses, &files).await);
            self.looked_at_plugins = true;
            self.loaded = Some((plugins.clone(), uses));
        }
        self.sync_discovery();
    }

    /// A fault that says that a restart is needed, as the process reads its own settings only once.
    pub(super) fn needs_restart(&mut self) -> Option<Fault> {
        let own: Vec<&Arc<Object>> = self.store.objects().of_kind("SluicegateConfiguration").collect();
        let values: Vec<Given> = own.iter().map(|o| o.value.clone()).collect();
        let same = *self.started_with.get_or_insert_with(|| values.clone()) == values;
        (!same).then(|| Fault {
            severity: Severity::Warning,
            place: own.first().map(|o| o.origin.place("")),
            object: None,
            message: "the SluicegateConfiguration has changed since the start".to_owned(),
            expected: Some("a restart of the gateway: what it started with stays in force".to_owned()),
        })
    }

    pub(super) fn discoveries(&self) -> HashMap<String, Arc<dyn DiscoveryGeneration>> {
        let live = |name: &String| -> Option<(String, Arc<dyn DiscoveryGeneration>)> {
            match self.registry.live(name) {
                Some(Loaded::Discovery(plugin)) => Some((name.clone(), plugin.clone())),
                _ => None,
            }
        };
        self.runner.plugins().filter_map(live).collect()
    }

    pub(super) fn sync_discovery(&mut self) {
        let live = self.discoveries();
        self.runner.sync(&live, self.store.objects());
    }

    pub(super) async fn discover(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let plugins = self.discoveries();
        while !self.runner.complete() {
            let next = self.runner.next(|name| plugins.get(name).cloned(), self.store.objects());
            if tokio::time::timeout_at(deadline, next).await.is_err() {
                tracing::warn!("discovery has not answered for every service yet; it goes on");
                return;
            }
        }
    }
}

/// Whether a change bears on which Gateways ask for addresses: a Gateway asks otherwise than before, or a class is another gateway's.
fn asks_otherwise(change: &Change, old: Option<&Object>) -> bool {
    let new = match change {
        Change::Applied(object) => Some(&**object),
        Change::Gone(_) => None,
    };
    let asked = |object: Option<&Object>| match object.map(|object| &object.body) {
        Some(Body::Gateway(gateway)) => {
            let parameters = gateway.spec.infrastructure.as_ref().and_then(|infrastructure| infrastructure.parameters_ref.clone());
            Some((gateway.spec.gateway_class_name.clone(), AskedAddresses::of(gateway), parameters))
        }
        _ => None,
    };
    matches!(change.key().kind.as_str(), "GatewayClass" | "GatewayParameters") || asked(old) != asked(new)
}

/// What a discovery plugin is told of a Service, if there is anything to find. One plugin serves all ports of a Service, so a policy's `sectionName` does not
/// bear on it.
fn target(service: &PlannedService) -> Option<(String, Target)> {
    let port = service.ports.first().filter(|_| service.routable)?;
    let target = Target { service: told(service), config: port.discovery.config.text().clone() };
    Some((port.discovery.plugin.clone(), target))
}

/// A Service as discovery plugins are told of it: with its IP families, which an API server would have filled in.
fn told(service: &PlannedService) -> Arc<str> {
    let names = service.families.names();
    let given = match &service.object.body {
        Body::Service(service) => service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref()),
        _ => None,
    };
    if given.is_some_and(|given| *given == names) || (given.is_none() && names == ["IPv4"]) {
        return service.object.json();
    }
    let mut value = Value::clone(&service.object.value.tree());
    value["spec"]["ipFamilies"] = names.into();
    value.to_string().into()
}
