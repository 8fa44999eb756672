//! The plugins of a plan: reads their files, loads each new version outside the workers, tries it with the configurations in use, and keeps the
//! version that serves if the new one is refused. [`lifecycle`] says what becomes of them afterwards, [`rollout`] how a new one takes over step by step.

mod checks;
mod lifecycle;
mod read;
mod rollout;
pub mod signature;
mod tries;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluicegate_config::object::ours::{FailurePolicy, MinisignKey};
use sluicegate_config::plan::{PlannedPlugin, PluginSource};
use sluicegate_config::schema::Violation;
use sluicegate_host::background::{self, Urgency};
use sluicegate_host::load::sha256;
use sluicegate_host::{Description, Loaded, Loader};
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::counters::Counters;
use sluicegate_model::operate::PluginEvent;
use sluicegate_model::plugin::{Generation, PluginError, Stage};
use sluicegate_model::rollout::Trial;
use sluicegate_model::route::{ListenerInfo, RouteTable};
use sluicegate_model::shared::Shared;
use sluicegate_model::status::{Compiled, PluginState, PluginStatus};

use checks::Checks;
use lifecycle::Revival;
use read::{read, signed};
use rollout::Candidate;
use tries::{Acceptance, check, depends_on_configuration, fits, load};

/// For how many plugins counters are kept; when there are more, the counters of plugins that are gone are dropped.
const MOST_COUNTED: usize = 1024;

/// A configuration that some object gives to a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Use {
    /// The plugin's name.
    pub plugin: String,
    /// The configuration, as JSON.
    pub config: ConfigText,
    /// The listener that a router serves; none for other kinds of plugins.
    pub listener: Option<ListenerInfo>,
}

/// The files of plugins that may differ from what was read of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// Any of them.
    All,
    /// At most these.
    These(BTreeSet<PathBuf>),
}

impl Files {
    fn may_differ(&self, file: &Path) -> bool {
        match self {
            Self::All => true,
            Self::These(files) => files.contains(file),
        }
    }
}

/// Finds the bytes of a built-in plugin.
pub type Builtins = fn(&str) -> Option<Vec<u8>>;

/// All plugins that are in use.
pub struct Registry {
    loader: Loader,
    builtins: Builtins,
    /// One of these keys must have signed a plugin's file. If there are none, files need no signature.
    trusted: Vec<MinisignKey>,
    entries: BTreeMap<String, Entry>,
    checks: Checks,
    /// The counters by the plugin's name. They include plugins that are gone, so that one whose object comes back goes on counting.
    counters: BTreeMap<String, Arc<Counters<Generation, 6>>>,
    /// What was counted while generations were on trial, by the plugin's name and kept in the same way.
    trials: BTreeMap<String, Arc<Counters<Trial, 10>>>,
    /// The uses that the last [`Registry::sync`] was given.
    uses: Vec<Use>,
    /// How urgent it is to load plugins: high at first, while nobody is served yet.
    urgency: Urgency,
    /// Files that must not be read at the moment.
    waiting: BTreeSet<PathBuf>,
}

struct Entry {
    planned: PlannedPlugin,
    /// The checksum of the file last tried, with its limits.
    tried: Option<String>,
    /// The configurations that this file failed with. With others it may work.
    failed_with: Option<Vec<Use>>,
    /// What all generations of the plugin share.
    shared: Shared,
    live: Option<Version>,
    /// The generation that is on trial beside the live one.
    candidate: Option<Candidate>,
    /// The generations before the live one, the newest first.
    kept: Vec<Version>,
    number: u64,
    refused: Option<PluginError>,
    /// What an operator ordered, if the order still holds.
    held: Option<String>,
    disabled: bool,
    history: VecDeque<PluginEvent>,
    revival: Revival,
}

/// What [`Registry::in_force`] compares.
#[derive(PartialEq, Eq)]
struct InForce {
    name: String,
    versions: Vec<u64>,
    disabled: bool,
    persists: bool,
    failure_policy: FailurePolicy,
    refused: Option<String>,
}

