//! Sends requests until a collector takes them, or there is no point in it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt as _;
use sluicegate_model::escape;
use sluicegate_model::stats::{SignalStats, add, count};
use tokio::sync::watch;

use crate::channel::{Channel, Failure};
use crate::target::{BadTarget, Target, TargetSettings};

/// How often a request is sent, at most.
const TRIES: u32 = 5;
/// The pause before the second try, and the longest one. It doubles from one to the next, and a random part of up to a half is left out.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often it is said that something is dropped.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A request that is ready to be sent.
pub(crate) struct Message {
    /// The gRPC method.
    pub(crate) method: &'static str,
    /// The request in protobuf.
    pub(crate) bytes: Bytes,
    /// How many spans, records or points it has.
    pub(crate) size: u64,
    /// How many of them the collector says it has refused, and why, by its answer.
    pub(crate) refused: fn(&[u8]) -> Option<(u64, String)>,
}

/// Exports one signal to one collector.
pub(crate) struct Exporter {
    name: &'static str,
    channel: Channel,
    stats: Arc<SignalStats>,
    stopped: watch::Receiver<bool>,
    told: (u64, Option<Instant>),
    /// What went wrong last.
    why: String,
}

impl Exporter {
    pub(crate) fn new(
        name: &'static str,
        to: &TargetSettings,
        stats: Arc<SignalStats>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, BadTarget> {
        let channel = Channel::new(Target::new(to)?);
        stats.on.store(true, Ordering::Relaxed);
        Ok(Self { name, channel, stats, stopped, told: (0, None), why: "too many wait to be sent".to_owned() })
    }

    /// Whether the end was asked for.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits, but not beyond the end.
    pub(crate) async fn pause(&mut self, time: Duration) {
        let stopped = self.stopped.wait_for(|stopped| *stopped);
        let _ = tokio::time::timeout(time, stopped).await;
    }

    /// Waits for something; none: the end was asked for first.
    pub(crate) async fn unless_stopped<T>(&mut self, waited_for: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            found = waited_for => Some(found),
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
        }
    }

    /// Sends a request, several times if need be. While the process ends there is one try.
    pub(crate) async fn export(&mut self, message: Message) {
        let mut pause = PAUSE.0;
        for number in 1.. {
            match self.channel.send(message.method, message.bytes.clone()).await {
                Ok(answer) => return self.took(&message, &answer),
                Err(Failure { why, again, after }) => {
                    count(&self.stats.failures);
                    self.why = why;
                    if !again || number >= TRIES || self.is_stopping() {
                        break;
                    }
                    self.tell();
                    let random: f64 = rand::rng().random();
                    self.pause(after.map_or(pause.mul_f64(1.0 - random / 2.0), |after| after.min(PAUSE.1))).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
        add(&self.stats.dropped_failed, message.size);
        self.tell();
    }

    fn took(&mut self, message: &Message, answer: &[u8]) {
        let refused = (message.refused)(answer);
        let count = refused.as_ref().map_or(0, |(count, _)| (*count).min(message.size));
        add(&self.stats.exported, message.size - count);
        if let Some((_, why)) = refused {
            add(&self.stats.dropped_refused, count);
            self.why = format!("the collector refuses some: {why}");
        }
    }

    /// Says what was dropped since it was said last, at most once a minute.
    pub(crate) fn tell(&mut self) {
        let dropped = self.stats.dropped();
        if dropped > self.told.0 && self.told.1.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            let (signal, collector, dropped_now) = (self.name, self.channel.target.place(), dropped - self.told.0);
            tracing::warn!(signal, collector, dropped = dropped_now, why = %escape::line(&self.why), "telemetry is dropped");
            self.told = (dropped, Some(Instant::now()));
        }
    }
}
