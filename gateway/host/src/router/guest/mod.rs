//! A router's component, of any version of the contract. To tell the version costs a call one branch, which always goes the same way.

use sluicegate_model::config_text::{ConfigText, RuleText, Splice};
use sluicegate_model::route::{Decision, Interests, ListenerInfo, RouteTable, RouteView, Rule};
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker, ResourceAny};

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

/// An instance of a component.
pub(crate) enum Guest {
    V0_1(v0_1::Guest),
    V0_2(v0_2::Guest),
}

/// A router may have this many rules.
pub(crate) const MAX_RULES: usize = 65_536;

/// What is static of a table, or of some of its rules.
#[derive(Default)]
pub(crate) struct Static {
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

impl Guest {
    /// The guest's name, version, and schema of the configuration.
    pub(crate) fn describe(&self, store: &mut Store<State>) -> wasmtime::Result<(String, String, String)> {
        match self {
            Self::V0_1(guest) => guest.describe(store),
            Self::V0_2(guest) => guest.routing.describe(store),
        }
    }

    /// The guest's table, and what is static of it; or what is wrong.
    pub(crate) fn configure(
        &self,
        store: &mut Store<State>,
        config: &ConfigText,
        listener: &ListenerInfo,
    ) -> wasmtime::Result<Result<(ResourceAny, Static), String>> {
        match self {
            Self::V0_1(guest) => guest.configure(store, config, listener),
            Self::V0_2(guest) => guest.routing.configure(store, config, listener),
        }
    }

    /// Whether it may be able to change tables.
    pub(crate) fn changes_tables(&self) -> bool {
        match self {
            Self::V0_1(_) => false,
            Self::V0_2(guest) => guest.changes_tables(),
        }
    }

    /// Changes a table to one of this configuration. Returns what is static of what was inserted; or what is wrong. None: it cannot.
    pub(crate) fn change(
        &self,
        store: &mut Store<State>,
        resource: ResourceAny,
        changed: Changed<'_>,
    ) -> wasmtime::Result<Result<Option<Static>, String>> {
        match self {
            Self::V0_1(_) => Ok(Ok(None)),
            Self::V0_2(guest) => guest.change(store, resource, changed),
        }
    }

    /// The decision, or what is wrong with it. `interests`: what this instance's table reads.
    pub(crate) fn route(
        &self,
        store: &mut Store<State>,
        resource: ResourceAny,
        (table, interests): (&RouteTable, &Interests),
        view: &RouteView<'_>,
    ) -> wasmtime::Result<Result<Decision, String>> {
        match self {
            Self::V0_1(guest) => guest.route(store, resource, (table, interests), view),
            Self::V0_2(guest) => guest.routing.route(store, resource, (table, interests), view),
        }
    }
}
