//! A new generation on trial beside the live one: it begins when it is loaded, is judged at each look at the plugins, and is in the end promoted or
//! rolled back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicegate_host::Loaded;
use sluicegate_model::plugin::{BalancerGeneration, PluginError, PluginKind, Stage};
use sluicegate_model::rollout::{Phase, Side, Trial, Verdict};
use sluicegate_model::snapshot::BalancerTrial;
use sluicegate_model::status::RolloutStatus;
use tokio::time::Instant;

use super::{Entry, Registry, Use, Version};

/// A generation on trial.
pub(super) struct Candidate {
    pub(super) version: Version,
    trial: Arc<Trial>,
    since: Instant,
}

impl Candidate {
    /// A description of the candidate, for people.
    pub(super) fn about(&self) -> String {
        let number = self.version.loaded.generation().number;
        match &self.trial.phase {
            Phase::Shadow(shadow) => format!("generation {number} is in shadow for {:?}", shadow.duration),
            Phase::Canary(canary) => {
                format!("generation {number} is a canary for {} % of the exchanges, for {:?}", canary.weight, canary.duration)
            }
        }
    }

    pub(super) fn status(&self) -> RolloutStatus {
        let duration = match &self.trial.phase {
            Phase::Shadow(shadow) => shadow.duration,
            Phase::Canary(canary) => canary.duration,
        };
        RolloutStatus {
            phase: self.trial.phase.name(),
            generation: self.version.loaded.generation().clone(),
            since: self.since.into_std(),
            duration_seconds: duration.as_secs(),
            trial: self.trial.clone(),
        }
    }

    /// What is to become of the candidate. A single failed call is one too many, since the live generation does not fail.
    fn verdict(&self) -> Verdict {
        let stats = &self.version.loaded.generation().stats;
        let failures = stats.failures.load(Ordering::Relaxed);
        if failures > 0 {
            return Verdict::Fail(match stats.first_failure() {
                Some(error) => format!("a call failed, stage {}: {}", error.stage, error.reason),
                None => format!("{failures} calls failed"),
            });
        }
        self.trial.verdict(self.since.elapsed())
    }
}

impl Entry {
    /// The phase in which a new version begins; none if it takes over at once.
    pub(super) fn first_phase(&self) -> Option<Phase> {
        if self.live.is_none() || self.planned.kind != PluginKind::Balancer {
            return None;
        }
        let rollout = &self.planned.rollout;
        rollout.shadow.map(Phase::Shadow).or(rollout.canary.map(Phase::Canary))
    }

    /// The phase that follows one that was passed; none if the candidate is promoted.
    fn next_phase(&self, passed: &Phase) -> Option<Phase> {
        match passed {
            Phase::Shadow(_) => self.planned.rollout.canary.map(Phase::Canary),
            Phase::Canary(_) => None,
        }
    }

    /// Puts a version on trial, replacing one that is on trial already.
    pub(super) fn begin_trial(&mut self, version: Version, phase: Phase) -> Arc<Trial> {
        if self.candidate.is_some() {
            self.end_trial("a newer version has come".to_owned());
        }
        self.number += 1;
        (self.refused, self.held) = (None, None);
        self.go_on(version, phase)
    }

    fn go_on(&mut self, version: Version, phase: Phase) -> Arc<Trial> {
        let trial = Arc::new(Trial::new(phase));
        let candidate = Candidate { version, trial: trial.clone(), since: Instant::now() };
        let generation = candidate.version.loaded.generation().clone();
        tracing::info!(plugin = self.planned.name, "{}", candidate.about());
        self.tell_of(Some(&generation), phase.name(), None);
        self.candidate = Some(candidate);
        trial
    }

