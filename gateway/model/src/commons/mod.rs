//! What all instances of a plugin have in common, on all workers: the state they share ([`shared`]) and metrics of its own ([`metrics`]). Both
//! outlive its generations. Nobody but the plugin's calls touches them, so a plugin that uses neither pays nothing.

pub mod metrics;
pub mod shared;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::plugin::Limits;
use metrics::CustomMetrics;
use shared::SharedState;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Commons {
    /// What instances share.
    pub shared: Arc<SharedState>,
    /// What they count.
    pub metrics: Arc<CustomMetrics>,
    /// Linear memory that they hold now, in bytes.
    pub memory: Arc<AtomicUsize>,
}

impl Commons {
    /// Of a plugin with these limits, with nothing in it.
    pub fn new(limits: &Limits) -> Self {
        let commons = Self::default();
        commons.limit(limits);
        commons
    }

    /// From now on.
    pub fn limit(&self, limits: &Limits) {
        self.shared.limit(limits.shared_entries, limits.shared_bytes);
    }

    /// For a generation on trial: a copy of what is shared, and metrics apart. What it writes reaches nobody else.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { shared: Arc::new(self.shared.fork()), metrics: Arc::default(), memory: self.memory.clone() }
    }
}
