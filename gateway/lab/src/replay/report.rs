//! The result of a replay.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;
use sluicegate_model::pool::Pool;
use sluicegate_model::trace::{Begin, EndLine, PickLine};

use crate::Rows;

/// How many differences are kept one by one; further ones are only counted.
const MOST_DIFFERENCES: usize = 10_000;

/// All decisions of a trace, compared.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The name of the plugin that was asked.
    pub plugin: String,
    /// The version that it names.
    pub version: String,
    /// The SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// What was recorded.
    pub recorded: Begin,
    /// How the recording ended; none if it was cut off.
    pub end: Option<EndLine>,
    /// Picks that were compared.
    pub picks: u64,
    /// Picks that would have been the same.
    pub same: u64,
    /// Picks that would have been others.
    pub different: u64,
    /// Picks for which this version failed.
    pub failed: u64,
    /// Picks for which the recorded version failed, so that there is nothing to compare.
    pub failed_then: u64,
    /// Picks for which this version asked for what is not in the trace.
    pub guessed: u64,
    /// What became of the picks from each pool.
    pub pools: BTreeMap<u64, PoolReport>,
    /// The differences: the first 10,000.
    pub differences: Vec<Difference>,
}

/// The result for one pool.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolReport {
    /// Picks from the pool.
    pub picks: u64,
    /// Picks that would have been the same.
    pub same: u64,
    /// For each endpoint, by its address, how many picks it got, and how many it would have got.
    pub shares: BTreeMap<SocketAddr, Share>,
}

/// An endpoint's share of the picks from a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Picks as they were recorded.
    pub then: u64,
    /// Picks as this version would make them.
    pub now: u64,
}

/// A decision that would have been another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The line of the trace.
    pub line: u64,
    /// The pool's id.
    pub pool: u64,
    /// The endpoint that was picked; none: no endpoint would do.
    pub then: Option<SocketAddr>,
    /// The endpoint that this version would pick.
    pub now: Option<SocketAddr>,
    /// Why it failed, if it did.
    pub failed: Option<String>,
    /// Whether this version asked for what is not in the trace.
    pub guessed: bool,
}

impl Report {
    pub(super) fn new(plugin: &str, version: &str, sha256: &str, recorded: Begin) -> Self {
        Self {
            plugin: plugin.to_owned(),
            version: version.to_owned(),
            sha256: sha256.to_owned(),
            recorded,
            end: None,
            picks: 0,
            same: 0,
            different: 0,
            failed: 0,
            failed_then: 0,
            guessed: 0,
            pools: BTreeMap::new(),
            differences: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, line: u64, recorded: &PickLine, pool: &Pool, now: Result<Option<usize>, String>, guessed: bool) {
        if recorded.failed.is_some() {
            self.failed_then += 1;
            return;
        }
        let address = |index: usize| pool.endpoints.get(index).map(|e| e.address);
        let then = recorded.picked.and_then(address);
        let (now, failed) = match now {
            Ok(index) => (index.and_then(address), None),
            Err(reason) => (None, Some(reason)),
        };
        self.picks += 1;
        self.guessed += u64::from(guessed);
        let of_pool = self.pools.entry(pool.id).or_default();
        of_pool.picks += 1;
        if let Some(then) = then {
            of_pool.shares.entry(then).or_default().then += 1;
        }
        if let Some(now) = now {
            of_pool.shares.entry(now).or_default().now += 1;
        }
        match (&failed, then == now) {
            (None, true) => {
                self.same += 1;
                of_pool.same += 1;
                return;
            }
            (None, false) => self.different += 1,
            (Some(_), _) => self.failed += 1,
        }
        if self.differences.len() < MOST_DIFFERENCES {
            self.differences.push(Difference { line, pool: pool.id, then, now, failed, guessed });
        }
    }

    /// Whether every pick is in the trace, so that what a plugin keeps between two picks is as it was, except for what it had before.
    pub fn is_whole(&self) -> bool {
        self.recorded.every == 1 && self.end.as_ref().is_some_and(|end| end.dropped == 0)
    }

    /// The rows of a table for a terminal: one for each pool, and the sum.
    pub fn rows(&self) -> Rows {
        let mut rows = vec![crate::row(["POOL", "PICKS", "SAME", "LARGEST CHANGE OF A SHARE"])];
        let share = |same: u64, picks: u64| format!("{:.2} %", same as f64 / picks.max(1) as f64 * 100.0);
        for (id, pool) in &self.pools {
            let part = |count: u64| count as f64 / pool.picks.max(1) as f64 * 100.0;
            let changed =
                pool.shares.iter().max_by_key(|(_, share)| share.now.abs_diff(share.then)).filter(|(_, share)| share.now != share.then);
            let changed = changed.map(|(address, share)| format!("{address} {:.1} % -> {:.1} %", part(share.then), part(share.now)));
            rows.push(vec![
                id.to_string(),
                pool.picks.to_string(),
                share(pool.same, pool.picks),
                changed.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        rows.push(vec!["all".to_owned(), self.picks.to_string(), share(self.same, self.picks), "-".to_owned()]);
        rows
    }

    /// The rows of a table with the first differences.
    pub fn differences(&self, most: usize) -> Rows {
        let mut rows = vec![crate::row(["LINE", "POOL", "THEN", "NOW"])];
        let show = |address: Option<SocketAddr>| address.map_or_else(|| "none".to_owned(), |a| a.to_string());
        for one in self.differences.iter().take(most) {
            let mut now = one.failed.as_ref().map_or_else(|| show(one.now), |reason| format!("failed: {reason}"));
            if one.guessed {
                now.push_str(" (guessed)");
            }
            rows.push(vec![one.line.to_string(), one.pool.to_string(), show(one.then), now]);
        }
        rows
    }

    /// What a reader of the figures should know.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.guessed > 0 {
            notes.push(format!(
                "{} picks asked for statistics or random bits that are not in the trace: those answers are guesses",
                self.guessed
            ));
        }
        if self.failed_then > 0 {
            notes.push(format!("{} picks failed when they were recorded, and are not compared", self.failed_then));
        }
        if !self.is_whole() {
            notes.push("not every pick is in the trace: a plugin that remembers between picks may differ for that alone".to_owned());
        } else if self.different > 0 {
            notes.push("what a plugin remembered before the recording began is not in the trace".to_owned());
        }
        notes
    }
}
