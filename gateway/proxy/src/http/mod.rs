//! L7: HTTP, request by request.
//!
//! [`mod@serve`] takes requests off clients' connections, over what [`client`] has of each version of HTTP. Each goes through [`exchange`]: arrival, the way to
//! a rule and a service ([`sluicegate_decide`]), head, send, response back. [`body`] is a request's content on its way, [`upstream`] has the connections
//! to endpoints, [`rules`] what HTTP says of fields between hops.
//!
//! Each room knows those behind it, and none before: serve → exchange → upstream → body → client → rules → error.

mod body;
mod client;
mod error;
mod exchange;
mod rules;
mod serve;
mod upstream;

pub(crate) use exchange::Exchanges;
pub use exchange::{Arrived, Asked, Outcome, Preview, preview};
pub(crate) use serve::{Http, serve, serve3};
