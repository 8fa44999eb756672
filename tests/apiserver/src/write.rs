//! POST, PUT, PATCH and DELETE.

use axum::response::Response;
use serde_json::{Value, json};

use super::answers::{answer, bad_request, conflict, details, failure, invalid, not_found};
use super::apply::{self, Applied};
use super::request::{Query, Target};
use super::{State, kinds::Kind};

/// What is accepted of content.
const MEDIA: &str = "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf";

fn read(kind: Kind, body: &[u8]) -> Result<Value, Box<Response>> {
    serde_json::from_slice(body).map_err(|_| {
        let text = String::from_utf8_lossy(body);
        let what = format!("couldn't get version/kind; json parse error: unexpected end of JSON input ({text})");
        Box::new(bad_request(&format!("the object provided is unrecognized (must be of type {}): {what}", kind.kind)))
    })
}

fn unsupported() -> Response {
    failure(415, "UnsupportedMediaType", MEDIA, None)
}

fn key(target: &Target, name: &str) -> (String, String, String) {
    (target.kind.resource(), target.namespace.clone(), name.to_owned())
}

/// What is wrong with a new version of an object. Of specs only what stands here is checked.
fn refused(kind: Kind, object: &Value) -> Option<Response> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if kind.kind == "Service" {
        let ingress = object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
        if ingress.is_some_and(|ingress| !ingress.is_empty()) && object["spec"]["type"] != "LoadBalancer" {
            let why = "Forbidden: may only be used when `spec.type` is 'LoadBalancer'";
            return Some(invalid(kind, name, "status.loadBalancer.ingress", "FieldValueForbidden", why));
        }
        for (at, ingress) in ingress.into_iter().flatten().enumerate() {
            let ip = ingress["ip"].as_str().unwrap_or_default();
            if ip.parse::<std::net::IpAddr>().is_err() {
                let why = format!("Invalid value: \"{ip}\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
                return Some(invalid(kind, name, &format!("status.loadBalancer.ingress[{at}].ip"), "FieldValueInvalid", &why));
            }
        }
    }
    for time in ["acquireTime", "renewTime"] {
        let text = object["spec"][time].as_str().filter(|_| kind.kind == "Lease");
        if let Some(text) = text.filter(|text| !text.starts_with(|c: char| c.is_ascii_digit())) {
            let why = format!("parsing time \"{text}\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{text}\" as \"2006\"");
            return Some(bad_request(&format!("Lease in version \"v1\" cannot be handled as a Lease: {why}")));
        }
    }
    let mut seen = Vec::new();
    for (at, condition) in
        object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten().enumerate().filter(|_| kind.custom)
    {
        let field = format!("status.conditions[{at}]");
        if condition["lastTransitionTime"].is_null() {
            return Some(invalid(kind, name, &format!("{field}.lastTransitionTime"), "FieldValueRequired", "Required value"));
        }
        let reason = condition["reason"].as_str().unwrap_or_default();
        let first = reason.starts_with(|c: char| c.is_ascii_alphabetic());
        let good = first && reason.chars().all(|c| c.is_ascii_alphanumeric() || "_,:".contains(c)) && !reason.ends_with([',', ':']);
        if !good {
            let rule = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
            let why = format!("Invalid value: \"{reason}\": conditions[{at}].reason in body should match '{rule}'");
            return Some(invalid(kind, name, &format!("{field}.reason"), "FieldValueInvalid", &why));
        }
        if seen.contains(&&condition["type"]) {
            let why = format!("Duplicate value: {}", json!({"type": condition["type"]}));
            return Some(invalid(kind, name, &field, "FieldValueDuplicate", &why));
        }
        seen.push(&condition["type"]);
    }
    None
}

/// What a write to one side of an object leaves as it was: the status is written through its subresource, and nothing else is there.
fn one_side(before: &Value, after: &mut Value, status: bool) {
    if status {
        let written = after["status"].take();
        *after = before.clone();
        after["status"] = written;
    } else if !before["status"].is_null() {
        after["status"] = before["status"].clone();
    } else if let Some(fields) = after.as_object_mut() {
        fields.remove("status");
    }
    if after["status"].is_null()
        && let Some(fields) = after.as_object_mut()
    {
        fields.remove("status");
    }
}

