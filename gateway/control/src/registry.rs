//! The plugins of a plan: reads their files, loads each new version off the workers, tries it with the configurations in use, and keeps the
//! version that serves when the new one is refused. What becomes of them then is in [`lifecycle`]; how a new one takes over step by step in [`rollout`].

mod lifecycle;
mod rollout;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use sluicegate_host::load::sha256;
use sluicegate_host::{Description, Loaded, Loader};
use sluicegate_model::commons::Commons;
use sluicegate_model::object::ours::{FailurePolicy, MinisignKey};
use sluicegate_model::operate::PluginEvent;
use sluicegate_model::plan::{PlannedPlugin, PluginSource};
use sluicegate_model::plugin::{Generation, PluginError, RouterGeneration, Stage};
use sluicegate_model::rollout::Trial;
use sluicegate_model::route::{ListenerInfo, RouteTable};
use sluicegate_model::schema::{Violation, violations};
use sluicegate_model::status::{Compiled, PluginStatus};
use sluicegate_model::tally::Tally;

use crate::signature;
use lifecycle::Revival;
use rollout::Candidate;

/// Plugins whose counters are kept; beyond that, of those that are gone none.
const MOST_TALLIES: usize = 1024;

/// A configuration some object gives to a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Use {
    /// The plugin's name.
    pub plugin: String,
    /// JSON.
    pub config: String,
    /// For routers: the listener.
    pub listener: Option<ListenerInfo>,
}

/// Finds the bytes of a built-in plugin.
pub type Builtins = fn(&str) -> Option<&'static [u8]>;

/// All plugins in use.
pub struct Registry {
    loader: Loader,
    builtins: Builtins,
    /// One of these must have signed a plugin's file; none: nobody need.
    trusted: Vec<MinisignKey>,
    entries: BTreeMap<String, Entry>,
    /// By the generation's id and the use.
    checked: HashMap<(u64, Use), Checked>,
    /// By the plugin's name, also of plugins that are not there now: one whose object comes back goes on counting.
    tallies: BTreeMap<String, Arc<Tally<Generation, 6>>>,
    /// Likewise what was counted while generations were on trial.
    trials: BTreeMap<String, Arc<Tally<Trial, 10>>>,
    /// Of the last [`Registry::sync`].
    uses: Vec<Use>,
}

type Checked = Result<Option<Arc<RouteTable>>, PluginError>;

struct Entry {
    planned: PlannedPlugin,
    /// Of the bytes last tried, with their limits.
    tried: Option<String>,
    /// What its generations have in common.
    commons: Commons,
    live: Option<Version>,
    /// On trial beside it.
    candidate: Option<Candidate>,
    /// Generations before it, the newest first.
    kept: Vec<Version>,
    number: u64,
    refused: Option<PluginError>,
    /// What an operator ordered that lasts.
    held: Option<String>,
    disabled: bool,
    history: VecDeque<PluginEvent>,
    revival: Revival,
}

#[derive(Clone)]
struct Version {
    loaded: Loaded,
    description: Description,
}

impl Registry {
    /// Without plugins.
    pub fn new(loader: Loader, builtins: Builtins) -> Self {
        Self {
            loader,
            builtins,
            trusted: Vec::new(),
            entries: BTreeMap::new(),
            checked: HashMap::new(),
            tallies: BTreeMap::new(),
            trials: BTreeMap::new(),
            uses: Vec::new(),
        }
    }

    /// Loads only files that one of these keys has signed, if there are any.
    pub fn trusting(self, trusted: Vec<MinisignKey>) -> Self {
        Self { trusted, ..self }
    }

