//! The configuration language of Sluicegate, and the only crate that knows Kubernetes' types: nothing that serves requests depends on it.
//!
//! In the order of a change: [`manifest`] text becomes [`object`]s, checked by [`validate`]; [`plan`] joins them, given
//! [`plan::Allocations`], into what `sluicegate-model` has words for; [`status`] says what became of Gateways and routes. Nothing here knows tokio, hyper or wasmtime.

pub mod builtins;
pub mod crd;
pub mod diagnose;
pub mod family;
pub mod manifest;
pub mod object;
pub mod objects;
pub mod plan;
pub mod schema;
pub mod settings;
pub mod status;
mod structural;
pub mod validate;
