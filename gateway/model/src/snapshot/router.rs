//! Routers as listeners have them: the generations that may serve, and where each of their rules leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ServiceIndex, same};
use crate::limiter::Limiter;
use crate::plugin::RouterGeneration;
use crate::route::{Choice, RouteTable, Transport};

/// A router bound to a listener.
pub struct RouterBinding {
    /// What arrives on the listener.
    pub transport: Transport,
    /// The live generation and its table; then the previous good one, used when the live one fails.
    pub ladder: Vec<RouterRung>,
}

impl RouterBinding {
    /// Whether it decides by header fields, of which cookies are one.
    pub fn reads_fields(&self) -> bool {
        let next_reads = |bound: &Arc<BoundRule>| bound.next.as_ref().is_some_and(|next| next.reads_fields());
        let reads_itself = |rung: &RouterRung| !rung.table.interests.headers.is_empty() || !rung.table.interests.cookies.is_empty();
        let reads = |rung: &RouterRung| reads_itself(rung) || (rung.hands_over && rung.rules.iter().any(next_reads));
        self.ladder.iter().any(reads)
    }

    /// Whether another one is made of the same parts, so that either may stand for both.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |a: &RouterRung, b: &RouterRung| {
            Arc::ptr_eq(&a.generation, &b.generation)
                && Arc::ptr_eq(&a.table, &b.table)
                && a.rules.len() == b.rules.len()
                && a.rules.iter().zip(&b.rules).all(|(a, b)| Arc::ptr_eq(a, b) || a.is_same(b))
        };
        self.transport == other.transport
            && self.ladder.len() == other.ladder.len()
            && self.ladder.iter().zip(&other.ladder).all(|(a, b)| same(a, b))
    }
}

/// One step of a router's failure ladder.
pub struct RouterRung {
    /// The generation of the router.
    pub generation: Arc<dyn RouterGeneration>,
    /// The table that it was configured with.
    pub table: Arc<RouteTable>,
    /// Where each rule of the table leads. Rungs share what they have in common.
    pub rules: Vec<Arc<BoundRule>>,
    /// Whether some of them leave the decision to another router.
    pub hands_over: bool,
}

/// Where a rule of a router leads.
#[derive(Default)]
pub struct BoundRule {
    /// For each backend: the service port, or why there is none (500).
    pub backends: Box<[Result<ServiceIndex, Arc<str>>]>,
    /// For each of [`Rule::mirrors`](crate::route::Rule::mirrors), likewise.
    pub mirrors: Box<[Option<ServiceIndex>]>,
    /// Its own rate limits, kept over snapshots.
    pub limiter: Option<Arc<Limiter>>,
    /// The router that decides what it takes, in the place of its backends. No rule of such a router has one.
    pub next: Option<Arc<RouterBinding>>,
    /// Whether it has several backends, and one of their service ports keeps sessions by itself.
    pub sessions: bool,
    /// What it has taken.
    pub taken: Taken,
}

/// How many exchanges, connections and flows a rule has taken since it was bound, by the backend that was chosen. Counting one takes a relaxed addition.
#[derive(Debug, Default)]
pub struct Taken(Box<[AtomicU64]>);

impl Taken {
    /// For a rule with so many backends. The default has room for nothing, and counts nothing.
    pub fn of(backends: usize) -> Self {
        Self((0..=backends).map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts one. `backend`: the backend's index; none: it went to none, as it was answered or the rule has none.
    pub fn note(&self, backend: Option<usize>) {
        let last = self.0.len().saturating_sub(1);
        if let Some(count) = self.0.get(backend.unwrap_or(last)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts: one for each backend, then that of what went to none.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }
}

impl BoundRule {
    /// As [`Listener::is_same`](super::Listener::is_same).
    pub fn is_same(&self, other: &Self) -> bool {
        self.backends == other.backends
            && self.mirrors == other.mirrors
            && same(self.limiter.as_ref(), other.limiter.as_ref())
            && same(self.next.as_ref(), other.next.as_ref())
            && self.sessions == other.sessions
    }
}

impl RouterRung {
    /// For each backend of a rule: the service port, or why there is none.
    pub fn backends(&self, rule: usize) -> Option<&[Result<ServiceIndex, Arc<str>>]> {
        self.rules.get(rule).map(|bound| &*bound.backends)
    }

    /// For each mirror of a rule the service port.
    pub fn mirrors(&self, rule: usize) -> &[Option<ServiceIndex>] {
        self.rules.get(rule).map(|bound| &*bound.mirrors).unwrap_or_default()
    }

    /// Counts what a rule takes.
    pub fn note(&self, choice: Choice) {
        if let Some(bound) = self.rules.get(choice.rule) {
            bound.taken.note(choice.backend);
        }
    }

    /// The rate limits of a rule.
    pub fn limiter(&self, rule: usize) -> Option<&Arc<Limiter>> {
        self.rules.get(rule)?.limiter.as_ref()
    }

    /// The router that decides what a rule takes.
    pub fn next(&self, rule: usize) -> Option<&RouterBinding> {
        self.rules.get(rule)?.next.as_deref()
    }

    /// Whether one of a rule's several service ports may have a session with the client, which then chooses among them.
    pub fn keeps_sessions(&self, rule: usize) -> bool {
        self.rules.get(rule).is_some_and(|bound| bound.sessions)
    }
}
