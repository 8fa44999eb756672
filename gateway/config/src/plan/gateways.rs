//! Gateways: listeners by address, port and host name, and the routes that are attached to them.

use gateway_api::apis::standard::gateways::{Gateway, GatewayListeners};
use sluicegate_model::route::Transport;

use super::compile::Compiler;
use super::effect::Way;
use super::references::Refused;
use super::routes::{Allowed, Attached, attach, configuration, rival};
use super::tls::{FRONTEND, passthrough};
use super::*;
use crate::object::{Body, error, warning};

/// What the names of GatewayClasses that are this gateway's own say of who carries them out.
pub const CONTROLLER: &str = "sluicegate.dev/gateway-controller";

/// A Gateway.
#[derive(Clone, Debug)]
pub struct PlannedGateway {
    /// The Gateway.
    pub object: Arc<Object>,
    /// Where it listens.
    pub addresses: Vec<IpAddr>,
    /// Whether it is accepted, but for its listeners.
    pub accepted: Verdict,
    /// Whether what it refers to for all its listeners can be used; none: it refers to nothing.
    pub resolved: Option<Verdict>,
    /// Its listeners, in its order.
    pub listeners: Vec<GatewayListener>,
    /// What became of the routes that name it, by the routes' keys.
    pub attachments: Vec<Attachment>,
}

/// A listener of a Gateway.
#[derive(Clone, Debug)]
pub struct GatewayListener {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Its protocol, as it is written.
    pub protocol: String,
    /// In lower case.
    pub hostname: Option<String>,
    /// Which routes it takes.
    pub(super) allowed: Allowed,
    /// Whether it can be served.
    pub accepted: Verdict,
    /// Whether all that it refers to can be used.
    pub resolved: Verdict,
    /// How many routes are attached to it.
    pub routes: usize,
    /// The policy whose router takes its traffic in the place of routes.
    pub overridden: Option<ObjectKey>,
}

impl GatewayListener {
    /// The kinds of routes that it takes.
    pub fn kinds(&self) -> &[RouteKind] {
        &self.allowed.kinds
    }
}

/// What became of one parent reference of a route.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The route.
    pub route: ObjectKey,
    /// Its parent reference, by its index.
    pub parent: usize,
    /// Whether any listener took it.
    pub accepted: Verdict,
}

