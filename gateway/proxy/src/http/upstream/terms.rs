//! How long a connection to an endpoint may serve.

use std::time::{Duration, Instant};

use sluicegate_model::snapshot::ServicePort;

/// What its service's policy said when it was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Idle.
    idle: Option<Duration>,
    /// In all.
    until: Option<Instant>,
    /// Exchanges it may still take.
    left: u32,
}

impl Terms {
    /// The terms of a connection that is being opened.
    pub(crate) fn new(service: &ServicePort) -> Self {
        let settings = &service.settings;
        Self {
            idle: settings.timeouts.idle,
            until: settings.timeouts.age.and_then(|age| Instant::now().checked_add(age)),
            left: settings.breaker.requests_per_connection.unwrap_or(u32::MAX),
        }
    }

    /// An exchange begins.
    pub(crate) fn begin(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Whether it may take another, at its end. Ages are looked at when the clock is looked at anyway.
    pub(crate) fn allow(&self, now: Instant) -> bool {
        self.left > 0 && self.until.is_none_or(|until| now < until)
    }

    /// Whether it may still be idle.
    pub(crate) fn allow_idle(&self, since: Instant, now: Instant) -> bool {
        self.idle.is_none_or(|idle| now.saturating_duration_since(since) < idle) && self.until.is_none_or(|until| now < until)
    }

    /// Whether its time may run out between two looks at all that is idle; then a look is taken before it is used.
    pub(crate) fn is_strict(&self) -> bool {
        self.until.is_some() || self.idle.is_some_and(|idle| idle < Duration::from_secs(60))
    }
}
