//! The admin API, for operators and for `sluicegate get`: health, metrics, and JSON views of services, endpoints, plugins and faults.
//! Listens on loopback unless told otherwise, and knows only the model. [`connections`] takes connections, and [`guard`] asks of each request whether it may come.
//!
//! | path | answer |
//! | --- | --- |
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 once every worker serves a snapshot, 503 before and while the gateway stops; below the first line what is not served or not followed, and why |
//! | `/metrics` | Prometheus text format |
//! | `/api/v1/services`, `/api/v1/endpoints`, `/api/v1/listeners`, `/api/v1/plugins`, `/api/v1/faults` | JSON |
//! | `/api/v1/configuration` | JSON: the files and folders with the objects that are served, and the state folder |
//! | `/api/v1/sources` | JSON: what an API server tells of each kind, and since when |
//! | `/api/v1/objects/gatewayclasses`, `…/gateways`, `…/listenersets`, `…/httproutes`, `…/grpcroutes`, `…/tlsroutes`, `…/tcproutes`, `…/udproutes`, `…/backendtlspolicies`, `…/backendtrafficpolicies`, `…/clienttrafficpolicies`, `…/xbackendtrafficpolicies`, `…/backends`, `…/services` (those that stand for Gateways) | JSON: the objects with their status |
//! | `/api/v1/plugins/NAME/history` | JSON: what happened to it |
//! | POST `/api/v1/plugins/NAME/record` | a trace of a balancer's picks as they are made; 409 while another one is |
//! | POST `/api/v1/requests` | requests as they are answered; 409 while too many others look |
//! | `/api/v1/shadow`; POST there, and to `…/promote`, `…/drop` | JSON: what a configuration in the shadow would have decided otherwise; orders about it |
//! | POST `/api/v1/plugins/NAME/rollback`, `…/promote`, `…/disable`, `…/reload` | an order; 409 if it cannot be done |

mod connections;
mod guard;
mod health_check;
mod metrics;
mod plugins;
mod record;
mod requests;
mod shadow;
mod shown;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use sluicegate_model::escape;
use sluicegate_model::operate::Operate;
use sluicegate_model::record::Recorder;
use sluicegate_model::requests::Requests;
use sluicegate_model::route::PortProtocol;
use sluicegate_model::shadow::Shadow;
use sluicegate_model::stats::{LogStats, ProxyStats};
use sluicegate_model::status::Status;
use sluicegate_model::status::sources::{ReportSource, SourceReport};

use shown::Shown;

pub use health_check::HealthChecks;

/// What the admin API shows.
#[derive(Clone)]
pub struct View {
    /// Written by control.
    pub status: Arc<ArcSwap<Status>>,
    /// Written by the workers.
    pub proxy: Arc<ProxyStats>,
    /// Set when the gateway begins to stop.
    pub stopping: Arc<AtomicBool>,
    /// Takes orders to control.
    pub operate: Operate,
    /// Samples the picks of balancers.
    pub recorder: Arc<Recorder>,
    /// Where the objects come from.
    pub configuration: Arc<Configuration>,
    /// Carries out orders about a configuration in the shadow.
    pub shadow: Arc<dyn Shadow>,
    /// Samples requests.
    pub requests: Arc<Requests>,
    /// What became of the lines of the process's log.
    pub log: Arc<LogStats>,
    /// Sources that say what they see.
    pub sources: Vec<Arc<dyn ReportSource>>,
}

/// Where the objects come from that are served.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The files and folders, by their whole paths.
    pub paths: Vec<PathBuf>,
    /// Where allocations are kept.
    pub state_dir: PathBuf,
}

/// By which names the admin API is asked.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Host names of the admin API, besides `localhost` and addresses.
    pub hosts: Vec<String>,
}

/// Serves the admin API until the future is dropped; what has begun then goes on.
pub async fn serve(listener: tokio::net::TcpListener, view: View, access: Access) {
    connections::accept(listener, router(view).layer(middleware::from_fn_with_state(Arc::new(access), guard::guarded))).await;
}

