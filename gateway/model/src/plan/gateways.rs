//! Gateways: listeners by address, port and host name.

use std::net::Ipv4Addr;

use super::compile::Compiler;
use super::tls::passthrough;
use super::*;
use crate::object::{Body, error, warning};
use crate::route::Transport;

impl Compiler<'_> {
    pub(super) fn gateways(&mut self) {
        for object in self.objects {
            let Body::Gateway(gateway) = &object.body else { continue };
            if !self.ours(&gateway.spec.gateway_class_name) {
                let message = format!("spec.gatewayClassName: {:?} is another gateway's", gateway.spec.gateway_class_name);
                let hint = Some("sluicegate, or a GatewayClass with controllerName sluicegate.dev/gateway-controller".to_owned());
                self.plan.faults.push(warning(&object.origin, &object.key, "spec.gatewayClassName", message, hint));
                continue;
            }
            let mut addresses: Vec<IpAddr> = Vec::new();
            for (i, address) in gateway.spec.addresses.iter().flatten().enumerate() {
                let value = address.value.clone().unwrap_or_default();
                match value.parse() {
                    Ok(ip) => addresses.push(ip),
                    Err(_) => {
                        let path = format!("spec.addresses[{i}].value");
                        self.plan.faults.push(error(
                            &object.origin,
                            &object.key,
                            &path,
                            format!("{path}: {value:?} is not an IP address"),
                            None,
                        ));
                    }
                }
            }
            if addresses.is_empty() && gateway.spec.addresses.iter().flatten().next().is_none() {
                addresses.push(Ipv4Addr::UNSPECIFIED.into());
            }
            if gateway.spec.tls.as_ref().is_some_and(|tls| tls.backend.is_some()) {
                let path = "spec.tls.backend";
                let message = format!("{path} is not served by this version");
                let hint = Some("tls.clientCertificateRef of a BackendTrafficPolicy".to_owned());
                self.plan.faults.push(warning(&object.origin, &object.key, path, message, hint));
            }
            for (i, listener) in gateway.spec.listeners.iter().enumerate() {
                let path = format!("spec.listeners[{i}]");
                let Ok(port) = u16::try_from(listener.port) else { continue };
                let transport = match listener.protocol.as_str() {
                    "HTTP" | "HTTPS" => Transport::Http,
                    "TLS" => Transport::Tls,
                    "TCP" => Transport::Tcp,
                    "UDP" => Transport::Udp,
                    other => {
                        let message = format!("{path}.protocol: {other} is not served by this version");
                        self.plan.faults.push(warning(
                            &object.origin,
                            &object.key,
                            &format!("{path}.protocol"),
                            message,
                            Some("HTTP, HTTPS, TLS, TCP or UDP".to_owned()),
                        ));
                        continue;
                    }
                };
                let passthrough = match passthrough(&listener.protocol, listener.tls.as_ref()) {
                    Ok(passthrough) => passthrough,
                    Err(wrong) => {
                        let path = format!("{path}.tls");
                        let message = if wrong.starts_with("mode") { format!("{path}.{wrong}") } else { format!("{path}: {wrong}") };
                        self.plan.faults.push(error(&object.origin, &object.key, &path, message, None));
                        continue;
                    }
                };
                let name = format!("listener {} of Gateway {}/{}", listener.name, object.key.namespace, object.key.name);
                let hostname = listener.hostname.as_ref().map(|h| h.to_ascii_lowercase());
                let info = ListenerInfo {
                    name: name.clone(),
                    port,
                    transport,
                    hostname: hostname.clone(),
                    namespace: object.key.namespace.clone(),
                };
                let target = self.router("Gateway", object, &listener.name, info).map_or(PlannedTarget::Nothing, PlannedTarget::Router);
                let policy = self.client_policy("Gateway", object, &listener.name);
                let settings = self.client_settings(policy);
                let mode = match (listener.protocol.as_str(), passthrough) {
                    ("HTTPS", _) => Some(PlannedTlsMode::Http(self.gateway_tls(object, gateway, i, policy, ALPN))),
                    ("TLS", true) => Some(PlannedTlsMode::Passthrough),
                    ("TLS", false) => Some(PlannedTlsMode::Tcp(self.gateway_tls(object, gateway, i, policy, &[]))),
                    _ => None,
                };
                let front = match (mode, transport) {
                    (Some(mode), _) => PlannedFront::Tls(vec![PlannedTlsHost { hostname, mode, target }]),
                    (None, Transport::Http) => PlannedFront::Http(vec![(hostname, target)]),
                    (None, Transport::Udp) => PlannedFront::Udp(target),
                    (None, _) => PlannedFront::Tcp(target),
                };
                for ip in &addresses {
                    let address = SocketAddr::new(*ip, port);
                    let same = self.plan.listeners.iter_mut().find(|l| l.address == address && l.front.protocol() == transport.protocol());
                    if !same.is_some_and(|l| l.front.join(&front)) {
                        let (name, front, settings) = (name.clone(), front.clone(), settings.clone());
                        self.listen(object, &path, PlannedListener { address, name, front, settings });
                    }
                }
            }
        }
        for listener in &mut self.plan.listeners {
            match &mut listener.front {
                PlannedFront::Http(hosts) => hosts.sort_by_key(|(h, _)| host_order(h.as_deref())),
                PlannedFront::Tls(hosts) => hosts.sort_by_key(|h| host_order(h.hostname.as_deref())),
                PlannedFront::Tcp(_) | PlannedFront::Udp(_) => {}
            }
        }
    }

    pub(super) fn ours(&self, class: &str) -> bool {
        class == "sluicegate"
            || self.objects.iter().any(|o| matches!(&o.body, Body::GatewayClass(c) if o.key.name == class && c.spec.controller_name == "sluicegate.dev/gateway-controller"))
    }
}

/// Protocols that HTTPS listeners offer, best first.
pub(super) const ALPN: &[&str] = &["h2", "http/1.1"];

impl PlannedFront {
    /// Takes in another listener of the same address, if that is one more host name of the same protocol.
    fn join(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http(hosts), Self::Http(more)) if more.iter().all(|(h, _)| !hosts.iter().any(|(known, _)| known == h)) => {
                hosts.extend_from_slice(more);
            }
            (Self::Tls(hosts), Self::Tls(more)) if more.iter().all(|h| !hosts.iter().any(|known| known.hostname == h.hostname)) => {
                hosts.extend_from_slice(more);
            }
            _ => return false,
        }
        true
    }
}

/// Exact names, then wildcards with more labels first, then the empty one.
pub(super) fn host_order(host: Option<&str>) -> (u8, std::cmp::Reverse<usize>, String) {
    match host {
        None => (2, std::cmp::Reverse(0), String::new()),
        Some(h) if h.starts_with("*.") => (1, std::cmp::Reverse(h.split('.').count()), h.to_owned()),
        Some(h) => (0, std::cmp::Reverse(0), h.to_owned()),
    }
}
