//! A running guest, and the tables that it holds.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use rustc_hash::FxBuildHasher;
use sluicegate_model::config_text::{ConfigText, RuleText, Splice};
use sluicegate_model::plugin::{PluginError, Stage};
use sluicegate_model::route::{Decision, Interests, ListenerInfo, RouteTable, RouteView};
use wasmtime::Store;

use super::guest::{Changed, Guest, MAX_RULES, Static};
use crate::direct::Handle;
use crate::state::{State, arm_call, arm_configure, cut, explain};

/// So many rules are given at once to a guest that can change its table.
const PORTION: usize = 256;

/// A running guest with its tables.
pub(super) struct Live {
    pub(super) running: Running,
    tables: HashMap<u64, Held, FxBuildHasher>,
}

/// A table of the guest's.
struct Held {
    resource: Handle,
    /// What it is a table of. Another one with the same id is what it can be changed to.
    of: Arc<RouteTable>,
    /// What it reads, in the guest's own order.
    interests: Interests,
}

impl Live {
    pub(super) fn of(running: Running) -> Self {
        Self { running, tables: HashMap::default() }
    }

    /// Asks the guest for a decision. It is given the table first, if it does not hold it.
    pub(super) fn route(&mut self, table: &Arc<RouteTable>, view: &RouteView<'_>) -> Result<Decision, PluginError> {
        let Self { running, tables } = self;
        let held = match tables.get(&table.id) {
            Some(held) if Arc::ptr_eq(&held.of, table) => held,
            _ => hold(running, tables, table)?,
        };
        arm_call(&mut running.store);
        let routed = running.guest.route(&mut running.store, held.resource, (table, &held.interests), view);
        let routed = routed.map_err(|e| explain(running.store.data(), Stage::Route, &e))?;
        routed.map_err(|reason| running.failed(Stage::Route, reason))
    }

    /// Drops the tables of which nobody has the configuration any more.
    pub(super) fn retain(&mut self, alive: &dyn Fn(u64) -> bool) -> Result<(), PluginError> {
        let Self { running, tables } = self;
        tables.extract_if(|id, _| !alive(*id)).try_for_each(|(_, held)| {
            arm_configure(&mut running.store);
            running.drop_table(held.resource)
        })
    }
}

/// Has the guest hold a table, which it may make of the one that it holds under the same id.
fn hold<'t>(
    running: &mut Running,
    tables: &'t mut HashMap<u64, Held, FxBuildHasher>,
    table: &Arc<RouteTable>,
) -> Result<&'t Held, PluginError> {
    let changed = match tables.remove(&table.id) {
        None => None,
        Some(before) => {
            let changed = running.become_of(&before, table)?;
            if changed.is_none() {
                running.drop_table(before.resource)?;
            }
            changed.map(|interests| (before.resource, interests))
        }
    };
    let (resource, interests) = match changed {
        Some(changed) => changed,
        None => running.configure(&table.config, &table.listener).map(|(resource, made)| (resource, made.interests))?,
    };
    Ok(tables.entry(table.id).insert_entry(Held { resource, of: table.clone(), interests }).into_mut())
}

/// A running guest.
pub(super) struct Running {
    pub(super) store: Store<State>,
    pub(super) guest: Guest,
}

impl Running {
    pub(super) fn failed(&self, stage: Stage, reason: String) -> PluginError {
        PluginError { plugin: self.store.data().plugin.clone(), stage, reason: cut(reason) }
    }

    /// A table, all of it within one configure deadline.
    pub(super) fn configure(&mut self, config: &ConfigText, listener: &ListenerInfo) -> Result<(Handle, Static), PluginError> {
        arm_configure(&mut self.store);
        if let Some(made) = self.configure_by_portions(config, listener)? {
            return Ok(made);
        }
        let configured = self.guest.configure(&mut self.store, config, listener);
        configured.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?.map_err(|reason| self.failed(Stage::Configure, reason))
    }

    /// Many rules are given in portions to a guest that can change its table: what it needs to read them all at once it would keep. None: it cannot, or it refuses
    /// some, and is to see all at once to say what is wrong.
    fn configure_by_portions(&mut self, config: &ConfigText, listener: &ListenerInfo) -> Result<Option<(Handle, Static)>, PluginError> {
        let portions = |rules: &&[RuleText]| (PORTION + 1..=MAX_RULES).contains(&rules.len()) && self.guest.changes_tables();
        let Some(rules) = config.rules().filter(portions) else { return Ok(None) };
        let Some(first) = config.with_rules(std::iter::once(0..PORTION)) else { return Ok(None) };
        let configured = self.guest.configure(&mut self.store, &first, listener);
        let configured = configured.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?;
        let Ok((resource, mut made)) = configured else { return Ok(None) };
        made.rules.reserve_exact(rules.len().saturating_sub(made.rules.len()));
        for at in (PORTION..rules.len()).step_by(PORTION) {
            let splice = Splice { at, removed: 0, inserted: at..rules.len().min(at + PORTION) };
            let changed = Changed { splices: &[splice], rules, listener };
            // Its rules may be others than those of the list.
            let more = if made.count == at { self.change(resource, changed)? } else { None };
            let Some(more) = more else {
                self.drop_table(resource)?;
                return Ok(None);
            };
            made.count += more.count;
            made.rules.extend(more.rules);
            made.interests = more.interests;
        }
        Ok(Some((resource, made)))
    }

    /// Changes a table; none: it cannot, or refuses to.
    fn change(&mut self, resource: Handle, changed: Changed<'_>) -> Result<Option<Static>, PluginError> {
        let changed = self.guest.change(&mut self.store, resource, changed);
        Ok(changed.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?.ok().flatten())
    }

    pub(super) fn drop_table(&mut self, resource: Handle) -> Result<(), PluginError> {
        self.guest.free(&mut self.store, resource).map_err(|e| explain(self.store.data(), Stage::Configure, &e))
    }

    /// Changes a table to another one by what is different. Returns what it reads then; none: it is to be configured anew.
    fn become_of(&mut self, held: &Held, table: &RouteTable) -> Result<Option<Interests>, PluginError> {
        let (Some(splices), Some(rules)) = (table.config.changes_since(&held.of.config), table.config.rules()) else { return Ok(None) };
        arm_configure(&mut self.store);
        let changed = self.change(held.resource, Changed { splices: &splices, rules, listener: &table.listener })?;
        Ok(changed.map(|changed| changed.interests))
    }

    /// Tried before any traffic is: a plain request, and one with everything it said it reads.
    pub(super) fn try_out(&mut self, resource: Handle, table: &RouteTable) -> Result<(), PluginError> {
        let headers: HeaderMap = table.interests.headers.iter().map(|name| (name.clone(), HeaderValue::from_static("trial"))).collect();
        for headers in [HeaderMap::new(), headers] {
            let view = RouteView {
                method: "GET",
                host: "trial.invalid",
                path: "/trial",
                query: "",
                headers: &headers,
                client: [127, 0, 0, 1].into(),
            };
            arm_call(&mut self.store);
            let routed = self.guest.route(&mut self.store, resource, (table, &table.interests), &view);
            // It has the time of a route.
            let failed = |e: &wasmtime::Error| PluginError { stage: Stage::Trial, ..explain(self.store.data(), Stage::Route, e) };
            let routed = routed.map_err(|e| failed(&e))?;
            routed.map_err(|reason| self.failed(Stage::Trial, reason))?;
        }
        Ok(())
    }
}
