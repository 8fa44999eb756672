//! HTTPRoute: the fields of its rules have the same names as in the plugin `rules`. So a rule is written as JSON, and parts that cannot be used are replaced.

use std::sync::Arc;

use gateway_api::apis::standard::httproutes::HttpRoute;
use serde_json::{Map, Value};
use sluicegate_model::route::Protocol;
use sluicegate_model::settings::Rate;
use sluicegate_rule_values::MOST_ATTEMPTS;

use super::extensions::Extension;
use super::{RuleRouter, Rules, supported};
use crate::object::{Object, warning};
use crate::plan::PluginUse;
use crate::plan::compile::Compiler;
use crate::plan::effect::Way;

impl Compiler<'_> {
    pub(super) fn http_rules(&mut self, object: &Arc<Object>, route: &HttpRoute) -> Rules {
        let rules = route.spec.rules.iter().flatten().map(|rule| serde_json::to_value(rule).unwrap_or_default());
        let mut rules: Vec<Value> = rules.collect();
        self.add_retries(object, &mut rules);
        self.add_sessions(object, &mut rules);
        self.rules(object, rules)
    }

    /// Adds `sessionPersistence` to the rules. It is a field of the experimental channel, so the type does not have it, and it is read from the object's JSON.
    pub(super) fn add_sessions(&self, object: &Object, rules: &mut [Value]) {
        // Most routes do not have the field. Searching the text is faster than parsing it.
        if !object.json().contains("\"sessionPersistence\":") {
            return;
        }
        let tree = object.value.tree();
        for (i, rule) in rules.iter_mut().enumerate() {
            let Some(Value::Object(given)) = tree.pointer(&format!("/spec/rules/{i}/sessionPersistence")) else { continue };
            let mut session = given.clone();
            session.retain(|_, value| !value.is_null());
            rule["sessionPersistence"] = session.into();
        }
    }

    /// Adds `retry` to the rules, which is a field of the experimental channel, too.
    fn add_retries(&mut self, object: &Object, rules: &mut [Value]) {
        // Most routes do not have the field. Searching the text is faster than parsing it.
        if !object.json().contains("\"retry\":") {
            return;
        }
        let tree = object.value.tree();
        for (i, rule) in rules.iter_mut().enumerate() {
            let Some(Value::Object(given)) = tree.pointer(&format!("/spec/rules/{i}/retry")) else { continue };
            let mut retry = given.clone();
            retry.retain(|_, value| !value.is_null());
            let most = i64::from(MOST_ATTEMPTS);
            if let Some(attempts) = retry.get("attempts").and_then(Value::as_i64).filter(|n| !(0..=most).contains(n)) {
                let path = format!("spec.rules[{i}].retry.attempts");
                let made = attempts.clamp(0, most);
                let message = format!("{path}: {attempts} is not from 0 to {most}: {made} are made");
                self.part.faults.push(warning(&object.origin, &object.key, &path, message, None));
                retry.insert("attempts".to_owned(), made.into());
            }
            rule["retry"] = retry.into();
        }
    }

    /// Writes the rules of an HTTPRoute, or of a GRPCRoute whose matches were put into the form of an HTTPRoute's.
    pub(super) fn rules(&mut self, object: &Arc<Object>, given: Vec<Value>) -> Rules {
        let mut made = Rules { count: given.len(), ..Rules::default() };
        let targeted = self.has_traffic(object);
        if targeted {
            let names: Vec<&str> = given.iter().filter_map(|rule| rule["name"].as_str()).collect();
            self.route_policies(object, &names, Way::Routed);
        }
        for (i, rule) in given.into_iter().enumerate() {
            let path = format!("spec.rules[{i}]");
            let Value::Object(rule) = rule else { continue };
            if let Err(wrong) = supported::matches(&rule) {
                self.invalid(object, &path, format!("{wrong}: the rule is dropped"), &mut made);
                made.invalid_rules += 1;
                continue;
            }
            let before = made.invalid.len();
            let own_name = rule.get("name").and_then(Value::as_str).map(str::to_owned);
            let rule = self.rule(object, i, rule, &mut made);
            if targeted && let Some(name) = rule["name"].as_str() {
                made.settings.entry(name.to_owned()).or_default().traffic = self.route_traffic(object, own_name.as_deref());
            }
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
        rule.insert("name".to_owned(), name.as_str().into());
        let filters = take_list(&mut rule, "filters");
        let Filters { filters, rates, router, resolved } = self.filters(object, &format!("{path}.filters"), filters, made);
        if !rates.is_empty() {
            made.settings.entry(name.clone()).or_default().limits = rates;
        }
        let alone = if router.is_some() { supported::beside_router(&rule, &filters) } else { Ok(()) };
        let usable = resolved.and_then(|()| supported::filters(&filters)).and(alone);
        let answers = supported::answers(&filters);
        let mut backends = Vec::new();
        let services = std::mem::take(&mut made.services);
        for (j, mut backend) in take_list(&mut rule, "backendRefs").into_iter().enumerate() {
            let path = format!("{path}.backendRefs[{j}]");
            let Value::Object(fields) = &mut backend else { continue };
            let own = take_list(fields, "filters");
            let Filters { filters: own, rates, router: own_router, resolved } = self.filters(object, &format!("{path}.filters"), own, made);
            let late = "requests are counted, and routers asked, before a backend is chosen";
            let counted = if rates.is_empty() && own_router.is_none() { Ok(()) } else { Err(late.to_owned()) };
            let settled = resolved.and(counted).and_then(|()| supported::backend_filters(&own));
            fields.insert("filters".to_owned(), own.into());
            let mut backend = self.backend(object, &path, &backend, Protocol::Tcp, made);
            if let Err(wrong) = settled {
                backend = super::backends::nowhere(&backend, &wrong);
                self.invalid(object, &path, format!("{wrong}: its share of requests is answered 500"), made);
            }
            backends.push(backend);
        }
        if let Some(plugin) = router {
            let backends = made.services.clone();
            made.settings.entry(name).or_default().router = Some(RuleRouter { plugin, backends });
        }
        made.services.extend(services);
        match usable {
            Ok(()) => {
                rule.insert("filters".to_owned(), filters.into());
                // If a filter answers by itself, nothing is forwarded.
                let backends = if answers { Vec::new() } else { backends };
                rule.insert("backendRefs".to_owned(), backends.into());
            }
            // A filter that cannot be used must not be skipped, so the rule answers with an error.
            Err(wrong) => {
                self.invalid(object, &path, format!("{wrong}: requests of this rule are answered 500"), made);
                rule.insert("backendRefs".to_owned(), Value::Array(Vec::new()));
                rule.remove("timeouts");
                if let Some(settings) = rule["name"].as_str().and_then(|name| made.settings.get_mut(name)) {
                    settings.router = None;
                }
            }
        }
        rule
    }

    /// Resolves filters: the backends of mirrors, and each `extensionRef`, which is replaced by what it refers to.
    fn filters(&mut self, object: &Object, path: &str, filters: Vec<Value>, made: &mut Rules) -> Filters {
        let (mut all, mut rates, mut router, mut resolved) = (Vec::new(), Vec::new(), None, Ok(()));
        for (i, mut filter) in filters.into_iter().enumerate() {
            if filter["type"] == "ExtensionRef" {
                match self.extension(object, &filter["extensionRef"]) {
                    Ok(Extension::Filter(own)) => all.push(own),
                    Ok(Extension::Rates(own)) => rates.extend(own),
                    Ok(Extension::Router(_)) if router.is_some() => resolved = Err("two routers would decide".to_owned()),
                    Ok(Extension::Router(own)) => router = Some(own),
                    // A filter that cannot be used must not be skipped.
                    Err(refusal) => {
                        resolved = Err(refusal.message.clone());
                        self.refuse(object, &format!("{path}[{i}].extensionRef"), refusal, made);
                    }
                }
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
        Filters { filters: all, rates, router, resolved }
    }

    fn invalid(&mut self, object: &Object, path: &str, what: String, made: &mut Rules) {
        let message = format!("{path}: {what}");
        self.part.faults.push(warning(&object.origin, &object.key, path, message.clone(), None));
        made.invalid.push(message);
    }
}

/// The filters of a rule or a backend, resolved.
struct Filters {
    filters: Vec<Value>,
    rates: Vec<Rate>,
    router: Option<PluginUse>,
    /// An error: a filter that is referred to cannot be used. This is why.
    resolved: Result<(), String>,
}

fn take_list(fields: &mut Map<String, Value>, name: &str) -> Vec<Value> {
    match fields.remove(name) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}
