//! The admin API, for operators, for `sluicegate get` and for the page: health, metrics, and JSON views of services, endpoints, plugins and faults.
//! Listens on loopback unless told otherwise, and knows only the model. [`connections`] takes connections, and [`guard`] asks
//! of each request whether it may come, by the logins that [`gate`] knows.
//!
//! | path | answer |
//! | --- | --- |
//! | `/`, `/page/NAME` | the page for people |
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 once every worker serves a snapshot, 503 before and while the gateway stops; below the first line what is not served or not followed, and why |
//! | `/metrics` | Prometheus text format |
//! | `/api/v1/services`, `/api/v1/endpoints`, `/api/v1/listeners`, `/api/v1/plugins`, `/api/v1/faults` | JSON |
//! | `/api/v1/configuration` | JSON: the files and folders with the objects that are served, and the state folder |
//! | `/api/v1/counters` | JSON: counters of service ports, endpoints (`?of=endpoints`) or plugins, of which rates are made |
//! | `/api/v1/config` | JSON: what is served right now, with settings and without secrets |
//! | `/api/v1/whoami` | JSON: the role and the name of who asks |
//! | `/api/v1/sources` | JSON: what an API server tells of each kind, and since when |
//! | `/api/v1/objects/gatewayclasses`, `…/gateways`, `…/listenersets`, `…/httproutes`, `…/grpcroutes`, `…/tlsroutes`, `…/tcproutes`, `…/udproutes`, `…/backendtlspolicies`, `…/backendtrafficpolicies`, `…/clienttrafficpolicies`, `…/xbackendtrafficpolicies`, `…/backends`, `…/services` (those that stand for Gateways) | JSON: the objects with their status |
//! | `/api/v1/live` | what the page shows, as server-sent events: one a second |
//! | `/api/v1/explain` | JSON: what would become of a request |
//! | `/api/v1/plugins/NAME/history` | JSON: what happened to it |
//! | POST `/api/v1/plugins/NAME/record` | a trace of a balancer's picks as they are made; 409 while another one is |
//! | POST `/api/v1/requests` | requests as they are answered; 409 while too many others look |
//! | `/api/v1/shadow`; POST there, and to `…/promote`, `…/drop` | JSON: what a configuration in the shadow would have decided otherwise; orders about it |
//! | POST `/api/v1/plugins/NAME/rollback`, `…/promote`, `…/disable`, `…/reload` | an order; 409 if it cannot be done |
//! | POST `/api/v1/drain`, `/api/v1/resume` | an order: `/readyz` answers 503 from now on, or no longer |

