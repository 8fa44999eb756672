//! A Kubernetes API server: as a source of objects, and what is written to it. [`connection`] says where it is and who asks; [`client`] asks.

pub mod client;
pub mod connection;
