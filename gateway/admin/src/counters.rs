//! `/api/v1/counters`: what `sluicegate top` makes rates of: counters since the start, and histograms, in a form that is short for 10,000 Services. `/metrics` has more.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sluicegate_model::pool::Endpoint;
use sluicegate_model::route::PortProtocol;
use sluicegate_model::stats::Histogram;
use sluicegate_model::status::{PluginStatus, PortStatus, ServiceStatus, Status};

use crate::View;
use crate::shown::Shown;

/// When the clock of the answers began.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Of {
    #[default]
    Services,
    Endpoints,
    Plugins,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    of: Of,
}

/// The counters of one kind of thing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counters {
    /// A clock, in microseconds: rates are differences of counters by differences of this.
    at_microseconds: u64,
    rows: Vec<Row>,
}

/// The counters of one thing. Rows of two looks belong together if they have one name.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// `NAMESPACE/SERVICE:PORT`, with `/UDP` behind it where it is not TCP; of an endpoint with its address behind that; or the plugin's name.
    name: String,
    /// What has ended or was picked or called: exchanges of HTTP, connections of TCP, picks of an endpoint, calls of a plugin.
    count: u64,
    /// Those of them that have failed.
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_out: Option<u64>,
    /// The buckets of how long that took that are not empty: the upper bound in seconds, none for the last one, and the count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    times: Vec<(Option<f64>, u64)>,
    /// What is known only as a mean, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_microseconds: Option<u64>,
    /// The state of an endpoint or plugin; what a service port speaks.
    state: String,
}

pub(crate) async fn counters(State(view): State<View>, Query(wanted): Query<Wanted>) -> Response {
    let made = tokio::task::spawn_blocking(move || {
        let status = view.status.load();
        let at_microseconds = u64::try_from(BEGUN.elapsed().as_micros()).unwrap_or(u64::MAX);
        let rows = match wanted.of {
            Of::Services => ports(&status).map(|(name, port)| of_port(name, port)).collect(),
            Of::Endpoints => ports(&status).flat_map(|(name, port)| of_endpoints(&name, port)).collect(),
            Of::Plugins => status.plugins.iter().map(of_plugin).collect(),
        };
        Shown(Counters { at_microseconds, rows }).into_response()
    });
    made.await.unwrap_or_else(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response())
}

fn ports(status: &Status) -> impl Iterator<Item = (String, &PortStatus)> {
    let name = |service: &ServiceStatus, port: &PortStatus| {
        let protocol = if port.protocol == PortProtocol::Tcp { String::new() } else { format!("/{}", port.protocol) };
        format!("{}/{}:{}{protocol}", service.namespace, service.name, port.port)
    };
    status.services.iter().flat_map(move |service| service.ports.iter().map(move |port| (name(service, port), port)))
}

fn of_port(name: String, port: &PortStatus) -> Row {
    let stats = &port.stats;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (exchanges, udp) = (stats.exchanges(), stats.udp.get());
    let (flows, udp_in, udp_out) = udp.map_or((0, 0, 0), |udp| (load(&udp.flows), load(&udp.bytes_in), load(&udp.bytes_out)));
    // What finds no endpoint is answered 503 where HTTP is spoken, and is among those already.
    let failed = if exchanges == 0 { load(&stats.no_endpoint) } else { load(&stats.responses[4]) };
    let ready = port.endpoints.iter().filter(|endpoint| endpoint.ready).count();
    Row {
        name,
        count: exchanges + load(&stats.connections) + flows,
        errors: failed,
        in_flight: Some(port.endpoints.iter().map(|endpoint| u64::from(endpoint.stats.in_flight())).sum()),
        bytes_in: Some(load(&stats.bytes_in) + udp_in),
        bytes_out: Some(load(&stats.bytes_out) + udp_out),
        times: times(if exchanges == 0 { &stats.connection_time } else { &stats.exchange_time }),
        mean_microseconds: None,
        state: format!("{ready}/{}", port.endpoints.len()),
    }
}

fn times(histogram: &Histogram) -> Vec<(Option<f64>, u64)> {
    let filled = histogram.buckets().into_iter().filter(|(_, count)| *count > 0);
    filled.map(|(bound, count)| (bound.is_finite().then_some(bound), count)).collect()
}

fn of_endpoints(port: &str, status: &PortStatus) -> Vec<Row> {
    let row = |endpoint: &Endpoint| {
        let (stats, (state, _)) = (&endpoint.stats, endpoint.state());
        Row {
            name: format!("{port} {}", endpoint.address),
            count: stats.picks.load(Ordering::Relaxed),
            // Endpoints have an average of successes, and no counter of failures.
            errors: 0,
            in_flight: Some(u64::from(stats.in_flight())),
            bytes_in: None,
            bytes_out: None,
            times: Vec::new(),
            mean_microseconds: Some(u64::from(stats.latency_us())),
            state: format!("{state}, {:.0} % good", f64::from(stats.success()) * 100.0),
        }
    };
    status.endpoints.iter().map(row).collect()
}

fn of_plugin(plugin: &PluginStatus) -> Row {
    let [calls, failures, timed, nanos, _, _] = plugin.counters.counts();
    let state = format!("{:?}", plugin.state).to_lowercase();
    let generation = plugin.generation.as_ref().map(|generation| format!(", generation {}", generation.number)).unwrap_or_default();
    Row {
        name: plugin.name.clone(),
        count: calls,
        errors: failures,
        in_flight: None,
        bytes_in: None,
        bytes_out: None,
        times: Vec::new(),
        mean_microseconds: (timed > 0).then(|| nanos.checked_div(timed).unwrap_or_default() / 1_000),
        state: state + &generation,
    }
}
