//! `sluicegate plugin list | history | rollback | promote | disable | reload`: a running gateway's plugins, by its admin API.

use std::time::Duration;

use serde_json::Value;
use sluicegate_model::escape;
use sluicegate_model::operate::Action;

use super::at::At;
use super::get::{Output, table, text};

/// What happened to a plugin, the newest last.
pub(super) fn history(at: &At, name: &str, output: Output) -> Result<String, String> {
    let events = at.json(&format!("/api/v1/plugins/{name}/history"))?;
    Ok(match output {
        Output::Json => escape::json(&format!("{events:#}")).into_owned(),
        Output::Table => {
            let head = ["AT", "WHAT", "GENERATION", "VERSION", "SHA256", "REASON"].map(str::to_owned).to_vec();
            let row = |event: &Value| {
                let sum: String = text(event, "/sha256").chars().take(12).collect();
                vec![
                    text(event, "/at"),
                    text(event, "/what"),
                    text(event, "/generation"),
                    text(event, "/version"),
                    sum,
                    text(event, "/reason"),
                ]
            };
            let rows = events.as_array().map(Vec::as_slice).unwrap_or_default();
            table(&std::iter::once(head).chain(rows.iter().map(row)).collect::<Vec<_>>())
        }
    })
}

/// Gives an order whose answer is long. It must have ended within `patience`.
pub(super) fn post(at: &At, name: &str, order: &str, patience: Duration) -> Result<ureq::http::Response<ureq::Body>, String> {
    at.post(&format!("/api/v1/plugins/{name}/{order}"), patience)
}

/// Gives an order, and says what was done.
pub(super) fn order(at: &At, name: &str, action: Action) -> Result<String, String> {
    at.order(&format!("/api/v1/plugins/{name}/{action}"))
}
