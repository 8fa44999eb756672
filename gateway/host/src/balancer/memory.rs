//! What a balancer knows of its pools, saved for others and restored from others. Both are calls within the deadline of a pick, as a worker waits for them.
//! If one fails, the pool begins with nothing, and there is a line in the log and a count; no pool is kept from serving by it.

use std::sync::atomic::Ordering;

use sluicegate_model::plugin::{MAX_SAVED, PluginError, Saved, Stage};

use super::guest::Wants;
use super::{Instance, Live};
use crate::state::{arm_call, arm_configure, cut, explain};

/// The fuel for what crosses the boundary with `save`: the state, and the record around it.
const FUEL: usize = MAX_SAVED + 4096;

/// The outcome of restoring.
enum Restored {
    Yes,
    /// The guest refused, for this reason.
    Refused(String),
    /// The guest trapped or took too long, and its instance is of no use any more.
    Failed(PluginError),
}

impl Instance {
    /// Opens a pool, with the state that it inherited, if it did.
    pub(super) fn open(&mut self, mut live: Box<Live>, pool: u64, config: &str) -> Result<Box<Live>, PluginError> {
        let inherited = self.inherited.remove(&pool);
        live.open(pool, config)?;
        let wanted = live.pools.get(&pool).is_some_and(|pool| pool.wants.contains(Wants::STATE));
        let Some(saved) = inherited.filter(|_| wanted) else { return Ok(live) };
        let stats = &self.generation.stats;
        if stats.begins_cold() {
            stats.lost.fetch_add(1, Ordering::Relaxed);
            return Ok(live);
        }
        match live.restore(pool, saved) {
            Restored::Yes => {
                stats.restored.fetch_add(1, Ordering::Relaxed);
                Ok(live)
            }
            Restored::Refused(reason) => {
                self.lost(&format!("stage {}: {reason}", Stage::Restore));
                live.close(pool)?;
                live.open(pool, config)?;
                Ok(live)
            }
            Restored::Failed(error) => {
                self.lost(&error.to_string());
                // The instance is lost with all its pools, and the next one would be, too: restoring is not tried again.
                if stats.begin_cold() {
                    let (plugin, generation) = (&self.generation.plugin, self.generation.number);
                    tracing::error!(%plugin, generation, "no state is restored into this generation any more");
                }
                drop(live);
                let mut live = Box::new(self.start()?);
                live.open(pool, config)?;
                Ok(live)
            }
        }
    }

    /// What a balancer knows of a pool, or what the pool is to begin with.
    pub(super) fn saved(&mut self, pool: u64) -> Option<Saved> {
        let Some(known) = self.live.as_ref().and_then(|live| live.pools.get(&pool)) else { return self.inherited.remove(&pool) };
        if !known.wants.contains(Wants::STATE) {
            return None;
        }
        let resource = known.resource;
        let mut live = self.live.take()?;
        arm_call(&mut live.store);
        let fuel = live.store.hostcall_fuel();
        live.store.set_hostcall_fuel(FUEL);
        let saved = live.guest.save(&mut live.store, resource);
        live.store.set_hostcall_fuel(fuel);
        match saved {
            Ok(saved) if saved.data.len() <= MAX_SAVED => {
                self.live = Some(live);
                Some(saved)
            }
            Ok(saved) => {
                self.live = Some(live);
                self.lost(&format!(
                    "stage {}: {} bytes are more than the {MAX_SAVED} that are kept of a pool",
                    Stage::Save,
                    saved.data.len()
                ));
                None
            }
            Err(error) => {
                let error = explain(live.store.data(), Stage::Save, &error);
                self.lost(&error.to_string());
                if self.generation.stats.failed(&error) {
                    tracing::error!(%error, generation = self.generation.number, "the generation failed too often and is quarantined");
                }
                None
            }
        }
    }

    fn lost(&self, reason: &str) {
        self.generation.stats.lost.fetch_add(1, Ordering::Relaxed);
        let (plugin, generation) = (&self.generation.plugin, self.generation.number);
        tracing::warn!(%plugin, generation, reason, "the state of a pool is lost: it begins cold");
    }
}

impl Live {
    fn restore(&mut self, pool: u64, saved: Saved) -> Restored {
        let Some(resource) = self.pools.get(&pool).map(|pool| pool.resource) else { return Restored::Refused("it is not open".to_owned()) };
        arm_call(&mut self.store);
        match self.guest.restore(&mut self.store, resource, saved) {
            Ok(Ok(())) => Restored::Yes,
            Ok(Err(reason)) => Restored::Refused(cut(reason)),
            Err(error) => Restored::Failed(explain(self.store.data(), Stage::Restore, &error)),
        }
    }

    /// Frees a pool.
    fn close(&mut self, pool: u64) -> Result<(), PluginError> {
        let Some(pool) = self.pools.remove(&pool) else { return Ok(()) };
        arm_configure(&mut self.store);
        self.guest.free(&mut self.store, pool.resource).map_err(|e| explain(self.store.data(), Stage::Restore, &e))
    }
}
