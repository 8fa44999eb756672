//! What is seen of each kind, and since when, for whoever wants to know.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sluicegate_model::status::sources::{KindReport, ReportSource, SourceReport, SourceState};
use sluicegate_model::unix;

use crate::client::Cluster;
use crate::kinds::Kind;

/// What is seen.
pub struct View {
    cluster: Cluster,
    kinds: Mutex<BTreeMap<&'static str, OfKind>>,
}

#[derive(Default)]
struct OfKind {
    /// What is followed: the whole kind, or single objects of it by their names.
    followed: BTreeMap<String, One>,
    requests: u64,
    bytes: u64,
}

#[derive(Clone)]
struct One {
    state: SourceState,
    since: u64,
    reason: Option<String>,
    objects: usize,
}

impl View {
    /// Nothing is seen yet.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, kinds: Mutex::default() }
    }

    /// Whether the server has the kind, as far as is known.
    pub fn has(&self, kind: &str) -> bool {
        self.lock().get(kind).is_some_and(|of| of.followed.values().any(|one| one.state != SourceState::Missing))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, OfKind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how it stands with what is followed.
    pub(super) fn set(&self, kind: &'static Kind, name: &str, state: SourceState, reason: Option<String>) {
        let mut kinds = self.lock();
        let followed = &mut kinds.entry(kind.kind).or_default().followed;
        match followed.get_mut(name) {
            Some(one) if one.state == state => one.reason = reason,
            Some(one) => (one.state, one.since, one.reason) = (state, unix::seconds(), reason),
            None => drop(followed.insert(name.to_owned(), One { state, since: unix::seconds(), reason, objects: 0 })),
        }
    }

    /// Notes that something is followed no more.
    pub(super) fn forget(&self, kind: &'static Kind, name: &str) {
        if let Some(of) = self.lock().get_mut(kind.kind) {
            of.followed.remove(name);
        }
    }

    /// Notes how many objects are known.
    pub(super) fn count(&self, kind: &'static Kind, name: &str, objects: usize) {
        if let Some(one) = self.lock().get_mut(kind.kind).and_then(|of| of.followed.get_mut(name)) {
            one.objects = objects;
        }
    }

    /// Notes that a request was made.
    pub(super) fn asked(&self, kind: &'static Kind) {
        self.lock().entry(kind.kind).or_default().requests += 1;
    }

    /// Notes that so much was answered.
    pub(super) fn received(&self, kind: &'static Kind, bytes: u64) {
        self.lock().entry(kind.kind).or_default().bytes += bytes;
    }
}

impl ReportSource for View {
    fn report(&self) -> SourceReport {
        let kinds = self.lock();
        let kinds = kinds.iter().filter_map(|(kind, of)| {
            // Of single objects the one counts that stands worst, and of those the one that has longest.
            let worst = of.followed.values().max_by_key(|one| (one.state, u64::MAX - one.since))?;
            Some(KindReport {
                kind,
                state: worst.state,
                since: worst.since,
                reason: worst.reason.clone(),
                objects: of.followed.values().map(|one| one.objects).sum(),
                requests: of.requests,
                bytes: of.bytes,
            })
        });
        let kinds = kinds.collect();
        SourceReport {
            name: self.cluster.name().to_owned(),
            requests: self.cluster.requests(),
            bytes: self.cluster.bytes(),
            kinds,
            writing: None,
        }
    }
}
