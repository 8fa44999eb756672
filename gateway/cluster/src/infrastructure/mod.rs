//! Services that stand for Gateways (GEP-1762), as the leader makes them: `wish` is what they are to be, and what differs; `write` asks the server.
//!
//! Such a Service is headless, without a selector: it says that the Gateway is there, with the ports of its listeners and the labels and annotations of
//! `spec.infrastructure`, and no proxy, load balancer or cluster IP has anything to do with it. One of type LoadBalancer would be taken for work by a cloud's
//! controller, and kube-proxy would refuse connections to the Gateway's own addresses, as the Service has no endpoints.
//!
//! A Service is only changed or deleted if this gateway has made it, which an annotation and the owner reference to the Gateway tell.

mod wish;
mod write;

pub use write::Keeper;