    /// Loads what is new or has changed. `uses` are all configurations in use: a new version must accept those that the one before it does.
    /// The first version need not: a faulty configuration of one object is no reason to refuse the plugin to the others.
    pub async fn sync(&mut self, planned: &[PlannedPlugin], uses: &[Use]) {
        self.entries.retain(|name, _| planned.iter().any(|p| p.name == *name));
        for plugin in planned {
            let entry = self.entries.entry(plugin.name.clone()).or_insert_with(|| Entry {
                planned: plugin.clone(),
                tried: None,
                commons: Commons::new(&plugin.limits),
                live: None,
                candidate: None,
                kept: Vec::new(),
                number: 0,
                refused: None,
                held: None,
                disabled: false,
                history: VecDeque::new(),
                revival: Revival::default(),
            });
            entry.planned = plugin.clone();
            if entry.disabled {
                continue;
            }
            let refused = |stage, reason| PluginError { plugin: plugin.name.as_str().into(), stage, reason };
            let bytes = match read(plugin, self.builtins) {
                Ok(bytes) => bytes,
                Err(reason) => {
                    entry.refuse(refused(Stage::Read, reason), None);
                    entry.tried = None;
                    continue;
                }
            };
            let sum = sha256(&bytes);
            let tried = format!("{sum} {:?}", plugin.limits);
            if entry.tried.as_ref() == Some(&tried) {
                continue;
            }
            // Of bytes that are not those last tried: a signature stays good as long as they do.
            let signer = match signed(plugin, &bytes, &self.trusted) {
                Ok(signer) => signer,
                Err(reason) => {
                    entry.refuse(refused(Stage::Signature, reason), Some(sum));
                    entry.tried = None;
                    continue;
                }
            };
            entry.tried = Some(tried);
            if entry.candidate.is_some() && entry.live.as_ref().is_some_and(|live| live.loaded.generation().sha256 == sum) {
                entry.end_trial("its file is again the one that serves".to_owned());
                continue;
            }
            entry.commons.limit(&plugin.limits);
            let number = entry.number + 1;
            let mut uses: Vec<Use> = uses.iter().filter(|u| u.plugin == plugin.name).cloned().collect();
            match &entry.live {
                None => uses.clear(),
                Some(live) => uses.retain(|wanted| checked(&mut self.checked, live, wanted).is_ok()),
            }
            let on_trial = entry.first_phase();
            let commons = if on_trial.is_some() { entry.commons.fork() } else { entry.commons.clone() };
            match load(self.loader.clone(), plugin.clone(), number, bytes, uses, commons).await {
                Ok(version) => {
                    tracing::info!(plugin = plugin.name, kind = %plugin.kind, generation = number, version = version.description.version, signer, "the plugin is loaded");
                    self.tallies.entry(plugin.name.clone()).or_default().join(version.loaded.generation().clone());
                    match on_trial {
                        Some(phase) => {
                            let trial = entry.begin_trial(version, phase);
                            self.trials.entry(plugin.name.clone()).or_default().join(trial);
                        }
                        None => entry.accept(version),
                    }
                }
                // A fault, which is logged with the others.
                Err(error) => entry.refuse(error, Some(sum)),
            }
        }
        if self.tallies.len() > MOST_TALLIES {
            self.tallies.retain(|name, _| self.entries.contains_key(name));
            self.trials.retain(|name, _| self.entries.contains_key(name));
        }
        let live: Vec<u64> = self.entries.values().flat_map(Entry::versions).map(|v| v.loaded.generation().id).collect();
        let current: HashSet<&Use> = uses.iter().collect();
        self.checked.retain(|(id, wanted), _| live.contains(id) && current.contains(wanted));
        self.uses = uses.to_vec();
    }