    /// Makes the candidate the live generation and returns its number.
    pub(super) fn promote(&mut self, why: String) -> Option<u64> {
        let Candidate { version, .. } = self.candidate.take()?;
        let generation = version.loaded.generation().clone();
        // What the candidate counted and shared on trial belongs to the plugin from now on, and its counters continue those of the plugin.
        generation.shared.metrics.absorb(&self.shared.metrics);
        self.shared = generation.shared.clone();
        tracing::info!(plugin = self.planned.name, generation = generation.number, why, "the generation is promoted");
        self.serve(version);
        self.tell_of(Some(&generation), "promoted", Some(why));
        Some(generation.number)
    }

    /// Gives the candidate up and returns its number, or 0 if there is none.
    pub(super) fn end_trial(&mut self, why: String) -> u64 {
        let Some(candidate) = self.candidate.take() else { return 0 };
        let generation = candidate.version.loaded.generation().clone();
        let phase = candidate.trial.phase.name();
        tracing::warn!(plugin = self.planned.name, generation = generation.number, phase, why, "the generation is rolled back");
        self.tell_of(Some(&generation), "rolled back", Some(format!("{phase}: {why}")));
        generation.number
    }
}

impl Registry {
    /// The generation on trial for a use of a balancer, if it accepts the use's configuration.
    pub fn trial(&mut self, wanted: &Use) -> Option<BalancerTrial> {
        let entry = self.entries.get(&wanted.plugin).filter(|entry| !entry.disabled)?;
        let candidate = entry.candidate.as_ref()?;
        self.checks.of(&candidate.version, wanted).as_ref().ok()?;
        let Loaded::Balancer(balancer) = &candidate.version.loaded else { return None };
        Some(BalancerTrial { generation: balancer.clone() as Arc<dyn BalancerGeneration>, trial: candidate.trial.clone() })
    }

    /// Judges the candidates. Returns the plugins whose candidate moved on, was promoted or was given up.
    pub fn judge(&mut self) -> BTreeSet<String> {
        let mut others = BTreeSet::new();
        for (name, entry) in &mut self.entries {
            let Some(candidate) = &entry.candidate else { continue };
            let passed = candidate.trial.phase;
            let verdict = if entry.live.is_none() { Verdict::Pass } else { candidate.verdict() };
            match verdict {
                Verdict::Wait => continue,
                Verdict::Pass => {
                    let next = entry.live.as_ref().and_then(|_| entry.next_phase(&passed));
                    match (next, entry.candidate.take()) {
                        (Some(phase), Some(Candidate { version, .. })) => {
                            let trial = entry.go_on(version, phase);
                            self.trials.entry(name.clone()).or_default().join(trial);
                        }
                        (_, candidate) => {
                            let why = candidate.as_ref().map(|candidate| summary(&candidate.trial, candidate.since.elapsed()));
                            entry.candidate = candidate;
                            entry.promote(why.unwrap_or_default());
                        }
                    }
                }
                Verdict::Fail(why) => {
                    let phase = passed.name();
                    let number = entry.end_trial(why.clone());
                    let reason = format!("generation {number} is rolled back, {phase}: {why}");
                    entry.refused = Some(PluginError { plugin: name.as_str().into(), stage: Stage::Rollout, reason });
                    entry.failed_with = Some(self.uses.iter().filter(|wanted| wanted.plugin == *name).cloned().collect());
                }
            }
            others.insert(name.clone());
        }
        others
    }
}

/// What a trial that was passed has shown.
fn summary(trial: &Trial, elapsed: Duration) -> String {
    let (phase, seconds) = (trial.phase.name(), elapsed.as_secs());
    match trial.phase {
        Phase::Shadow(_) => {
            let (compared, differed) = trial.compared();
            format!("{phase} for {seconds} s: {differed} of {compared} picks differed")
        }
        Phase::Canary(_) => {
            let (live, candidate) = (trial.served(Side::Live), trial.served(Side::Candidate));
            format!(
                "{phase} for {seconds} s: {} of {} exchanges failed, and {} of {} of the generation before",
                candidate.errors, candidate.exchanges, live.errors, live.exchanges
            )
        }
    }
}
