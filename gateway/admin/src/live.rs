//! What is served and how it fares, as a stream of server-sent events (HTML standard, "Server-sent events") for the page: one event a second.
//!
//! While somebody watches, the counters are read once a second ([`sampler`]), for all viewers together. Reading them costs the workers nothing. Each viewer is
//! sent the [`views`] that he asked for: a list has at most 50 rows, whatever is configured. With 10,000 Services that is a few kilobytes a second.
//! A viewer who reads slowly misses events.

mod index;
mod quantile;
mod sample;
mod sampler;
#[cfg(test)]
mod tests;
mod views;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body::Frame;
use sluicegate_model::escape;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{Shared, View};
use sample::Sample;
use sampler::Sampler;
use views::{Asked, Memory, Viewed};

/// How many may watch at a time.
const VIEWERS: usize = 16;
/// How often the counters are read.
const SECOND: Duration = Duration::from_secs(1);
/// For how many seconds they are still read when nobody watches any more: a page that is loaded again finds its curves.
const LINGER: u32 = 60;
/// How long a viewer may not read before he is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all viewers share.
pub(crate) struct Live {
    viewers: Arc<Semaphore>,
    newest: watch::Sender<Option<Arc<Sample>>>,
    /// Whether somebody reads the counters.
    reads: Mutex<bool>,
}

impl Default for Live {
    fn default() -> Self {
        Self { viewers: Arc::new(Semaphore::new(VIEWERS)), newest: watch::Sender::new(None), reads: Mutex::new(false) }
    }
}

impl Live {
    /// The samples from now on. The first viewer has the counters read.
    fn samples(self: &Arc<Self>, view: &View) -> watch::Receiver<Option<Arc<Sample>>> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = self.newest.subscribe();
        if !std::mem::replace(&mut *reads, true) {
            tokio::spawn(read(self.clone(), view.clone()));
        }
        samples
    }

    /// Whether nobody watches and nothing is to be read any more.
    fn ends(&self) -> bool {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = self.newest.receiver_count() == 0;
        if ends {
            *reads = false;
            self.newest.send_replace(None);
        }
        ends
    }
}

/// Reads the counters once a second until nobody has watched for a while.
async fn read(live: Arc<Live>, view: View) {
    let mut sampler = Sampler::default();
    let mut tick = interval(SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut alone = 0;
    loop {
        tick.tick().await;
        alone = if live.newest.receiver_count() == 0 { alone + 1 } else { 0 };
        if alone > LINGER && live.ends() {
            return;
        }
        let from = view.clone();
        let read = tokio::task::spawn_blocking(move || {
            let sample = sampler.sample(&from);
            (sampler, sample)
        });
        match read.await {
            Ok((kept, sample)) => {
                sampler = kept;
                live.newest.send_replace(Some(Arc::new(sample)));
            }
            // It panicked, which is in the log. What it knew is lost.
            Err(_) => sampler = Sampler::default(),
        }
    }
}

/// `/api/v1/live`.
pub(crate) async fn live(State(shared): State<Shared>, Query(asked): Query<Asked>) -> Response {
    let Ok(permit) = shared.live.viewers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{VIEWERS} pages are watching already: close one of them\n")).into_response();
    };
    let asked = match asked.check() {
        Ok(asked) => asked,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{}\n", escape::line(&why))).into_response(),
    };
    let samples = shared.live.samples(&shared.view);
    let (to, frames) = mpsc::channel(1);
    tokio::spawn(send(shared.view, asked, samples, to, permit));
    let fields = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (fields, Body::new(Frames(frames))).into_response()
}

/// Sends a viewer an event for each sample, until he goes.
async fn send(
    view: View,
    asked: Viewed,
    mut samples: watch::Receiver<Option<Arc<Sample>>>,
    to: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
) {
    let mut memory = Memory::default();
    let asked = Arc::new(asked);
    loop {
        let sample = samples.borrow_and_update().clone();
        if let Some(sample) = sample {
            let (view, asked) = (view.clone(), asked.clone());
            let made = tokio::task::spawn_blocking(move || {
                let event = memory.event(&view, &asked, &sample);
                (memory, event)
            });
            let Ok((kept, event)) = made.await else { return };
            memory = kept;
            // An event that waits is one that the viewer has not read: the next one comes when he has.
            let Ok(Ok(room)) = timeout(PATIENCE, to.reserve()).await else { return };
            room.send(event);
        }
        tokio::select! {
            changed = samples.changed() => if changed.is_err() { return },
            () = to.closed() => return,
        }
    }
}

/// The events as the content of an answer.
struct Frames(mpsc::Receiver<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
