//! A router's component, of any version of the contract. To tell the version costs a call one branch, which always goes the same way.

use sluicegate_model::route::{Decision, ListenerInfo, RouteTable, RouteView};
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
    V0_2(v0_2::RouterPre<State>),
}

/// An instance of a component.
pub(crate) enum Guest {
    V0_1(v0_1::Guest),
    V0_2(v0_2::Guest),
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
            ContractVersion::V0_2 => Self::V0_2(v0_2::RouterPre::new(pre)?),
        })
    }

    pub(crate) fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Guest> {
        Ok(match self {
            Self::V0_1(pre) => Guest::V0_1(v0_1::Guest(pre.instantiate(store)?)),
            Self::V0_2(pre) => Guest::V0_2(v0_2::Guest(pre.instantiate(store)?)),
        })
    }
}

impl Guest {
    /// The guest's name, version, and schema of the configuration.
    pub(crate) fn describe(&self, store: &mut Store<State>) -> wasmtime::Result<(String, String, String)> {
        match self {
            Self::V0_1(guest) => guest.describe(store),
            Self::V0_2(guest) => guest.describe(store),
        }
    }

    /// The guest's table, and its static part; or what is wrong.
    pub(crate) fn configure(
        &self,
        store: &mut Store<State>,
        config: &str,
        listener: &ListenerInfo,
    ) -> wasmtime::Result<Result<(ResourceAny, RouteTable), String>> {
        match self {
            Self::V0_1(guest) => guest.configure(store, config, listener),
            Self::V0_2(guest) => guest.configure(store, config, listener),
        }
    }

    /// The decision, or what is wrong with it.
    pub(crate) fn route(
        &self,
        store: &mut Store<State>,
        resource: ResourceAny,
        table: &RouteTable,
        view: &RouteView<'_>,
    ) -> wasmtime::Result<Result<Decision, String>> {
        match self {
            Self::V0_1(guest) => guest.route(store, resource, table, view),
            Self::V0_2(guest) => guest.route(store, resource, table, view),
        }
    }
}
