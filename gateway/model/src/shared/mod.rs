//! What all instances of a plugin have in common on all workers: shared [state], and [metrics] of the plugin's own. Both outlive generations. Only
//! the plugin's calls touch them, so a plugin that uses neither pays nothing.

pub mod metrics;
pub mod state;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::limits::Limits;
use metrics::CustomMetrics;
use state::SharedState;

/// What the instances of one plugin have in common.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// The state that the instances share.
    pub state: Arc<SharedState>,
    /// The metrics that the instances count.
    pub metrics: Arc<CustomMetrics>,
    /// The linear memory that the instances hold now, in bytes.
    pub memory: Arc<AtomicUsize>,
}

impl Shared {
    /// For a plugin with these limits, with nothing in it.
    pub fn new(limits: &Limits) -> Self {
        let shared = Self::default();
        shared.limit(limits);
        shared
    }

    /// Sets the limits that hold from now on.
    pub fn limit(&self, limits: &Limits) {
        self.state.limit(limits.shared_entries, limits.shared_bytes);
    }

    /// For a generation on trial: a copy of the state, and metrics apart, so that what it writes reaches nobody else.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(self.state.fork()), metrics: Arc::default(), memory: self.memory.clone() }
    }
}