mod access;
mod attempts;
mod config;
mod connection;
mod connections;
mod counters;
mod explain;
mod gate;
mod guard;
mod health_check;
mod live;
mod metrics;
mod page;
mod patient;
mod plugins;
mod ready;
mod record;
mod refused;
mod requests;
mod shadow;
mod shown;
mod tokens;
mod tree;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use axum::extract::{FromRef, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Serialize;
use sluicegate_model::explain::Explain;
use sluicegate_model::operate::{Operate, Readiness};
use sluicegate_model::record::Recorder;
use sluicegate_model::requests::Requests;
use sluicegate_model::route::PortProtocol;
use sluicegate_model::shadow::Shadow;
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::stats::{LogStats, ProxyStats};
use sluicegate_model::status::Status;
use sluicegate_model::status::sources::{ReportSource, SourceReport};
use sluicegate_model::telemetry::metric::Family;

use access::Caller;
use live::Live;
use shown::Shown;
use tokio::sync::Semaphore;

pub use access::{Access, ClientCertificates, TlsFiles};
pub use gate::{Gate, LoginStats};
pub use health_check::HealthChecks;
pub use metrics::ports::Ports;
pub use tree::tree;

/// What the admin API shows.
#[derive(Clone)]
pub struct View {
    /// Written by control.
    pub status: Arc<ArcSwap<Status>>,
    /// Written by the workers.
    pub proxy: Arc<ProxyStats>,
    /// What the workers serve, written with each publication.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Whether new work is to be sent here.
    pub readiness: Arc<Readiness>,
    /// Says what would become of a request.
    pub explain: Explain,
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
    /// The process's own settings, each with its value and where that comes from.
    pub process: Arc<[serde_json::Value]>,
    /// What became of logins to the admin API.
    pub login: Arc<LoginStats>,
    /// Sources that say what they see.
    pub sources: Vec<Arc<dyn ReportSource>>,
    /// Which service ports have series of their own.
    pub ports: Arc<Ports>,
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

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    view: View,
    live: Arc<Live>,
    /// One request is explained at a time.
    explaining: Arc<Semaphore>,
}

impl FromRef<Shared> for View {
    fn from_ref(shared: &Shared) -> Self {
        shared.view.clone()
    }
}

/// Serves the admin API until the future is dropped; what has begun then goes on.
pub async fn serve(listener: tokio::net::TcpListener, view: View, gate: Arc<Gate>) {
    let router = router(view).layer(middleware::from_fn_with_state(gate.clone(), guard::guarded));
    tokio::join!(connections::accept(listener, router, gate.clone()), gate.follow());
}

fn router(view: View) -> Router {
    let shared = Shared { view, live: Arc::default(), explaining: Arc::new(Semaphore::new(1)) };
    Router::new()
        .route("/", get(page::document))
        .route("/page/{name}", get(page::file))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|State(v): State<View>| beside(v, |view, _| ready::state(view).answer().into_response())))
        .route("/metrics", get(metrics))
        .route("/api/v1/services", get(|State(v): State<View>| beside(v, |_, status| Shown(&status.services).into_response())))
        .route("/api/v1/endpoints", get(|State(v): State<View>| beside(v, |_, status| Shown(endpoint_rows(status)).into_response())))
        .route("/api/v1/listeners", get(|State(v): State<View>| beside(v, |_, status| Shown(&status.listeners).into_response())))
        .route("/api/v1/plugins", get(|State(v): State<View>| beside(v, |_, status| Shown(&status.plugins).into_response())))
        .route("/api/v1/plugins/{name}/history", get(plugins::history))
        .route("/api/v1/plugins/{name}/record", post(record::record))
        .route("/api/v1/plugins/{name}/{action}", post(plugins::order))
        .route("/api/v1/configuration", get(|State(v): State<View>| async move { Shown(&*v.configuration).into_response() }))
        .route("/api/v1/shadow", get(shadow::status).post(shadow::begin))
        .route("/api/v1/shadow/{order}", post(shadow::order))
        .route("/api/v1/requests", post(requests::sample))
        .route("/api/v1/objects/{plural}", get(objects))
        .route("/api/v1/counters", get(counters::counters))
        .route("/api/v1/config", get(config::config))
        .route("/api/v1/whoami", get(|Extension(caller): Extension<Caller>| async move { Shown(caller).into_response() }))
        .route("/api/v1/sources", get(|State(v): State<View>| async move { Shown(reports(&v)).into_response() }))
        .route("/api/v1/faults", get(|State(v): State<View>| beside(v, |_, status| Shown(&status.faults).into_response())))
        .route("/api/v1/live", get(live::live))
        .route("/api/v1/explain", get(explain::explain))
        .route("/api/v1/drain", post(|State(v): State<View>| async move { drain(&v, true) }))
        .route("/api/v1/resume", post(|State(v): State<View>| async move { drain(&v, false) }))
        .with_state(shared)
}

/// Has what stands in front send nothing new here, or ends that. Everything else goes on, as during a `shutdown.delay`.
fn drain(view: &View, drained: bool) -> &'static str {
    view.readiness.drain(drained);
    tracing::info!(drained, "by an operator's order");
    if drained { "drained: /readyz answers 503, and what comes is served\n" } else { "resumed: /readyz answers as before\n" }
}

async fn objects(State(view): State<View>, Path(plural): Path<String>) -> Response {
    beside(view, move |_, status| match status.objects.as_ref().and_then(|objects| objects.objects(&plural)) {
        Some(objects) => Shown(objects).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
    .await
}

/// Makes an answer on a thread of its own: with 100,000 endpoints it takes a while, and `/healthz` must not wait for it.
async fn beside(view: View, make: impl FnOnce(&View, &Status) -> Response + Send + 'static) -> Response {
    let made = tokio::task::spawn_blocking(move || make(&view, &view.status.load()));
    made.await.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], error.to_string()).into_response()
}

/// What each source sees.
fn reports(view: &View) -> Vec<SourceReport> {
    view.sources.iter().map(|source| source.report()).collect()
}

impl View {
    /// All metrics as they are now, for a collector.
    pub fn metrics(&self) -> Vec<Family> {
        metrics::gather(self)
    }
}

async fn metrics(State(view): State<View>, headers: HeaderMap) -> Response {
    // Of the two text formats only this one has exemplars, so whoever does not name it may stumble over them.
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("application/openmetrics-text"));
    let exemplars = headers.get_all(header::ACCEPT).iter().any(accepts);
    match tokio::task::spawn_blocking(move || metrics::encode(&view, exemplars)).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
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
