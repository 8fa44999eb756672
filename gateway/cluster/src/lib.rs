//! A Kubernetes API server: as a source of objects, and what is written to it. [`connection`] says where it is and who asks; [`client`] asks. [`seen`] has what it
//! said last; [`leader`] decides which one of many processes writes.

pub mod client;
pub mod connection;
pub mod leader;
pub mod seen;
