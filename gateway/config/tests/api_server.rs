//! What an API server (Kubernetes 1.36.2, Gateway API v1.6.1) said about 263 objects of the Gateway API, in a dry run with strict field validation. Objects
//! that it took are taken here, and about the others the same is said. `api_server/gateway-api.jsonl` has one object for each line, and the server's message
//! if it refused it; `api_server/gateway-api-defaults.jsonl` has those that it took, except for the longest ones, and their `spec` as it returned it.

use std::path::Path;

use sluicegate_config::{manifest, object, validate};
use sluicegate_model::fault::Severity;

#[derive(serde::Deserialize)]
struct Recorded {
    idea: String,
    manifest: serde_json::Value,
    message: Option<String>,
}

/// The errors of one object, joined as an API server does it.
fn message(document: &str) -> Option<String> {
    let parsed = manifest::parse(Path::new("object.json"), document);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    let mut found = Vec::new();
    for document in parsed.documents {
        let (decoded, mut faults) = object::decode(document);
        // If something does not fit its type, nothing else is checked.
        let fits = faults.iter().all(|fault| fault.severity == Severity::Warning);
        if let Some(decoded) = decoded.filter(|_| fits) {
            let more = validate::object(&decoded, &faults);
            faults.extend(more);
        }
        found.extend(faults.into_iter().filter(|fault| fault.severity == Severity::Error).map(|fault| fault.message));
    }
    let first = found.first()?.clone();
    let Some((head, _)) = first.split_once(" is invalid: ") else { return Some(first) };
    let head = format!("{head} is invalid: ");
    let causes: Vec<&str> = found.iter().map(|message| message.strip_prefix(&head).unwrap_or(message)).collect();
    Some(if let [cause] = causes[..] { format!("{head}{cause}") } else { format!("{head}[{}]", causes.join(", ")) })
}

/// Fields of the experimental channel that are served here nevertheless.
const EXPERIMENTAL: [&str; 2] = ["retry (experimental)", "sessionPersistence (experimental)"];

#[test]
fn objects_of_the_gateway_api_are_judged_as_by_an_api_server() {
    let recorded = include_str!("api_server/gateway-api.jsonl");
    let (mut all, mut wrong) = (0, Vec::new());
    for line in recorded.lines() {
        let Recorded { idea, manifest, message: said } = serde_json::from_str(line).expect("a recorded object");
        all += 1;
        let here = message(&manifest.to_string());
        let said = said.filter(|_| !EXPERIMENTAL.contains(&idea.as_str()));
        if here != said {
            let shown = |message: &Option<String>| message.clone().unwrap_or_else(|| "accepted".to_owned());
            wrong.push(format!("{}: {idea}\n   API server: {}\n   here:       {}", manifest["kind"], shown(&said), shown(&here)));
        }
    }
    assert_eq!(all, 263);
    assert!(wrong.is_empty(), "{} of {all} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[derive(serde::Deserialize)]
struct Taken {
    idea: String,
    manifest: serde_json::Value,
    spec: serde_json::Value,
}

#[test]
fn objects_of_the_gateway_api_get_the_defaults_that_an_api_server_sets() {
    let (mut all, mut wrong) = (0, Vec::new());
    for line in include_str!("api_server/gateway-api-defaults.jsonl").lines() {
        let Taken { idea, manifest, spec } = serde_json::from_str(line).expect("a recorded object");
        all += 1;
        let kind = manifest["kind"].as_str().expect("a kind").to_owned();
        let here = validate::with_defaults(&kind, manifest);
        if here["spec"] != spec {
            wrong.push(format!("{kind}: {idea}\n   API server: {spec}\n   here:       {}", here["spec"]));
        }
    }
    assert_eq!(all, 93);
    assert!(wrong.is_empty(), "{} of {all} differ:\n{}", wrong.len(), wrong.join("\n"));
}
