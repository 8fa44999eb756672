//! What each node runs. Every process tells it in an annotation of a Lease of its own, when it changes and every two minutes (`tell`); the leader watches these Leases
//! (`gather`), and Plugins' statuses say what [`Fleet`](crate::fleet::Fleet) counts. So a node asks for nothing of others, and a thousand of them write eight times a second.

mod gather;
mod tell;

pub use gather::Gatherer;
pub use tell::Teller;

fn path(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}
