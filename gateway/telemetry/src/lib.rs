//! Exports to collectors of OpenTelemetry by its protocol, OTLP: the spans of exchanges, the access log, and the metrics that `/metrics` shows.
//!
//! Nobody who serves waits for this. Workers hand plain values to bounded queues ([`sluicegate_model::telemetry`]); one thread takes batches from there
//! ([`batch`]), makes messages of them ([`convert`]), and sends them again if that may help ([`export`]), over a connection that is kept ([`channel`]) to the
//! [`target`]. What there is no room for, and what a collector does not take in time, is dropped and counted.
//!
//! The messages are those of `opentelemetry-proto`. The exporters of `opentelemetry-otlp` take spans, records and metrics only as the SDK's own instruments
//! make them, each with its lock, and bring a second HTTP client.

mod batch;
mod channel;
mod convert;
mod export;
mod scrape;
pub mod settings;
mod target;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use sluicegate_model::stats::TelemetryStats;
use sluicegate_model::telemetry::metric::Family;
use sluicegate_model::telemetry::record::Record;
use sluicegate_model::telemetry::sampler::Sampler;
use sluicegate_model::telemetry::{Outlet, Tracer};
use tokio::sync::{oneshot, watch};

use batch::Queue;
use convert::Scope;
use export::Exporter;
use scrape::Source;
use settings::Settings;
pub use target::{BadTarget, Protocol, Target, TargetSettings, Tls};

/// How long the end may take.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What is wrong with the settings, or keeps the thread from being started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A collector cannot be reached as configured.
    #[error("telemetry: {0}")]
    Target(#[from] BadTarget),
    /// The thread or its event loop cannot be made.
    #[error("telemetry: {0}")]
    Thread(#[from] std::io::Error),
}

/// The running exporters.
pub struct Telemetry {
    tracer: Option<Arc<Tracer>>,
    records: Option<Outlet<Record>>,
    source: Option<oneshot::Sender<Source>>,
    stop: watch::Sender<bool>,
    ended: Receiver<()>,
}

impl Telemetry {
    /// Starts what is configured; none: nothing is.
    ///
    /// # Errors
    /// A collector cannot be reached as configured, or there can be no more threads.
    pub fn start(settings: &Settings, stats: &TelemetryStats) -> Result<Option<Self>, Error> {
        if settings.traces.is_none() && settings.metrics.is_none() && settings.logs.is_none() {
            return Ok(None);
        }
        let scope = Arc::new(Scope::new(&settings.service_name, &settings.resource));
        let (stop, stopped) = watch::channel(false);
        let mut tasks: Vec<Task> = Vec::new();
        let tracer = match &settings.traces {
            None => None,
            Some(traces) => {
                let (outlet, taken) = Outlet::new(traces.queue.room, stats.traces.clone());
                let exporter = Exporter::new("traces", &traces.to, stats.traces.clone(), stopped.clone())?;
                let queue = Queue { taken, batch: traces.queue, scope: scope.clone(), exporter, convert: convert::trace::request };
                tasks.push(Box::pin(queue.run()));
                Some(Arc::new(Tracer::new(Sampler::new(traces.ratio, traces.by_parent), outlet)))
            }
        };
        let records = match &settings.logs {
            None => None,
            Some(logs) => {
                let (outlet, taken) = Outlet::new(logs.queue.room, stats.logs.clone());
                let exporter = Exporter::new("logs", &logs.to, stats.logs.clone(), stopped.clone())?;
                let queue = Queue { taken, batch: logs.queue, scope: scope.clone(), exporter, convert: convert::log::request };
                tasks.push(Box::pin(queue.run()));
                Some(outlet)
            }
        };
        let (source, given) = oneshot::channel();
        if let Some(metrics) = &settings.metrics {
            let exporter = Exporter::new("metrics", &metrics.to, stats.metrics.clone(), stopped.clone())?;
            tasks.push(Box::pin(scrape::run(given, metrics.interval, scope.clone(), exporter)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = sync_channel(1);
        std::thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let running: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
                for task in running {
                    // Only a panic would be an error, and the other signals go on.
                    let _ = task.await;
                }
            });
            // Nobody may be waiting any more.
            let _ = end.send(());
        })?;
        Ok(Some(Self { tracer, records, source: Some(source), stop, ended }))
    }

    /// Decides which exchanges are traced, and takes their spans; none: no traces are exported.
    pub fn tracer(&self) -> Option<Arc<Tracer>> {
        self.tracer.clone()
    }

    /// Takes the lines of the access log; none: they are not exported.
    pub fn records(&self) -> Option<Outlet<Record>> {
        self.records.clone()
    }

    /// Says where metrics come from. Until then none are exported.
    pub fn scrape(&mut self, source: impl Fn() -> Vec<Family> + Send + 'static) {
        if let Some(to) = self.source.take() {
            // Where metrics are not exported, nobody wants to know.
            let _ = to.send(Box::new(source));
        }
    }

    /// Exports what waits, once and not for long, and ends. A collector that does not answer does not hold up the end.
    pub fn end(self) {
        let _ = self.stop.send(true);
        if self.ended.recv_timeout(LAST_WORDS).is_err() {
            tracing::warn!("the last of what is exported could not be sent to its collector in time");
        }
    }
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