impl Compiler<'_> {
    pub(super) fn gateway(&mut self, object: &Arc<Object>, gateway: &Gateway) {
        if !self.ours(&gateway.spec.gateway_class_name) {
            let message = format!("spec.gatewayClassName: {:?} is another gateway's", gateway.spec.gateway_class_name);
            let hint = Some(format!("sluicegate, or a GatewayClass with controllerName {CONTROLLER}"));
            self.part.faults.push(warning(&object.origin, &object.key, "spec.gatewayClassName", message, hint));
            return;
        }
        let (addresses, accepted) = self.gateway_addresses(object, gateway);
        let resolved = self.gateway_identity(object, gateway);
        let mut listeners: Vec<GatewayListener> = gateway.spec.listeners.iter().map(|given| self.gateway_listener(object, given)).collect();
        let (attachments, attached) = self.attachments(object, &mut listeners);
        // One that is not accepted serves nothing, but says what is wrong with its listeners.
        let addresses = if accepted.is_ok() { addresses } else { Vec::new() };
        for (i, attached) in attached.iter().enumerate() {
            self.gateway_front(object, gateway, i, &mut listeners[i], attached, &addresses);
        }
        let object = object.clone();
        self.part.gateway = Some(Arc::new(PlannedGateway { object, addresses, accepted, resolved, listeners, attachments }));
    }

    fn gateway_addresses(&mut self, object: &Object, gateway: &Gateway) -> (Vec<IpAddr>, Verdict) {
        let mut addresses: Vec<IpAddr> = Vec::new();
        let (mut named, mut accepted) = (false, Ok(()));
        for (i, address) in gateway.spec.addresses.iter().flatten().enumerate() {
            let kind = address.r#type.as_deref().unwrap_or("IPAddress");
            if kind != "IPAddress" {
                let path = format!("spec.addresses[{i}].type");
                accepted =
                    Err(Refusal::new("UnsupportedAddress", format!("{path}: {kind:?} is no type of addresses that can be listened on")));
            }
            // One without a value is for the implementation to choose.
            let Some(value) = address.value.as_deref().filter(|value| !value.is_empty()) else { continue };
            named = true;
            match value.parse() {
                Ok(ip) => addresses.push(ip),
                Err(_) => {
                    let path = format!("spec.addresses[{i}].value");
                    let message = format!("{path}: {value:?} is not an IP address, and no other ones are listened on");
                    self.part.faults.push(warning(&object.origin, &object.key, &path, message, None));
                }
            }
        }
        if !named {
            addresses.extend(self.settings.everywhere());
        }
        if let Some(parameters) = gateway.spec.infrastructure.as_ref().and_then(|i| i.parameters_ref.as_ref()) {
            let path = "spec.infrastructure.parametersRef";
            let what = format!("{path}: a {} of group {:?} has no parameters for this gateway", parameters.kind, parameters.group);
            self.part.faults.push(warning(&object.origin, &object.key, path, what.clone(), None));
            accepted = Err(Refusal::new("InvalidParameters", what));
        }
        (addresses, accepted)
    }

    /// A listener as far as attaching routes goes.
    fn gateway_listener(&mut self, object: &Object, given: &GatewayListeners) -> GatewayListener {
        let (allowed, resolved) = Allowed::new(&given.protocol, given.allowed_routes.as_ref());
        let policy = self.client_policy("Gateway", object, &given.name).filter(|(_, policy)| policy.spec.router.is_some());
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

    /// Attaches the routes that name a Gateway. Returns what became of each, and for each listener its routes.
    fn attachments(&mut self, object: &Object, listeners: &mut [GatewayListener]) -> (Vec<Attachment>, Vec<Vec<Attached>>) {
        let (mut attachments, mut attached) = (Vec::new(), vec![Vec::<Attached>::new(); listeners.len()]);
        for route in self.routes_of(&object.key) {
            for (i, parent) in route.parents.iter().enumerate() {
                let namespace = parent.namespace.as_ref().unwrap_or(&route.object.key.namespace);
                let named = parent.group == GROUP && parent.kind == "Gateway" && parent.name == object.key.name;
                if !named || *namespace != object.key.namespace {
                    continue;
                }
                let labels = |namespace: &str| self.namespace_labels(namespace);
                let accepted = attach(listeners, &object.key.namespace, &route, parent, &labels).and_then(|found| {
                    let mut refused = Vec::new();
                    let mut served = false;
                    for (at, hostnames) in found {
                        if let Some(policy) = &listeners[at].overridden {
                            refused.push(Refusal::new("Overridden", format!("the router of {policy} takes all traffic of the listener")));
                        } else if let Some(rival) = rival(&attached[at], &route, &hostnames) {
                            let what = format!("{} has one of its host names there, and is older or comes first by name", rival.object.key);
                            refused.push(Refusal::new("Conflicted", what));
                        } else {
                            served = true;
                            join(&mut attached[at], &route, hostnames);
                        }
                    }
                    refused.into_iter().next().filter(|_| !served).map_or(Ok(()), Err)
                });
                if let Err(refusal) = &accepted {
                    let path = format!("spec.parentRefs[{i}]");
                    let message = format!("{path}: {}: {}", refusal.reason, refusal.message);
                    self.part.faults.push(warning(&route.object.origin, &route.object.key, &path, message, None));
                }
                attachments.push(Attachment { route: route.object.key.clone(), parent: i, accepted });
            }
        }
        for (listener, attached) in listeners.iter_mut().zip(&attached) {
            listener.routes = attached.len();
        }
        (attachments, attached)
    }

    fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let found = self.object("Namespace", "", namespace).and_then(|object| object.body.metadata()?.labels.clone());
        found.unwrap_or_default()
    }

    /// What listens for a listener.
    fn gateway_front(
        &mut self,
        object: &Arc<Object>,
        gateway: &Gateway,
        i: usize,
        planned: &mut GatewayListener,
        routes: &[Attached],
        addresses: &[IpAddr],
    ) {
        let listener = &gateway.spec.listeners[i];
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
        let name = format!("listener {} of Gateway {}/{}", listener.name, object.key.namespace, object.key.name);
        let hostname = planned.hostname.clone();
        let info =
            ListenerInfo { name: name.clone(), port, transport, hostname: hostname.clone(), namespace: object.key.namespace.clone() };
        let target = if planned.overridden.is_some() {
            self.router("Gateway", object, &listener.name, info).map_or(PlannedTarget::Nothing, PlannedTarget::Router)
        } else if routes.is_empty() {
            PlannedTarget::Nothing
        } else {
            let config = configuration(routes.iter().map(|(route, hostnames)| (&**route, &**hostnames)));
            let plugin = PluginUse { config, ..self.builtin("rules", PluginKind::Router) };
            let rates = routes.iter().flat_map(|(route, _)| route.rates.clone()).collect();
            PlannedTarget::Router(self.routed(plugin, info, rates))
        };
        let policy = self.client_policy("Gateway", object, &listener.name);
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
            ("HTTPS", _) => Some(PlannedTlsMode::Http(self.gateway_tls(object, gateway, i, policy, ALPN))),
            ("TLS", true) => Some(PlannedTlsMode::Passthrough),
            ("TLS", false) => Some(PlannedTlsMode::Tcp(self.gateway_tls(object, gateway, i, policy, &[]))),
            _ => None,
        };
        references(planned, &self.refused[before..], listener);
        let front = match (mode, transport) {
            (Some(mode), _) => PlannedFront::Tls(vec![PlannedTlsHost { hostname, mode, target }]),
            (None, Transport::Http) => PlannedFront::Http(vec![(hostname, target)]),
            (None, Transport::Udp) => PlannedFront::Udp(target),
            (None, _) => PlannedFront::Tcp(target),
        };
        for ip in addresses {
            let address = SocketAddr::new(*ip, port);
            let (name, front, settings) = (name.clone(), front.clone(), settings.clone());
            self.listen(object, &path, PlannedListener { address, name, front, settings, node_port: false });
        }
    }

    /// Whether a class is this gateway's: by its GatewayClass, or, if there is none, by its name.
    pub(super) fn ours(&self, class: &str) -> bool {
        match self.object("GatewayClass", "", class).map(|object| &object.body) {
            Some(Body::GatewayClass(found)) => found.spec.controller_name == CONTROLLER,
            _ => class == "sluicegate",
        }
    }
}

