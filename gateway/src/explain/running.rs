//! Requests explained by what a running gateway serves. Only how things are written is control's knowledge, and control is asked for that between two changes.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use sluicegate_control::controller::Inquiry;
use sluicegate_model::explain::Explain;
use sluicegate_model::fault::{Fault, Place};
use sluicegate_model::route::RouteTable;
use sluicegate_model::snapshot::{RouterRung, Snapshot};
use sluicegate_model::status::Status;
use tokio::sync::mpsc::Sender;

use super::{Asked, Planned, World, Written};

/// How long control is waited for. It may be at work on a large change; then the rest of the explanation has to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// What explains requests by this snapshot and status.
pub(crate) fn running(snapshot: Arc<ArcSwap<Snapshot>>, status: Arc<ArcSwap<Status>>, control: Sender<Inquiry>) -> Explain {
    Arc::new(move |question| {
        let asked = Asked::of(question)?;
        let (snapshot, status) = (snapshot.load_full(), status.load_full());
        let written = Control(&control);
        Ok(World { snapshot: &snapshot, status: &status, written: &written, serves: true }.explanation(&asked))
    })
}

/// Asks control.
struct Control<'c>(&'c Sender<Inquiry>);

impl Control<'_> {
    /// What control answers; the default if it does not in time.
    fn ask<A: Default + Send + 'static>(&self, question: impl FnOnce(&Planned<'_>) -> A + Send + 'static) -> A {
        let (to, answered) = mpsc::channel();
        let inquiry: Inquiry = Box::new(move |plan, objects| {
            // The asker may have stopped waiting.
            let _ = to.send(question(&Planned { objects, plan }));
        });
        let asked = self.0.try_send(inquiry).is_ok();
        asked.then(|| answered.recv_timeout(PATIENCE).ok()).flatten().unwrap_or_default()
    }
}

impl Written for Control<'_> {
    fn rule(&self, rung: &RouterRung, index: usize) -> Option<Place> {
        let table: Arc<RouteTable> = rung.table.clone();
        self.ask(move |planned| planned.place(&table, index))
    }

    fn service(&self, namespace: &str, name: &str) -> Vec<Fault> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.ask(move |planned| planned.service(&namespace, &name))
    }
}
