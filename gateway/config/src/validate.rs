//! Rules of single objects, with the API server's own texts.

mod acme;
mod backend_object;
mod balancing;
mod connections;
mod custom;
mod endpoints;
mod field;
mod forwarding;
mod health;
mod http2;
mod http3;
mod limits;
mod metadata;
mod names;
mod policies;
mod service;
mod service_addresses;
mod slices;
mod tls;

use sluicegate_model::fault::{Fault, Severity};

use crate::object::{Body, Object, conceal, warning};
use crate::structural;

/// All faults of an object by itself. `known` are those found before: fields that these name are not judged again, as what stands there may be a stand-in.
pub fn object(object: &Object, known: &[Fault]) -> Vec<Fault> {
    let mut faults = all(object);
    let judged = |fault: &Fault| known.iter().any(|known| known.severity == Severity::Error && known.place == fault.place);
    faults.retain(|fault| !judged(fault));
    faults
}

/// An object of the Gateway API with the defaults that an API server sets.
pub fn with_defaults(kind: &str, mut value: serde_json::Value) -> serde_json::Value {
    structural::set_defaults(kind, &mut value);
    value
}

fn all(object: &Object) -> Vec<Fault> {
    let mut faults = kubernetes(object);
    match &object.body {
        Body::Pod(_) | Body::EndpointSlice(_) => endpoints::check(object, &mut faults),
        Body::Secret(secret) => tls::secret(object, secret, &mut faults),
        Body::BackendTlsPolicy(policy) => tls::backend_tls_policy(object, policy, &mut faults),
        Body::ReferenceGrant(_) => policies::reference_grant(object, &mut faults),
        Body::Plugin(plugin) => policies::plugin(object, plugin, &mut faults),
        Body::BackendTrafficPolicy(policy) => {
            policies::targets(object, &policy.spec.target_refs, policies::OF_BACKENDS, &mut faults);
            balancing::check(object, &policy.spec, &mut faults);
            health::check(object, &policy.spec, &mut faults);
            limits::backend(object, policy, &mut faults);
            connections::backend(object, policy, &mut faults);
            http2::backend(object, &policy.spec, &mut faults);
            forwarding::backend(object, policy, &mut faults);
            tls::backend(object, policy.spec.tls.as_deref(), &mut faults);
        }
        Body::ClientTrafficPolicy(policy) => {
            policies::targets(object, &policy.spec.target_refs, policies::OF_CLIENTS, &mut faults);
            limits::client(object, policy, &mut faults);
            connections::client(object, policy, &mut faults);
            forwarding::client(object, policy, &mut faults);
            http2::client(object, &policy.spec.http2, &mut faults);
            http3::client(object, &policy.spec, &mut faults);
            tls::client(object, policy.spec.tls.as_ref(), &mut faults);
        }
        Body::Backend(backend) => backend_object::backend(object, backend, &mut faults),
        Body::GatewayParameters(parameters) => backend_object::gateway_parameters(object, parameters, &mut faults),
        Body::HttpRouteFilter(filter) => backend_object::http_route_filter(object, filter, &mut faults),
        Body::SluicegateConfiguration(configuration) => policies::configuration(object, configuration, &mut faults),
        _ => {}
    }
    faults
}

/// What an API server says of a kind of Kubernetes' own, and of every object's metadata, in its order.
fn kubernetes(object: &Object) -> Vec<Fault> {
    let mut fields = field::Fields::new(object);
    if let Some(metadata) = object.body.metadata() {
        metadata::check(metadata::Naming::of(&object.key.kind), metadata, &mut fields);
    }
    match &object.body {
        Body::Service(service) => service::check(service, &mut fields),
        Body::EndpointSlice(slice) => slices::check(slice, &mut fields),
        Body::Gateway(_)
        | Body::GatewayClass(_)
        | Body::BackendTlsPolicy(_)
        | Body::ReferenceGrant(_)
        | Body::HttpRoute(_)
        | Body::GrpcRoute(_)
        | Body::TlsRoute(_)
        | Body::TcpRoute(_)
        | Body::UdpRoute(_)
        | Body::ListenerSet(_)
        | Body::XBackendTrafficPolicy(_) => {
            custom::check(&object.key.kind, &object.value.tree(), &mut fields);
        }
        _ => {}
    }
    let mut faults = fields.faults;
    if let Body::Service(service) = &object.body {
        let warnings = service::warnings(service).into_iter();
        faults.extend(warnings.map(|(path, words)| warning(&object.origin, &object.key, &path, words, None)));
    }
    if matches!(object.body, Body::Secret(_)) {
        conceal(&mut faults);
    }
    faults
}

/// The older way to say `loadBalancerSourceRanges`, a list with commas; the field counts before it.
pub const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
