//! Whole gateways whose objects come from an API server.

mod addresses;
mod balanced;
mod failures;
mod fleet;
mod here;
mod infrastructure;
mod large;
mod life;
mod needed;
mod nodes;
mod outage;
mod pod;
mod recorded;
mod restarts;
mod world;
