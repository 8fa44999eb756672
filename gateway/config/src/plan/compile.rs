//! One object, compiled: [`Compiler`] makes a [`Part`] of the plan and notes what it looked at. The other files of this folder are further parts of the
//! compiler, one for each subject.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use sluicegate_builtins::publishes_objects;
use sluicegate_model::allowed_file::AllowedFiles;
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::rollout::{Canary, Shadow};

use super::effect::Counted;
use super::references::Refused;
use super::routes::AttachedRoutes;
use super::settings::Defaults;
use super::*;
use crate::builtins;
use crate::object::ours::{CanaryRollout, ConfigMapKey, Plugin, PluginRollout, ShadowRollout};
use crate::object::{Body, ClientTrafficPolicy, error, warning};
use crate::objects::{Objects, Target};

/// The part of the plan that comes from one object.
#[derive(Default)]
pub(super) struct Part {
    pub(super) class: Option<Arc<PlannedClass>>,
    pub(super) route: Option<Arc<PlannedRoute>>,
    pub(super) gateway: Option<Arc<PlannedGateway>>,
    pub(super) listener_set: Option<Arc<PlannedListenerSet>>,
    pub(super) service: Option<Arc<PlannedService>>,
    pub(super) tls_policy: Option<Arc<PlannedTlsPolicy>>,
    pub(super) policy: Option<Arc<PlannedPolicy>>,
    pub(super) health_check: Option<Arc<PlannedHealthCheck>>,
    pub(super) plugin: Option<Arc<PlannedPlugin>>,
    pub(super) routers: Vec<Arc<PlannedRouter>>,
    /// The addresses that the object wants to listen on, in its order.
    pub(super) claims: Vec<Claim>,
    /// All faults except for [`Part::policy_faults`].
    pub(super) faults: Vec<Fault>,
    /// The faults of a policy: targets that do not exist or are not served; fields without effect; targets that another policy has.
    pub(super) policy_faults: [Vec<Fault>; 3],
    /// The plugins that are used, each once.
    pub(super) used: Vec<(String, PluginKind)>,
    /// The policies that count for this object, and what they count for.
    pub(super) counted: Vec<Arc<Counted>>,
    /// What else the part depends on, sorted. As there are tens of thousands of parts, this is a slice and not a tree, and its items are shared with other
    /// parts.
    pub(super) reads: Box<[Arc<Read>]>,
}

/// An address that an object wants to listen on.
#[derive(Clone)]
pub(super) struct Claim {
    pub(super) object: Arc<Object>,
    /// The field that asks for the address.
    pub(super) path: Cow<'static, str>,
    pub(super) listener: Arc<PlannedListener>,
    /// The ClientTrafficPolicy whose settings the listener has. `None`: there is none, or the listener cannot share its address.
    pub(super) policy: Option<Arc<Object>>,
    /// Whether all other claims of the address come first.
    pub(super) yields: bool,
}

/// Something besides the object itself that was looked at. When it changes, the part is made again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Read {
    /// An object, whether it exists or not.
    Object(ObjectKey),
    /// The policies of one target.
    Targeting(Target),
    /// The routes that name a Gateway or ListenerSet as a parent, and their plans.
    Attached(Target),
    /// The plan of a Gateway, as far as it matters to ListenerSets.
    Gateway(ObjectKey),
    /// The ReferenceGrants of a namespace.
    Grants(String),
    /// Whether there are `Plugin` objects of this name, and their kinds.
    Plugin(String),
    /// All `Plugin` objects.
    Plugins,
}

/// Whether a discovery plugin may publish loopback addresses. One that finds endpoints outside of the objects needs the permission of its `Plugin` object.
pub(super) fn loopback_endpoints(source: &PluginSource, permitted: bool, settings: &Settings) -> LoopbackEndpoints {
    match source {
        _ if permitted => LoopbackEndpoints::Allowed,
        PluginSource::Builtin(name) if publishes_objects(name) => settings.loopback_endpoints,
        _ => LoopbackEndpoints::Refused,
    }
}

