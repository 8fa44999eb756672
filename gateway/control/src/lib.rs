//! What changes and what follows from it. In the order of a change: [`sources`] say what has changed; [`store`] keeps each object's last good version;
//! [`allocate`] gives ports and addresses; the plan is compiled (`sluicegate_config::plan`); [`plugins`] loads the plugins it names and tries them;
//! [`discovery`] runs the discovery plugins; [`assemble`] says which endpoints are let in and makes the snapshot; [`health`] says which endpoints are
//! used, and has pools made anew; [`status`] is what people are told of it all; [`controller`] is the loop around all this, one task that owns all state, so nothing here is locked.
//! [`node_addresses`] are those of this machine, and `local` says of any address whether it is one. [`keep`] writes down what pools of balancers know, for the next start, [`tickets`] the secrets of
//! TLS session tickets, and [`saved`] what an API server has told. [`acme`] leads to those who order certificates. What is kept on disk is in `state_file`s; files of others are read by `regular`.

pub mod acme;
pub mod allocate;
pub mod assemble;
pub mod controller;
pub mod discovery;
pub mod health;
pub mod keep;
mod local;
pub mod node_addresses;
pub mod plugins;
mod port;
mod regular;
pub mod saved;
pub mod sources;
pub mod state_file;
mod status;
pub mod store;
pub mod tickets;
