//! Rules of our own kinds.

use std::collections::HashSet;

use serde_json::Value;
use sluicegate_model::allowed_file::FilePattern;
use sluicegate_model::egress::AllowedHost;
use sluicegate_model::fault::Fault;
use sluicegate_model::plugin::PluginKind;

use crate::builtins;
use crate::object::ours::{PluginRollout, PluginSpec, TargetRef};
use crate::object::{Object, Plugin, SluicegateConfiguration, error, warning};

pub(super) fn plugin(object: &Object, plugin: &Plugin, faults: &mut Vec<Fault>) {
    let mut invalid = |path: &str, what: String, expected: Option<String>| {
        faults.push(error(&object.origin, &object.key, path, format!("{path}: {what}"), expected));
    };
    let (source, limits) = (&plugin.spec.source, &plugin.spec.limits);
    if [source.builtin.is_some(), source.file.is_some(), source.config_map.is_some()].into_iter().filter(|given| *given).count() != 1 {
        invalid("spec.source", "exactly one of `builtin`, `file` and `configMap` is wanted".to_owned(), None);
    }
    if let Some(from) = &source.config_map {
        if from.name.is_empty() {
            invalid("spec.source.configMap.name", "Required value".to_owned(), None);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if from.key.is_empty() || from.key.len() > 253 || !from.key.bytes().all(allowed) {
            let what =
                format!("Invalid value: {:?}: a valid config key must consist of alphanumeric characters, '-', '_' or '.'", from.key);
            invalid("spec.source.configMap.key", what, None);
        }
    }
    if let Some(name) = &source.builtin {
        let kind = plugin.spec.kind;
        let known: Vec<&str> = builtins::all().filter(|(_, k)| *k == kind).map(|(n, _)| n).collect();
        if !known.contains(&name.as_str()) {
            invalid("spec.source.builtin", format!("there is no built-in {kind} {name:?}"), Some(format!("one of: {}", known.join(", "))));
        }
    }
    if let Some(sum) = source.sha256.as_ref().filter(|s| s.len() != 64 || !s.bytes().all(|b| b.is_ascii_hexdigit())) {
        invalid("spec.source.sha256", format!("Invalid value: {sum:?}: must be 64 hexadecimal digits"), None);
    }
    let hosts = &plugin.spec.capabilities.allowed_hosts;
    for (i, wrong) in hosts.iter().enumerate().filter_map(|(i, host)| Some((i, host.parse::<AllowedHost>().err()?))) {
        invalid(&format!("spec.capabilities.allowedHosts[{i}]"), format!("Invalid value: {wrong}"), None);
    }
    let files = &plugin.spec.capabilities.allowed_files;
    for (i, wrong) in files.iter().enumerate().filter_map(|(i, file)| Some((i, file.parse::<FilePattern>().err()?))) {
        invalid(&format!("spec.capabilities.allowedFiles[{i}]"), format!("Invalid value: {wrong}"), None);
    }
    if !files.is_empty() && plugin.spec.kind != PluginKind::Discovery {
        let what = format!("Forbidden: a {} has no files", plugin.spec.kind);
        invalid("spec.capabilities.allowedFiles", what, Some("only discovery plugins may read files".to_owned()));
    }
    if plugin.spec.capabilities.allow_loopback_endpoints && plugin.spec.kind != PluginKind::Discovery {
        let what = format!("Forbidden: a {} publishes no endpoints", plugin.spec.kind);
        invalid("spec.capabilities.allowLoopbackEndpoints", what, Some("only discovery plugins publish some".to_owned()));
    }
    if let Some(requests) = limits.requests.filter(|requests| !(1..=4096).contains(requests)) {
        invalid("spec.limits.requests", format!("Invalid value: {requests}: must be between 1 and 4096, inclusive"), None);
    }
    if !hosts.is_empty() && plugin.spec.kind != PluginKind::Discovery {
        let what = format!("Forbidden: a {} has no network", plugin.spec.kind);
        invalid("spec.capabilities.allowedHosts", what, Some("only discovery plugins may reach hosts".to_owned()));
    }
    if plugin.spec.state.persist && plugin.spec.kind != PluginKind::Balancer {
        let what = format!("Forbidden: a {} has no state to keep", plugin.spec.kind);
        invalid("spec.state.persist", what, Some("only pools of balancers are saved".to_owned()));
    }
    rollout(&plugin.spec, &mut invalid);
    for (path, span) in [("spec.limits.deadline", limits.deadline), ("spec.limits.configureDeadline", limits.configure_deadline)] {
        if span.is_some_and(|s| s.0.is_zero()) {
            invalid(path, "must be greater than 0".to_owned(), None);
        }
    }
}

fn rollout(spec: &PluginSpec, invalid: &mut impl FnMut(&str, String, Option<String>)) {
    let PluginRollout { shadow, canary } = &spec.rollout;
    if (shadow.is_some() || canary.is_some()) && spec.kind != PluginKind::Balancer {
        let what = format!("Forbidden: a new version of a {} takes over at once", spec.kind);
        invalid("spec.rollout", what, Some("only balancers are rolled out step by step".to_owned()));
    }
    let durations = [
        ("spec.rollout.shadow.duration", shadow.as_ref().map(|s| s.duration)),
        ("spec.rollout.canary.duration", canary.as_ref().map(|c| c.duration)),
    ];
    for (path, _) in durations.into_iter().filter(|(_, span)| span.is_some_and(|span| span.0.is_zero())) {
        invalid(path, "must be greater than 0".to_owned(), None);
    }
    let percentages = [
        ("spec.rollout.shadow.maxDisagreement", shadow.as_ref().and_then(|s| s.max_disagreement), 100.0),
        ("spec.rollout.canary.maxErrorRateIncrease", canary.as_ref().and_then(|c| c.max_error_rate_increase), 100.0),
        ("spec.rollout.canary.maxLatencyIncrease", canary.as_ref().and_then(|c| c.max_latency_increase), 100_000.0),
    ];
    for (path, value, most) in percentages {
        if let Some(value) = value.filter(|value| !(0.0..=most).contains(value)) {
            invalid(path, format!("Invalid value: {value}: must be between 0 and {most}, inclusive"), Some("a percentage".to_owned()));
        }
    }
    let Some(canary) = canary else { return };
    if let Some(weight) = canary.weight.filter(|weight| !(1..=99).contains(weight)) {
        invalid(
            "spec.rollout.canary.weight",
            format!("Invalid value: {weight}: must be between 1 and 99, inclusive"),
            Some("a percentage".to_owned()),
        );
    }
    if canary.min_requests == Some(0) {
        invalid("spec.rollout.canary.minRequests", "Invalid value: 0: must be greater than 0".to_owned(), None);
    }
}

pub(super) fn configuration(object: &Object, configuration: &SluicegateConfiguration, faults: &mut Vec<Fault>) {
    super::acme::check(object, &configuration.acme, faults);
    if configuration.workers == Some(0) {
        faults.push(error(&object.origin, &object.key, "workers", "workers: Invalid value: 0: must be greater than 0".to_owned(), None));
    }
    let refuse = configuration.overload.refuse_percent.unwrap_or(95);
    let resume = configuration.overload.resume_percent.unwrap_or(0);
    if !(1..=100).contains(&refuse) {
        let message = format!("overload.refusePercent: Invalid value: {refuse}: must be between 1 and 100, inclusive");
        faults.push(error(&object.origin, &object.key, "overload.refusePercent", message, None));
    }
    if resume > refuse {
        let message = format!("overload.resumePercent: Invalid value: {resume}: must not be more than refusePercent, {refuse}");
        faults.push(error(&object.origin, &object.key, "overload.resumePercent", message, None));
    }
}

/// The group of a kind that policies attach to.
fn group_of(kind: &str) -> &'static str {
    if kind == "Service" { "" } else { "gateway.networking.k8s.io" }
}

