//! HTTPRoute: its rules are those of the plugin `rules` under the same names, so a rule is written as JSON, and what is not usable is replaced.

use gateway_api::apis::standard::httproutes::HttpRoute;
use serde_json::{Map, Value};
use sluicegate_model::route::Protocol;

use super::{Refusal, Rules, supported};
use crate::object::{Object, warning};
use crate::plan::compile::Compiler;

impl Compiler<'_> {
    pub(super) fn http_rules(&mut self, object: &Object, route: &HttpRoute) -> Rules {
        let rules = route.spec.rules.iter().flatten().map(|rule| serde_json::to_value(rule).unwrap_or_default());
        self.rules(object, rules.collect())
    }

    /// The rules of an HTTPRoute, or of a GRPCRoute whose matches are written as those of an HTTPRoute.
    pub(super) fn rules(&mut self, object: &Object, given: Vec<Value>) -> Rules {
        let mut made = Rules { count: given.len(), ..Rules::default() };
        for (i, rule) in given.into_iter().enumerate() {
            let path = format!("spec.rules[{i}]");
            let Value::Object(rule) = rule else { continue };
            if let Err(wrong) = supported::matches(&rule) {
                self.invalid(object, &path, format!("{wrong}: the rule is dropped"), &mut made);
                made.invalid_rules += 1;
                continue;
            }
            let before = made.invalid.len();
            let rule = self.rule(object, i, rule, &mut made);
            made.invalid_rules += usize::from(made.invalid.len() > before);
            made.rules.push(Value::Object(rule));
        }
        made
    }

    fn rule(&mut self, object: &Object, i: usize, mut rule: Map<String, Value>, made: &mut Rules) -> Map<String, Value> {
        let path = format!("spec.rules[{i}]");
        let name = match rule.get("name").and_then(Value::as_str) {
            Some(name) => format!("{} {name}", object.key),
            None => format!("{} rules[{i}]", object.key),
        };
        rule.insert("name".to_owned(), name.into());
        let filters = take_list(&mut rule, "filters");
        let mut usable = supported::filters(&filters);
        let filters = self.filters(object, &format!("{path}.filters"), filters, made, &mut usable);
        let mut backends = Vec::new();
        for (j, mut backend) in take_list(&mut rule, "backendRefs").into_iter().enumerate() {
            let path = format!("{path}.backendRefs[{j}]");
            let Value::Object(fields) = &mut backend else { continue };
            let own = take_list(fields, "filters");
            let mut settled = supported::backend_filters(&own);
            let own = self.filters(object, &format!("{path}.filters"), own, made, &mut settled);
            fields.insert("filters".to_owned(), own.into());
            let mut backend = self.backend(object, &path, &backend, Protocol::Tcp, made);
            if let Err(wrong) = settled {
                backend = super::backends::nowhere(&backend, &wrong);
                self.invalid(object, &path, format!("{wrong}: its share of requests is answered 500"), made);
            }
            backends.push(backend);
        }
        match usable {
            Ok(()) => {
                rule.insert("filters".to_owned(), filters.into());
                rule.insert("backendRefs".to_owned(), backends.into());
            }
            // A filter must not be passed over: who asks is told so.
            Err(wrong) => {
                self.invalid(object, &path, format!("{wrong}: requests of this rule are answered 500"), made);
                rule.insert("backendRefs".to_owned(), Value::Array(Vec::new()));
                rule.remove("timeouts");
            }
        }
        rule
    }

    /// Filters with mirrors resolved. An `extensionRef` leads to nothing that is known here.
    fn filters(
        &mut self,
        object: &Object,
        path: &str,
        filters: Vec<Value>,
        made: &mut Rules,
        usable: &mut Result<(), String>,
    ) -> Vec<Value> {
        let mut all = Vec::new();
        for (i, mut filter) in filters.into_iter().enumerate() {
            if filter["type"] == "ExtensionRef" {
                let text =
                    |field: &str| filter.pointer(&format!("/extensionRef/{field}")).and_then(Value::as_str).unwrap_or_default().to_owned();
                let what = format!("there is no filter {} of group {:?}", text("kind"), text("group"));
                self.refuse(object, &format!("{path}[{i}].extensionRef"), Refusal::new("InvalidKind", what.clone()), made);
                *usable = Err(what);
                continue;
            }
            if let Some(reference) = filter.pointer("/requestMirror/backendRef").cloned() {
                match self.mirror(object, &format!("{path}[{i}].requestMirror.backendRef"), &reference, made) {
                    Some(to) => filter["requestMirror"]["backendRef"] = to,
                    None => continue,
                }
            }
            all.push(filter);
        }
        all
    }

    fn invalid(&mut self, object: &Object, path: &str, what: String, made: &mut Rules) {
        let message = format!("{path}: {what}");
        self.part.faults.push(warning(&object.origin, &object.key, path, message.clone(), None));
        made.invalid.push(message);
    }
}

fn take_list(fields: &mut Map<String, Value>, name: &str) -> Vec<Value> {
    match fields.remove(name) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}
