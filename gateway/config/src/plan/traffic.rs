//! The settings that BackendTrafficPolicies make for routes, Gateways and ListenerSets. A rule's policy counts before its route's, that before those of the
//! Services that the rule leads to, and these before the listener's, its ListenerSet's and its Gateway's. Each setting is taken from the first of them that has
//! it (GEP-713, "patch defaults"). Of several policies with one target the oldest counts.

use sluicegate_builtins::DEFAULT_BALANCER;
use sluicegate_model::route::Transport;
use sluicegate_model::settings::{RuleTraffic, TrafficSettings};

use super::compile::Compiler;
use super::effect::Way;
use super::gateways::Holder;
use super::policies::{best, rank, targets};
use super::*;
use crate::object::ours::{BackendTrafficPolicySpec, GatewayParametersSpec, RateLimit};
use crate::object::{BackendTrafficPolicy, Body, ClientTrafficPolicy, Named};

/// The settings that policies make for a rule and its route, or for a listener and its Gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// The settings that are merged with those of Services.
    pub settings: TrafficSettings,
    /// The rate limits of each rule by itself, besides those of the Service.
    pub rates: Option<Vec<Rate>>,
    /// The balancer that decides instead of the Service's own.
    pub balancer: Option<RuleBalancer>,
}

/// A balancer that decides for a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleBalancer {
    /// The balancer.
    pub plugin: PluginUse,
    /// What is hashed for the balancer.
    pub hash: Option<HashKey>,
    /// Whether the balancer is only for Services whose own policy names none, as that of a listener or Gateway is.
    pub default: bool,
}

impl Traffic {
    /// Whether policies set nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the settings of a policy that are not set yet.
    fn inherit(&mut self, policy: &BackendTrafficPolicy) {
        let BackendTrafficPolicySpec { timeout, retry, rate_limit, .. } = &policy.spec;
        let http = (timeout.http.request_timeout, timeout.http.max_stream_duration);
        self.take(limits::traffic(&timeout.tcp, &timeout.udp, http, retry.as_deref()), rate_limit.as_ref());
    }

    /// Takes the settings of a Gateway's parameters that are not set yet.
    pub(super) fn inherit_parameters(&mut self, parameters: &GatewayParametersSpec) {
        let GatewayParametersSpec { timeout, retry, rate_limit, .. } = parameters;
        let http = (timeout.http.request_timeout, timeout.http.max_stream_duration);
        self.take(limits::traffic(&timeout.tcp, &timeout.udp, http, retry.as_deref()), rate_limit.as_ref());
    }

    fn take(&mut self, settings: TrafficSettings, rates: Option<&RateLimit>) {
        self.settings.inherit(&settings);
        if self.rates.is_none() && rates.is_some() {
            self.rates = Some(limits::rates(rates));
        }
    }
}

