//! The status of a Service whose load balancer is this gateway.

use serde_json::{Value, json};

use crate::object::Body;
use crate::plan::{LOAD_BALANCER_CLASS, PlannedService};

/// Whether a Service says that this gateway is its load balancer.
pub(super) fn is_ours(service: &PlannedService) -> bool {
    let Body::Service(given) = &service.object.body else { return false };
    service.type_ == "LoadBalancer"
        && given.spec.as_ref().is_some_and(|spec| spec.load_balancer_class.as_deref() == Some(LOAD_BALANCER_CLASS))
}

/// `Proxy`: with it kube-proxy sends traffic to the address to the gateway, rather than taking it for its own (KEP-1860).
pub(super) fn status(service: &PlannedService) -> Value {
    let ingress = service.balanced.iter().map(|ip| json!({"ip": ip.to_string(), "ipMode": "Proxy"}));
    json!({"loadBalancer": {"ingress": ingress.collect::<Vec<_>>()}})
}
