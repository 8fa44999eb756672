//! What all instances of a plugin have in common, on all workers: the state they share ([`state`]) and metrics of its own ([`metrics`]). Both
//! outlive its generations. Nobody but the plugin's calls touches them, so a plugin that uses neither pays nothing.

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
    /// What instances share.
    pub state: Arc<SharedState>,
    /// What they count.
    pub metrics: Arc<CustomMetrics>,
    /// Linear memory that they hold now, in bytes.
    pub memory: Arc<AtomicUsize>,
}

impl Shared {
    /// Of a plugin with these limits, with nothing in it.
    pub fn new(limits: &Limits) -> Self {
        let shared = Self::default();
        shared.limit(limits);
        shared
    }

    /// Sets the limits that count from now on.
    pub fn limit(&self, limits: &Limits) {
        self.state.limit(limits.shared_entries, limits.shared_bytes);
    }

    /// For a generation on trial: a copy of what is shared, and metrics apart. What it writes reaches nobody else.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(self.state.fork()), metrics: Arc::default(), memory: self.memory.clone() }
    }
}
