//! Routes of the Gateway API: HTTPRoute, GRPCRoute, TLSRoute, TCPRoute and UDPRoute.
//!
//! In the order of a change: a route by itself becomes a [`PlannedRoute`], with its references ([`backends`], [`extensions`]) resolved and its rules written as
//! the router plugin `rules` reads them ([`http`], [`grpc`], [`l4`]; [`supported`] finds what that plugin would refuse). For a Gateway or ListenerSet, the
//! routes that name it are [attached](mod@attach) to its listeners, except for [rivals], and those of a listener become [one configuration](listener).

mod attach;
mod backends;
mod extensions;
mod grpc;
mod hostnames;
mod http;
mod l4;
mod listener;
mod rivals;
mod supported;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use sluicegate_model::route::ServiceRef;
use sluicegate_model::settings::Rate;

use super::compile::Compiler;
use super::traffic::Traffic;
use super::{PluginUse, Refusal, Verdict};
use crate::object::{Body, Object, ObjectKey, warning};
use crate::objects::Target;
use crate::objects::parents::{ParentRef, parent_refs, parents};

pub(super) use attach::{Allowed, attach};
use listener::Written;
pub(super) use listener::configuration;
use rivals::Age;
pub(super) use rivals::{Attached, AttachedRoutes, ByAge, rival};

/// A kind of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the kinds")]
pub enum RouteKind {
    Http,
    Grpc,
    Tls,
    Tcp,
    Udp,
}

impl RouteKind {
    /// All kinds of routes.
    pub const ALL: [Self; 5] = [Self::Http, Self::Grpc, Self::Tls, Self::Tcp, Self::Udp];

    /// The name of the kind in objects.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
            Self::Udp => "UDPRoute",
        }
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A route by itself.
#[derive(Clone, Debug)]
pub struct PlannedRoute {
    /// The route.
    pub object: Arc<Object>,
    /// The kind of the route.
    pub kind: RouteKind,
    pub(super) age: Age,
    /// The parents that the route names: Gateways, ListenerSets, and objects of other kinds.
    pub parents: Vec<ParentRef>,
    /// The host names that the route takes, in lower case.
    pub hostnames: Arc<[String]>,
    /// The rules as the plugin `rules` reads them, without host names: JSON objects, each with at least a name.
    pub rules: Vec<Box<str>>,
    /// The rules with host names, as the first listener that asked for them needs them.
    written: Written,
    /// The service ports that the route leads to, including those that are merely missing.
    pub services: Box<[ServiceRef]>,
    /// Settings of the rules that the plugin is not given, by the rules' names.
    pub settings: BTreeMap<String, RuleSettings>,
    /// Whether everything that the route refers to exists and may be referred to.
    pub references: Verdict,
    /// What in the route's rules is not served as it is written, and why.
    pub invalid: Vec<String>,
    /// The number of rules that are not served as they are written.
    pub invalid_rules: usize,
    /// The number of the route's rules.
    pub count: usize,
}

impl PlannedRoute {
    /// Whether the two plans of a route are the same for the listeners to which it is attached.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.object, &other.object)
            && self.rules == other.rules
            && self.settings == other.settings
            && self.references == other.references
    }

    /// Whether the parent reference with this index names this Gateway or ListenerSet.
    pub(super) fn names(&self, parent: usize, key: &ObjectKey) -> bool {
        self.parents.get(parent).is_some_and(|parent| {
            let namespace = parent.namespace.as_ref().unwrap_or(&self.object.key.namespace);
            parent.has_listeners() && parent.kind == key.kind && parent.name == key.name && *namespace == key.namespace
        })
    }

    /// The Gateways and ListenerSets that the route names.
    pub(super) fn targets(&self) -> impl Iterator<Item = Target> {
        parents(&self.object).into_iter()
    }
}

