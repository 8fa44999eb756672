//! TLSRoute, TCPRoute and UDPRoute: one rule, of weighted backends.

use gateway_api::apis::standard::tlsroutes::TlsRouteRules;
use serde_json::json;
use sluicegate_model::route::Protocol;

use super::{RouteKind, Rules};
use crate::object::Object;
use crate::plan::compile::Compiler;

impl Compiler<'_> {
    pub(super) fn l4_rules(&mut self, object: &Object, given: &[TlsRouteRules], kind: RouteKind) -> Rules {
        let protocol = if kind == RouteKind::Udp { Protocol::Udp } else { Protocol::Tcp };
        let mut made = Rules { count: given.len(), ..Rules::default() };
        for (i, rule) in given.iter().enumerate() {
            let backends = rule.backend_refs.iter().enumerate().map(|(j, backend)| {
                let reference = serde_json::to_value(backend).unwrap_or_default();
                self.backend(object, &format!("spec.rules[{i}].backendRefs[{j}]"), &reference, protocol, &mut made)
            });
            let backends: Vec<_> = backends.collect();
            made.rules.push(json!({"name": format!("{} rules[{i}]", object.key), "backendRefs": backends}));
        }
        made
    }
}
