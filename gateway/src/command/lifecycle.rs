//! `sluicegate plugin list | history | rollback | promote | disable | reload`: a running gateway's plugins, by its admin API.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use sluicegate_model::escape;
use sluicegate_model::operate::Action;

use super::flags::default_admin_address;
use super::get::{Output, table, text};

/// The gateway that is asked.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// Address of the gateway's admin API
    #[arg(long, default_value_t = default_admin_address())]
    pub(super) admin_address: SocketAddr,
}

/// How long an answer may take. It is longer than loading, as describe, configure and trials have deadlines of their own.
const PATIENCE: Duration = Duration::from_secs(60);

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
}

fn read(url: &str, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<String, String> {
    let unreachable = |error: ureq::Error| format!("{url}: {error}; is the gateway running, and is this its --admin-address?");
    let mut answer = answer.map_err(unreachable)?;
    let text = answer.body_mut().read_to_string().map_err(unreachable)?;
    if answer.status().is_success() { Ok(text) } else { Err(text.trim_end().to_owned()) }
}

/// What happened to a plugin, the newest last.
pub(super) fn history(at: &At, name: &str, output: Output) -> Result<String, String> {
    let url = format!("http://{}/api/v1/plugins/{name}/history", at.admin_address);
    let events = read(&url, agent().get(&url).call())?;
    let events: Value = serde_json::from_str(&events).map_err(|error| format!("{url}: {error}"))?;
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
    let url = format!("http://{}/api/v1/plugins/{name}/{order}", at.admin_address);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(patience)).build().into();
    let answer = agent.post(&url).header("x-sluicegate-request", "1").send_empty();
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(answer),
        answer => Err(read(&url, answer).err().unwrap_or_default()),
    }
}

/// Gives an order, and says what was done.
pub(super) fn order(at: &At, name: &str, action: Action) -> Result<String, String> {
    let url = format!("http://{}/api/v1/plugins/{name}/{action}", at.admin_address);
    let said = read(&url, agent().post(&url).header("x-sluicegate-request", "1").send_empty())?;
    Ok(said.trim_end().to_owned())
}
