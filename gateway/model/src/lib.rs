//! The words of Sluicegate: objects, the plan compiled from them, pools, the snapshot all workers serve from, and the traits that plugins
//! fulfil. Nothing here knows tokio, hyper or wasmtime; `proxy` and `host` meet in [`plugin`].
//!
//! In the order of a change: [`manifest`] text becomes [`object`]s, checked by [`validate`]; [`plan`] joins them, given
//! [`plan::Allocations`]; [`pool`]s hold the endpoints discovery found; a [`snapshot`] is what the workers serve.

pub mod access_log;
pub mod allowed_file;
pub mod commons;
pub mod crd;
pub mod egress;
pub mod fault;
pub mod health;
pub mod limiter;
pub mod manifest;
pub mod native;
pub mod object;
pub mod operate;
pub mod plan;
pub mod plugin;
pub mod pool;
pub mod record;
pub mod rollout;
pub mod route;
pub mod schema;
pub mod settings;
pub mod shelf;
pub mod slots;
pub mod snapshot;
pub mod stats;
pub mod status;
pub mod tally;
pub mod tls;
pub mod trace;
pub mod validate;
