//! Gateways: listeners by address, port and host name.

use std::net::Ipv4Addr;

use super::compile::Compiler;
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
            for (i, listener) in gateway.spec.listeners.iter().enumerate() {
                let path = format!("spec.listeners[{i}]");
                let Ok(port) = u16::try_from(listener.port) else { continue };
                let transport = match listener.protocol.as_str() {
                    "HTTP" => Transport::Http,
                    "TCP" => Transport::Tcp,
                    "UDP" => Transport::Udp,
                    other => {
                        let message = format!("{path}.protocol: {other} is not served by this version");
                        self.plan.faults.push(warning(
                            &object.origin,
                            &object.key,
                            &format!("{path}.protocol"),
                            message,
                            Some("HTTP, TCP or UDP".to_owned()),
                        ));
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
                for ip in &addresses {
                    let address = SocketAddr::new(*ip, port);
                    let same = self.plan.listeners.iter_mut().find(|l| l.address == address && l.front.protocol() == transport.protocol());
                    match (same.map(|l| &mut l.front), transport) {
                        (Some(PlannedFront::Http(hosts)), Transport::Http) if !hosts.iter().any(|(h, _)| *h == hostname) => {
                            hosts.push((hostname.clone(), target.clone()))
                        }
                        _ => {
                            let front = match transport {
                                Transport::Http => PlannedFront::Http(vec![(hostname.clone(), target.clone())]),
                                Transport::Udp => PlannedFront::Udp(target.clone()),
                                Transport::Tcp | Transport::Tls => PlannedFront::Tcp(target.clone()),
                            };
                            self.listen(object, &path, PlannedListener { address, name: name.clone(), front, settings: settings.clone() });
                        }
                    }
                }
            }
        }
        for listener in &mut self.plan.listeners {
            if let PlannedFront::Http(hosts) = &mut listener.front {
                hosts.sort_by_key(|(h, _)| host_order(h.as_deref()));
            }
        }
    }

    pub(super) fn ours(&self, class: &str) -> bool {
        class == "sluicegate"
            || self.objects.iter().any(|o| matches!(&o.body, Body::GatewayClass(c) if o.key.name == class && c.spec.controller_name == "sluicegate.dev/gateway-controller"))
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