/// A Service that no longer has a load balancer loses its addresses, and as a cluster IP its node ports.
fn of_another_type(kind: Kind, before: &Value, after: &mut Value) {
    if kind.kind != "Service" || before["spec"]["type"] != "LoadBalancer" || after["spec"]["type"] == "LoadBalancer" {
        return;
    }
    after["status"] = json!({"loadBalancer": {}});
    if after["spec"]["type"] != "ClusterIP" {
        return;
    }
    if let Some(fields) = after["spec"].as_object_mut() {
        fields.remove("allocateLoadBalancerNodePorts");
        fields.remove("externalTrafficPolicy");
    }
    for port in after["spec"]["ports"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
}

/// Stores a new version, unless it is what there is.
fn store(state: &mut State, kind: Kind, before: &Value, mut after: Value) -> Response {
    of_another_type(kind, before, &mut after);
    for field in ["resourceVersion", "managedFields", "generation", "uid", "creationTimestamp"] {
        after["metadata"][field] = before["metadata"][field].clone();
        if let Some(metadata) = after["metadata"].as_object_mut().filter(|metadata| metadata[field].is_null()) {
            metadata.remove(field);
        }
    }
    if after == *before {
        return answer(200, before);
    }
    if let Some(response) = refused(kind, &after) {
        return response;
    }
    answer(200, &state.world.put(after))
}

pub(super) fn create(state: &mut State, target: &Target, query: &Query, media: &str, body: &[u8]) -> Response {
    if media != "application/json" {
        return unsupported();
    }
    let mut object = match read(target.kind, body) {
        Ok(object) => object,
        Err(response) => return *response,
    };
    if target.kind.namespaced {
        object["metadata"]["namespace"] = json!(target.namespace);
    }
    if let Some(fields) = object.as_object_mut().filter(|_| target.kind.custom) {
        fields.remove("status");
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if state.world.objects.contains_key(&key(target, &name)) {
        let message = format!("{} \"{name}\" already exists", target.kind.resource());
        return failure(409, "AlreadyExists", &message, Some(details(target.kind, &name)));
    }
    if let Some(response) = refused(target.kind, &object) {
        return response;
    }
    if query.text("dryRun") == "All" {
        return answer(201, &object);
    }
    answer(201, &state.world.put(object))
}

pub(super) fn update(state: &mut State, target: &Target, media: &str, body: &[u8]) -> Response {
    if media != "application/json" {
        return unsupported();
    }
    let mut object = match read(target.kind, body) {
        Ok(object) => object,
        Err(response) => return *response,
    };
    let key = key(target, &target.name);
    let Some(before) = state.world.objects.get(&key).cloned() else { return not_found(target.kind, &target.name) };
    if let Some(response) = refused(target.kind, &object) {
        return response;
    }
    if is_other_version(&object, &before) {
        return conflict(target.kind, &target.name);
    }
    one_side(&before, &mut object, target.subresource == "status");
    apply::overwritten(state.owners.entry(key).or_default(), &before, &object);
    store(state, target.kind, &before, object)
}

pub(super) fn patch(state: &mut State, target: &Target, query: &Query, media: &str, body: &[u8]) -> Response {
    let patch = match read(target.kind, body) {
        Ok(patch) => patch,
        Err(response) => return *response,
    };
    let key = key(target, &target.name);
    let status = target.subresource == "status";
    let known = state.world.objects.get(&key).cloned();
    match (media, known) {
        ("application/merge-patch+json" | "application/strategic-merge-patch+json", Some(before)) => {
            let mut after = before.clone();
            merge(&mut after, &patch);
            one_side(&before, &mut after, status);
            of_another_type(target.kind, &before, &mut after);
            if let Some(response) = refused(target.kind, &after) {
                return response;
            }
            if is_other_version(&patch, &before) {
                return conflict(target.kind, &target.name);
            }
            apply::overwritten(state.owners.entry(key).or_default(), &before, &after);
            store(state, target.kind, &before, after)
        }
        ("application/apply-patch+yaml", Some(before)) => {
            if is_other_version(&patch, &before) {
                return conflict(target.kind, &target.name);
            }
            let by = Applied { manager: query.text("fieldManager").to_owned(), status, force: query.is("force") };
            let mut owners = state.owners.get(&key).cloned().unwrap_or_default();
            match apply::apply(&before, &patch, by, &mut owners) {
                Err(response) => *response,
                Ok(after) => {
                    let response = store(state, target.kind, &before, after);
                    if response.status().is_success() {
                        state.owners.insert(key, owners);
                    }
                    response
                }
            }
        }
        ("application/apply-patch+yaml", None) if !status => {
            let by = Applied { manager: query.text("fieldManager").to_owned(), status, force: true };
            let mut bare = json!({"apiVersion": target.kind.api_version(), "kind": target.kind.kind, "metadata": {"name": target.name}});
            if target.kind.namespaced {
                bare["metadata"]["namespace"] = json!(target.namespace);
            }
            match apply::apply(&bare, &patch, by, state.owners.entry(key).or_default()) {
                Err(response) => *response,
                Ok(object) => refused(target.kind, &object).unwrap_or_else(|| answer(201, &state.world.put(object))),
            }
        }
        (_, None) => not_found(target.kind, &target.name),
        _ => unsupported(),
    }
}

fn is_other_version(given: &Value, before: &Value) -> bool {
    let version = &given["metadata"]["resourceVersion"];
    !version.is_null() && *version != before["metadata"]["resourceVersion"]
}

/// RFC 7386.
fn merge(to: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *to = patch.clone();
        return;
    };
    if !to.is_object() {
        *to = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            to.as_object_mut().expect("an object").remove(name);
        } else {
            merge(&mut to[name.as_str()], value);
        }
    }
}

pub(super) fn delete(state: &mut State, target: &Target, body: &[u8]) -> Response {
    if target.name.is_empty() {
        return failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", Some(json!({})));
    }
    let options: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(before) = state.world.objects.get(&key(target, &target.name)) {
        for (field, named) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let (wanted, is) = (&options["preconditions"][field], &before["metadata"][field]);
            if !wanted.is_null() && wanted != is {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let why = format!("Precondition failed: {named} in precondition: {}, {named} in object meta: {}", text(wanted), text(is));
                let message = format!("Operation cannot be fulfilled on {} \"{}\": {why}", target.kind.resource(), target.name);
                return failure(409, "Conflict", &message, Some(details(target.kind, &target.name)));
            }
        }
    }
    match state.world.delete(&key(target, &target.name)) {
        Some(object) => answer(200, &object),
        None => not_found(target.kind, &target.name),
    }
}