/// Takes in one more route, or more host names of one that is there by another of its parent references.
fn join(attached: &mut Vec<Attached>, route: &Arc<PlannedRoute>, hostnames: Vec<String>) {
    match attached.iter_mut().find(|(known, _)| Arc::ptr_eq(known, route)) {
        Some((_, known)) => {
            known.extend(hostnames);
            known.sort_unstable();
            known.dedup();
        }
        None => attached.push((route.clone(), hostnames)),
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

/// Protocols that HTTPS listeners offer, best first.
pub(super) const ALPN: &[&str] = &["h2", "http/1.1"];

impl PlannedFront {
    /// Its host names, and whether they are of TLS; none of what has no host names.
    pub(super) fn hostnames(&self) -> Option<(bool, Vec<Option<String>>)> {
        match self {
            Self::Http(hosts) => Some((false, hosts.iter().map(|(hostname, _)| hostname.clone()).collect())),
            Self::Tls(hosts) => Some((true, hosts.iter().map(|host| host.hostname.clone()).collect())),
            Self::Tcp(_) | Self::Udp(_) => None,
        }
    }

    /// Whether it is of the same kind, so that only host names could tell the two apart.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Takes in another listener, which has other host names.
    pub(super) fn join(&mut self, other: &Self) {
        match (self, other) {
            (Self::Http(hosts), Self::Http(more)) => hosts.extend_from_slice(more),
            (Self::Tls(hosts), Self::Tls(more)) => hosts.extend_from_slice(more),
            _ => {}
        }
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
