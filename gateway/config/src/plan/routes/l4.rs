//! TLSRoute, TCPRoute and UDPRoute: they have one rule, with weighted backends.

use std::sync::Arc;

use gateway_api::apis::standard::tlsroutes::TlsRouteRules;
use serde_json::json;
use sluicegate_model::route::Protocol;

use super::{RouteKind, Rules};
use crate::object::Object;
use crate::plan::compile::Compiler;
use crate::plan::effect::Way;
use crate::plan::traffic::Traffic;

impl Compiler<'_> {
    pub(super) fn l4_rules(&mut self, object: &Arc<Object>, given: &[TlsRouteRules], kind: RouteKind) -> Rules {
        let (protocol, way) =
            if kind == RouteKind::Udp { (Protocol::Udp, Way::RoutedFlows) } else { (Protocol::Tcp, Way::RoutedConnections) };
        let mut made = Rules { count: given.len(), ..Rules::default() };
        let targeted = self.has_traffic(object);
        if targeted {
            let names: Vec<&str> = given.iter().filter_map(|rule| rule.name.as_deref()).collect();
            self.route_policies(object, &names, way);
        }
        for (i, rule) in given.iter().enumerate() {
            let backends = rule.backend_refs.iter().enumerate().map(|(j, backend)| {
                let reference = serde_json::to_value(backend).unwrap_or_default();
                self.backend(object, &format!("spec.rules[{i}].backendRefs[{j}]"), &reference, protocol, &mut made)
            });
            let backends: Vec<_> = backends.collect();
            let name = match rule.name.as_deref() {
                Some(name) => format!("{} {name}", object.key),
                None => format!("{} rules[{i}]", object.key),
            };
            if targeted {
                // Rate limits of rules count no connections and flows. This is reported at the policy.
                let traffic = Traffic { rates: None, ..self.route_traffic(object, rule.name.as_deref()) };
                made.settings.entry(name.clone()).or_default().traffic = traffic;
            }
            made.rules.push(json!({"name": name, "backendRefs": backends}));
        }
        made
    }
}