#[derive(Clone)]
struct Version {
    loaded: Loaded,
    description: Description,
    /// Whether the plugin comes with the gateway.
    builtin: bool,
}

impl Registry {
    /// A registry without plugins.
    pub fn new(loader: Loader, builtins: Builtins) -> Self {
        Self {
            loader,
            builtins,
            trusted: Vec::new(),
            entries: BTreeMap::new(),
            checks: Checks::default(),
            counters: BTreeMap::new(),
            trials: BTreeMap::new(),
            uses: Vec::new(),
            urgency: Urgency::Now,
            waiting: BTreeSet::new(),
        }
    }

    /// Only loads files that one of these keys has signed, if there are any keys.
    pub fn trusting(self, trusted: Vec<MinisignKey>) -> Self {
        Self { trusted, ..self }
    }

    /// Loads what is new or has changed. `uses` are all configurations in use: a new version must accept those that the version before it accepts.
    /// The first version need not: one object's faulty configuration is no reason to refuse the plugin to the others. `files`: these are read, and those
    /// that could not be loaded. Returns the plugins that are now another version or are treated otherwise: whatever uses them has to be assembled again.
    pub async fn sync(&mut self, planned: &[PlannedPlugin], uses: &[Use], files: &Files) -> BTreeSet<String> {
        let before = self.in_force();
        self.load_all(planned, uses, files).await;
        let now = self.in_force();
        let differ = |(a, b): (&[InForce], &[InForce])| -> Vec<String> {
            a.iter().filter(|plugin| !b.contains(plugin)).map(|plugin| plugin.name.clone()).collect()
        };
        [(&before[..], &now[..]), (&now[..], &before[..])].into_iter().flat_map(differ).collect()
    }

    /// Everything that decides how a use is served.
    fn in_force(&self) -> Vec<InForce> {
        let of = |(name, entry): (&String, &Entry)| InForce {
            name: name.clone(),
            versions: entry.versions().map(|version| version.loaded.generation().id).collect(),
            disabled: entry.disabled,
            persists: entry.planned.persists,
            failure_policy: entry.planned.failure_policy,
            refused: entry.refused.as_ref().map(ToString::to_string),
        };
        self.entries.iter().map(of).collect()
    }

