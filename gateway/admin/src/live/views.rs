//! What one viewer asked for, made from a [`Sample`]: the head of every event, and a list, an object or the overview. Each list is filtered and sorted here and has at most
//! [`ROWS`] rows, so that neither an event nor the page grows with the configuration.

mod gateways;
mod overview;
mod plugins;
mod routes;
mod services;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sluicegate_model::escape;
use sluicegate_model::fault::Severity;
use sluicegate_model::pool::Endpoint;
use sluicegate_model::status::PluginState;

use super::sample::{Sample, address};
use super::sampler::{Passed, Rate};
use crate::View;
use crate::ready::State;

/// How many rows a list has at most.
const ROWS: usize = 50;
/// The longest text that may be searched for, in bytes.
const LONGEST: usize = 200;
/// How many reasons are given for a state.
const REASONS: usize = 20;

/// What a viewer asks for, as it stands in the query of the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Asked {
    view: String,
    /// Text that rows contain, or the name of an object.
    q: String,
    name: String,
    sort: String,
    only: String,
    offset: usize,
}

/// Which list or object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Overview,
    Gateways,
    Listeners,
    Routes,
    Services,
    Service,
    Plugins,
    Plugin,
    Faults,
    Nothing,
}

/// The order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Name,
    Rate,
    Errors,
    Time,
    InFlight,
}

/// What a viewer asks for, checked.
#[derive(Debug)]
pub(super) struct Viewed {
    which: Which,
    /// In lower case.
    text: String,
    name: String,
    sort: Sort,
    /// Only what an operator should look at.
    troubled: bool,
    offset: usize,
}

impl Asked {
    pub(super) fn check(self) -> Result<Viewed, String> {
        let which = match self.view.as_str() {
            "" | "overview" => Which::Overview,
            "gateways" => Which::Gateways,
            "listeners" => Which::Listeners,
            "routes" => Which::Routes,
            "services" => Which::Services,
            "service" => Which::Service,
            "plugins" => Which::Plugins,
            "plugin" => Which::Plugin,
            "faults" => Which::Faults,
            "none" => Which::Nothing,
            other => {
                return Err(format!(
                    "{other:?} is none of overview, gateways, listeners, routes, services, service, plugins, plugin, faults, none"
                ));
            }
        };
        let sort = match self.sort.as_str() {
            "" | "name" => Sort::Name,
            "rate" => Sort::Rate,
            "errors" => Sort::Errors,
            "time" => Sort::Time,
            "inFlight" => Sort::InFlight,
            other => return Err(format!("{other:?} is none of name, rate, errors, time, inFlight")),
        };
        let troubled = match self.only.as_str() {
            "" => false,
            "troubled" => true,
            other => return Err(format!("{other:?} is not troubled")),
        };
        if self.q.len() > LONGEST || self.name.len() > 2 * LONGEST {
            return Err(format!("a text of more than {LONGEST} bytes is looked for"));
        }
        Ok(Viewed { which, text: self.q.to_lowercase(), name: self.name, sort, troubled, offset: self.offset })
    }
}

impl Viewed {
    /// Whether one of these texts contains what is looked for.
    fn finds(&self, texts: &[&str]) -> bool {
        self.text.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&self.text))
    }
}

/// What is remembered from one event to the next of one viewer: the counters of the endpoints that he sees.
#[derive(Default)]
pub(super) struct Memory {
    last: Option<Instant>,
    passed: Option<Passed>,
    picks: HashMap<usize, Rate>,
    shown: Vec<usize>,
    begun: bool,
}

