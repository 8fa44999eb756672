//! The clients: connections that are kept, each with one request after another, and the outcomes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How many requests are under way at a time.
pub(super) const CLIENTS: usize = 16;
/// The pause between two requests of a client.
const PAUSE: Duration = Duration::from_millis(5);
/// How long an answer may take before it counts as a failure.
const DEADLINE: Duration = Duration::from_secs(5);

/// The outcomes of the requests of a stretch of time.
#[derive(Default)]
pub(super) struct Step {
    /// The latencies of the requests that went well, in microseconds.
    latencies: Vec<u32>,
    pods: BTreeMap<String, usize>,
    failures: usize,
    first_failure: Option<String>,
}

impl Step {
    pub(super) fn requests(&self) -> usize {
        self.latencies.len() + self.failures
    }

    pub(super) fn failures(&self) -> usize {
        self.failures
    }

    pub(super) fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    pub(super) fn pods(&self) -> &BTreeMap<String, usize> {
        &self.pods
    }

    /// How many pods have answered, and how often the one did that answered least, and most.
    pub(super) fn spread(&self) -> Option<(usize, usize, usize)> {
        Some((self.pods.len(), *self.pods.values().min()?, *self.pods.values().max()?))
    }

    /// A percentile of the latencies, by the nearest rank.
    pub(super) fn percentile(&self, share: f64) -> Option<Duration> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map(|us| Duration::from_micros((*us).into()))
    }

    /// Adds the requests of an earlier stretch, which were spread over other pods.
    pub(super) fn add_without_pods(&mut self, earlier: Self) {
        self.latencies.extend(earlier.latencies);
        self.failures += earlier.failures;
        self.first_failure = earlier.first_failure.or(self.first_failure.take());
    }

    fn record(&mut self, outcome: Result<String, String>, took: Duration) {
        match outcome {
            Ok(pod) => {
                self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                *self.pods.entry(pod).or_default() += 1;
            }
            Err(failure) => {
                self.failures += 1;
                self.first_failure.get_or_insert(failure);
            }
        }
    }
}

/// The clients, on a thread of their own.
#[derive(Default)]
pub(super) struct Load {
    now: Arc<Mutex<Step>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(to: SocketAddr) -> std::io::Result<Self> {
        let mut load = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (now, stop) = (load.now.clone(), load.stop.clone());
        let clients = move || {
            runtime.block_on(async {
                let all: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(client(to, now.clone(), stop.clone()))).collect();
                for client in all {
                    let _ = client.await;
                }
            });
        };
        load.thread = Some(std::thread::Builder::new().name("clients".to_owned()).spawn(clients)?);
        Ok(load)
    }

    /// The outcomes of the requests that have ended since the last call.
    pub(super) fn take(&self) -> Step {
        std::mem::take(&mut *self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn client(to: SocketAddr, now: Arc<Mutex<Step>>, stop: Arc<AtomicBool>) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(DEADLINE, ask(to, &mut connection)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {DEADLINE:?}")),
        };
        if outcome.is_err() {
            connection = None;
        }
        now.lock().unwrap_or_else(PoisonError::into_inner).record(outcome, begun.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Sends one request. Returns the name of the pod that answered, or what went wrong. Nothing is tried twice.
async fn ask(to: SocketAddr, connection: &mut Option<SendRequest<Empty<Bytes>>>) -> Result<String, String> {
    // If the gateway has closed a connection between two requests, no request has failed.
    let mut sender = match connection.take().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(to).await.map_err(|e| format!("connecting: {e}"))?;
            let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|e| format!("connecting: {e}"))?;
            tokio::spawn(driver);
            sender
        }
    };
    let request = Request::get("/").header(header::HOST, to.to_string()).body(Empty::new()).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| format!("asking: {e}"))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|e| format!("reading: {e}"))?.to_bytes();
    let body = String::from_utf8_lossy(&body).trim().to_owned();
    if !status.is_success() {
        return Err(format!("{status}: {body}"));
    }
    *connection = Some(sender);
    Ok(body)
}
