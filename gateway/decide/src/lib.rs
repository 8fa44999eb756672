//! What becomes of a request, a connection or a flow, and which endpoint serves it. Everything here is pure: no sockets, no clocks, no state but
//! what is passed in. The data plane, `sluicegate explain` and the simulator decide by it, each with plugin instances of its own.
//!
//! In the order a request is looked at: [`method`] and [`target`] say whether it can be forwarded and how its path is spelt, [`host`] whom it is
//! for, [`way`] which of a listener's host names, which rule and which service takes it; [`redirect`] and [`cors`] are what rules answer
//! themselves. [`ladder`] asks the generations of a plugin in turn. [`answer`] is the one table of the gateway's own answers.

pub mod answer;
pub mod cors;
pub mod grpc;
pub mod host;
pub mod ladder;
pub mod method;
pub mod redirect;
pub mod target;
pub mod way;