    /// The generations that may serve a use, best first, each checked with the use's configuration. The error is the best one's.
    pub fn ladder(&mut self, wanted: &Use) -> Result<Vec<(Loaded, Option<Arc<RouteTable>>)>, PluginError> {
        let Some(entry) = self.entries.get(&wanted.plugin) else {
            return Err(PluginError {
                plugin: wanted.plugin.as_str().into(),
                stage: Stage::Read,
                reason: "there is no such plugin".to_owned(),
            });
        };
        if entry.disabled {
            return Ok(Vec::new());
        }
        let mut ladder = Vec::new();
        let mut failed = None;
        // Who would rather fail than be served otherwise wants no older generation either.
        let previous = entry.kept.first().filter(|_| entry.planned.failure_policy == FailurePolicy::Fallback);
        for version in entry.live.iter().chain(previous) {
            match checked(&mut self.checked, version, wanted) {
                Ok(table) => ladder.push((version.loaded.clone(), table.clone())),
                Err(error) => failed = failed.or(Some(error.clone())),
            }
        }
        match (ladder.is_empty(), failed, &entry.refused) {
            (false, ..) => Ok(ladder),
            (true, Some(error), _) => Err(error),
            (true, None, Some(error)) => Err(error.clone()),
            (true, None, None) => {
                Err(PluginError { plugin: wanted.plugin.as_str().into(), stage: Stage::Read, reason: "it is not loaded".to_owned() })
            }
        }
    }

    /// Where the plugins' code came from.
    pub fn compiled(&self) -> Compiled {
        self.loader.compiled()
    }

    /// A plugin's live version; none if it is disabled.
    pub fn live(&self, plugin: &str) -> Option<&Loaded> {
        let entry = self.entries.get(plugin).filter(|entry| !entry.disabled)?;
        Some(&entry.live.as_ref()?.loaded)
    }

    /// Where a configuration does not fit the schema of the plugin's live version.
    pub fn violations(&self, plugin: &str, config: &str) -> Vec<Violation> {
        let live = self.entries.get(plugin).and_then(|entry| entry.live.as_ref());
        live.and_then(|version| fits(version, config).ok()).unwrap_or_default()
    }

    /// What happens to traffic when the plugin fails.
    pub fn failure_policy(&self, plugin: &str) -> FailurePolicy {
        self.entries.get(plugin).map_or_else(FailurePolicy::default, |entry| entry.planned.failure_policy)
    }

    /// Whether what the plugin's pools know outlives the gateway.
    pub fn persists(&self, plugin: &str) -> bool {
        self.entries.get(plugin).is_some_and(|entry| entry.planned.persists)
    }

    /// The files to watch.
    pub fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.entries.values().filter_map(|e| match &e.planned.source {
            PluginSource::File { path, .. } => Some(path.as_path()),
            PluginSource::Builtin(_) => None,
        })
    }

    /// Why plugins were refused, and which generation serves instead.
    pub fn refused(&self) -> impl Iterator<Item = (&PlannedPlugin, &PluginError, Option<u64>)> {
        let serving = |e: &Entry| e.live.as_ref().map(|version| version.loaded.generation().number);
        self.entries.values().filter_map(move |e| Some((&e.planned, e.refused.as_ref()?, serving(e))))
    }

    /// What the admin API shows.
    pub fn status(&self) -> Vec<PluginStatus> {
        let shown = |e: &Entry| {
            let misused = e.live.as_ref().and_then(|live| self.misused(live.loaded.generation().id));
            PluginStatus {
                name: e.planned.name.clone(),
                kind: e.planned.kind,
                source: match &e.planned.source {
                    PluginSource::Builtin(_) => "builtin".to_owned(),
                    PluginSource::File { path, .. } => path.display().to_string(),
                },
                state: match (&e.live, e.refused.as_ref().or(misused)) {
                    _ if e.disabled => "disabled",
                    (Some(_), None) if e.held.is_none() => "active",
                    (Some(_), _) => "degraded",
                    (None, _) => "failed",
                }
                .to_owned(),
                reason: e.refused.as_ref().or(misused).map(ToString::to_string).or_else(|| e.held.clone()),
                rollout: e.candidate.as_ref().map(Candidate::status),
                trials: self.trials.get(&e.planned.name).cloned().unwrap_or_default(),
                kept: e.kept.iter().map(|version| version.loaded.generation().number).collect(),
                history: e.history.iter().cloned().collect(),
                tally: self.tallies.get(&e.planned.name).cloned().unwrap_or_default(),
                generation: e.live.as_ref().map(|v| v.loaded.generation().clone()),
            }
        };
        self.entries.values().map(shown).collect()
    }

    /// A configuration in use that a generation refuses, or fails on.
    fn misused(&self, generation: u64) -> Option<&PluginError> {
        self.uses.iter().find_map(|wanted| self.checked.get(&(generation, wanted.clone()))?.as_ref().err())
    }

    /// All live generations, for metrics.
    pub fn generations(&self) -> Vec<Arc<Generation>> {
        self.entries.values().filter_map(|e| Some(e.live.as_ref()?.loaded.generation().clone())).collect()
    }
}

