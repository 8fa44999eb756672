//! A balancer, of any version of the contract and called in either way ([`crate::direct`]). To tell which costs a call one branch, which always goes the same way.

use sluicegate_model::plugin::Saved;
use sluicegate_model::pool::Endpoint;
use wasmtime::component::{Component, Instance, InstancePre, Linker};
use wasmtime::{AsContextMut as _, Store};

use crate::bindings::balancer as now;
use crate::bindings::v0_1::balancer as v0_1;
use crate::direct::{self, Handle};
use crate::kind::Loading;
use crate::state::State;
use crate::version::ContractVersion;

use now::exports::sluicegate::plugin::balancing::{self, EndpointState};
pub(crate) use now::exports::sluicegate::plugin::balancing::{Outcome, PickContext, Wants};
use v0_1::exports::sluicegate::plugin::balancing as old;

/// What a balancer says of itself: name, version, schema of its configuration.
pub(crate) type Said = (String, String, String);

/// A balancer that is linked, but not instantiated.
#[derive(Clone)]
pub(crate) enum Pre {
    V0_1(v0_1::BalancerPre<State>),
    V0_2(InstancePre<State>, now::BalancerIndices),
    /// Of version 0.2, called by its core module.
    Direct(wasmtime::InstancePre<State>),
}

/// An instance of a balancer.
pub(crate) enum Guest {
    V0_1(v0_1::Balancer),
    V0_2(now::Balancer),
    Direct(Box<direct::Balancer>),
}

/// All that a balancer of any version may import.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use wasmtime::component::HasSelf;
    v0_1::Balancer::add_to_linker::<_, HasSelf<State>>(linker, |s| s)?;
    now::Balancer::add_to_linker::<_, HasSelf<State>>(linker, |s| s)
}

impl Pre {
    pub(crate) fn new(linker: &Linker<State>, component: &Component, version: ContractVersion) -> wasmtime::Result<Self> {
        let pre: InstancePre<State> = linker.instantiate_pre(component)?;
        Ok(match version {
            ContractVersion::V0_1 => Self::V0_1(v0_1::BalancerPre::new(pre)?),
            ContractVersion::V0_2 => {
                let indices = now::BalancerIndices::new(&pre)?;
                Self::V0_2(pre, indices)
            }
        })
    }

    pub(crate) fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Guest> {
        Ok(self.start(store)?.0)
    }

    /// A guest, and its instance as a component, if there is a core module to be had of that.
    pub(crate) fn start(&self, store: &mut Store<State>) -> wasmtime::Result<(Guest, Option<Instance>)> {
        Ok(match self {
            Self::V0_1(pre) => (Guest::V0_1(pre.instantiate(store)?), None),
            Self::V0_2(pre, indices) => {
                let instance = pre.instantiate(store.as_context_mut())?;
                (Guest::V0_2(indices.load(store, &instance)?), Some(instance))
            }
            Self::Direct(pre) => (Guest::Direct(direct::Balancer::start(pre, store)?.into()), None),
        })
    }

    /// How it is called from now on: by its core module, if it has one; or why not. `instance` is what [`Pre::start`] has made.
    pub(crate) fn directly(
        self,
        loading: &Loading<'_>,
        store: &mut Store<State>,
        instance: Option<&Instance>,
    ) -> (Self, Result<(), String>) {
        let direct = match instance {
            Some(instance) => direct::link(loading, store, instance),
            None => Err("it is of version 0.1 of the contract".to_owned()),
        };
        match direct {
            Ok(core) => (Self::Direct(core), Ok(())),
            Err(why) => (self, Err(why)),
        }
    }
}

impl Guest {
    pub(crate) fn describe(&self, store: &mut Store<State>) -> wasmtime::Result<Said> {
        match self {
            Self::V0_1(guest) => {
                let said = guest.sluicegate_plugin_balancing().call_describe(store)?;
                Ok((said.name, said.version, said.config_schema))
            }
            Self::V0_2(guest) => {
                let said = guest.sluicegate_plugin_balancing().call_describe(store)?;
                Ok((said.name, said.version, said.config_schema))
            }
            Self::Direct(_) => wasmtime::bail!("a core module is not asked what it is"),
        }
    }

    pub(crate) fn open(&self, store: &mut Store<State>, config: &str) -> wasmtime::Result<Result<Handle, String>> {
        Ok(match self {
            Self::V0_1(guest) => guest.sluicegate_plugin_balancing().pool().call_open(store, config)?.map(Handle::Component),
            Self::V0_2(guest) => guest.sluicegate_plugin_balancing().pool().call_open(store, config)?.map(Handle::Component),
            Self::Direct(guest) => guest.open(store, config)?.map(Handle::Direct),
        })
    }

