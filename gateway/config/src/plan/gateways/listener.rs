//! One listener of a Gateway or ListenerSet: from what is written to what is served.

use gateway_api::apis::standard::gateways::{GatewayListeners, GatewayListenersTls};
use sluicegate_builtins::RULES;
use sluicegate_model::route::Transport;

use super::*;
use crate::object::error;
use crate::plan::effect::Way;
use crate::plan::references::{Referent, Refused};
use crate::plan::routes::{Attached, RuleRouter, configuration};
use crate::plan::tls::passthrough;
use crate::plan::traffic::planned_rule;

/// The protocols that HTTPS listeners offer by ALPN, the preferred one first.
pub(in crate::plan) const ALPN: &[&str] = &["h2", "http/1.1"];

impl Compiler<'_> {
    /// Plans of a listener what attaching routes to it requires.
    pub(super) fn gateway_listener(&self, holder: Holder<'_>, given: &GatewayListeners) -> GatewayListener {
        let protocol = ListenerProtocol::named(&given.protocol);
        let (allowed, resolved) = Allowed::new(&protocol, given.allowed_routes.as_ref());
        let policy = self.listener_policy(holder, &given.name).filter(|(_, policy)| policy.spec.router.is_some());
        GatewayListener {
            name: given.name.clone(),
            // A number that does not fit was reported when the object was validated.
            port: u16::try_from(given.port).unwrap_or_default(),
            protocol,
            hostname: given.hostname.as_ref().map(|hostname| hostname.to_ascii_lowercase()).filter(|hostname| !hostname.is_empty()),
            allowed,
            accepted: Ok(()),
            resolved,
            routes: 0,
            overridden: policy.map(|(policy, _)| policy.key.clone()),
        }
    }

    /// Plans what is served for a listener.
    pub(super) fn gateway_front(
        &mut self,
        holder: Holder<'_>,
        i: usize,
        planned: &mut GatewayListener,
        routes: &[Attached],
        addresses: &[GatewayAddress],
    ) {
        let (object, listener) = (holder.object, &holder.listeners[i]);
        let path = format!("spec.listeners[{i}]");
        let Ok(port) = u16::try_from(listener.port) else { return };
        let protocol = planned.protocol.clone();
        let Some(transport) = protocol.transport() else {
            let message = format!("{path}.protocol: {protocol} is not served by this version");
            planned.accepted = Err(Refusal::new(Reason::UnsupportedProtocol, message.clone()));
            let (path, hint) = (format!("{path}.protocol"), Some("HTTP, HTTPS, TLS, TCP or UDP".to_owned()));
            self.part.faults.push(warning(&object.origin, &object.key, &path, message, hint));
            return;
        };
        let passthrough = match passthrough(&protocol, listener.tls.as_ref()) {
            Ok(passthrough) => passthrough,
            Err((field, wrong)) => {
                let path = format!("{path}.tls");
                let message = format!("{path}{field}: {wrong}");
                planned.accepted = Err(Refusal::new(Reason::UnsupportedValue, message.clone()));
                self.part.faults.push(error(&object.origin, &object.key, &path, message, None));
                return;
            }
        };
        if let Err(refusal) = &planned.resolved {
            let path = format!("{path}.allowedRoutes.kinds");
            let message = refusal.at(&path);
            self.part.faults.push(warning(&object.origin, &object.key, &path, message, None));
        }
        let name = format!("listener {} of {}", listener.name, object.key);
        let hostname = planned.hostname.clone();
        let policy = self.listener_policy(holder, &listener.name);
        // Names in a router's configuration belong to the namespace of its policy; routes name the namespaces of their backends.
        let namespace = policy.map_or(&holder.gateway.key, |(policy, _)| &policy.key).namespace.clone();
        let info = ListenerInfo { name: name.clone(), port, transport, hostname: hostname.clone(), namespace };
        let mut of_gateway = self.traffic(holder.targets(&listener.name));
        holder.parameters.all().for_each(|parameters| of_gateway.inherit_parameters(parameters));
        if transport != Transport::Http {
            // Rate limits of rules count no connections and flows. This is reported at the policy.
            of_gateway.rates = None;
        }
        let other_rules = planned_rule(&[], &Traffic::default(), &of_gateway);
        let target = if planned.overridden.is_some() {
            let router = self.router(policy, info, other_rules);
            router.map_or(PlannedTarget::Nothing, PlannedTarget::Router)
        } else if routes.is_empty() {
            PlannedTarget::Nothing
        } else {
            let config = configuration(routes.iter().map(|(route, hostnames)| (&**route, hostnames)));
            let plugin = PluginUse { config, ..self.builtin(RULES, PluginKind::Router) };
            let settings = routes.iter().flat_map(|(route, _)| route.settings.iter().map(move |(name, rule)| (route, name, rule)));
            let rules = settings.map(|(route, name, rule)| {
                let mut planned = planned_rule(&rule.limits, &rule.traffic, &of_gateway);
                if let Some(RuleRouter { plugin, backends }) = &rule.router {
                    let of_rule = format!("{name} at {}", info.name);
                    let info = ListenerInfo { name: of_rule, namespace: route.object.key.namespace.clone(), ..info.clone() };
                    let router = self.routed_within(plugin.clone(), info, planned, backends.clone());
                    planned = PlannedRule { router: Some(router), ..PlannedRule::default() };
                }
                (name.clone(), planned)
            });
            let rules = rules.collect();
            PlannedTarget::Router(self.routed(plugin, info, rules, other_rules))
        };
        let way = match (&protocol, passthrough) {
            (ListenerProtocol::Http, _) => Way::Http,
            (ListenerProtocol::Https, _) => Way::Https,
            (ListenerProtocol::Udp, _) => Way::Udp,
            (ListenerProtocol::Tls, true) => Way::Passthrough,
            (ListenerProtocol::Tls, false) => Way::EndedTls,
            (ListenerProtocol::Tcp | ListenerProtocol::Other(_), _) => Way::Tcp,
        };
        let mode = if passthrough { " and passes it through" } else { "" };
        let why = format!("is of protocol {protocol}{mode}");
        let what = format!("listener {} of {}", listener.name, object.key);
        self.counts(policy.map(|(object, _)| object), way, what.clone(), why);
        self.listener_policies(holder, &listener.name, &what, transport);
        let settings = self.client_settings(policy);
        let before = self.refused.len();
        let mode = match (&protocol, passthrough) {
            (ListenerProtocol::Https, _) => {
                Some(PlannedTlsMode::Http(self.gateway_tls(holder, i, policy, ALPN, (routes, hostname.as_deref()))))
            }
            (ListenerProtocol::Tls, true) => Some(PlannedTlsMode::Passthrough),
            (ListenerProtocol::Tls, false) => {
                Some(PlannedTlsMode::Tcp(self.gateway_tls(holder, i, policy, &[], (routes, hostname.as_deref()))))
            }
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
            let policy = policy.map(|(policy, _)| policy.clone());
            self.listen(object, path.clone().into(), PlannedListener { address, name, front, settings, limiter: () }, policy);
        }
    }
}

