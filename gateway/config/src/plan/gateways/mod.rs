//! Gateways and the ListenerSets that add listeners to them: listeners by address, port and host name, and the routes that are attached to them.
//!
//! In the order of a change: for a Gateway, its [addresses] and whether it is accepted are settled. A [ListenerSet](sets) takes these from its Gateway, and is
//! checked for whether it may add listeners. From then on both are [holders](Holder) of listeners: the routes that name a holder are [attached](attachments),
//! and each [`listener`] of it becomes something that is served. Who gets an address that several want is settled in [`super::addresses`].

mod addresses;
mod attachments;
mod listener;
mod parameters;
mod sets;

use gateway_api::apis::standard::gateways::{Gateway, GatewayListeners};

use super::compile::{Compiler, Read};
use super::routes::Allowed;
use super::*;
use crate::object::{Body, warning};
use crate::objects::Objects;

pub use addresses::{AskedAddresses, GatewayAddress};
pub use parameters::default_addresses;

use addresses::Settled;
pub(super) use listener::ALPN;
use parameters::Parameters;
pub(super) use sets::Apart;

/// The `controllerName` of the GatewayClasses that this gateway implements.
pub const CONTROLLER: &str = "sluicegate.dev/gateway-controller";

/// A GatewayClass that this gateway implements.
#[derive(Clone, Debug)]
pub struct PlannedClass {
    /// The class.
    pub object: Arc<Object>,
    /// Whether the GatewayParameters that the class refers to exist.
    pub accepted: Verdict,
}

/// A Gateway of a class that this gateway implements.
#[derive(Clone, Debug)]
pub struct PlannedGateway {
    /// The Gateway.
    pub object: Arc<Object>,
    /// The addresses that its listeners are bound to.
    pub addresses: Vec<GatewayAddress>,
    /// Whether the Gateway can have all addresses that it asks for, as far as that is known before they are bound.
    pub usable: Verdict,
    /// Whether it is accepted, but for its listeners.
    pub accepted: Verdict,
    /// Whether what the Gateway refers to for all its listeners can be used. `None`: it refers to nothing.
    pub resolved: Option<Verdict>,
    /// Its listeners, in its order.
    pub listeners: Vec<GatewayListener>,
    /// What became of the routes that name it, by the routes' keys.
    pub attachments: Vec<Attachment>,
}

/// A ListenerSet whose Gateway is of a class that this gateway implements.
#[derive(Clone, Debug)]
pub struct PlannedListenerSet {
    /// The ListenerSet.
    pub object: Arc<Object>,
    /// The Gateway that the set adds its listeners to.
    pub gateway: ObjectKey,
    /// Whether it is accepted, but for its listeners.
    pub accepted: Verdict,
    /// The listeners in the set's order. There are none if the Gateway does not allow the set.
    pub listeners: Vec<GatewayListener>,
    /// What became of the routes that name it, by the routes' keys.
    pub attachments: Vec<Attachment>,
}

/// A listener of a Gateway or ListenerSet.
#[derive(Clone, Debug)]
pub struct GatewayListener {
    /// The name of the listener, which is unique in the object that has it.
    pub name: String,
    /// The port that is listened on.
    pub port: u16,
    /// The protocol that the listener accepts.
    pub protocol: ListenerProtocol,
    /// The host name, in lower case.
    pub hostname: Option<String>,
    /// Which routes the listener takes.
    pub(super) allowed: Allowed,
    /// Whether the listener can be served.
    pub accepted: Verdict,
    /// Whether everything that the listener refers to can be used.
    pub resolved: Verdict,
    /// How many routes are attached to the listener.
    pub routes: usize,
    /// The policy whose router takes its traffic in the place of routes.
    pub overridden: Option<ObjectKey>,
}

impl GatewayListener {
    /// The kinds of routes that the listener takes.
    pub fn kinds(&self) -> &[RouteKind] {
        &self.allowed.kinds
    }
}

/// What became of one parent reference of a route.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The route.
    pub route: ObjectKey,
    /// The index of the parent reference in the route.
    pub parent: usize,
    /// Whether any listener took the route by this reference.
    pub accepted: Verdict,
}

impl PlannedGateway {
    /// Whether the two plans of a Gateway are the same for the ListenerSets that add listeners to it.
    pub(super) fn is_same_for_sets(&self, other: &Self) -> bool {
        self.addresses == other.addresses && self.accepted == other.accepted
    }
}

