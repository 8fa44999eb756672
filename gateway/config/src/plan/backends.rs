//! Backends: each is planned as a Service with one port, to which only routes lead.

use std::net::SocketAddr;

use serde_json::json;
use sluicegate_builtins::{DEFAULT_BALANCER, STATIC};

use super::compile::Compiler;
use super::x_policies::Constraints;
use super::*;
use crate::object::ours::{Backend, BackendProtocol, FqdnEndpoint};

/// The name under which the built-in plugin `dns` looks up the host names of Backends. No object can have this name.
pub(super) const LOOK_UP: &str = "backend:dns";

/// The service port that stands for a Backend. Its name contains a dot, which no Service's does, so the two cannot be confused.
pub(super) fn service_port(namespace: &str, name: &str, port: u16) -> ServiceRef {
    ServiceRef { namespace: namespace.to_owned(), name: format!("{name}.backend"), port }
}

/// The Backend's name, if the service port stands for a Backend.
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
            own_balancer: false,
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
            balanced: Vec::new(),
            listened: Vec::new(),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::{manifest, object};

    /// Plans a Backend called `b` in namespace `a` and returns its one port.
    fn planned(spec: &str) -> PlannedPort {
        let text = format!("apiVersion: sluicegate.dev/v1alpha1\nkind: Backend\nmetadata: {{name: b, namespace: a}}\nspec: {{{spec}}}\n");
        let document = manifest::parse(Path::new("test.yaml"), &text).documents.remove(0);
        let (object, faults) = object::decode(document);
        assert!(faults.is_empty(), "{faults:?}");
        let plan = compile(&[Arc::new(object.expect("an object"))], &Allocations::default(), &Settings::default());
        assert!(plan.faults.is_empty(), "{:?}", plan.faults);
        let service = &plan.services[&("a".to_owned(), "b.backend".to_owned())];
        assert!(service.routable && !service.proxied, "routes lead there, and nothing listens for it");
        // The plugin that looks its host name up is loaded.
        let plugin = plan.plugins.iter().find(|plugin| plugin.name == service.ports[0].discovery.plugin).expect("it is used");
        assert_eq!(plugin.limits.allowed_hosts.is_empty(), plugin.name != LOOK_UP, "of what others name nothing is looked up");
        service.ports[0].clone()
    }

    fn config(port: &PlannedPort) -> Value {
        serde_json::from_str(&port.discovery.config).expect("JSON")
    }

    #[test]
    fn a_host_name_is_looked_up_and_is_the_name_that_its_certificate_must_have() {
        let port = planned(
            "endpoints: [{fqdn: {hostname: api.example.com, port: 8443}}], appProtocols: [grpc], tls: {wellKnownCACertificates: System}",
        );
        assert_eq!((port.service.port, port.app_protocol), (8443, AppProtocol::Grpc));
        assert_eq!((port.discovery.plugin.as_str(), config(&port)), (LOOK_UP, json!({"name": "api.example.com", "port": 8443})));
        let PlannedEndpointTls::On(tls) = &port.tls else { panic!("{:?}", port.tls) };
        assert_eq!(tls.sni.as_ref().map(AsRef::as_ref), Some("api.example.com"));
        let named = planned(
            "endpoints: [{fqdn: {hostname: api.example.com, port: 443}}], tls: {sni: other.example.com, wellKnownCACertificates: System}",
        );
        let PlannedEndpointTls::On(tls) = &named.tls else { panic!("{:?}", named.tls) };
        assert_eq!(tls.sni.as_ref().map(AsRef::as_ref), Some("other.example.com"));
        assert_eq!(planned("endpoints: [{fqdn: {hostname: api.example.com, port: 80}}]").tls, PlannedEndpointTls::Off);
    }

    #[test]
    fn addresses_are_endpoints_as_they_are() {
        let port = planned(
            "endpoints: [{ip: {address: 10.0.0.1, port: 80}, zone: z}, {ip: {address: 'fd00::1', port: 81}}], appProtocols: [kubernetes.io/h2c]",
        );
        assert_eq!((port.service.port, port.app_protocol, port.discovery.plugin.as_str()), (80, AppProtocol::H2c, "static"));
        let wanted = json!({"endpoints": [{"address": "10.0.0.1:80", "zone": "z"}, {"address": "[fd00::1]:81"}]});
        assert_eq!(config(&port), wanted);
    }
}