/// What a ReferenceGrant names by a group that the kind is not of here: it grants nothing to anybody.
pub(super) fn reference_grant(object: &Object, faults: &mut Vec<Fault>) {
    let tree = object.value.tree();
    for (list, groups) in [("from", FROM), ("to", TO)] {
        for (i, entry) in tree.pointer(&format!("/spec/{list}")).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let (kind, given) = (entry["kind"].as_str().unwrap_or_default(), entry["group"].as_str().unwrap_or_default());
            if let Some((_, group)) = groups.iter().find(|(known, group)| *known == kind && *group != given) {
                let path = format!("spec.{list}[{i}].group");
                let message = format!("{path}: Unsupported value: {given:?} for kind {kind}: supported values: {group:?}");
                faults.push(warning(&object.origin, &object.key, &path, message, Some(format!("{kind} is of group {group:?}"))));
            }
        }
    }
}

/// Kinds that refer to others, and their groups.
const FROM: &[(&str, &str)] = &[
    ("Gateway", "gateway.networking.k8s.io"),
    ("ListenerSet", "gateway.networking.k8s.io"),
    ("HTTPRoute", "gateway.networking.k8s.io"),
    ("GRPCRoute", "gateway.networking.k8s.io"),
    ("TLSRoute", "gateway.networking.k8s.io"),
    ("TCPRoute", "gateway.networking.k8s.io"),
    ("UDPRoute", "gateway.networking.k8s.io"),
    ("BackendTrafficPolicy", "sluicegate.dev"),
    ("ClientTrafficPolicy", "sluicegate.dev"),
    ("Backend", "sluicegate.dev"),
];
/// Kinds that are referred to, likewise.
const TO: &[(&str, &str)] = &[("Secret", ""), ("ConfigMap", ""), ("Service", ""), ("Backend", "sluicegate.dev")];