impl<'a> Compiler<'a> {
    /// The settings that policies make for these targets, which are objects and sections of them. Earlier targets count first.
    pub(super) fn traffic<'t>(&mut self, targets: impl IntoIterator<Item = (&'t Arc<Object>, Option<&'t str>)>) -> Traffic {
        let mut said = Traffic::default();
        for (target, section) in targets {
            let Some((object, policy)) = self.traffic_policy(target, section) else { continue };
            said.inherit(policy);
            if let Some(given) = policy.spec.load_balancer.as_ref().filter(|given| said.balancer.is_none() && given.decides()) {
                let plugin = given.plugin.as_deref().unwrap_or(DEFAULT_BALANCER);
                let plugin = self.plugin(object, "spec.loadBalancer.plugin", plugin, PluginKind::Balancer, &given.config);
                let hash = given.hash.as_ref().and_then(|hash| self.hash(object, hash));
                let default = matches!(target.key.kind.as_str(), "Gateway" | "ListenerSet");
                said.balancer = plugin.map(|plugin| RuleBalancer { plugin, hash, default });
            }
        }
        said
    }

    /// The settings that policies make for a route's rule and for the route.
    pub(super) fn route_traffic(&mut self, route: &Arc<Object>, rule: Option<&str>) -> Traffic {
        self.traffic(rule.map(|rule| (route, Some(rule))).into_iter().chain([(route, None)]))
    }

    /// The ClientTrafficPolicy that counts for a listener: one of the object that has it, or otherwise one of its Gateway as a whole.
    pub(super) fn listener_policy(&self, holder: Holder<'_>, listener: &str) -> Option<(&'a Arc<Object>, &'a ClientTrafficPolicy)> {
        let own = self.client_policy(&holder.object.key.kind, holder.object, listener);
        own.or_else(|| self.client_policy(&holder.gateway.key.kind, holder.gateway, ""))
    }

    /// Whether there are policies that target a route, or a rule of it.
    pub(super) fn has_traffic(&self, target: &Object) -> bool {
        self.policies(&target.key.kind, &target.key.namespace, &target.key.name).any(|o| matches!(o.body, Body::BackendTrafficPolicy(_)))
    }

    /// The BackendTrafficPolicy that counts, among those with exactly this target.
    fn traffic_policy(&self, target: &Object, section: Option<&str>) -> Option<(&'a Arc<Object>, &'a BackendTrafficPolicy)> {
        let Named { kind, namespace, name } = &*target.key;
        let policies = self.policies(kind, namespace, name).filter_map(|object| match &object.body {
            Body::BackendTrafficPolicy(policy) => Some((object, &**policy)),
            _ => None,
        });
        best(policies.filter_map(|(object, policy)| {
            let fits = policy.spec.target_refs.iter().any(|t| t.kind == *kind && t.name == *name && t.section_name.as_deref() == section);
            fits.then(|| (rank(object, 0), (object, policy)))
        }))
    }

    /// Notes which policies count for a route that is served in this way, or for rules of it.
    pub(super) fn route_policies(&mut self, route: &Arc<Object>, rules: &[&str], way: Way) {
        let Named { kind, namespace, name } = &*route.key;
        let policies: Vec<&Arc<Object>> = self.policies(kind, namespace, name).collect();
        for policy in policies {
            let sections = targets(policy).into_iter().flatten().filter(|t| t.kind == *kind && t.name == *name);
            for section in sections.map(|target| target.section_name.as_deref()) {
                let there = section.is_none_or(|section| rules.contains(&section));
                if !there || self.traffic_policy(route, section).is_none_or(|(counting, _)| counting.key != policy.key) {
                    continue;
                }
                let (what, is) = match section {
                    Some(section) => (format!("rule {section} of {}", route.key), "is a rule"),
                    None => (route.key.to_string(), "is a route"),
                };
                self.counts(Some(policy), way, what, format!("{is}{}", of_way(way)));
            }
        }
    }

    /// Notes which policies count for a listener.
    pub(super) fn listener_policies(&mut self, holder: Holder<'_>, listener: &str, what: &str, transport: Transport) {
        let way = match transport {
            Transport::Http => Way::Routed,
            Transport::Tls | Transport::Tcp => Way::RoutedConnections,
            Transport::Udp => Way::RoutedFlows,
        };
        for (target, section) in holder.targets(listener) {
            let policy = self.traffic_policy(target, section).map(|(object, _)| object);
            self.counts(policy, way, what.to_owned(), format!("leads to routes{}", of_way(way)));
        }
    }
}

/// Which settings policies can make for routes that are served in this way, in words.
fn of_way(way: Way) -> &'static str {
    match way {
        Way::RoutedConnections => " of connections, of which `loadBalancer` and `timeout.tcp.connectTimeout` alone can be said",
        Way::RoutedFlows => " of datagrams, of which `loadBalancer` and `timeout.udp.idleTimeout` alone can be said",
        _ => ", and this is a Service's to say",
    }
}

/// Joins the settings of a rule that its router is not given. `of_route` are those of policies of the rule and its route, and `limits` those of its filters.
pub(super) fn planned_rule(limits: &[Rate], of_route: &Traffic, of_gateway: &Traffic) -> PlannedRule {
    let rates = of_route.rates.as_ref().or(of_gateway.rates.as_ref());
    let traffic = RuleTraffic { of_route: of_route.settings.clone(), of_gateway: of_gateway.settings.clone() };
    PlannedRule {
        rates: limits.iter().chain(rates.into_iter().flatten()).cloned().collect(),
        traffic: (!traffic.is_empty()).then(|| Arc::new(traffic)),
        balancer: of_route.balancer.as_ref().or(of_gateway.balancer.as_ref()).cloned(),
        router: None,
    }
}
