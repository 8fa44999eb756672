//! GRPCRoute: its rules are those of an HTTPRoute except for the method in their matches, for which the plugin `rules` has a field of its own.

use std::sync::Arc;

use gateway_api::apis::standard::grpcroutes::{GrpcRoute, GrpcRouteRulesMatches, GrpcRouteRulesMatchesMethodType};
use serde_json::{Value, json};

use super::Rules;
use crate::object::Object;
use crate::plan::compile::Compiler;

impl Compiler<'_> {
    pub(super) fn grpc_rules(&mut self, object: &Arc<Object>, route: &GrpcRoute) -> Rules {
        let rules = route.spec.rules.iter().flatten().map(|rule| {
            let mut written = serde_json::to_value(rule).unwrap_or_default();
            let matches: Vec<Value> = rule.matches.iter().flatten().map(as_http).collect();
            written["matches"] = matches.into();
            written
        });
        let mut rules: Vec<Value> = rules.collect();
        self.add_sessions(object, &mut rules);
        self.rules(object, rules)
    }
}

fn as_http(given: &GrpcRouteRulesMatches) -> Value {
    let mut written = json!({});
    if let Some(headers) = &given.headers {
        written["headers"] = serde_json::to_value(headers).unwrap_or_default();
    }
    let Some(method) = &given.method else { return written };
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut grpc = serde_json::Map::new();
    grpc.extend(set(&method.service).map(|service| ("service".to_owned(), service.into())));
    grpc.extend(set(&method.method).map(|name| ("method".to_owned(), name.into())));
    if !grpc.is_empty() {
        let regular = method.r#type == Some(GrpcRouteRulesMatchesMethodType::RegularExpression);
        grpc.insert("type".to_owned(), if regular { "RegularExpression" } else { "Exact" }.into());
        written["grpc"] = grpc.into();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_without_service_and_method_takes_every_call() {
        let of = |method: Value| as_http(&serde_json::from_value(json!({ "method": method })).expect("a match"));
        assert_eq!(of(json!({"service": "a.B"})), json!({"grpc": {"type": "Exact", "service": "a.B"}}));
        let given = json!({"type": "RegularExpression", "service": "a|b", "method": "C.*"});
        assert_eq!(of(given.clone()), json!({ "grpc": given }));
        assert_eq!(of(json!({"type": "Exact"})), json!({}));
        assert_eq!(of(json!({"service": "", "method": "C"})), json!({"grpc": {"type": "Exact", "method": "C"}}));
    }
}
