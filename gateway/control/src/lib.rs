//! What changes and what follows from it. In the order of a change: [`source`] sees that a file changed and reads the folder; [`store`] keeps
//! each object's last good version; [`allocate`] gives ports and addresses; the plan is compiled (`sluicegate_model::plan`); [`registry`] loads
//! the plugins it names and tries them; [`discovery`] runs the discovery plugins; [`assemble`] makes the snapshot; [`health`] says
//! which endpoints are used, and has pools made anew; [`controller`] is the loop around all this, one task that owns all state, so nothing here is
//! locked. [`keep`] writes down what pools of balancers know, for the next start.

pub mod allocate;
pub mod assemble;
pub mod controller;
pub mod discovery;
pub mod health;
pub mod keep;
pub mod registry;
pub mod signature;
pub mod source;
pub mod store;
mod tls;