fn read(plugin: &PlannedPlugin, builtins: Builtins) -> Result<Vec<u8>, String> {
    match &plugin.source {
        PluginSource::Builtin(name) => builtins(name).map(<[u8]>::to_vec).ok_or_else(|| format!("there is no built-in plugin {name:?}")),
        PluginSource::File { path, sha256: wanted } => {
            let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
            match wanted {
                Some(wanted) if !wanted.eq_ignore_ascii_case(&sha256(&bytes)) => {
                    Err(format!("{}: its SHA-256 is {}, and {wanted} is wanted", path.display(), sha256(&bytes)))
                }
                _ => Ok(bytes),
            }
        }
    }
}

/// What the signer says of a plugin's file, where files must be signed.
fn signed(plugin: &PlannedPlugin, bytes: &[u8], trusted: &[MinisignKey]) -> Result<Option<String>, String> {
    match &plugin.source {
        PluginSource::File { path, .. } if !trusted.is_empty() => signature::check(path, bytes, trusted).map(Some),
        _ => Ok(None),
    }
}

/// On a thread of its own: compiling takes tens of milliseconds, a hostile plugin up to its deadlines.
async fn load(
    loader: Loader,
    plugin: PlannedPlugin,
    number: u64,
    bytes: Vec<u8>,
    uses: Vec<Use>,
    commons: Commons,
) -> Result<Version, PluginError> {
    let name: Arc<str> = plugin.name.as_str().into();
    let task = tokio::task::spawn_blocking(move || {
        let (loaded, description) = loader.load_with(&plugin.name, number, &bytes, plugin.kind, &plugin.limits, commons)?;
        let version = Version { loaded, description };
        for wanted in &uses {
            check(&version, wanted)?;
        }
        Ok(version)
    });
    task.await.unwrap_or_else(|e| Err(PluginError { plugin: name, stage: Stage::Compile, reason: format!("the loader failed: {e}") }))
}

fn fits(version: &Version, config: &str) -> Result<Vec<Violation>, String> {
    let config = serde_json::from_str(config).map_err(|e| format!("the configuration is not JSON: {e}"))?;
    violations(&version.description.config_schema, &config)
}

fn checked<'c>(known: &'c mut HashMap<(u64, Use), Checked>, version: &Version, wanted: &Use) -> &'c Checked {
    known.entry((version.loaded.generation().id, wanted.clone())).or_insert_with(|| check(version, wanted))
}

fn check(version: &Version, wanted: &Use) -> Result<Option<Arc<RouteTable>>, PluginError> {
    let refuse = |reason| PluginError { plugin: wanted.plugin.as_str().into(), stage: Stage::Configure, reason };
    if let Some(first) = fits(version, &wanted.config).map_err(refuse)?.first() {
        return Err(refuse(format!("config {}: {}", first.path, first.message)));
    }
    match (&version.loaded, &wanted.listener) {
        (Loaded::Balancer(balancer), _) => balancer.trial(&wanted.config).map(|()| None),
        (Loaded::Router(router), Some(listener)) => router.configure(&wanted.config, listener).map(|table| Some(Arc::new(table))),
        (Loaded::Router(_) | Loaded::Discovery(_), _) => Ok(None),
    }
}
