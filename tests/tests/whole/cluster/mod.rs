//! Whole gateways whose objects come from an API server.

mod balanced;
mod failures;
mod here;
mod infrastructure;
mod life;
mod needed;
mod recorded;
mod restarts;
mod world;