/// An object with listeners: a Gateway, or a ListenerSet that adds its listeners to one.
#[derive(Clone, Copy)]
pub(super) struct Holder<'h> {
    /// The object that has the listeners. Their `allowedRoutes` and references are read from its namespace.
    pub(super) object: &'h Arc<Object>,
    pub(super) listeners: &'h [GatewayListeners],
    /// The Gateway. Its policies and its `tls.frontend` count for all listeners.
    pub(super) gateway: &'h Arc<Object>,
    pub(super) spec: &'h Gateway,
    /// The parameters of the Gateway and of its class.
    pub(super) parameters: Parameters<'h>,
}

impl<'h> Holder<'h> {
    /// The targets whose policies count for a listener, the most specific first: the listener, the object that has it, and for a ListenerSet its Gateway as a
    /// whole. A listener's name is unique only in the object that has it.
    pub(super) fn targets<'l>(&self, listener: &'l str) -> impl Iterator<Item = (&'h Arc<Object>, Option<&'l str>)> + use<'h, 'l> {
        let gateway = (self.object.key != self.gateway.key).then_some((self.gateway, None));
        [(self.object, Some(listener)), (self.object, None)].into_iter().chain(gateway)
    }
}

impl Compiler<'_> {
    pub(super) fn gateway(&mut self, object: &Arc<Object>, gateway: &Gateway) {
        if !self.ours(&gateway.spec.gateway_class_name) {
            let message = format!("spec.gatewayClassName: {:?} is another gateway's", gateway.spec.gateway_class_name);
            let hint = Some(format!("sluicegate, or a GatewayClass with controllerName {CONTROLLER}"));
            self.part.faults.push(warning(&object.origin, &object.key, "spec.gatewayClassName", message, hint));
            return;
        }
        let (parameters, there) = self.parameters(object, gateway);
        if let Err(refusal) = &there {
            let path = parameters::own(object, gateway).map_or("spec.gatewayClassName", |own| own.path);
            self.part.faults.push(warning(&object.origin, &object.key, path, refusal.message.clone(), None));
        }
        let Settled { addresses, usable, accepted } = self.gateway_addresses(object, gateway, parameters.addresses());
        let accepted = accepted.and(there);
        let resolved = self.gateway_identity(object, gateway);
        let holder = Holder { object, listeners: &gateway.spec.listeners, gateway: object, spec: gateway, parameters };
        let (listeners, attachments) = self.listeners(holder, &addresses, &accepted);
        let object = object.clone();
        self.part.gateway = Some(Arc::new(PlannedGateway { object, addresses, usable, accepted, resolved, listeners, attachments }));
    }

    /// Plans the listeners of a Gateway or ListenerSet. Returns them and what became of the routes that name the object.
    fn listeners(
        &mut self,
        holder: Holder<'_>,
        addresses: &[GatewayAddress],
        accepted: &Verdict,
    ) -> (Vec<GatewayListener>, Vec<Attachment>) {
        let mut listeners: Vec<GatewayListener> = holder.listeners.iter().map(|given| self.gateway_listener(holder, given)).collect();
        let (attachments, attached) = self.attachments(holder.object, &mut listeners);
        // An object that is not accepted serves nothing, but what is wrong with its listeners is reported.
        let addresses = if accepted.is_ok() { addresses } else { &[] };
        for (i, (listener, attached)) in listeners.iter_mut().zip(&attached).enumerate() {
            self.gateway_front(holder, i, listener, attached, addresses);
        }
        (listeners, attachments)
    }

    /// The plan of a Gateway, if its class is one that this gateway implements.
    fn planned_gateway(&self, key: &ObjectKey) -> Option<Arc<PlannedGateway>> {
        self.read(Read::Gateway(key.clone()));
        self.parts.get(key)?.gateway.clone()
    }

    fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let found = self.object("Namespace", "", namespace).and_then(|object| object.body.metadata()?.labels.clone());
        found.unwrap_or_default()
    }

    /// Whether this gateway implements a class: by its GatewayClass object, or, if there is none, by its name.
    pub(super) fn ours(&self, class: &str) -> bool {
        is_ours(class, self.object("GatewayClass", "", class))
    }
}

/// Whether a Gateway is of a class that this gateway implements.
pub fn is_own(objects: &Objects, gateway: &Gateway) -> bool {
    let class = &gateway.spec.gateway_class_name;
    is_ours(class, objects.get("GatewayClass", "", class))
}

/// Whether this gateway implements a class, given the GatewayClass object that was found, if there is one.
fn is_ours(class: &str, found: Option<&Arc<Object>>) -> bool {
    match found.map(|object| &object.body) {
        Some(Body::GatewayClass(found)) => found.spec.controller_name == CONTROLLER,
        _ => class == "sluicegate",
    }
}