    pub(crate) fn wants(&self, store: &mut Store<State>, pool: Handle) -> wasmtime::Result<Wants> {
        match self {
            Self::V0_1(guest) => {
                let reports = guest.sluicegate_plugin_balancing().pool().call_wants_reports(store, pool.component()?)?;
                Ok(if reports { Wants::REPORTS } else { Wants::empty() })
            }
            Self::V0_2(guest) => guest.sluicegate_plugin_balancing().pool().call_wants(store, pool.component()?),
            Self::Direct(guest) => guest.wants(store, pool.direct()?),
        }
    }

    pub(crate) fn update(&self, store: &mut Store<State>, pool: Handle, endpoints: &[Endpoint], wants: Wants) -> wasmtime::Result<()> {
        match self {
            Self::V0_1(guest) => {
                let endpoints: Vec<old::Endpoint> = endpoints.iter().map(lower_old).collect();
                guest.sluicegate_plugin_balancing().pool().call_update(store, pool.component()?, &endpoints)
            }
            Self::V0_2(guest) => {
                let endpoints: Vec<balancing::Endpoint> = endpoints.iter().map(|endpoint| lower(endpoint, wants)).collect();
                guest.sluicegate_plugin_balancing().pool().call_update(store, pool.component()?, &endpoints)
            }
            Self::Direct(guest) => guest.update(store, pool.direct()?, endpoints, wants),
        }
    }

    #[inline]
    pub(crate) fn pick(&self, store: &mut Store<State>, pool: Handle, context: PickContext) -> wasmtime::Result<Option<u32>> {
        match self {
            Self::V0_1(guest) => {
                let context = old::PickContext { hash: context.hash, attempt: context.attempt, random: context.random };
                guest.sluicegate_plugin_balancing().pool().call_pick(store, pool.component()?, context)
            }
            Self::V0_2(guest) => guest.sluicegate_plugin_balancing().pool().call_pick(store, pool.component()?, context),
            Self::Direct(guest) => guest.pick(store, pool.direct()?, context),
        }
    }

    pub(crate) fn report(&self, store: &mut Store<State>, pool: Handle, outcome: Outcome) -> wasmtime::Result<()> {
        match self {
            Self::V0_1(guest) => {
                let outcome = old::Outcome { endpoint: outcome.endpoint, success: outcome.success, latency_us: outcome.latency_us };
                guest.sluicegate_plugin_balancing().pool().call_report(store, pool.component()?, outcome)
            }
            Self::V0_2(guest) => guest.sluicegate_plugin_balancing().pool().call_report(store, pool.component()?, outcome),
            Self::Direct(guest) => guest.report(store, pool.direct()?, outcome),
        }
    }

    /// Saves what a pool knows, if its balancer can. One of version 0.1 cannot.
    pub(crate) fn save(&self, store: &mut Store<State>, pool: Handle) -> wasmtime::Result<Saved> {
        match self {
            Self::V0_1(_) => Ok(Saved::default()),
            Self::V0_2(guest) => {
                let saved = guest.sluicegate_plugin_balancing().pool().call_save(store, pool.component()?)?;
                Ok(Saved { version: saved.version, data: saved.data })
            }
            Self::Direct(guest) => guest.save(store, pool.direct()?),
        }
    }

    /// Restores what a pool knew, if its balancer can. One of version 0.1 cannot.
    pub(crate) fn restore(&self, store: &mut Store<State>, pool: Handle, saved: Saved) -> wasmtime::Result<Result<(), String>> {
        match self {
            Self::V0_1(_) => Ok(Ok(())),
            Self::V0_2(guest) => {
                let saved = balancing::SavedState { version: saved.version, data: saved.data };
                guest.sluicegate_plugin_balancing().pool().call_restore(store, pool.component()?, &saved)
            }
            Self::Direct(guest) => guest.restore(store, pool.direct()?, &saved),
        }
    }

    /// Frees a pool.
    pub(crate) fn free(&self, store: &mut Store<State>, pool: Handle) -> wasmtime::Result<()> {
        match self {
            Self::V0_1(_) | Self::V0_2(_) => pool.component()?.resource_drop(store),
            Self::Direct(guest) => guest.free(store, pool.direct()?),
        }
    }
}

fn lower(endpoint: &Endpoint, wants: Wants) -> balancing::Endpoint {
    balancing::Endpoint {
        address: endpoint.address.to_string(),
        weight: endpoint.weight,
        zone: endpoint.zone.clone(),
        node: endpoint.node.clone(),
        state: if endpoint.terminating { EndpointState::Terminating } else { EndpointState::Ready },
        labels: endpoint.labels.clone(),
        annotations: if wants.contains(Wants::ANNOTATIONS) { endpoint.annotations.clone() } else { Vec::new() },
    }
}

fn lower_old(endpoint: &Endpoint) -> old::Endpoint {
    old::Endpoint {
        address: endpoint.address.to_string(),
        weight: endpoint.weight,
        zone: endpoint.zone.clone(),
        node: endpoint.node.clone(),
        labels: endpoint.labels.clone(),
    }
}
