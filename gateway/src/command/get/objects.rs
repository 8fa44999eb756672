//! Tables of Gateways, ListenerSets, routes and policies: what their status says, shortened to a line each.

use serde_json::Value;

use super::{list, row, text};

pub(super) fn classes(rows: &[Value]) -> Vec<Vec<String>> {
    let head = row(["NAME", "CONTROLLER", "ACCEPTED"]);
    let line = |class: &Value| {
        let accepted = status(list(class, "/status/conditions"), "Accepted");
        vec![text(class, "/metadata/name"), text(class, "/spec/controllerName"), accepted]
    };
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

pub(super) fn gateways(rows: &[Value], wide: bool) -> Vec<Vec<String>> {
    let mut head = row(["NAMESPACE", "NAME", "CLASS", "ADDRESSES", "ACCEPTED", "PROGRAMMED", "LISTENERS"]);
    head.extend(wide.then(|| "REASON".to_owned()));
    let line = |gateway: &Value| {
        let addresses: Vec<String> = list(gateway, "/status/addresses").iter().map(|address| text(address, "/value")).collect();
        let mut cells =
            vec![text(gateway, "/metadata/namespace"), text(gateway, "/metadata/name"), text(gateway, "/spec/gatewayClassName")];
        cells.push(if addresses.is_empty() { "-".to_owned() } else { addresses.join(",") });
        cells.extend(with_listeners(gateway, wide));
        cells
    };
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

pub(super) fn listener_sets(rows: &[Value], wide: bool) -> Vec<Vec<String>> {
    let mut head = row(["NAMESPACE", "NAME", "GATEWAY", "ACCEPTED", "PROGRAMMED", "LISTENERS"]);
    head.extend(wide.then(|| "REASON".to_owned()));
    let line = |set: &Value| {
        let (name, namespace) = (text(set, "/spec/parentRef/name"), text(set, "/spec/parentRef/namespace"));
        let gateway = if namespace == "-" { name } else { format!("{namespace}/{name}") };
        let cells = vec![text(set, "/metadata/namespace"), text(set, "/metadata/name"), gateway];
        cells.into_iter().chain(with_listeners(set, wide)).collect()
    };
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

/// The last cells of an object with listeners: its conditions, its listeners with the number of their routes, and, if asked for, what is wrong.
fn with_listeners(object: &Value, wide: bool) -> Vec<String> {
    let (conditions, listeners) = (list(object, "/status/conditions"), list(object, "/status/listeners"));
    let shown: Vec<String> = listeners.iter().map(|l| format!("{} ({})", text(l, "/name"), text(l, "/attachedRoutes"))).collect();
    let shown = if shown.is_empty() { "-".to_owned() } else { shown.join(", ") };
    let mut cells = vec![status(conditions, "Accepted"), status(conditions, "Programmed"), shown];
    if wide {
        let mut why = reasons(conditions);
        for listener in listeners {
            why.extend(reasons(list(listener, "/conditions")).into_iter().map(|why| format!("{}: {why}", text(listener, "/name"))));
        }
        cells.push(or_none(why, "; "));
    }
    cells
}

/// Routes of one kind.
pub(super) fn routes(rows: &[Value], wide: bool) -> Vec<Vec<String>> {
    of_parents(rows, false, wide)
}

/// Routes of several kinds, with their kind.
pub(super) fn routes_of_all_kinds(rows: &[Value], wide: bool) -> Vec<Vec<String>> {
    of_parents(rows, true, wide)
}

/// A row for each parent of a route, or one for a route that has none here.
fn of_parents(rows: &[Value], kinds: bool, wide: bool) -> Vec<Vec<String>> {
    let mut head = row(["NAMESPACE", "NAME", "HOSTNAMES", "PARENT", "ACCEPTED", "RESOLVED"]);
    if kinds {
        head.insert(0, "KIND".to_owned());
    }
    head.extend(wide.then(|| "REASON".to_owned()));
    let mut table = vec![head];
    for route in rows {
        let parents = list(route, "/status/parents");
        for parent in parents.iter().chain(parents.is_empty().then_some(&Value::Null)) {
            let conditions = list(parent, "/conditions");
            let mut cells: Vec<String> = kinds.then(|| text(route, "/kind")).into_iter().collect();
            cells.extend([text(route, "/metadata/namespace"), text(route, "/metadata/name"), text(route, "/spec/hostnames")]);
            cells.extend([named(parent, "/parentRef"), status(conditions, "Accepted"), status(conditions, "ResolvedRefs")]);
            cells.extend(wide.then(|| or_none(reasons(conditions), "; ")));
            table.push(cells);
        }
    }
    table
}

/// A row for each ancestor of a policy, or one for a policy that has none here. `resolves`: policies of this kind say whether their references can be used.
pub(super) fn policies(rows: &[Value], resolves: bool, wide: bool) -> Vec<Vec<String>> {
    let mut head = row(["NAMESPACE", "NAME", "TARGETS", "ANCESTOR", "ACCEPTED"]);
    head.extend(resolves.then(|| "RESOLVED".to_owned()));
    head.extend(wide.then(|| "REASON".to_owned()));
    let mut table = vec![head];
    for policy in rows {
        let targets: Vec<String> = list(policy, "/spec/targetRefs").iter().map(|target| named(target, "")).collect();
        let ancestors = list(policy, "/status/ancestors");
        for ancestor in ancestors.iter().chain(ancestors.is_empty().then_some(&Value::Null)) {
            let conditions = list(ancestor, "/conditions");
            let mut cells = vec![text(policy, "/metadata/namespace"), text(policy, "/metadata/name"), targets.join(",")];
            cells.extend([named(ancestor, "/ancestorRef"), status(conditions, "Accepted")]);
            cells.extend(resolves.then(|| status(conditions, "ResolvedRefs")));
            cells.extend(wide.then(|| or_none(reasons(conditions), "; ")));
            table.push(cells);
        }
    }
    table
}

pub(super) fn backends(rows: &[Value], wide: bool) -> Vec<Vec<String>> {
    let mut head = row(["NAMESPACE", "NAME", "ENDPOINTS", "ACCEPTED"]);
    head.extend(wide.then(|| "REASON".to_owned()));
    let line = |backend: &Value| {
        let endpoints = list(backend, "/spec/endpoints").iter().map(|endpoint| match endpoint.get("fqdn") {
            Some(fqdn) => format!("{}:{}", text(fqdn, "/hostname"), text(fqdn, "/port")),
            None => format!("{}:{}", text(endpoint, "/ip/address"), text(endpoint, "/ip/port")),
        });
        let conditions = list(backend, "/status/conditions");
        let mut cells = vec![text(backend, "/metadata/namespace"), text(backend, "/metadata/name")];
        cells.extend([endpoints.collect::<Vec<_>>().join(","), status(conditions, "Accepted")]);
        cells.extend(wide.then(|| or_none(reasons(conditions), "; ")));
        cells
    };
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

/// The Services that stand for Gateways.
pub(super) fn gateway_services(rows: &[Value], wide: bool) -> Vec<Vec<String>> {
    let mut head = row(["NAMESPACE", "NAME", "GATEWAY", "ADDRESSES", "PORTS"]);
    head.extend(wide.then(|| ["LABELS", "ANNOTATIONS"].map(str::to_owned)).into_iter().flatten());
    let line = |service: &Value| {
        let ports = list(service, "/spec/ports").iter().map(|port| format!("{}/{}", text(port, "/port"), text(port, "/protocol")));
        let addresses: Vec<String> = list(service, "/status/loadBalancer/ingress").iter().map(|ingress| text(ingress, "/ip")).collect();
        let mut cells = vec![text(service, "/metadata/namespace"), text(service, "/metadata/name")];
        cells.push(text(service, "/metadata/labels/gateway.networking.k8s.io~1gateway-name"));
        cells.extend([addresses, ports.collect()].map(|all| or_none(all, ",")));
        if wide {
            cells.extend(["/metadata/labels", "/metadata/annotations"].map(|map| or_none(pairs(service.pointer(map)), ",")));
        }
        cells
    };
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

/// The entries of a map.
fn pairs(map: Option<&Value>) -> Vec<String> {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect()
}

/// The name in a reference, with its section and port if it has these.
fn named(value: &Value, reference: &str) -> String {
    let part = |field: &str| text(value, &format!("{reference}/{field}"));
    let mut shown = part("name");
    let kind = part("kind");
    if !matches!(kind.as_str(), "-" | "Gateway" | "Service") {
        shown.insert_str(0, &format!("{kind} "));
    }
    for (before, field) in [("/", "sectionName"), (":", "port")] {
        let given = part(field);
        if given != "-" {
            shown.push_str(&format!("{before}{given}"));
        }
    }
    shown
}

fn status(conditions: &[Value], kind: &str) -> String {
    conditions.iter().find(|condition| condition["type"] == kind).map_or_else(|| "-".to_owned(), |condition| text(condition, "/status"))
}

/// Why conditions are not as one would like them, and what is said of those that are.
fn reasons(conditions: &[Value]) -> Vec<String> {
    let bad = conditions.iter().filter(|condition| {
        let wanted = if matches!(condition["type"].as_str(), Some("Conflicted" | "PartiallyInvalid")) { "False" } else { "True" };
        condition["status"] != wanted || condition["message"].as_str().is_some_and(|message| !message.is_empty())
    });
    let mut all: Vec<String> = bad.map(|condition| format!("{}: {}", text(condition, "/reason"), text(condition, "/message"))).collect();
    all.dedup();
    all
}

fn or_none(all: Vec<String>, between: &str) -> String {
    if all.is_empty() { "-".to_owned() } else { all.join(between) }
}
