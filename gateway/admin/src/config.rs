//! `/api/v1/config`: what is served right now, piece by piece: listeners with their hosts, routers, rules and actions, service ports with their settings and endpoints,
//! plugins with their generations, and the process's own settings. What looks like a secret is hidden.
//!
//! It is one JSON object, which is written while it is read: of what is served only one listener or service port at a time is in memory as text.

mod hidden;
mod shape;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde_json::Value;
use sluicegate_model::escape;
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::status::Status;
use tokio::sync::{Semaphore, mpsc};

use crate::View;

/// How many are written at a time.
static PLACES: Semaphore = Semaphore::const_new(2);
/// The size from which on a piece is sent, in bytes.
const PIECE: usize = 64 << 10;
/// How many pieces wait for their reader.
const WAITING: usize = 4;
/// How long the reader of a piece may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn config(State(view): State<View>) -> Response {
    let Ok(place) = PLACES.try_acquire() else {
        let text = "what is served is being written to others; ask again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response();
    };
    let (pieces, read) = mpsc::channel(WAITING);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut writer = Writer { runtime, pieces, text: String::new() };
        // None: nobody reads on.
        let _ = write(&mut writer, &view);
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::new(Pieces(read))).into_response()
}

/// Writes the whole object; none if its reader has gone.
fn write(to: &mut Writer, view: &View) -> Option<()> {
    let snapshot = view.snapshot.load_full();
    let status = view.status.load_full();
    to.text.push_str(&format!("{{\"snapshot\":{},", snapshot.version));
    to.list("process", view.process.iter().cloned())?;
    to.list("plugins", plugins(&status))?;
    to.list("listeners", listeners(&snapshot))?;
    to.list("services", services(&snapshot))?;
    to.text.pop();
    to.text.push('}');
    to.send()
}

fn plugins(status: &Status) -> impl Iterator<Item = Value> {
    status.plugins.iter().map(|plugin| serde_json::to_value(plugin).unwrap_or_default())
}

fn listeners(snapshot: &Snapshot) -> impl Iterator<Item = Value> {
    snapshot.listeners.sorted().into_iter().map(|(_, listener)| shape::listener(listener, snapshot))
}

fn services(snapshot: &Snapshot) -> impl Iterator<Item = Value> {
    let mut all: Vec<&Arc<_>> = snapshot.services.values().collect();
    all.sort_by_key(|service| service.id.to_string());
    all.into_iter().map(|service| shape::service(service))
}

/// Sends what is written, in pieces.
struct Writer {
    runtime: tokio::runtime::Handle,
    pieces: mpsc::Sender<Bytes>,
    text: String,
}

impl Writer {
    /// A field with a list, and a comma.
    fn list(&mut self, name: &str, items: impl Iterator<Item = Value>) -> Option<()> {
        self.text.push_str(&format!("\"{name}\":["));
        for (i, mut item) in items.enumerate() {
            if i > 0 {
                self.text.push(',');
            }
            hidden::hide(&mut item);
            self.text.push_str(&escape::json(&item.to_string()));
            if self.text.len() >= PIECE {
                self.send()?;
            }
        }
        self.text.push_str("],");
        Some(())
    }

    /// Waits for the reader, but not for ever.
    fn send(&mut self) -> Option<()> {
        let piece = Bytes::from(std::mem::take(&mut self.text));
        let sent = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.pieces.send(piece)).await });
        sent.ok()?.ok()
    }
}

/// The pieces that are still to come.
struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
