//! A trace of a plugin's decisions, as they are made: the answer's content is its lines, until a time or a size is reached or the client goes.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde::Deserialize;
use sluicegate_model::plugin::PluginKind;
use sluicegate_model::record::{Event, Recorded, Recording, Wanted};
use sluicegate_model::trace::{Begin, EndLine, Hex, Line, PickLine, PoolLine, VERSION, sight_line};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::View;
use crate::plugins::Refused;

/// How often workers' decisions are collected, as workers wake nobody.
const LOOK: Duration = Duration::from_millis(20);
/// How long after its end a recording is held for a client that does not read.
const SLACK: Duration = Duration::from_secs(5);
/// The size of a piece of the answer, in bytes.
const PIECE: usize = 64 << 10;

/// What may be asked for, with its defaults.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    seconds: u64,
    every: u64,
    rate: u64,
    bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { seconds: 10, every: 1, rate: 5_000, bytes: 64 << 20 }
    }
}

impl Limits {
    fn check(&self) -> Result<(), String> {
        let bounds = [
            ("seconds", self.seconds, 1, 3_600),
            ("every", self.every, 1, 1_000_000_000),
            ("rate", self.rate, 1, 100_000),
            ("bytes", self.bytes, 1_024, 4 << 30),
        ];
        match bounds.into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value)) {
            Some((name, value, least, most)) => Err(format!("{name}={value} is not from {least} to {most}\n")),
            None => Ok(()),
        }
    }
}

pub(super) async fn record(State(view): State<View>, Path(name): Path<String>, Query(limits): Query<Limits>) -> Result<Response, Refused> {
    limits.check().map_err(|error| (StatusCode::BAD_REQUEST, error))?;
    let kind = view.status.load().plugins.iter().find(|plugin| plugin.name == name).map(|plugin| plugin.kind);
    match kind {
        None => return Err((StatusCode::NOT_FOUND, format!("there is no plugin {name:?} in use\n"))),
        Some(PluginKind::Balancer) => {}
        Some(other) => return Err((StatusCode::CONFLICT, format!("{name} is a {other}; picks of balancers are recorded\n"))),
    }
    let time = Duration::from_secs(limits.seconds) + SLACK;
    let wanted = Wanted { plugin: name, every: limits.every, rate: limits.rate, time };
    let recording = view.recorder.begin(wanted).map_err(|error| (StatusCode::CONFLICT, error + "\n"))?;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let lines = Lines {
        recording: Some(recording),
        looks,
        begun: Instant::now(),
        granted: 0,
        limits,
        pools: BTreeMap::new(),
        written: 0,
        picks: 0,
        waiting: Vec::new(),
    };
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], Body::new(lines)).into_response())
}

/// The lines that are still to come.
struct Lines {
    /// The recording; none: it has ended.
    recording: Option<Recording>,
    looks: Interval,
    begun: Instant,
    /// The second for which picks were granted last, from 1.
    granted: u64,
    limits: Limits,
    /// The version and the configuration that were written last, by the pool's id.
    pools: BTreeMap<u64, (u64, std::sync::Arc<str>)>,
    written: u64,
    picks: u64,
    /// What was written and not sent yet.
    waiting: Vec<u8>,
}

/// For how many pools the lines are remembered. Beyond that they are written again.
const MOST_POOLS: usize = 16_384;

impl Lines {
    fn write(&mut self, line: &Line) {
        let before = self.waiting.len();
        // Plain data are written to a Vec, so neither can fail.
        if serde_json::to_writer(&mut self.waiting, line).is_ok() {
            self.waiting.push(b'\n');
        }
        self.written += (self.waiting.len() - before) as u64;
    }

    fn pick(&mut self, made: Recorded) {
        let known = self.pools.get(&made.pool.id);
        if known.is_none_or(|(version, config)| *version != made.pool.version || *config != made.config) {
            if self.pools.len() >= MOST_POOLS {
                self.pools.clear();
            }
            self.pools.insert(made.pool.id, (made.pool.version, made.config.clone()));
            self.write(&Line::Pool(PoolLine::of(&made.pool, &made.config)));
        }
        let (picked, failed) = match made.picked {
            Ok(picked) => (picked, None),
            Err(reason) => (None, Some(reason)),
        };
        self.picks += 1;
        self.write(&Line::Pick(PickLine {
            instance: made.instance,
            generation: made.generation,
            pool: (made.pool.id, made.pool.version),
            hash: made.context.hash.map(Hex),
            attempt: made.context.attempt,
            random: made.random.into_iter().map(Hex).collect(),
            seen: made.seen.into_iter().map(|(index, sight)| sight_line(index, sight)).collect(),
            cut: made.cut,
            picked,
            failed,
            nanoseconds: made.nanoseconds,
        }));
    }

    /// Collects up to one piece. Returns false when nothing more will come.
    fn collect(&mut self) -> bool {
        let Some(recording) = &self.recording else { return false };
        if self.written == 0 {
            let wanted = recording.wanted();
            let (plugin, every, rate) = (wanted.plugin.clone(), wanted.every, wanted.rate);
            self.write(&Line::Begin(Begin { version: VERSION.to_owned(), plugin, every, rate }));
        }
        while self.waiting.len() < PIECE && self.written < self.limits.bytes {
            match self.recording.as_ref().and_then(Recording::next) {
                Some(Event::Pick(made)) => self.pick(*made),
                Some(Event::Report(line)) => self.write(&Line::Report(line)),
                None => break,
            }
        }
        let seconds = self.begun.elapsed().as_secs();
        let why = match () {
            () if self.written >= self.limits.bytes => "size",
            () if seconds >= self.limits.seconds && self.waiting.len() < PIECE => "time",
            () => {
                if let Some(recording) = self.recording.as_ref().filter(|_| self.granted <= seconds) {
                    recording.grant(self.limits.rate);
                    self.granted = seconds + 1;
                }
                return true;
            }
        };
        let dropped = self.recording.take().map_or(0, |recording| recording.dropped());
        self.write(&Line::End(EndLine { picks: self.picks, dropped, why: why.to_owned() }));
        false
    }
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let more = self.collect();
            if !self.waiting.is_empty() {
                let piece = std::mem::take(&mut self.waiting);
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
            if !more {
                return Poll::Ready(None);
            }
            if self.looks.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