fn router(view: View) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/services", get(|State(v): State<View>| beside(v, |status| Shown(&status.services).into_response())))
        .route("/api/v1/endpoints", get(endpoints))
        .route("/api/v1/listeners", get(|State(v): State<View>| beside(v, |status| Shown(&status.listeners).into_response())))
        .route("/api/v1/plugins", get(|State(v): State<View>| beside(v, |status| Shown(&status.plugins).into_response())))
        .route("/api/v1/plugins/{name}/history", get(plugins::history))
        .route("/api/v1/plugins/{name}/record", post(record::record))
        .route("/api/v1/plugins/{name}/{action}", post(plugins::order))
        .route("/api/v1/configuration", get(|State(v): State<View>| async move { Shown(&*v.configuration).into_response() }))
        .route("/api/v1/shadow", get(shadow::status).post(shadow::begin))
        .route("/api/v1/shadow/{order}", post(shadow::order))
        .route("/api/v1/requests", post(requests::sample))
        .route("/api/v1/objects/{plural}", get(objects))
        .route("/api/v1/sources", get(|State(v): State<View>| async move { Shown(reports(&v)).into_response() }))
        .route("/api/v1/faults", get(|State(v): State<View>| beside(v, |status| Shown(&status.faults).into_response())))
        .with_state(view)
}

async fn objects(State(view): State<View>, Path(plural): Path<String>) -> Response {
    beside(view, move |status| match status.objects.as_ref().and_then(|objects| objects.objects(&plural)) {
        Some(objects) => Shown(objects).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
    .await
}

/// Makes an answer on a thread of its own: with 100,000 endpoints it takes a while, and `/healthz` must not wait for it.
async fn beside(view: View, make: impl FnOnce(&Status) -> Response + Send + 'static) -> Response {
    let made = tokio::task::spawn_blocking(move || make(&view.status.load()));
    made.await.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], error.to_string()).into_response()
}

async fn ready(State(view): State<View>) -> impl IntoResponse {
    if view.stopping.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned())
    } else if view.proxy.serving.load(Ordering::Relaxed) == 0 {
        (StatusCode::SERVICE_UNAVAILABLE, format!("no snapshot is served yet\n{}", unseen(&view)))
    } else if view.proxy.overload.refusing.load(Ordering::Relaxed) != 0 {
        (StatusCode::SERVICE_UNAVAILABLE, "new work is refused for want of memory or descriptors\n".to_owned())
    } else {
        let status = view.status.load();
        if !status.awaited.is_empty() {
            let awaited: String =
                status.awaited.iter().map(|name| format!("no endpoints were found yet: {}\n", escape::line(name))).collect();
            return (StatusCode::SERVICE_UNAVAILABLE, format!("endpoints are looked for\n{awaited}"));
        }
        // What is missing does not keep traffic from the rest. So it is told, and is no reason for a balancer in front to go elsewhere.
        let unserved = status.unserved();
        let unserved: String = std::iter::once("ok".to_owned()).chain(unserved).map(|line| format!("{}\n", escape::line(&line))).collect();
        (StatusCode::OK, unserved + &unseen(&view))
    }
}

/// What each source sees.
fn reports(view: &View) -> Vec<SourceReport> {
    view.sources.iter().map(|source| source.report()).collect()
}

/// What sources do not see, a line each.
fn unseen(view: &View) -> String {
    let reports = reports(view);
    reports.iter().flat_map(SourceReport::unseen).map(|line| format!("{}\n", escape::line(&line))).collect()
}

async fn metrics(State(view): State<View>) -> Response {
    match tokio::task::spawn_blocking(move || metrics::encode(view)).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

async fn endpoints(State(view): State<View>) -> Response {
    beside(view, |status| Shown(endpoint_rows(status)).into_response()).await
}

/// One endpoint of a service port, in the order of the fields' names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'s> {
    address: SocketAddr,
    in_flight: u32,
    latency_microseconds: u32,
    namespace: &'s str,
    node: &'s Option<String>,
    panic: bool,
    picks: u64,
    port: u16,
    port_name: &'s str,
    protocol: PortProtocol,
    ready: bool,
    reason: Option<String>,
    service: &'s str,
    serving: bool,
    state: &'static str,
    success: f64,
    terminating: bool,
    weight: u32,
    zone: &'s Option<String>,
}

fn endpoint_rows(status: &Status) -> Vec<Row<'_>> {
    let rows = status.services.iter().flat_map(|service| {
        service.ports.iter().flat_map(move |port| {
            port.endpoints.iter().map(move |e| {
                let (state, reason) = e.state();
                Row {
                    address: e.address,
                    in_flight: e.stats.in_flight(),
                    latency_microseconds: e.stats.latency_us(),
                    namespace: &service.namespace,
                    node: &e.node,
                    panic: port.stats.health.panic.load(Ordering::Relaxed),
                    picks: e.stats.picks.load(Ordering::Relaxed),
                    port: port.port,
                    port_name: &port.name,
                    protocol: port.protocol,
                    ready: e.ready,
                    reason,
                    service: &service.name,
                    serving: e.serving,
                    state,
                    success: f64::from(e.stats.success()),
                    terminating: e.terminating,
                    weight: e.weight,
                    zone: &e.zone,
                }
            })
        })
    });
    rows.collect()
}
