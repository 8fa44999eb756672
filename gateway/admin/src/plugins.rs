//! The history of a plugin, and orders about it.

use std::str::FromStr as _;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use sluicegate_model::escape;
use sluicegate_model::operate::{Action, PluginEvent};

use crate::View;
use crate::shown::Shown;

pub(super) type Refused = (StatusCode, String);

pub(super) async fn history(State(view): State<View>, Path(name): Path<String>) -> Result<Shown<Vec<PluginEvent>>, Refused> {
    let status = view.status.load();
    let plugin = status.plugins.iter().find(|plugin| plugin.name == name);
    plugin.map(|plugin| Shown(plugin.history.clone())).ok_or((StatusCode::NOT_FOUND, format!("there is no plugin {name:?} in use\n")))
}

pub(super) async fn order(State(view): State<View>, Path((name, action)): Path<(String, String)>) -> Result<String, Refused> {
    let action = Action::from_str(&action).map_err(|error| (StatusCode::NOT_FOUND, format!("{error}\n")))?;
    let done = (view.operate)(name, action).await;
    let line = |text: String| escape::line(&text).into_owned() + "\n";
    done.map(line).map_err(|error| (StatusCode::CONFLICT, line(error)))
}