impl Memory {
    /// The event for a sample.
    pub(super) fn event(&mut self, view: &View, viewed: &Viewed, sample: &Arc<Sample>) -> Bytes {
        let now = Instant::now();
        self.passed = self.last.replace(now).map(|last| Passed::of(now.saturating_duration_since(last)));
        let content = match viewed.which {
            Which::Overview => overview::overview(sample, self),
            Which::Gateways => gateways::gateways(viewed, sample),
            Which::Listeners => gateways::listeners(viewed, sample),
            Which::Routes => routes::routes(viewed, sample),
            Which::Services => services::services(viewed, sample),
            Which::Service => services::service(viewed, sample, self),
            Which::Plugins => plugins::plugins(viewed, sample),
            Which::Plugin => plugins::plugin(viewed, sample),
            Which::Faults => faults(viewed, sample),
            Which::Nothing => Value::Null,
        };
        let shown = std::mem::take(&mut self.shown);
        self.picks.retain(|key, _| shown.contains(key));
        let mut event = head(view, sample);
        event["view"] = content;
        if !std::mem::replace(&mut self.begun, true) {
            event["curve"] = json!(sample.curve);
        } else {
            event["point"] = json!(sample.curve.front());
        }
        Bytes::from(format!("data: {}\n\n", escape::json(&event.to_string())))
    }

    /// An endpoint as it is shown.
    fn endpoint(&mut self, endpoint: &Endpoint) -> Value {
        let key = address(&endpoint.stats);
        self.shown.push(key);
        let rate = self.picks.entry(key).or_default().note(endpoint.stats.picks.load(Ordering::Relaxed), self.passed);
        let (state, reason) = endpoint.state();
        json!({
            "address": endpoint.address, "state": state, "reason": reason, "weight": endpoint.weight, "zone": endpoint.zone, "node": endpoint.node,
            "inFlight": endpoint.stats.in_flight(), "latency": endpoint.stats.latency_us() as f32 / 1e3, "success": endpoint.stats.success(),
            "rate": rounded(rate), "picks": endpoint.stats.picks.load(Ordering::Relaxed),
        })
    }
}

/// What every event says.
fn head(view: &View, sample: &Sample) -> Value {
    let State { name, lines, .. } = crate::ready::state(view);
    let status = &sample.status;
    let errors = status.faults.iter().filter(|fault| fault.severity == Severity::Error).count();
    let troubled = status.plugins.iter().filter(|plugin| plugin.state != PluginState::Active).count();
    let reasons: Vec<&String> = lines.iter().take(REASONS).collect();
    json!({
        "at": sample.at, "snapshot": sample.snapshot.version, "state": name, "reasons": reasons, "moreReasons": lines.len().saturating_sub(REASONS),
        "totals": sample.totals,
        "counts": {
            "listeners": sample.index.listeners.len(), "routes": sample.index.routes.len(), "plugins": status.plugins.len(),
            "troubledPlugins": troubled, "errors": errors, "warnings": status.faults.len() - errors,
        },
    })
}

fn faults(viewed: &Viewed, sample: &Sample) -> Value {
    let found = sample.status.faults.iter().filter(|fault| {
        let file = fault.place.as_ref().map(|place| place.file.display().to_string()).unwrap_or_default();
        viewed.finds(&[&fault.message, fault.object.as_deref().unwrap_or_default(), &file])
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|fault| std::cmp::Reverse(fault.severity));
    list(viewed, found, sample.status.faults.len(), |fault| json!(fault))
}

/// A page of a list: its rows, how many there are, and how many were found.
fn list<T>(viewed: &Viewed, found: Vec<T>, all: usize, row: impl FnMut(T) -> Value) -> Value {
    let count = found.len();
    // The list may have become shorter than the page that somebody looks at.
    let offset = if viewed.offset < count { viewed.offset } else { count.saturating_sub(1) / ROWS * ROWS };
    let rows: Vec<Value> = found.into_iter().skip(offset).take(ROWS).map(row).collect();
    json!({ "rows": rows, "all": all, "found": count, "offset": offset, "most": ROWS })
}

/// The largest first, by a figure that may be none.
fn falling(a: Option<f32>, b: Option<f32>) -> std::cmp::Ordering {
    b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0))
}

/// A rate with as many digits as anybody reads.
fn rounded(rate: f32) -> f64 {
    (f64::from(rate) * 1e3).round() / 1e3
}
