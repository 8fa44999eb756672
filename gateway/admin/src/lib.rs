//! The admin API, for operators and for `sluicegate get`: health, metrics, and JSON views of services, endpoints, plugins and faults.
//! Listens on loopback unless told otherwise, and knows only the model.
//!
//! | path | answer |
//! | --- | --- |
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 once every worker serves a snapshot, 503 before and while the gateway stops |
//! | `/metrics` | Prometheus text format |
//! | `/api/v1/services`, `/api/v1/endpoints`, `/api/v1/listeners`, `/api/v1/plugins`, `/api/v1/faults` | JSON |
//! | `/api/v1/plugins/NAME/history` | JSON: what happened to it |
//! | POST `/api/v1/plugins/NAME/record` | a trace of a balancer's picks as they are made; 409 while another one is |
//! | POST `/api/v1/plugins/NAME/rollback`, `…/promote`, `…/disable`, `…/reload` | an order; 409 if it cannot be done |

mod health_check;
mod metrics;
mod plugins;
mod record;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use sluicegate_model::operate::Operate;
use sluicegate_model::record::Recorder;
use sluicegate_model::stats::ProxyStats;
use sluicegate_model::status::Status;

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
    /// Samples balancers' picks.
    pub recorder: Arc<Recorder>,
}

/// Serves until `shutdown` is ready.
pub async fn serve(
    listener: tokio::net::TcpListener,
    view: View,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(view)).with_graceful_shutdown(shutdown).await
}

fn router(view: View) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/services", get(|State(v): State<View>| async move { Json(v.status.load().services.clone()) }))
        .route("/api/v1/endpoints", get(endpoints))
        .route("/api/v1/listeners", get(|State(v): State<View>| async move { Json(v.status.load().listeners.clone()) }))
        .route("/api/v1/plugins", get(|State(v): State<View>| async move { Json(v.status.load().plugins.clone()) }))
        .route("/api/v1/plugins/{name}/history", get(plugins::history))
        .route("/api/v1/plugins/{name}/record", post(record::record))
        .route("/api/v1/plugins/{name}/{action}", post(plugins::order))
        .route("/api/v1/faults", get(|State(v): State<View>| async move { Json(v.status.load().faults.clone()) }))
        .with_state(view)
}

async fn ready(State(view): State<View>) -> impl IntoResponse {
    if view.stopping.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if view.proxy.serving.load(Ordering::Relaxed) == 0 {
        (StatusCode::SERVICE_UNAVAILABLE, "no snapshot is served yet\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn metrics(State(view): State<View>) -> impl IntoResponse {
    match metrics::encode(view) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], error.to_string()),
    }
}

async fn endpoints(State(view): State<View>) -> Json<Vec<serde_json::Value>> {
    let status = view.status.load();
    let rows = status.services.iter().flat_map(|service| {
        service.ports.iter().flat_map(move |port| {
            port.endpoints.iter().map(move |e| {
                let (state, reason) = e.state();
                serde_json::json!({
                    "namespace": service.namespace, "service": service.name, "port": port.port, "portName": port.name, "protocol": port.protocol,
                    "address": e.address, "ready": e.ready, "serving": e.serving, "terminating": e.terminating, "weight": e.weight,
                    "state": state, "reason": reason, "panic": port.stats.health.panic.load(Ordering::Relaxed),
                    "zone": e.zone, "node": e.node, "inFlight": e.stats.in_flight(), "latencyMicroseconds": e.stats.latency_us(),
                    "success": e.stats.success(), "picks": e.stats.picks.load(Ordering::Relaxed),
                })
            })
        })
    });
    Json(rows.collect())
}
