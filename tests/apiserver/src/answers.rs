//! What the server says instead of an object.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::kinds::Kind;

/// JSON, as the server sends it.
pub(super) fn answer(code: u16, value: &Value) -> Response {
    let status = StatusCode::from_u16(code).expect("a status");
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

/// A text that is no Status object.
pub(super) fn text(code: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(code).expect("a status");
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{text}\n")).into_response()
}

/// A watch, or another body of JSON that comes little by little.
pub(super) fn stream(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A Status object.
pub(super) fn status(code: u16, reason: &str, message: &str, details: Option<Value>) -> Value {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": code});
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    if let Some(details) = details {
        status["details"] = details;
    }
    status
}

pub(super) fn failure(code: u16, reason: &str, message: &str, details: Option<Value>) -> Response {
    answer(code, &status(code, reason, message, details))
}

/// The details that name an object, or a kind's resource.
pub(super) fn details(kind: Kind, name: &str) -> Value {
    let mut details = json!({"kind": kind.plural});
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    details
}

pub(super) fn not_found(kind: Kind, name: &str) -> Response {
    failure(404, "NotFound", &format!("{} \"{name}\" not found", kind.resource()), Some(details(kind, name)))
}

/// A resource that is none, of a group that is there.
pub(super) fn no_resource() -> Response {
    failure(404, "NotFound", "the server could not find the requested resource", Some(json!({})))
}

/// A group that is not there: this is no Status object.
pub(super) fn no_group() -> Response {
    text(404, "404 page not found")
}

pub(super) fn bad_request(message: &str) -> Response {
    failure(400, "BadRequest", message, None)
}

pub(super) fn conflict(kind: Kind, name: &str) -> Response {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your changes to the latest version and try again",
        kind.resource()
    );
    failure(409, "Conflict", &message, Some(details(kind, name)))
}

/// An object that is refused for one of its fields.
pub(super) fn invalid(kind: Kind, name: &str, field: &str, reason: &str, why: &str) -> Response {
    let named = if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) };
    let message = format!("{named} \"{name}\" is invalid: {field}: {why}");
    let mut details = json!({"name": name, "kind": kind.kind, "causes": [{"reason": reason, "message": why, "field": field}]});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    failure(422, "Invalid", &message, Some(details))
}