/// Whether a listener names an issuer, which stands for a reference to a certificate.
fn asks_acme(tls: &GatewayListenersTls) -> bool {
    tls.options.as_ref().is_some_and(|options| options.contains_key(ACME_OPTION))
}

/// Notes at a listener which of its references to certificates and authorities may not be used.
fn references(planned: &mut GatewayListener, refused: &[Refused], listener: &GatewayListeners) {
    let first = |of| refused.iter().find(|refused| refused.of == of).map(|refused| &refused.refusal);
    let certificate = first(Referent::Certificate).map(|refusal| refusal.unless_permitted(Reason::InvalidCertificateRef));
    let none = planned.protocol == ListenerProtocol::Https
        && listener.tls.as_ref().is_none_or(|tls| tls.certificate_refs.as_ref().is_none_or(Vec::is_empty) && !asks_acme(tls));
    let none = none
        .then(|| Refusal::new(Reason::InvalidCertificateRef, "tls.certificateRefs: without a certificate the listener refuses handshakes"));
    if let Some(refusal) = certificate.or(none) {
        planned.resolved = Err(refusal);
    }
    if let Some(refusal) = first(Referent::Authority) {
        let kind = refusal.reason == Reason::InvalidKind;
        let reason = if kind { Reason::InvalidCACertificateKind } else { Reason::InvalidCACertificateRef };
        planned.resolved = Err(refusal.unless_permitted(reason));
        planned.accepted = Err(Refusal::new(Reason::NoValidCACertificate, refusal.message.clone()));
    }
}
