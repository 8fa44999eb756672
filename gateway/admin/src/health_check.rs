//! Answers a load balancer in front at a Service's `healthCheckNodePort`: it says whether this node has endpoints, as kube-proxy does. These ports are on the
//! node's addresses, for everybody, so each answer closes its connection, and all have a deadline.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sluicegate_model::operate::Readiness;
use sluicegate_model::snapshot::HealthCheck;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
/// How long one connection may take, from its beginning to its end.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many connections of one port are served at a time; more wait in its queue.
const AT_ONCE: usize = 64;
/// How long to wait after an accept has failed for want of descriptors, as trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The health check node ports.
pub struct HealthChecks {
    /// Whether new connections are to come here.
    readiness: Arc<Readiness>,
    ports: Mutex<BTreeMap<SocketAddr, Port>>,
}

struct Port {
    socket: TcpListener,
    shown: Arc<ArcSwap<HealthCheck>>,
    task: AbortHandle,
}

impl HealthChecks {
    /// No health checks are answered yet.
    pub fn new(readiness: Arc<Readiness>) -> Self {
        Self { readiness, ports: Mutex::default() }
    }

    /// Closes the ports that are not among these.
    pub fn release(&self, wanted: &[HealthCheck]) {
        let gone = |address: &SocketAddr| !wanted.iter().any(|check| check.addresses.contains(address));
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, port) in ports.extract_if(.., |address, _| gone(address)) {
            port.task.abort();
        }
    }

    /// Serves these ports and no others. Returns what could not be bound. It must be called within a runtime, which serves them.
    pub fn update(&self, wanted: &[HealthCheck], bind: impl Fn(SocketAddr) -> std::io::Result<TcpListener>) -> Vec<String> {
        self.release(wanted);
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failures = Vec::new();
        for (check, address) in wanted.iter().flat_map(|check| check.addresses.iter().map(move |address| (check, *address))) {
            if let Some(port) = ports.get(&address) {
                port.shown.store(Arc::new(check.clone()));
                continue;
            }
            match bind(address).and_then(|socket| self.serve(socket, check)) {
                Ok(port) => drop(ports.insert(address, port)),
                Err(error) => {
                    failures
                        .push(format!("health check node port of {}/{}: cannot listen on {address}: {error}", check.namespace, check.name));
                }
            }
        }
        failures
    }

    /// Stops answering, as a successor answers from the same sockets.
    pub fn leave(&self) {
        for port in self.ports.lock().unwrap_or_else(PoisonError::into_inner).values() {
            port.task.abort();
        }
    }

    /// A second descriptor of each socket, for a successor.
    pub fn sockets(&self) -> Vec<TcpListener> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).values().filter_map(|port| port.socket.try_clone().ok()).collect()
    }

    fn serve(&self, socket: TcpListener, check: &HealthCheck) -> std::io::Result<Port> {
        socket.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(socket.try_clone()?)?;
        let shown = Arc::new(ArcSwap::from_pointee(check.clone()));
        let task = tokio::spawn(accept(listener, shown.clone(), self.readiness.clone())).abort_handle();
        Ok(Port { socket, shown, task })
    }
}

async fn accept(listener: tokio::net::TcpListener, shown: Arc<ArcSwap<HealthCheck>>, readiness: Arc<Readiness>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (shown, readiness) = (shown.clone(), readiness.clone());
        tokio::spawn(async move {
            let _place = place;
            let service = hyper::service::service_fn(move |_| {
                let healthy = !readiness.is_away();
                let answer = answer(&shown.load(), healthy);
                async move { Ok::<_, Infallible>(answer) }
            });
            // Go's server, with which load balancers were tried, writes its fields this way.
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).title_case_headers(true).keep_alive(false);
            let _ = tokio::time::timeout(DEADLINE, http.serve_connection(TokioIo::new(stream), service)).await;
        });
    }
}

/// kube-proxy's answer to any request, to the byte.
fn answer(check: &HealthCheck, healthy: bool) -> Response<Full<Bytes>> {
    let HealthCheck { namespace, name, local_endpoints: count, .. } = check;
    // Names of objects need no escapes.
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = if *count > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(WEIGHT, HeaderValue::from(*count));
    response
}
