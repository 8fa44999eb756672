//! Objects: typed, with the place they came from. Kubernetes kinds are `k8s-openapi`'s and `gateway-api`'s types; ours are in [`mod@ours`].

mod compact;
mod decode;
mod defaults;
mod given;
mod go;
mod key;
mod l4_route;
mod listener_set;
mod misfit;
mod nulls;
pub mod ours;
mod reader;
mod secret;
mod skip;
mod typed;
mod x_backend_traffic_policy;

use std::sync::Arc;

use gateway_api::apis::standard::backendtlspolicies::BackendTlsPolicy;
use gateway_api::apis::standard::gatewayclasses::GatewayClass;
use gateway_api::apis::standard::gateways::GatewayListeners;
use gateway_api::apis::standard::grpcroutes::GrpcRoute;
use gateway_api::apis::standard::httproutes::HttpRoute;
use gateway_api::apis::standard::referencegrants::ReferenceGrant;
use gateway_api::apis::standard::tlsroutes::TlsRoute;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluicegate_model::fault::{Fault, Severity};

use crate::manifest::Origin;

pub use compact::SERVICE_NAME;
pub use decode::{Decoded, decode, decode_whole, plain};
pub use gateway_api::apis::standard::gateways::Gateway;
pub use given::Given;
#[cfg(test)]
pub(crate) use given::WITH_RULES;
pub use k8s_openapi::api::core::v1::{Service, ServiceSpec};
pub use key::{Named, ObjectKey};
pub use l4_route::L4Route;
pub use listener_set::ListenerSet;
pub use ours::{Backend, BackendTrafficPolicy, ClientTrafficPolicy, GatewayParameters, HttpRouteFilter, Plugin, SluicegateConfiguration};
pub use secret::{Secret, TLS_TYPE};
pub use skip::{KINDS, foreign, skipped};
pub use x_backend_traffic_policy::*;

/// An object.
#[derive(Debug)]
pub struct Object {
    /// The object's kind, namespace and name.
    pub key: ObjectKey,
    /// The object's content, typed.
    pub body: Body,
    /// The object's content as it was given.
    pub value: Given,
    /// Where the object stands.
    pub origin: Arc<Origin>,
}

/// An object's content.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are the kinds")]
pub enum Body {
    Service(Box<Service>),
    Pod(Box<Pod>),
    Node(Box<Node>),
    Namespace(Box<Namespace>),
    EndpointSlice(Box<EndpointSlice>),
    /// An EndpointSlice that was checked. It holds the name of its Service.
    CheckedSlice(Option<Box<str>>),
    Deployment(Box<Deployment>),
    Secret(Box<Secret>),
    ConfigMap(Box<ConfigMap>),
    Gateway(Box<Gateway>),
    GatewayClass(Box<GatewayClass>),
    BackendTlsPolicy(Box<BackendTlsPolicy>),
    ReferenceGrant(Box<ReferenceGrant>),
    HttpRoute(Box<HttpRoute>),
    GrpcRoute(Box<GrpcRoute>),
    TlsRoute(Box<TlsRoute>),
    TcpRoute(Box<L4Route>),
    UdpRoute(Box<L4Route>),
    ListenerSet(Box<ListenerSet>),
    XBackendTrafficPolicy(Box<XBackendTrafficPolicy>),
    Plugin(Box<Plugin>),
    BackendTrafficPolicy(Box<BackendTrafficPolicy>),
    ClientTrafficPolicy(Box<ClientTrafficPolicy>),
    Backend(Box<Backend>),
    HttpRouteFilter(Box<HttpRouteFilter>),
    GatewayParameters(Box<GatewayParameters>),
    SluicegateConfiguration(Box<SluicegateConfiguration>),
}

impl Body {
    /// The object's metadata; none if it has none, or if they were dropped when the object was compacted.
    pub fn metadata(&self) -> Option<&ObjectMeta> {
        Some(match self {
            Self::Service(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Deployment(object) => &object.metadata,
            Self::Secret(object) => object.metadata(),
            Self::ConfigMap(object) => &object.metadata,
            Self::Gateway(object) => &object.metadata,
            Self::GatewayClass(object) => &object.metadata,
            Self::BackendTlsPolicy(object) => &object.metadata,
            Self::ReferenceGrant(object) => &object.metadata,
            Self::HttpRoute(object) => &object.metadata,
            Self::GrpcRoute(object) => &object.metadata,
            Self::TlsRoute(object) => &object.metadata,
            Self::TcpRoute(object) | Self::UdpRoute(object) => &object.metadata,
            Self::ListenerSet(object) => &object.metadata,
            Self::XBackendTrafficPolicy(object) => &object.metadata,
            Self::Plugin(object) => &object.metadata,
            Self::BackendTrafficPolicy(object) => &object.metadata,
            Self::ClientTrafficPolicy(object) => &object.metadata,
            Self::Backend(object) => &object.metadata,
            Self::HttpRouteFilter(object) => &object.metadata,
            Self::GatewayParameters(object) => &object.metadata,
            Self::CheckedSlice(_) | Self::SluicegateConfiguration(_) => return None,
        })
    }

    /// The listeners of a Gateway or ListenerSet; none of other objects.
    pub fn listeners(&self) -> &[GatewayListeners] {
        match self {
            Self::Gateway(gateway) => &gateway.spec.listeners,
            Self::ListenerSet(set) => &set.spec.listeners,
            _ => &[],
        }
    }
}

/// A fault of a field, as an error.
pub fn error(origin: &Origin, key: &ObjectKey, path: &str, message: String, expected: Option<String>) -> Fault {
    Fault { severity: Severity::Error, place: Some(origin.place(path)), object: Some(key.to_string()), message, expected }
}

/// A fault of a field, as a warning.
pub fn warning(origin: &Origin, key: &ObjectKey, path: &str, message: String, expected: Option<String>) -> Fault {
    Fault { severity: Severity::Warning, ..error(origin, key, path, message, expected) }
}

/// Removes the lines of Secrets from faults, as faults show the line they are in, and go to logs and the admin API.
pub fn conceal(faults: &mut [Fault]) {
    for place in faults.iter_mut().filter_map(|f| f.place.as_mut()) {
        place.text.clear();
    }
}
