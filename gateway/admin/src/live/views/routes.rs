//! Rules of routers: what they match, and where they lead.

use serde_json::{Value, json};
use sluicegate_model::route::{Actions, RouteTable};

use super::super::index::{Route, Router};
use super::super::sample::{RuleFigures, Sample};
use super::{Sort, Viewed, falling, list, rounded};

/// How many names, matches or listeners of one rule are shown.
const FEW: usize = 4;
/// How many of its backends.
const BACKENDS: usize = 12;
/// A configuration that is not held rule by rule, and is longer than this, is not read again each second to show what its rules match.
const SHORT: usize = 64 << 10;

pub(super) fn routes(viewed: &Viewed, sample: &Sample) -> Value {
    let index = &sample.index;
    let found = index.routes.iter().filter(|route| viewed.text.is_empty() || finds(viewed, sample, **route));
    let mut found: Vec<(Route, f32)> = found.map(|route| (*route, figures(sample, *route).rate)).collect();
    if viewed.troubled {
        found.retain(|(route, _)| is_broken(sample, *route));
    }
    if viewed.sort == Sort::Rate {
        found.sort_by(|a, b| falling(Some(a.1), Some(b.1)));
    }
    list(viewed, found, index.routes.len(), |(route, _)| row(sample, route))
}

fn finds(viewed: &Viewed, sample: &Sample, route: Route) -> bool {
    let Some((router, rung, name)) = sample.index.route(route) else { return false };
    let services = rung.table.rules.get(route.rule).into_iter().flat_map(|rule| &rule.backends).map(|backend| backend.service.to_string());
    let hosts = router.at.iter().filter_map(|(_, host)| host.clone());
    let texts: Vec<String> = std::iter::once(name).chain(services).chain(hosts).collect();
    // What a rule matches stands in its text.
    let written = rung.table.config.rules().and_then(|rules| rules.get(route.rule)).map(|text| &**text);
    let texts: Vec<&str> = texts.iter().map(String::as_str).chain(written).collect();
    viewed.finds(&texts)
}

/// Whether a rule leads to something that does not exist.
pub(super) fn is_broken(sample: &Sample, route: Route) -> bool {
    let Some((_, rung, _)) = sample.index.route(route) else { return true };
    rung.backends(route.rule).is_some_and(|backends| backends.iter().any(Result::is_err))
}

pub(super) fn figures(sample: &Sample, route: Route) -> RuleFigures {
    let bound = sample.index.routers.get(route.router).and_then(Router::rung).and_then(|rung| rung.rules.get(route.rule));
    bound.map(|bound| sample.rule(bound)).unwrap_or_default()
}

fn row(sample: &Sample, route: Route) -> Value {
    let Some((router, rung, name)) = sample.index.route(route) else { return Value::Null };
    let Some(rule) = rung.table.rules.get(route.rule) else { return Value::Null };
    let figures = figures(sample, route);
    let bound = rung.backends(route.rule).unwrap_or_default();
    let backends: Vec<Value> = rule.backends.iter().enumerate().take(BACKENDS).map(|(at, backend)| {
        let error = bound.get(at).and_then(|bound| bound.as_ref().err());
        let rate = figures.backends.get(at).copied().unwrap_or_default();
        json!({ "service": backend.service.to_string(), "weight": backend.weight, "rate": rounded(rate), "error": error.map(|why| &**why) })
    }).collect();
    let (hostnames, matches) = written(&rung.table, route.rule);
    json!({
        "name": name, "router": &*rung.generation.generation().plugin, "transport": router.binding.transport, "rate": rounded(figures.rate),
        "does": does(&rule.actions, rung.next(route.rule).is_some()), "hostnames": hostnames, "matches": matches,
        "listeners": listeners(sample, router), "moreListeners": router.at.len().saturating_sub(FEW),
        "backends": backends, "moreBackends": rule.backends.len().saturating_sub(BACKENDS),
    })
}

/// The listeners of a router, the first of them.
fn listeners(sample: &Sample, router: &Router) -> Vec<Value> {
    let shown = router.at.iter().take(FEW).filter_map(|(at, host)| Some((sample.index.listeners.get(*at)?, host)));
    shown.map(|(listener, host)| json!({ "name": listener.name, "address": listener.address, "hostname": host })).collect()
}

/// What a rule does in the place of going to its backends.
pub(super) fn does(actions: &Actions, hands_over: bool) -> Option<String> {
    if let Some(answer) = &actions.answer {
        return Some(format!("answers {}", answer.status.as_u16()));
    }
    match &actions.redirect {
        Some(redirect) => Some(format!("redirects, {}", redirect.status.as_u16())),
        None => hands_over.then(|| "leaves the decision to another router".to_owned()),
    }
}

/// The host names and matches of a rule in short, for routers whose configuration has a list `rules` in the order of the table's and in HTTPRoute's words.
fn written(table: &RouteTable, rule: usize) -> (Vec<String>, Vec<String>) {
    let one: Option<Value> = match table.config.rules() {
        Some(rules) => rules.get(rule).and_then(|text| serde_json::from_str(text).ok()),
        None => Some(table.config.whole()).filter(|text| text.len() <= SHORT).and_then(|text| {
            let whole: Value = serde_json::from_str(&text).ok()?;
            whole.get("rules")?.get(rule).cloned()
        }),
    };
    let Some(one) = one else { return (Vec::new(), Vec::new()) };
    let texts =
        |value: &Value| value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).take(FEW).collect();
    let matches = one["matches"].as_array().into_iter().flatten().take(FEW).map(in_short).collect();
    (texts(&one["hostnames"]), matches)
}

/// A match as one would say it: `GET PathPrefix /api, header x-version`.
fn in_short(of: &Value) -> String {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let mut parts = Vec::new();
    let call = &of["grpc"];
    if call.is_object() {
        parts.push(format!("gRPC {}/{}", call["service"].as_str().unwrap_or("*"), call["method"].as_str().unwrap_or("*")));
    } else {
        let kind = of["path"]["type"].as_str().unwrap_or("PathPrefix");
        let path = format!("{kind} {}", of["path"]["value"].as_str().unwrap_or("/"));
        parts.push(of["method"].as_str().map_or_else(|| path.clone(), |method| format!("{method} {path}")));
    }
    for (field, what) in [("headers", "header"), ("queryParams", "query")] {
        let conditions = of[field].as_array().into_iter().flatten().take(FEW);
        parts.extend(conditions.map(|one| format!("{what} {}={}", text(one, "name"), text(one, "value"))));
    }
    parts.join(", ")
}

/// The listeners that lead straight to a service port.
pub(super) fn straight(sample: &Sample, namespace: &str, name: &str, port: u16) -> Value {
    let service = sluicegate_model::route::ServiceRef { namespace: namespace.to_owned(), name: name.to_owned(), port };
    let all = sample.index.straight.get(&service).into_iter().flatten().filter_map(|at| sample.index.listeners.get(*at));
    all.take(BACKENDS).map(|listener| json!({ "name": listener.name, "address": listener.address })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_is_told_in_short() {
        assert_eq!(in_short(&json!({})), "PathPrefix /");
        let full = json!({"method": "GET", "path": {"type": "Exact", "value": "/a"}, "headers": [{"name": "x", "value": "1"}], "queryParams": [{"name": "q", "value": "2"}]});
        assert_eq!(in_short(&full), "GET Exact /a, header x=1, query q=2");
        assert_eq!(in_short(&json!({"grpc": {"service": "s.S"}})), "gRPC s.S/*");
    }
}
