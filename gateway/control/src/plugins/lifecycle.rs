//! What becomes of a plugin's generations after they have been loaded: quarantine and revival, and what an operator orders.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicegate_config::plan::PlannedPlugin;
use sluicegate_model::operate::{Action, Done, PluginEvent};
use sluicegate_model::plugin::{Generation, PluginError};
use tokio::time::Instant;

use super::{Entry, Files, Registry, Use, Version};

/// How many generations before the live one are kept, the newest first.
pub(super) const KEPT: usize = 2;
/// How many events of a plugin are remembered.
const MAX_EVENTS: usize = 50;
/// A plugin whose only generation was quarantined is loaded again after this pause, as the cause may have passed. The pause doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);
/// When a generation has served for this long, the pauses begin again with the first.
const PROVEN: Duration = Duration::from_secs(10 * 60);

/// The pauses before a plugin that has no generation left is tried again.
pub(super) struct Revival {
    due: Option<Instant>,
    pause: Duration,
    loaded: Instant,
}

impl Default for Revival {
    fn default() -> Self {
        Self { due: None, pause: FIRST_PAUSE, loaded: Instant::now() }
    }
}

impl Revival {
    fn loaded(&mut self) {
        (self.due, self.loaded) = (None, Instant::now());
    }

    fn plan(&mut self) -> Duration {
        if self.loaded.elapsed() > PROVEN {
            self.pause = FIRST_PAUSE;
        }
        let pause = self.pause;
        self.due = Some(Instant::now() + pause);
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

impl Entry {
    /// Whether a configuration that the plugin's file failed with is no longer in use. A further configuration repairs nothing.
    pub(super) fn mended(&mut self, uses: &[Use]) -> bool {
        let mended = self.failed_with.iter().flatten().any(|wanted| !uses.contains(wanted));
        if mended {
            self.revival = Revival::default();
        }
        mended
    }

    pub(super) fn accept(&mut self, version: Version) {
        self.number += 1;
        self.serve(version);
        self.tell("loaded", None);
    }

    /// All versions that workers may still use.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.live.iter().chain(&self.kept).chain(self.candidate.as_ref().map(|candidate| &candidate.version))
    }

    /// Makes this version the one that serves.
    pub(super) fn serve(&mut self, version: Version) {
        self.candidate = None;
        if let Some(old) = self.live.replace(version) {
            self.kept.insert(0, old);
            self.kept.truncate(KEPT);
        }
        self.refused = None;
        self.held = None;
        self.revival.loaded();
    }

    pub(super) fn refuse(&mut self, error: PluginError, sha256: Option<String>) {
        if self.refused.as_ref().is_none_or(|known| known.stage != error.stage || known.reason != error.reason) {
            let event = PluginEvent {
                at: now(),
                what: "refused",
                generation: None,
                version: None,
                sha256,
                reason: Some(format!("stage {}: {}", error.stage, error.reason)),
            };
            remember(&mut self.history, event);
        }
        self.refused = Some(error);
    }

    /// Records an event of the live generation.
    fn tell(&mut self, what: &'static str, reason: Option<String>) {
        let generation = self.live.as_ref().map(|version| version.loaded.generation().clone());
        self.tell_of(generation.as_deref(), what, reason);
    }

    /// Records an event of the given generation.
    pub(super) fn tell_of(&mut self, generation: Option<&Generation>, what: &'static str, reason: Option<String>) {
        let event = PluginEvent {
            at: now(),
            what,
            generation: generation.map(|g| g.number),
            version: generation.map(|g| g.version.clone()),
            sha256: generation.map(|g| g.sha256.clone()),
            reason,
        };
        remember(&mut self.history, event);
    }

    fn step_back(&mut self) -> Option<u64> {
        self.live = (!self.kept.is_empty()).then(|| self.kept.remove(0));
        self.live.as_ref().map(|version| version.loaded.generation().number)
    }
}

fn remember(history: &mut VecDeque<PluginEvent>, event: PluginEvent) {
    if history.len() == MAX_EVENTS {
        history.pop_front();
    }
    history.push_back(event);
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

impl Registry {
    /// Takes quarantined generations out of service. Returns the plugins that they belong to.
    pub fn roll_back(&mut self) -> BTreeSet<String> {
        let mut others = BTreeSet::new();
        for (name, entry) in &mut self.entries {
            let Some(version) = entry.live.as_ref().filter(|v| v.loaded.generation().stats.quarantined()) else { continue };
            others.insert(name.clone());
            let bad = version.loaded.generation().clone();
            let failures = bad.stats.failures.load(Ordering::Relaxed);
            let Some(why) = bad.stats.quarantined_for() else { continue };
            let reason = format!("generation {} is quarantined after {failures} failures: {}", bad.number, why.reason);
            entry.tell("quarantined", Some(format!("stage {}: {}", why.stage, why.reason)));
            // A generation that is quarantined as well would only fail again.
            entry.kept.retain(|version| !version.loaded.generation().stats.quarantined());
            let reason = match entry.step_back() {
                Some(_) => reason,
                None => format!("{reason}; it is tried again in {:?}", entry.revival.plan()),
            };
            entry.refused = Some(PluginError { reason, ..why.clone() });
            entry.failed_with = Some(self.uses.iter().filter(|wanted| wanted.plugin == *name).cloned().collect());
        }
        others
    }

    /// Forgets the failed attempts of plugins whose pause is over, so that the next [`Registry::sync`] loads them. True if there are any.
    pub fn revive(&mut self) -> bool {
        let due = |entry: &&mut Entry| entry.live.is_none() && entry.revival.due.is_some_and(|due| due <= Instant::now());
        let due = self.entries.values_mut().filter(due).map(|entry| {
            entry.revival.due = None;
            entry.tried = None;
        });
        due.count() > 0
    }

    /// Loads again what [`Registry::revive`] or an order asks for, with the configurations of the last [`Registry::sync`], and returns what that returns.
    pub async fn again(&mut self, planned: &[PlannedPlugin]) -> BTreeSet<String> {
        let uses: Vec<Use> = self.uses.clone();
        self.sync(planned, &uses, &Files::All).await
    }

    /// Carries out an operator's order.
    pub async fn order(&mut self, name: &str, action: Action, planned: &[PlannedPlugin]) -> Done {
        let missing = || format!("there is no plugin {name:?} in use");
        let entry = self.entries.get_mut(name).ok_or_else(missing)?;
        match action {
            Action::Rollback if entry.candidate.is_some() => {
                let number = entry.end_trial("an operator's order".to_owned());
                entry.held = Some(format!("generation {number} was rolled back by an operator while it was on trial"));
                Ok(format!("plugin {name}: generation {number} is on trial no more; what served goes on"))
            }
            Action::Promote => match entry.promote("an operator's order".to_owned()) {
                Some(number) => Ok(format!("plugin {name}: generation {number} serves")),
                None => Err(format!("plugin {name} has no generation on trial")),
            },
            Action::Rollback => {
                let bad = entry.live.as_ref().map(|version| version.loaded.generation().number);
                if entry.kept.is_empty() {
                    return Err(format!("plugin {name} has no generation before {}", bad.map_or("it".to_owned(), |n| n.to_string())));
                }
                entry.tell("rolled back", Some("an operator's order".to_owned()));
                entry.failed_with = None;
                let serving = entry.step_back().unwrap_or_default();
                entry.refused = None;
                entry.held = Some(format!("rolled back from generation {} by an operator", bad.unwrap_or_default()));
                tracing::warn!(plugin = name, serving, "the plugin is rolled back by an operator");
                Ok(format!("plugin {name}: generation {serving} serves, until its file changes or it is reloaded"))
            }
            Action::Disable => {
                entry.disabled = true;
                entry.candidate = None;
                entry.held = Some("disabled by an operator".to_owned());
                entry.tell("disabled", Some("an operator's order".to_owned()));
                tracing::warn!(plugin = name, "the plugin is disabled by an operator");
                Ok(format!("plugin {name} is disabled, until it is reloaded or the gateway starts anew"))
            }
            Action::Reload => {
                (entry.disabled, entry.tried, entry.held) = (false, None, None);
                self.again(planned).await;
                let entry = self.entries.get(name).ok_or_else(missing)?;
                match (&entry.refused, &entry.live) {
                    (Some(error), _) => Err(error.to_string()),
                    (None, Some(live)) => Ok(match &entry.candidate {
                        Some(candidate) => format!("plugin {name}: {}", candidate.about()),
                        None => format!("plugin {name}: generation {} serves", live.loaded.generation().number),
                    }),
                    (None, None) => Err(format!("plugin {name} is not loaded")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_generation_has_proved_itself() {
        let mut revival = Revival::default();
        let pauses: Vec<u64> = (0..8).map(|_| revival.plan().as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800]);
        assert!(revival.due.is_some());
        revival.loaded();
        assert!(revival.due.is_none());
        assert_eq!(revival.plan().as_secs(), 1800, "it failed again at once");
        revival.loaded = Instant::now().checked_sub(PROVEN * 2).unwrap_or(revival.loaded);
        assert_eq!(revival.plan().as_secs(), 30);
    }
}
