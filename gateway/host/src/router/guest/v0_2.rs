//! Routers of version 0.2, which may be able to change their tables.

use std::time::Duration;

use sluicegate_model::config_text::ConfigText;
use sluicegate_model::route::{Decision, Interests, ListenerInfo, RouteTable, RouteView};
use sluicegate_model::settings::Retry;
use wasmtime::component::{ComponentExportIndex, ComponentType, Func, Instance, InstancePre, Lower, ResourceAny};
use wasmtime::{AsContextMut as _, Store};

use super::{Changed, Static};

use crate::bindings::router as wit;
use crate::direct::{self, Handle};
use crate::router::sessions;
use crate::state::State;

#[path = "of_version.rs"]
#[allow(clippy::duplicate_mod, reason = "the types of the two versions are alike, and not the same")]
mod of_version;
pub(super) use wit::Router;
use wit::exports::sluicegate::plugin::routing;

/// Linked, and not yet made.
#[derive(Clone)]
pub(crate) struct Linked {
    pre: InstancePre<State>,
    routing: wit::RouterIndices,
    change: Option<ComponentExportIndex>,
}

/// One instance.
pub(crate) struct Guest {
    pub(super) routing: of_version::Guest,
    pub(super) instance: Instance,
    /// `changing.change`, if it exports that.
    change: Option<Func>,
}

/// As the contract has it.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Splice<'s> {
    at: u32,
    removed: u32,
    inserted: &'s [&'s str],
}

impl Linked {
    pub(super) fn new(pre: InstancePre<State>) -> wasmtime::Result<Self> {
        let component = pre.component();
        let changing = component.get_export_index(None, "sluicegate:plugin/changing@0.2.0");
        let change = changing.and_then(|changing| component.get_export_index(Some(&changing), "change"));
        Ok(Self { routing: wit::RouterIndices::new(&pre)?, change, pre })
    }

    pub(super) fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Guest> {
        let instance = self.pre.instantiate(store.as_context_mut())?;
        let change = self.change.as_ref().and_then(|index| instance.get_func(store.as_context_mut(), index));
        Ok(Guest { routing: of_version::Guest(self.routing.load(store, &instance)?), instance, change })
    }
}

/// One instance of the core module.
pub(crate) struct Direct(pub(super) direct::Router);

impl Direct {
    pub(super) fn configure(
        &self,
        store: &mut Store<State>,
        config: &ConfigText,
        listener: &ListenerInfo,
    ) -> wasmtime::Result<Result<(Handle, Static), String>> {
        let configured = self.0.configure(store, &config.whole(), listener)?;
        Ok(configured.and_then(|(table, read)| Ok((Handle::Direct(table), raise_read(read)?))))
    }

    pub(super) fn change(
        &self,
        store: &mut Store<State>,
        table: u32,
        Changed { splices, rules, .. }: Changed<'_>,
    ) -> wasmtime::Result<Result<Option<Static>, String>> {
        let lowered = splices.iter().map(|one| direct::Splice {
            at: u32::try_from(one.at).unwrap_or(u32::MAX),
            removed: u32::try_from(one.removed).unwrap_or(u32::MAX),
            inserted: rules[one.inserted.clone()].iter().map(|rule| &**rule).collect(),
        });
        let changed = self.0.change(store, table, &lowered.collect::<Vec<_>>())?;
        Ok(changed.and_then(|read| read.map(raise_read).transpose()))
    }

    #[inline]
    pub(super) fn route(
        &self,
        store: &mut Store<State>,
        number: u32,
        (table, interests): (&RouteTable, &Interests),
        view: &RouteView<'_>,
    ) -> wasmtime::Result<Result<Decision, String>> {
        let routed = of_version::lower(interests, view, |request| self.0.route(store, number, request))?;
        Ok(of_version::decide(routed, table))
    }
}

impl Guest {
    pub(super) fn changes_tables(&self) -> bool {
        self.change.is_some()
    }

    pub(super) fn change(
        &self,
        store: &mut Store<State>,
        resource: ResourceAny,
        Changed { splices, rules, listener }: Changed<'_>,
    ) -> wasmtime::Result<Result<Option<Static>, String>> {
        let Some(change) = self.change else { return Ok(Ok(None)) };
        let inserted: Vec<Vec<&str>> = splices.iter().map(|one| rules[one.inserted.clone()].iter().map(|rule| &**rule).collect()).collect();
        let lowered = splices.iter().zip(&inserted).map(|(one, inserted)| Splice {
            at: u32::try_from(one.at).unwrap_or(u32::MAX),
            removed: u32::try_from(one.removed).unwrap_or(u32::MAX),
            inserted,
        });
        let lowered: Vec<Splice<'_>> = lowered.collect();
        let change = change.typed::<(ResourceAny, &[Splice<'_>]), (Result<Option<routing::Configured>, String>,)>(&*store)?;
        let (changed,) = change.call(store, (resource, &lowered))?;
        Ok(changed.and_then(|changed| changed.map(|configured| raise_inserted(configured, listener, &inserted)).transpose()))
    }
}

fn raise_read((count, interests): direct::Read) -> Result<Static, String> {
    Ok(Static { count: count as usize, rules: Vec::new(), interests: of_version::raise_interests(interests)? })
}

fn raise_inserted(configured: routing::Configured, listener: &ListenerInfo, inserted: &[Vec<&str>]) -> Result<Static, String> {
    let mut made = of_version::raise(configured, listener)?;
    let count: usize = inserted.iter().map(Vec::len).sum();
    if made.rules.len() != count {
        return Err(format!("{} rules came of {count} that were inserted", made.rules.len()));
    }
    for (rule, written) in made.rules.iter_mut().zip(inserted.iter().flatten()) {
        sessions::add_to(rule, written)?;
    }
    Ok(made)
}

fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(number.into())
}

/// A time-out. 0 means no limit.
fn timeout(number: Option<u32>) -> Option<Duration> {
    number.map(milliseconds)
}

fn retry(rule: &mut wit::exports::sluicegate::plugin::routing::Rule) -> Result<Option<Retry>, String> {
    let Some(retry) = rule.retry.take() else { return Ok(None) };
    if let Some(status) = retry.statuses.iter().find(|status| !(400..600).contains(*status)) {
        return Err(format!("retry: {status} is not the status of an error (400-599)"));
    }
    if let Some(attempts) = retry.attempts.filter(|n| *n > Retry::MOST_TIMES) {
        return Err(format!("retry: {attempts} attempts are more than {}", Retry::MOST_TIMES));
    }
    let mut statuses = retry.statuses;
    statuses.sort_unstable();
    statuses.dedup();
    Ok(Some(Retry::of_rule(retry.attempts, statuses, retry.back_off.map(milliseconds))))
}
