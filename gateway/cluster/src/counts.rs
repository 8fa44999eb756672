//! What was asked to be written to the API server, and what came of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sluicegate_model::status::sources::WriteReport;

use crate::client::ClusterError;

/// What of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Status,
    Object,
}

/// What came of writes, as it is shown.
const RESULTS: [&str; 4] = ["written", "conflict", "refused", "failed"];

/// Counts writes.
#[derive(Debug, Default)]
pub struct Counts {
    writes: Mutex<BTreeMap<(&'static str, Part), [u64; RESULTS.len()]>>,
    /// Objects whose status, and objects that themselves, are not known to be as they are to be.
    pending: [AtomicUsize; 2],
}

impl Counts {
    /// Counts an answer.
    pub(crate) fn count<T>(&self, kind: &'static str, part: Part, answer: &Result<T, ClusterError>) {
        let result = match answer {
            Ok(_) => 0,
            Err(error) => match error.code() {
                409 => 1,
                // Whoever is not believed, or asks too much, is not told that this very thing is wrong.
                401 | 408 | 429 => 3,
                400..=499 => 2,
                _ => 3,
            },
        };
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).entry((kind, part)).or_default()[result] += 1;
    }

    /// So many are to be looked at or written.
    pub(crate) fn set_pending(&self, part: Part, pending: usize) {
        self.pending[part as usize].store(pending, Ordering::Relaxed);
    }

    /// One fewer.
    pub(crate) fn done(&self, part: Part) {
        let _ = self.pending[part as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pending| pending.checked_sub(1));
    }

    /// How many objects are not known to be as they are to be.
    pub fn pending(&self) -> usize {
        self.pending.iter().map(|pending| pending.load(Ordering::Relaxed)).sum()
    }

    /// What came of writes of each kind that was written.
    pub fn report(&self) -> Vec<WriteReport> {
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(&(kind, part), counts): (&(&'static str, Part), &[u64; RESULTS.len()])| {
            let part = if part == Part::Status { "status" } else { "object" };
            RESULTS.into_iter().zip(*counts).map(move |(result, count)| WriteReport { kind, part, result, count }).collect::<Vec<_>>()
        };
        writes.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Refused;

    #[test]
    fn answers_are_counted_by_what_they_are() {
        let counts = Counts::default();
        let refused = |code: u16| Err::<(), _>(ClusterError::Refused(Refused { code, ..Refused::default() }));
        counts.count("Gateway", Part::Status, &Ok(()));
        for code in [409, 403, 422, 429, 401, 500] {
            counts.count("Gateway", Part::Status, &refused(code));
        }
        counts.count("Service", Part::Object, &Err::<(), _>(ClusterError::Connection(String::new())));
        let told: Vec<_> = counts.report().into_iter().map(|it| (it.kind, it.part, it.result, it.count)).filter(|it| it.3 > 0).collect();
        let expected = [
            ("Gateway", "status", "written", 1),
            ("Gateway", "status", "conflict", 1),
            ("Gateway", "status", "refused", 2),
            ("Gateway", "status", "failed", 3),
            ("Service", "object", "failed", 1),
        ];
        assert_eq!(told, expected);
        counts.set_pending(Part::Status, 2);
        counts.set_pending(Part::Object, 1);
        (0..3).for_each(|_| counts.done(Part::Status));
        assert_eq!(counts.pending(), 1);
    }
}