/// Settings of a rule that the plugin `rules` is not given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSettings {
    /// The rate limits of the rule's filters.
    pub limits: Vec<Rate>,
    /// The settings that policies make for the rule or its route.
    pub traffic: Traffic,
    /// The router that decides about the requests that the rule takes.
    pub router: Option<RuleRouter>,
}

/// A router that decides about the requests that a rule takes.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleRouter {
    /// The router.
    pub plugin: PluginUse,
    /// The backends that the router may choose: the rule's own, to which its route may refer.
    pub backends: BTreeSet<ServiceRef>,
}

/// The rules of a route as they are written, before they are joined with those of others at a listener.
#[derive(Default)]
struct Rules {
    rules: Vec<Value>,
    invalid: Vec<String>,
    invalid_rules: usize,
    count: usize,
    services: BTreeSet<ServiceRef>,
    settings: BTreeMap<String, RuleSettings>,
    /// Why references lead nowhere.
    refused: Vec<Refusal>,
}

impl Compiler<'_> {
    pub(super) fn route(&mut self, object: &Arc<Object>) {
        let (kind, hostnames, rules) = match &object.body {
            Body::HttpRoute(route) => {
                (RouteKind::Http, route.spec.hostnames.as_deref().unwrap_or_default(), self.http_rules(object, route))
            }
            Body::GrpcRoute(route) => {
                (RouteKind::Grpc, route.spec.hostnames.as_deref().unwrap_or_default(), self.grpc_rules(object, route))
            }
            Body::TlsRoute(route) => (RouteKind::Tls, &*route.spec.hostnames, self.l4_rules(object, &route.spec.rules, RouteKind::Tls)),
            Body::TcpRoute(route) => (RouteKind::Tcp, Default::default(), self.l4_rules(object, &route.spec.rules, RouteKind::Tcp)),
            Body::UdpRoute(route) => (RouteKind::Udp, Default::default(), self.l4_rules(object, &route.spec.rules, RouteKind::Udp)),
            _ => return,
        };
        let mut parents = parent_refs(&object.body);
        parents.shrink_to_fit();
        self.without_parent(object, &parents);
        let Rules { rules, invalid, invalid_rules, count, services, settings, refused } = rules;
        let references = match refused.first() {
            None => Ok(()),
            Some(first) => {
                let all: Vec<&str> = refused.iter().map(|refusal| refusal.message.as_str()).collect();
                Err(Refusal::new(first.reason, all.join("; ")))
            }
        };
        let hostnames = hostnames.iter().map(|hostname| hostname.to_ascii_lowercase()).collect();
        let rules = rules.iter().map(|rule| rule.to_string().into()).collect();
        // Most lead to one: a set would take ten times the memory.
        let services = services.into_iter().collect();
        let (object, age, written) = (object.clone(), Age::of(object), Written::default());
        let route = PlannedRoute {
            object,
            kind,
            age,
            parents,
            hostnames,
            rules,
            written,
            services,
            settings,
            references,
            invalid,
            invalid_rules,
            count,
        };
        self.part.route = Some(Arc::new(route));
    }

    /// Reports parents that do not exist, or are of a kind that takes no routes here. A Gateway of another class is not reported, as another gateway serves it.
    fn without_parent(&mut self, object: &Object, parents: &[ParentRef]) {
        for (i, parent) in parents.iter().enumerate() {
            let path = format!("spec.parentRefs[{i}]");
            if !parent.has_listeners() {
                let message = format!("{path}: routes of a {} are not served by this version", parent.kind);
                self.part.faults.push(warning(&object.origin, &object.key, &path, message, Some("a Gateway or a ListenerSet".to_owned())));
                continue;
            }
            let namespace = parent.namespace.as_deref().unwrap_or(&object.key.namespace);
            if self.object(&parent.kind, namespace, &parent.name).is_none() {
                let message = format!("{path}: there is no {} {:?} in namespace {namespace:?}", parent.kind, parent.name);
                self.part.faults.push(warning(&object.origin, &object.key, &path, message, None));
            }
        }
    }
}
