//! What is served: pools of endpoints, the snapshot that all workers serve from, the settings that policies come to, and the traits that plugins
//! fulfil. Nothing here knows Kubernetes' types, tokio, hyper or wasmtime; `proxy` and `host` meet in [`plugin`].
//!
//! `sluicegate-config` makes plans out of objects; [`pool`]s hold the endpoints that discovery found; a [`snapshot`] is what the workers serve.

pub mod access_log;
pub mod address;
pub mod allowed_file;
pub mod config_text;
pub mod cookie;
pub mod counters;
pub mod discovery;
pub mod duration;
pub mod egress;
pub mod escape;
pub mod explain;
pub mod family;
pub mod fault;
pub mod fields;
pub mod hash;
pub mod health;
pub mod lazy;
pub mod limiter;
pub mod limits;
pub mod native;
pub mod operate;
pub mod path;
pub mod persistent;
pub mod plugin;
pub mod pool;
pub mod record;
pub mod requests;
pub mod rollout;
pub mod route;
pub mod service;
pub mod session;
pub mod settings;
pub mod shadow;
pub mod shared;
pub mod slots;
pub mod snapshot;
pub mod sorted;
pub mod state_store;
pub mod stats;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod trace_context;
pub mod unique;
pub mod unix;
pub mod writer;
