//! Backends: each comes to a Service with one port, to which only routes lead.

use std::net::SocketAddr;

use serde_json::json;
use sluicegate_builtins::{DEFAULT_BALANCER, STATIC};

use super::compile::Compiler;
use super::x_policies::Constraints;
use super::*;
use crate::object::ours::{Backend, BackendProtocol, FqdnEndpoint};

/// The built-in plugin `dns` as it looks up the host names of Backends. No object can have this name.
pub(super) const LOOK_UP: &str = "backend:dns";

/// The service port that a Backend is. No Service has a name with a dot, so neither is the other's.
pub(super) fn service_port(namespace: &str, name: &str, port: u16) -> ServiceRef {
    ServiceRef { namespace: namespace.to_owned(), name: format!("{name}.backend"), port }
}

/// The Backend's name, if that is what a service port is of.
pub(super) fn backend_of(service: &str) -> Option<&str> {
    service.strip_suffix(".backend")
}

impl Compiler<'_> {
    pub(super) fn backend_object(&mut self, object: &Arc<Object>, backend: &Backend) {
        let Some(port) = backend.spec.port() else { return };
        let service = service_port(&object.key.namespace, &object.key.name, port);
        let spoken = |protocol| backend.spec.app_protocols.contains(&protocol);
        let app_protocol = if spoken(BackendProtocol::Grpc) {
            AppProtocol::Grpc
        } else if spoken(BackendProtocol::H2c) {
            AppProtocol::H2c
        } else if spoken(BackendProtocol::Ws) {
            AppProtocol::Ws
        } else {
            AppProtocol::Http
        };
        let planned = PlannedPort {
            service: service.clone(),
            name: String::new(),
            protocol: PortProtocol::Tcp,
            node_port: None,
            app_protocol,
            balancer: self.builtin(DEFAULT_BALANCER, PluginKind::Balancer),
            discovery: self.backend_discovery(backend),
            hash: None,
            internal: TrafficPolicy::Cluster,
            external: TrafficPolicy::Cluster,
            distribution: Distribution::Any,
            affinity: None,
            settings: self.backend_settings(None, Constraints::default(), app_protocol),
            tls: backend.spec.verified().map_or(PlannedEndpointTls::Off, |tls| self.our_endpoint_tls(object, &tls)),
        };
        self.part.service = Some(Arc::new(PlannedService {
            namespace: service.namespace,
            name: service.name,
            type_: "Backend".to_owned(),
            proxied: false,
            routable: true,
            families: ServiceFamilies::default(),
            cluster_ips: Vec::new(),
            external_ips: Vec::new(),
            ports: vec![planned],
            object: object.clone(),
        }));
    }

    fn backend_discovery(&mut self, backend: &Backend) -> PluginUse {
        if let Some(FqdnEndpoint { hostname, port }) = backend.spec.fqdn() {
            let config = json!({"name": hostname, "port": port}).to_string();
            return PluginUse { config: config.into(), ..self.builtin(LOOK_UP, PluginKind::Discovery) };
        }
        let endpoints = backend.spec.endpoints.iter().filter_map(|endpoint| {
            let ip = endpoint.ip.as_ref()?;
            let mut written = json!({"address": SocketAddr::new(ip.address, ip.port).to_string()});
            if let Some(zone) = &endpoint.zone {
                written["zone"] = zone.as_str().into();
            }
            Some(written)
        });
        let config = json!({"endpoints": endpoints.collect::<Vec<_>>()}).to_string();
        PluginUse { config: config.into(), ..self.builtin(STATIC, PluginKind::Discovery) }
    }
}
