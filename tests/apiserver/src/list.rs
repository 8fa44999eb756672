//! GET: one object, and lists, whole or in pages.

use axum::http::header;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};

use super::answers::{answer, bad_request, failure, not_found};
use super::request::{Query, Target};
use super::select::Selector;
use super::world::{Key, World};

const GONE: &str = "The resourceVersion for the provided list is too old.";
const GONE_PAGE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Whether only the metadata of objects is asked for.
pub(super) fn only_metadata(accept: &str) -> bool {
    accept.contains("as=PartialObjectMetadata")
}

/// An object without all but its metadata.
pub(super) fn metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

pub(super) fn one(world: &World, target: &Target, accept: &str) -> Response {
    let key = (target.kind.resource(), target.namespace.clone(), target.name.clone());
    match world.objects.get(&key) {
        Some(object) if only_metadata(accept) => answer(200, &metadata(object)),
        Some(object) => answer(200, object),
        None => not_found(target.kind, &target.name),
    }
}

fn token(version: i64, start: &str) -> String {
    // In this order, and with the zero escaped, as the server writes it.
    STANDARD_NO_PAD.encode(format!(r#"{{"v":"meta.k8s.io/v1","rv":{version},"start":"{start}\u0000"}}"#))
}

fn read_token(text: &str) -> Result<(i64, String), String> {
    let why = |why: String| format!("invalid continue token: continue key is not valid: {why}");
    let bytes = STANDARD_NO_PAD.decode(text).map_err(|error| why(error.to_string()))?;
    let first = bytes.first().copied().unwrap_or_default();
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|_| why(format!("invalid character '{}' looking for beginning of value", char::from(first))))?;
    let start = value["start"].as_str().unwrap_or_default();
    Ok((value["rv"].as_i64().unwrap_or_default(), start.trim_start_matches('/').trim_end_matches('\0').to_owned()))
}

/// An object's place in a list, as tokens name it.
fn place((_, namespace, name): &Key) -> String {
    if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") }
}

pub(super) fn list(world: &World, target: &Target, query: &Query, accept: &str) -> Response {
    let selector = match Selector::read(query.text("labelSelector"), query.text("fieldSelector")) {
        Ok(selector) => selector,
        Err(message) => return bad_request(&message),
    };
    let asked: Option<u64> = query.text("resourceVersion").parse().ok();
    if let Some(version) = asked.filter(|version| *version > world.version) {
        let details =
            json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1});
        let message = format!("Timeout: Too large resource version: {version}, current: {}", world.version);
        let mut response = failure(504, "Timeout", &message, Some(details));
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        return response;
    }
    let (mut version, mut after) = (world.version, String::new());
    if query.text("resourceVersionMatch") == "Exact" {
        version = asked.unwrap_or(version);
        if version < world.compacted {
            return failure(410, "Expired", GONE, None);
        }
    }
    if query.has("continue") {
        match read_token(query.text("continue")) {
            Err(message) => return bad_request(&message),
            // It goes on with what there is now.
            Ok((-1, start)) => after = start,
            Ok((of, start)) => {
                (version, after) = (of.unsigned_abs(), start);
                if version < world.compacted {
                    let mut status = super::answers::status(410, "Expired", GONE_PAGE, None);
                    let anew = format!(r#"{{"v":"meta.k8s.io/v1","rv":-1,"start":"{after}\u0000"}}"#);
                    status["metadata"]["continue"] = json!(STANDARD_NO_PAD.encode(anew));
                    return answer(410, &status);
                }
            }
        }
    }
    let all = world.at(version, &target.kind.resource());
    let mut objects: Vec<(&Key, &Value)> = all
        .iter()
        .filter(|(key, object)| (target.namespace.is_empty() || key.1 == target.namespace) && selector.takes(object))
        .filter(|(key, _)| after.is_empty() || place(key).as_str() > after.as_str())
        .collect();
    let mut metadata_of = json!({"resourceVersion": version.to_string()});
    // Lists of kinds that a definition brings say also that nothing follows.
    if target.kind.custom {
        metadata_of["continue"] = json!("");
    }
    // The cache, of which version 0 is asked for, has no pages.
    let limit = query.text("limit").parse::<usize>().ok().filter(|limit| *limit > 0 && asked != Some(0));
    if let Some(limit) = limit.filter(|limit| *limit < objects.len()) {
        metadata_of["continue"] = json!(token(version.cast_signed(), &format!("/{}", place(objects[limit - 1].0))));
        if query.text("labelSelector").is_empty() && query.text("fieldSelector").is_empty() {
            metadata_of["remainingItemCount"] = json!(objects.len() - limit);
        }
        objects.truncate(limit);
    }
    let partial = only_metadata(accept);
    let item = |object: &Value| {
        let mut object = if partial { metadata(object) } else { object.clone() };
        // Those of kinds that the server has of its own do not say what they are.
        if let Some(fields) = object.as_object_mut().filter(|_| !partial && !target.kind.custom) {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        object
    };
    let items: Vec<Value> = objects.into_iter().map(|(_, object)| item(object)).collect();
    let (kind, api) = if partial {
        ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
    } else {
        (format!("{}List", target.kind.kind), target.kind.api_version())
    };
    answer(200, &json!({"kind": kind, "apiVersion": api, "metadata": metadata_of, "items": items}))
}
