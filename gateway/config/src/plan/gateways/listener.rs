//! One listener of a Gateway or ListenerSet: from what is written to what is listened on.

use gateway_api::apis::standard::gateways::GatewayListeners;
use sluicegate_builtins::RULES;
use sluicegate_model::route::Transport;

use super::*;
use crate::object::error;
use crate::plan::effect::Way;
use crate::plan::references::Refused;
use crate::plan::routes::{Attached, configuration};
use crate::plan::tls::{FRONTEND, passthrough};

/// Protocols that HTTPS listeners offer, best first.
pub(in crate::plan) const ALPN: &[&str] = &["h2", "http/1.1"];

impl Compiler<'_> {
    /// A listener as far as attaching routes goes.
    pub(super) fn gateway_listener(&self, holder: Holder<'_>, given: &GatewayListeners) -> GatewayListener {
        let (allowed, resolved) = Allowed::new(&given.protocol, given.allowed_routes.as_ref());
        let policy =
            self.client_policy("Gateway", holder.gateway, holder.section(&given.name)).filter(|(_, policy)| policy.spec.router.is_some());
        GatewayListener {
            name: given.name.clone(),
            // What does not fit was told when the object was judged.
            port: u16::try_from(given.port).unwrap_or_default(),
            protocol: given.protocol.clone(),
            hostname: given.hostname.as_ref().map(|hostname| hostname.to_ascii_lowercase()).filter(|hostname| !hostname.is_empty()),
            allowed,
            accepted: Ok(()),
            resolved,
            routes: 0,
            overridden: policy.map(|(policy, _)| policy.key.clone()),
        }
    }

    /// What listens for a listener.
    pub(super) fn gateway_front(
        &mut self,
        holder: Holder<'_>,
        i: usize,
        planned: &mut GatewayListener,
        routes: &[Attached],
        addresses: &[GatewayAddress],
    ) {
        let (object, listener) = (holder.object, &holder.listeners[i]);
        let section = holder.section(&listener.name);
        let path = format!("spec.listeners[{i}]");
        let Ok(port) = u16::try_from(listener.port) else { return };
        let transport = match listener.protocol.as_str() {
            "HTTP" | "HTTPS" => Transport::Http,
            "TLS" => Transport::Tls,
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            other => {
                let message = format!("{path}.protocol: {other} is not served by this version");
                planned.accepted = Err(Refusal::new("UnsupportedProtocol", message.clone()));
                let (path, hint) = (format!("{path}.protocol"), Some("HTTP, HTTPS, TLS, TCP or UDP".to_owned()));
                self.part.faults.push(warning(&object.origin, &object.key, &path, message, hint));
                return;
            }
        };
        let passthrough = match passthrough(&listener.protocol, listener.tls.as_ref()) {
            Ok(passthrough) => passthrough,
            Err((field, wrong)) => {
                let path = format!("{path}.tls");
                let message = format!("{path}{field}: {wrong}");
                planned.accepted = Err(Refusal::new("UnsupportedValue", message.clone()));
                self.part.faults.push(error(&object.origin, &object.key, &path, message, None));
                return;
            }
        };
        if let Err(refusal) = &planned.resolved {
            let path = format!("{path}.allowedRoutes.kinds");
            let message = format!("{path}: {}: {}", refusal.reason, refusal.message);
            self.part.faults.push(warning(&object.origin, &object.key, &path, message, None));
        }
        let name = format!("listener {} of {}", listener.name, object.key);
        let hostname = planned.hostname.clone();
        // What a router is configured with is the Gateway's, as the policy is; routes name the namespaces of their backends.
        let namespace = holder.gateway.key.namespace.clone();
        let info = ListenerInfo { name: name.clone(), port, transport, hostname: hostname.clone(), namespace };
        let target = if planned.overridden.is_some() {
            self.router("Gateway", holder.gateway, section, info).map_or(PlannedTarget::Nothing, PlannedTarget::Router)
        } else if routes.is_empty() {
            PlannedTarget::Nothing
        } else {
            let config = configuration(routes.iter().map(|(route, hostnames)| (&**route, &**hostnames)));
            let plugin = PluginUse { config: config.into(), ..self.builtin(RULES, PluginKind::Router) };
            let rates = routes.iter().flat_map(|(route, _)| route.rates.clone()).collect();
            PlannedTarget::Router(self.routed(plugin, info, rates))
        };
        let policy = self.client_policy("Gateway", holder.gateway, section);
        let way = match (listener.protocol.as_str(), passthrough) {
            ("HTTP", _) => Way::Http,
            ("HTTPS", _) => Way::Https,
            ("UDP", _) => Way::Udp,
            ("TLS", true) => Way::Passthrough,
            ("TLS", false) => Way::EndedTls,
            _ => Way::Tcp,
        };
        let mode = if passthrough { " and passes it through" } else { "" };
        let why = format!("is of protocol {}{mode}", listener.protocol);
        self.counts(policy.map(|(object, _)| object), way, format!("listener {} of {}", listener.name, object.key), why);
        let settings = self.client_settings(policy);
        let before = self.refused.len();
        let mode = match (listener.protocol.as_str(), passthrough) {
            ("HTTPS", _) => Some(PlannedTlsMode::Http(self.gateway_tls(holder, i, policy, ALPN))),
            ("TLS", true) => Some(PlannedTlsMode::Passthrough),
            ("TLS", false) => Some(PlannedTlsMode::Tcp(self.gateway_tls(holder, i, policy, &[]))),
            _ => None,
        };
        references(planned, &self.refused[before..], listener);
        let front = match (mode, transport) {
            (Some(mode), _) => PlannedFront::Tls(vec![PlannedTlsHost { hostname, mode, target }]),
            (None, Transport::Http) => PlannedFront::Http(vec![VirtualHost { hostname, target }]),
            (None, Transport::Udp) => PlannedFront::Udp(target),
            (None, _) => PlannedFront::Tcp(target),
        };
        for ip in addresses {
            let address = SocketAddr::new(ip.listen, port);
            let (name, front, settings) = (name.clone(), front.clone(), settings.clone());
            self.listen(object, path.clone().into(), PlannedListener { address, name, front, settings, node_port: false });
        }
    }
}

/// What references to certificates and authorities that may not be used make of a listener.
fn references(planned: &mut GatewayListener, refused: &[Refused], listener: &GatewayListeners) {
    let of_clients = |refused: &&Refused| refused.path.starts_with(FRONTEND);
    let named = |reason| if reason == "RefNotPermitted" { reason } else { "InvalidCertificateRef" };
    let certificate =
        refused.iter().find(|refused| !of_clients(refused)).map(|r| Refusal::new(named(r.refusal.reason), r.refusal.message.clone()));
    let none =
        listener.protocol == "HTTPS" && listener.tls.as_ref().is_none_or(|tls| tls.certificate_refs.as_ref().is_none_or(Vec::is_empty));
    let none =
        none.then(|| Refusal::new("InvalidCertificateRef", "tls.certificateRefs: without a certificate the listener refuses handshakes"));
    if let Some(refusal) = certificate.or(none) {
        planned.resolved = Err(refusal);
    }
    if let Some(Refused { refusal, .. }) = refused.iter().find(of_clients) {
        let reason = match refusal.reason {
            "RefNotPermitted" => "RefNotPermitted",
            "InvalidKind" => "InvalidCACertificateKind",
            _ => "InvalidCACertificateRef",
        };
        planned.resolved = Err(Refusal::new(reason, refusal.message.clone()));
        planned.accepted = Err(Refusal::new("NoValidCACertificate", refusal.message.clone()));
    }
}