pub(super) struct Compiler<'a> {
    pub(super) part: Part,
    pub(super) objects: &'a Objects,
    pub(super) allocations: &'a Allocations,
    pub(super) settings: &'a Settings,
    pub(super) defaults: &'a Defaults,
    /// The `Plugin` objects, in the order of their keys.
    pub(super) plugins: &'a BTreeMap<ObjectKey, (String, PluginKind)>,
    /// The parts of other objects that are made already: routes are made before Gateways, and these before ListenerSets.
    pub(super) parts: &'a HashMap<ObjectKey, Box<Part>>,
    attached: &'a AttachedRoutes,
    /// References to Secrets and ConfigMaps that may not be used, and why.
    pub(super) refused: Vec<Refused>,
    /// The certificate that is shown to the endpoints to which the routers of this object lead.
    pub(super) identity: PlannedIdentity,
    reads: RefCell<BTreeSet<Read>>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        objects: &'a Objects,
        allocations: &'a Allocations,
        settings: &'a Settings,
        defaults: &'a Defaults,
        plugins: &'a BTreeMap<ObjectKey, (String, PluginKind)>,
        (parts, attached): (&'a HashMap<ObjectKey, Box<Part>>, &'a AttachedRoutes),
    ) -> Self {
        let (part, refused, identity, reads) = (Part::default(), Vec::new(), PlannedIdentity::Unset, RefCell::default());
        Self { part, objects, allocations, settings, defaults, plugins, parts, attached, refused, identity, reads }
    }

    pub(super) fn done(self) -> Part {
        let mut part = self.part;
        part.claims.shrink_to_fit();
        part.used.shrink_to_fit();
        part.counted.shrink_to_fit();
        Part { reads: self.reads.into_inner().into_iter().map(Arc::new).collect(), ..part }
    }

    /// Notes that the part depends on something.
    pub(super) fn read(&self, what: Read) {
        self.reads.borrow_mut().insert(what);
    }

    /// Finds an object.
    pub(super) fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<&'a Arc<Object>> {
        self.read(Read::Object(ObjectKey::new(kind, namespace, name)));
        self.objects.get(kind, namespace, name)
    }

    /// The policies of a target, of all kinds.
    pub(super) fn policies(&self, kind: &str, namespace: &str, name: &str) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let target = Target { namespace: namespace.to_owned(), kind: kind.to_owned(), name: name.to_owned() };
        let found: Vec<_> = self.objects.targeting(&target).collect();
        self.read(Read::Targeting(target));
        found.into_iter()
    }

    /// The planned routes that name a Gateway or ListenerSet, the oldest first.
    pub(super) fn routes_of(&self, holder: &ObjectKey) -> impl Iterator<Item = &'a Arc<PlannedRoute>> + use<'a> {
        let target = Target { namespace: holder.namespace.clone(), kind: holder.kind.clone(), name: holder.name.clone() };
        let found = self.attached.get(&target).into_iter().flatten();
        self.read(Read::Attached(target));
        found.map(|route| &**route)
    }

    pub(super) fn plugin_object(&mut self, object: &Object, plugin: &Plugin) {
        let folder = object.origin.file().parent().unwrap_or_else(|| std::path::Path::new("."));
        let given = &plugin.spec.source;
        let source = match (&given.builtin, &given.file, &given.config_map) {
            (Some(name), ..) => PluginSource::Builtin(name.clone()),
            (_, Some(file), _) if !object.origin.has_file() && std::path::Path::new(file).is_relative() => {
                // Objects of an API server have no folder.
                let code = Err("it is relative, and an object of an API server has no folder that it could be below".to_owned());
                PluginSource::Object { name: format!("spec.source.file {file:?}"), code, sha256: None }
            }
            (_, Some(file), _) => PluginSource::File { path: folder.join(file), sha256: given.sha256.clone() },
            (_, _, Some(from)) => self.config_map(object, from, given.sha256.clone()),
            (None, None, None) => return,
        };
        let readable = |(at, file): (usize, &String)| {
            if object.origin.has_file() || file.starts_with('/') {
                return file.parse().ok();
            }
            let path = format!("spec.capabilities.allowedFiles[{at}]");
            let message = format!(
                "{path}: {file:?} is relative, and an object of an API server has no folder that it could be below: it is not read"
            );
            let expected = Some("an absolute path, which is looked for on each node".to_owned());
            self.part.faults.push(warning(&object.origin, &object.key, &path, message, expected));
            None
        };
        let files = plugin.spec.capabilities.allowed_files.iter().enumerate().filter_map(readable).collect();
        let (given, defaults) = (&plugin.spec.limits, Limits::default());
        let limits = Limits {
            memory: given.memory.map_or(defaults.memory, |m| m.0),
            deadline: given.deadline.map_or(defaults.deadline, |d| d.0),
            configure_deadline: given.configure_deadline.map_or(defaults.configure_deadline, |d| d.0),
            // A host that cannot be read is a fault of the object, which is not planned then.
            allowed_hosts: plugin.spec.capabilities.allowed_hosts.iter().filter_map(|host| host.parse().ok()).collect(),
            shared_entries: given.shared_entries.map_or(defaults.shared_entries, |n| n as usize),
            shared_bytes: given.shared_memory.map_or(defaults.shared_bytes, |m| m.0),
            allowed_files: AllowedFiles { base: folder.to_owned(), files },
            requests: given.requests.unwrap_or(defaults.requests),
        };
        let place = Some(object.origin.place("spec.source"));
        let told = PluginObject { namespace: object.key.namespace.clone(), generation: plugin.metadata.generation };
        self.part.plugin = Some(Arc::new(PlannedPlugin {
            loopback_endpoints: loopback_endpoints(&source, plugin.spec.capabilities.allow_loopback_endpoints, self.settings),
            name: object.key.name.clone(),
            kind: plugin.spec.kind,
            source,
            limits,
            failure_policy: plugin.spec.failure_policy,
            persists: plugin.spec.state.persist,
            rollout: rollout(&plugin.spec.rollout),
            place,
            object: Some(told),
        }));
    }

    /// A plugin's code in a ConfigMap of its namespace.
    fn config_map(&self, object: &Object, from: &ConfigMapKey, sha256: Option<String>) -> PluginSource {
        let (namespace, ConfigMapKey { name, key }) = (&object.key.namespace, from);
        let code = match self.object("ConfigMap", namespace, name).map(|object| &object.body) {
            Some(Body::ConfigMap(map)) => {
                let binary = |key: &str| map.binary_data.as_ref()?.get(key).map(|bytes| Arc::<[u8]>::from(bytes.0.as_slice()));
                let text = |key: &str| map.data.as_ref()?.get(key).map(|text| Arc::<[u8]>::from(text.as_bytes()));
                let signature = format!("{key}.minisig");
                let signature = binary(&signature).or_else(|| text(&signature));
                binary(key).map(|wasm| PluginCode { wasm, signature }).ok_or_else(|| format!("it has no {key:?} in its binaryData"))
            }
            _ => Err("there is no such ConfigMap".to_owned()),
        };
        PluginSource::Object { name: format!("ConfigMap {namespace}/{name}, {key}"), code, sha256 }
    }

    /// Resolves the reference to a plugin. If there is no such plugin, that is a fault, and the default serves.
    pub(super) fn plugin(&mut self, object: &Object, path: &str, name: &str, kind: PluginKind, config: &ConfigText) -> Option<PluginUse> {
        self.read(Read::Plugin(name.to_owned()));
        let known = || self.plugins.values().map(|(name, kind)| (name.as_str(), *kind)).chain(builtins::all());
        if !known().any(|known| known == (name, kind)) {
            self.read(Read::Plugins);
            let message = format!("{path}: there is no {kind} {name:?}");
            let known: Vec<&str> = known().filter(|(_, k)| *k == kind).map(|(name, _)| name).collect();
            let hint = format!("one of: {}", known.join(", "));
            self.part.faults.push(error(&object.origin, &object.key, path, message, Some(hint)));
            return None;
        }
        self.uses(name, kind);
        let path = path.strip_suffix(".plugin").unwrap_or(path).to_owned();
        let at = ConfiguredAt { object: object.key.clone(), origin: object.origin.clone(), path };
        Some(PluginUse { plugin: name.to_owned(), config: config.clone(), at: Some(at) })
    }

    fn uses(&mut self, name: &str, kind: PluginKind) {
        self.part.used.retain(|(known, _)| known != name);
        self.part.used.push((name.to_owned(), kind));
    }

    pub(super) fn builtin(&mut self, name: &str, kind: PluginKind) -> PluginUse {
        self.uses(name, kind);
        PluginUse { plugin: name.to_owned(), config: ConfigText::default(), at: None }
    }

    /// The router of the policy that counts, if there is one and it names a router.
    pub(super) fn router(
        &mut self,
        policy: Option<(&Arc<Object>, &ClientTrafficPolicy)>,
        listener: ListenerInfo,
        other_rules: PlannedRule,
    ) -> Option<Arc<PlannedRouter>> {
        let (object, policy) = policy?;
        let router = policy.spec.router.as_ref()?;
        let plugin = self.plugin(object, "spec.router.plugin", &router.plugin, PluginKind::Router, &router.config)?;
        Some(self.routed(plugin, listener, BTreeMap::new(), other_rules))
    }

    /// Plans a listener's router. `rules` has the settings of its rules by their names, and `other_rules` those of all others.
    pub(super) fn routed(
        &mut self,
        plugin: PluginUse,
        listener: ListenerInfo,
        rules: BTreeMap<String, PlannedRule>,
        other_rules: PlannedRule,
    ) -> Arc<PlannedRouter> {
        self.push(PlannedRouter { plugin, listener, identity: self.identity.clone(), rules, other_rules, within: None })
    }

    /// Plans the router of a rule, which may lead to these service ports only. The settings `rule` count for everything that it decides.
    pub(super) fn routed_within(
        &mut self,
        plugin: PluginUse,
        listener: ListenerInfo,
        rule: PlannedRule,
        backends: BTreeSet<ServiceRef>,
    ) -> Arc<PlannedRouter> {
        let (identity, rules, within) = (self.identity.clone(), BTreeMap::new(), Some(backends));
        self.push(PlannedRouter { plugin, listener, identity, rules, other_rules: rule, within })
    }

    fn push(&mut self, router: PlannedRouter) -> Arc<PlannedRouter> {
        let router = Arc::new(router);
        self.part.routers.push(router.clone());
        router
    }

    /// Adds a claim of a listener's address. `policy` is the policy whose settings the listener has, if it can share its address with others.
    pub(super) fn listen(&mut self, object: &Arc<Object>, path: Cow<'static, str>, listener: PlannedListener, policy: Option<Arc<Object>>) {
        self.part.claims.push(Claim { object: object.clone(), path, listener: Arc::new(listener), policy, yields: false });
    }
}

fn rollout(given: &PluginRollout) -> Rollout {
    let shadow = |given: &ShadowRollout| Shadow { duration: given.duration.0, max_disagreement: given.max_disagreement };
    let canary = |given: &CanaryRollout| Canary {
        weight: given.weight.unwrap_or(10),
        duration: given.duration.0,
        max_error_rate_increase: given.max_error_rate_increase.unwrap_or(1.0),
        max_latency_increase: given.max_latency_increase.unwrap_or(50.0),
        min_requests: given.min_requests.unwrap_or(50).into(),
    };
    Rollout { shadow: given.shadow.as_ref().map(shadow), canary: given.canary.as_ref().map(canary) }
}
