//! Whether new work is to be sent here, and what is not served: `/readyz`, and the state that the page shows.

use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use sluicegate_model::escape;

use crate::View;

/// The state of the gateway, in a word and in lines.
pub(crate) struct State {
    /// `serving`, or why nothing new is to be sent here: `stopping`, `drained`, `starting`, `overloaded` or `looking`.
    pub(crate) name: &'static str,
    /// The first line of `/readyz`.
    pub(crate) first: &'static str,
    /// What is not served or not followed, or what is waited for, a line each.
    pub(crate) lines: Vec<String>,
}

impl State {
    /// The answer of `/readyz`.
    pub(crate) fn answer(&self) -> (StatusCode, String) {
        let status = if self.name == "serving" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let lines = std::iter::once(self.first).chain(self.lines.iter().map(String::as_str));
        (status, lines.map(|line| format!("{line}\n")).collect())
    }
}

/// The state now.
pub(crate) fn state(view: &View) -> State {
    let without_lines = |name, first| State { name, first, lines: Vec::new() };
    if view.readiness.is_stopping() {
        without_lines("stopping", "stopping")
    } else if view.proxy.serving.load(Ordering::Relaxed) == 0 {
        State { name: "starting", first: "no snapshot is served yet", lines: unseen(view).collect() }
    } else if view.proxy.overload.refusing.load(Ordering::Relaxed) != 0 {
        without_lines("overloaded", "new work is refused for want of memory or descriptors")
    } else if view.readiness.is_drained() {
        without_lines("drained", "drained by an operator: POST /api/v1/resume ends that")
    } else {
        let status = view.status.load();
        if !status.awaited.is_empty() {
            let lines = status.awaited.iter().map(|name| format!("no endpoints were found yet: {}", escape::line(name)));
            return State { name: "looking", first: "endpoints are looked for", lines: lines.collect() };
        }
        // What is missing does not keep traffic from the rest. So it is told, and is no reason for a balancer in front to go elsewhere.
        let lines = status.unserved().into_iter().map(|line| escape::line(&line).into_owned()).chain(unseen(view));
        State { name: "serving", first: "ok", lines: lines.collect() }
    }
}

/// What sources do not see, a line each.
fn unseen(view: &View) -> impl Iterator<Item = String> {
    let lines: Vec<String> = view.sources.iter().flat_map(|source| source.report().unseen().collect::<Vec<_>>()).collect();
    lines.into_iter().map(|line| escape::line(&line).into_owned())
}