/// So many targets may a policy have: `status.ancestors` has an entry for each, and may have no more.
const MOST_TARGETS: usize = 16;
/// What a BackendTrafficPolicy may target.
pub(super) const OF_BACKENDS: &[&str] =
    &["Service", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "Gateway", "ListenerSet"];
/// What a ClientTrafficPolicy may target.
pub(super) const OF_CLIENTS: &[&str] = &["Gateway", "ListenerSet", "Service"];

pub(super) fn targets(object: &Object, targets: &[TargetRef], kinds: &[&str], faults: &mut Vec<Fault>) {
    if targets.is_empty() {
        faults.push(error(&object.origin, &object.key, "spec.targetRefs", "spec.targetRefs: Required value".to_owned(), None));
    }
    if targets.len() > MOST_TARGETS {
        let message = format!("spec.targetRefs: Too many: {}: must have at most {MOST_TARGETS} items", targets.len());
        faults.push(error(&object.origin, &object.key, "spec.targetRefs", message, Some("another policy for the others".to_owned())));
    }
    // A router may have thousands of rules, which nobody looks at here.
    let tree = object.value.rest();
    let mut seen = HashSet::new();
    for (i, target) in targets.iter().enumerate() {
        for (field, given) in [("name", Some(&target.name)), ("sectionName", target.section_name.as_ref())] {
            if given.is_some_and(String::is_empty) {
                let path = format!("spec.targetRefs[{i}].{field}");
                faults.push(error(&object.origin, &object.key, &path, format!("{path}: Required value"), None));
            }
        }
        if !seen.insert((&target.kind, &target.name, &target.section_name)) {
            let path = format!("spec.targetRefs[{i}]");
            let section = target.section_name.as_ref().map(|section| format!(", {section}")).unwrap_or_default();
            let message = format!("{path}: Duplicate value: {} {}{section}", target.kind, target.name);
            faults.push(error(&object.origin, &object.key, &path, message, None));
        }
        if !kinds.contains(&target.kind.as_str()) {
            let path = format!("spec.targetRefs[{i}].kind");
            let supported: Vec<String> = kinds.iter().map(|k| format!("{k:?}")).collect();
            let message = format!("{path}: Unsupported value: {:?}: supported values: {}", target.kind, supported.join(", "));
            faults.push(error(&object.origin, &object.key, &path, message, None));
            continue;
        }
        let group = group_of(&target.kind);
        // Left out, it is the kind's own.
        let given = tree.pointer(&format!("/spec/targetRefs/{i}/group")).and_then(Value::as_str);
        if let Some(given) = given.filter(|given| *given != group) {
            let path = format!("spec.targetRefs[{i}].group");
            let message = format!("{path}: Unsupported value: {given:?}: supported values: {group:?}");
            faults.push(error(&object.origin, &object.key, &path, message, Some(format!("{} is of group {group:?}", target.kind))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use crate::object::{WITH_RULES, decode};
    use crate::{manifest, validate};

    #[test]
    fn thousands_of_rules_are_not_put_together_to_judge_the_rest() {
        let rule = |i: usize| json!({"matches": [{"path": {"type": "PathPrefix", "value": format!("/{i}/")}}], "backendRefs": [{"name": "a", "port": 80}]});
        let policy = json!({
            "apiVersion": "sluicegate.dev/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": {"name": "edge"},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}],
                "router": {"plugin": "rules", "config": {"rules": (0..300).map(rule).collect::<Vec<_>>()}},
            },
        });
        let document = manifest::parse(Path::new("p.json"), &policy.to_string()).documents.remove(0);
        let object = decode(document).0.expect("an object");
        assert!(object.value.rules().is_some(), "they are held apart");
        let before = WITH_RULES.get();
        let faults = validate::object(&object, &[]);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(WITH_RULES.get(), before);
    }
}
