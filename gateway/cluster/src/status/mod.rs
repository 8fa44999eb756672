//! Statuses, as they are written to the API server. What is wished of each object is a pure function of plan and snapshot that every process computes; the leader
//! writes it. `wish` collects what is wished, `due` says which objects' turn it is and `pace` how often one is written, `merge` what of a wish differs from what is there, `write` asks the server.
//! `kinds` has the kinds whose status is written, in the order in which they are.

mod due;
mod kinds;
mod merge;
pub(crate) mod pace;
mod wish;
mod write;

pub use write::Writer;