    async fn load_all(&mut self, planned: &[PlannedPlugin], uses: &[Use], files: &Files) {
        self.entries.retain(|name, _| planned.iter().any(|p| p.name == *name));
        self.check_new(uses).await;
        for plugin in planned {
            let entry = self.entries.entry(plugin.name.clone()).or_insert_with(|| Entry {
                planned: plugin.clone(),
                tried: None,
                failed_with: None,
                shared: Shared::new(&plugin.limits),
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
            let known = entry.planned == *plugin && entry.tried.is_some() && !plugin.file().is_some_and(|file| files.may_differ(file));
            entry.planned = plugin.clone();
            if entry.disabled {
                continue;
            }
            // What is built in does not change while the process runs.
            if known && entry.failed_with.is_none() {
                continue;
            }
            let refused = |stage, reason| PluginError { plugin: plugin.name.as_str().into(), stage, reason };
            if entry.live.is_some() && plugin.file().is_some_and(|file| self.waiting.contains(file)) {
                // The file is being written or was emptied: what was loaded from it keeps serving.
                continue;
            }
            let bytes = match read(plugin, self.builtins).await {
                Ok(bytes) => bytes,
                Err(reason) => {
                    entry.refuse(refused(Stage::Read, reason), None);
                    entry.tried = None;
                    continue;
                }
            };
            let sum = sha256(&bytes);
            let tried = format!("{sum} {:?}", plugin.limits);
            let mut uses: Vec<Use> = uses.iter().filter(|u| u.plugin == plugin.name).cloned().collect();
            if entry.tried.as_ref() == Some(&tried) && !entry.mended(&uses) {
                continue;
            }
            // If the file is not the one last tried, its signature has to be checked; an unchanged file keeps its signature.
            let (bytes, signer) = signed(plugin, bytes, &self.trusted).await;
            let signer = match signer {
                Ok(signer) => signer,
                Err(reason) => {
                    entry.refuse(refused(Stage::Signature, reason), Some(sum));
                    entry.tried = None;
                    continue;
                }
            };
            (entry.tried, entry.failed_with) = (Some(tried), None);
            if entry.candidate.is_some() && entry.live.as_ref().is_some_and(|live| live.loaded.generation().sha256 == sum) {
                entry.end_trial("its file is again the one that serves".to_owned());
                continue;
            }
            entry.shared.limit(&plugin.limits);
            let number = entry.number + 1;
            let all = uses.clone();
            let tries = uses.drain(..).map(|wanted| {
                let must = entry.live.as_ref().is_some_and(|live| self.checks.of(live, &wanted).is_ok());
                (wanted, if must { Acceptance::Needed } else { Acceptance::Open })
            });
            let tries = tries.collect();
            let on_trial = entry.first_phase();
            let shared = if on_trial.is_some() { entry.shared.fork() } else { entry.shared.clone() };
            match load(self.urgency, self.loader.clone(), plugin.clone(), number, bytes, tries, shared).await {
                Ok((version, outcomes)) => {
                    let id = version.loaded.generation().id;
                    outcomes.into_iter().for_each(|(wanted, outcome)| self.checks.note(id, wanted, outcome));
                    tracing::info!(plugin = plugin.name, kind = %plugin.kind, generation = number, version = version.description.version, signer, "the plugin is loaded");
                    self.counters.entry(plugin.name.clone()).or_default().join(version.loaded.generation().clone());
                    match on_trial {
                        Some(phase) => {
                            let trial = entry.begin_trial(version, phase);
                            self.trials.entry(plugin.name.clone()).or_default().join(trial);
                        }
                        None => entry.accept(version),
                    }
                }
                // This is a fault, and is logged with the other faults.
                Err(error) => {
                    entry.failed_with = depends_on_configuration(error.stage).then_some(all);
                    entry.refuse(error, Some(sum));
                }
            }
        }
        if self.counters.len() > MOST_COUNTED {
            self.counters.retain(|name, _| self.entries.contains_key(name));
            self.trials.retain(|name, _| self.entries.contains_key(name));
        }
        let live: Vec<u64> = self.entries.values().flat_map(Entry::versions).map(|v| v.loaded.generation().id).collect();
        let current: HashSet<&Use> = uses.iter().collect();
        self.checks.retain(&live, &current);
        self.uses = uses.to_vec();
        self.urgency = Urgency::Background;
    }

    /// Tries new configurations with the versions that serve. It does so on another thread: a hostile plugin takes as long as its deadlines permit.
    async fn check_new(&mut self, uses: &[Use]) {
        let mut new: Vec<(Version, Option<Arc<RouteTable>>, Use)> = Vec::new();
        for wanted in uses {
            let versions = self.entries.get(&wanted.plugin).into_iter().flat_map(Entry::versions);
            let untried = versions.filter(|version| self.checks.known(version.loaded.generation().id, wanted).is_none());
            new.extend(
                untried.map(|version| (version.clone(), self.checks.before(version.loaded.generation().id, wanted), wanted.clone())),
            );
        }
        if new.is_empty() {
            return;
        }
        let outcomes = background::run(self.urgency, move || {
            let outcome = |(version, before, wanted): (Version, Option<Arc<RouteTable>>, Use)| {
                let outcome = check(&version, before.as_deref(), &wanted);
                (version.loaded.generation().id, wanted, outcome)
            };
            new.into_iter().map(outcome).collect::<Vec<_>>()
        });
        // If the thread failed, the configurations are tried where they are needed.
        outcomes.await.unwrap_or_default().into_iter().for_each(|(id, wanted, outcome)| self.checks.note(id, wanted, outcome));
    }

    /// The generations that may serve a use, the best first, each checked with the use's configuration. The error is that of the best one.
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
        // Whoever prefers a failure to being served otherwise does not want an older generation either.
        let previous = entry.kept.first().filter(|_| entry.planned.failure_policy == FailurePolicy::Fallback);
        for version in entry.live.iter().chain(previous) {
            match self.checks.of(version, wanted) {
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

    /// Where the plugins' compiled code came from.
    pub fn compiled(&self) -> Compiled {
        self.loader.compiled()
    }

    /// A plugin's live version; none if the plugin is disabled.
    pub fn live(&self, plugin: &str) -> Option<&Loaded> {
        let entry = self.entries.get(plugin).filter(|entry| !entry.disabled)?;
        Some(&entry.live.as_ref()?.loaded)
    }

    /// Where a configuration does not fit the schema of the plugin's live version.
    pub fn violations(&self, plugin: &str, config: &ConfigText) -> Vec<Violation> {
        let live = self.entries.get(plugin).and_then(|entry| entry.live.as_ref());
        live.and_then(|version| fits(version, config).ok()).unwrap_or_default()
    }

    /// What happens to traffic when the plugin fails.
    pub fn failure_policy(&self, plugin: &str) -> FailurePolicy {
        self.entries.get(plugin).map_or_else(FailurePolicy::default, |entry| entry.planned.failure_policy)
    }

    /// Whether what the plugin has learned about its pools outlives the gateway.
    pub fn persists(&self, plugin: &str) -> bool {
        self.entries.get(plugin).is_some_and(|entry| entry.planned.persists)
    }

    /// Names the files that are being written or are empty. What was loaded from them keeps serving until they are no longer among them.
    pub fn wait_for(&mut self, files: impl Iterator<Item = PathBuf>) {
        self.waiting = files.collect();
    }

    /// The files to follow: those of plugins, and their signatures where signatures are required.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.entries.values().filter_map(|e| e.planned.file());
        files.flat_map(|file| [Some(file.to_owned()), (!self.trusted.is_empty()).then(|| signature::beside(file))]).flatten()
    }

    /// Whether some file could not be read, in which case no event tells when it can be.
    pub fn unread(&self) -> bool {
        self.entries.values().any(|e| e.planned.file().is_some() && e.refused.as_ref().is_some_and(|error| error.stage == Stage::Read))
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
                namespace: e.planned.object.as_ref().map(|object| object.namespace.clone()),
                observed_generation: e.planned.object.as_ref().and_then(|object| object.generation),
                kind: e.planned.kind,
                source: match &e.planned.source {
                    PluginSource::Builtin(_) => "builtin".to_owned(),
                    PluginSource::File { path, .. } => path.display().to_string(),
                    PluginSource::Object { name, .. } => name.clone(),
                },
                state: match (&e.live, e.refused.as_ref().or(misused)) {
                    _ if e.disabled => PluginState::Disabled,
                    (Some(_), None) if e.held.is_none() => PluginState::Active,
                    (Some(_), _) => PluginState::Degraded,
                    (None, _) => PluginState::Failed,
                },
                reason: e.refused.as_ref().or(misused).map(ToString::to_string).or_else(|| e.held.clone()),
                rollout: e.candidate.as_ref().map(Candidate::status),
                trials: self.trials.get(&e.planned.name).cloned().unwrap_or_default(),
                kept: e.kept.iter().map(|version| version.loaded.generation().number).collect(),
                history: e.history.iter().cloned().collect(),
                counters: self.counters.get(&e.planned.name).cloned().unwrap_or_default(),
                generation: e.live.as_ref().map(|v| v.loaded.generation().clone()),
            }
        };
        self.entries.values().map(shown).collect()
    }

    /// The error of a configuration in use that a generation refuses or fails on.
    fn misused(&self, generation: u64) -> Option<&PluginError> {
        self.uses.iter().find_map(|wanted| self.checks.known(generation, wanted)?.as_ref().err())
    }

    /// All live generations, for metrics.
    pub fn generations(&self) -> Vec<Arc<Generation>> {
        self.entries.values().filter_map(|e| Some(e.live.as_ref()?.loaded.generation().clone())).collect()
    }
}
