//! Which traces are recorded. This is OpenTelemetry's `TraceIdRatioBased`, by itself or as the root of `ParentBased`: since a trace's name decides, processes
//! with the same share record the same traces.

use crate::trace_context::TraceContext;

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Whether what came of a trace decides, where something came.
    by_parent: bool,
    /// Of the lower 63 bits of a trace's name, those below this are recorded.
    bound: u64,
}

impl Sampler {
    /// Records a share of traces, from 0 to 1.
    pub fn new(ratio: f64, by_parent: bool) -> Self {
        // A number with a fraction that is too large becomes the largest.
        Self { by_parent, bound: (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64 }
    }

    /// Whether a trace is recorded.
    pub fn takes(&self, parent: Option<TraceContext>, trace: u128) -> bool {
        match parent {
            Some(parent) if self.by_parent => parent.sampled,
            _ => (trace as u64) >> 1 < self.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_names() {
        let takes = |ratio, trace: u64| Sampler::new(ratio, true).takes(None, trace.into());
        assert!(takes(1.0, u64::MAX) && !takes(0.0, 0));
        assert!(takes(0.5, (1 << 63) - 1) && !takes(0.5, 1 << 63));
        assert!(takes(7.0, u64::MAX) && !takes(-1.0, 0), "a share is between 0 and 1");
        assert!(takes(0.25, u64::MAX >> 2) && !takes(0.25, (u64::MAX >> 2) + 1));
    }
}
