//! How long a connection to an endpoint may serve.

use std::time::{Duration, Instant};

use sluicegate_model::snapshot::ServicePort;

/// What the service's policy said when the connection was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long it may be idle.
    idle: Option<Duration>,
    /// Until when it may serve.
    until: Option<Instant>,
    /// How many exchanges it may still take.
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

    /// Notes that an exchange begins.
    pub(crate) fn begin(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Whether it may take another exchange, at the end of one. Its age is only looked at when the clock is looked at anyway.
    pub(crate) fn allow(&self, now: Instant) -> bool {
        self.left > 0 && self.until.is_none_or(|until| now < until)
    }

    /// Whether it may still be idle.
    pub(crate) fn allow_idle(&self, since: Instant, now: Instant) -> bool {
        self.idle.is_none_or(|idle| now.saturating_duration_since(since) < idle) && self.until.is_none_or(|until| now < until)
    }

    /// Whether its time may run out between two looks at all idle connections. Then it is looked at before it is used.
    pub(crate) fn is_strict(&self) -> bool {
        self.until.is_some() || self.idle.is_some_and(|idle| idle < Duration::from_secs(60))
    }
}
