//! Exports metrics from time to time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sluicegate_model::telemetry::metric::Family;
use tokio::sync::oneshot;

use crate::convert::Scope;
use crate::convert::metric::{Moments, requests};
use crate::export::Exporter;

/// Where metrics come from.
pub(crate) type Source = Box<dyn Fn() -> Vec<Family> + Send>;

/// Exports metrics until the end is asked for, and then once more.
pub(crate) async fn run(given: oneshot::Receiver<Source>, interval: Duration, scope: Arc<Scope>, mut exporter: Exporter) {
    let start = SystemTime::now();
    let Some(source) = exporter.unless_stopped(given).await.and_then(Result::ok) else { return };
    while !exporter.is_stopping() {
        exporter.pause(interval).await;
        for message in requests(&scope, source(), Moments { start, now: SystemTime::now() }) {
            exporter.export(message).await;
        }
    }
}
