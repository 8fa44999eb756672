//! A router, of any version of the contract and called in either way ([`crate::direct`]). To tell which costs a call one branch, which always goes the same way.

use sluicegate_model::config_text::{ConfigText, RuleText, Splice};
use sluicegate_model::route::{Decision, Interests, ListenerInfo, RouteTable, RouteView, Rule};
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::direct::{self, Handle};
use crate::kind::Loading;
use crate::state::State;
use crate::version::ContractVersion;

mod v0_1;
mod v0_2;

/// A component that is linked, but not instantiated.
#[derive(Clone)]
pub(crate) enum Pre {
    V0_1(v0_1::RouterPre<State>),
    V0_2(v0_2::Linked),
}

/// An instance of a router.
pub(crate) enum Guest {
    V0_1(v0_1::Guest),
    V0_2(v0_2::Guest),
    /// Of version 0.2, called by its core module. It tells nothing of what is static.
    Direct(Box<v0_2::Direct>),
}

/// A router may have this many rules.
pub(crate) const MAX_RULES: usize = 65_536;

/// What is static of a table, or of some of its rules.
#[derive(Default)]
pub(crate) struct Static {
    /// The number of rules.
    pub(crate) count: usize,
    /// The rules; of a core module they are not read.
    pub(crate) rules: Vec<Rule>,
    /// Of the whole table.
    pub(crate) interests: Interests,
}

/// A change of a table.
#[derive(Clone, Copy)]
pub(crate) struct Changed<'c> {
    pub(crate) splices: &'c [Splice],
    /// What the list is then.
    pub(crate) rules: &'c [RuleText],
    pub(crate) listener: &'c ListenerInfo,
}

/// All that a router of any version may import.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    v0_1::Router::add_to_linker::<_, HasSelf<State>>(linker, |s| s)?;
    v0_2::Router::add_to_linker::<_, HasSelf<State>>(linker, |s| s)
}

impl Pre {
    pub(crate) fn new(linker: &Linker<State>, component: &Component, version: ContractVersion) -> wasmtime::Result<Self> {
        let pre = linker.instantiate_pre(component)?;
        Ok(match version {
            ContractVersion::V0_1 => Self::V0_1(v0_1::RouterPre::new(pre)?),
            ContractVersion::V0_2 => Self::V0_2(v0_2::Linked::new(pre)?),
        })
    }

    pub(crate) fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Guest> {
        Ok(match self {
            Self::V0_1(pre) => Guest::V0_1(v0_1::Guest(pre.instantiate(store)?)),
            Self::V0_2(pre) => Guest::V0_2(pre.instantiate(store)?),
        })
    }
}

/// Instantiates a router's core module.
pub(crate) fn start(pre: &wasmtime::InstancePre<State>, store: &mut Store<State>) -> wasmtime::Result<Guest> {
    Ok(Guest::Direct(Box::new(v0_2::Direct(direct::Router::start(pre, store)?))))
}

impl Guest {
    /// The router's core module, if workers call that; or why they do not.
    pub(crate) fn direct(&self, loading: &Loading<'_>, store: &mut Store<State>) -> Result<wasmtime::InstancePre<State>, String> {
        match self {
            Self::V0_1(_) => Err("it is of version 0.1 of the contract".to_owned()),
            Self::V0_2(guest) => direct::link(loading, store, &guest.instance),
            Self::Direct(_) => Err("a core module is no component".to_owned()),
        }
    }

    /// The guest's name, version, and schema of the configuration.
    pub(crate) fn describe(&self, store: &mut Store<State>) -> wasmtime::Result<(String, String, String)> {
        match self {
            Self::V0_1(guest) => guest.describe(store),
            Self::V0_2(guest) => guest.routing.describe(store),
            Self::Direct(_) => wasmtime::bail!("a core module is not asked what it is"),
        }
    }

    /// The guest's table, and what is static of it; or what is wrong. Of a core module it is only what the table reads.
    pub(crate) fn configure(
        &self,
        store: &mut Store<State>,
        config: &ConfigText,
        listener: &ListenerInfo,
    ) -> wasmtime::Result<Result<(Handle, Static), String>> {
        match self {
            Self::V0_1(guest) => guest.configure(store, config, listener),
            Self::V0_2(guest) => guest.routing.configure(store, config, listener),
            Self::Direct(guest) => guest.configure(store, config, listener),
        }
    }

    /// Whether it may be able to change tables.
    pub(crate) fn changes_tables(&self) -> bool {
        match self {
            Self::V0_1(_) => false,
            Self::V0_2(guest) => guest.changes_tables(),
            Self::Direct(guest) => guest.0.changes_tables(),
        }
    }

    /// Changes a table to one of this configuration. Returns what is static of what was inserted; or what is wrong. None: it cannot.
    pub(crate) fn change(
        &self,
        store: &mut Store<State>,
        resource: Handle,
        changed: Changed<'_>,
    ) -> wasmtime::Result<Result<Option<Static>, String>> {
        match self {
            Self::V0_1(_) => Ok(Ok(None)),
            Self::V0_2(guest) => guest.change(store, resource.component()?, changed),
            Self::Direct(guest) => guest.change(store, resource.direct()?, changed),
        }
    }

    /// The decision, or what is wrong with it. `interests`: what this instance's table reads.
    pub(crate) fn route(
        &self,
        store: &mut Store<State>,
        resource: Handle,
        (table, interests): (&RouteTable, &Interests),
        view: &RouteView<'_>,
    ) -> wasmtime::Result<Result<Decision, String>> {
        match self {
            Self::V0_1(guest) => guest.route(store, resource.component()?, (table, interests), view),
            Self::V0_2(guest) => guest.routing.route(store, resource.component()?, (table, interests), view),
            Self::Direct(guest) => guest.route(store, resource.direct()?, (table, interests), view),
        }
    }

    /// Frees a table.
    pub(crate) fn free(&self, store: &mut Store<State>, resource: Handle) -> wasmtime::Result<()> {
        match self {
            Self::V0_1(_) | Self::V0_2(_) => resource.component()?.resource_drop(store),
            Self::Direct(guest) => guest.0.free(store, resource.direct()?),
        }
    }
}
