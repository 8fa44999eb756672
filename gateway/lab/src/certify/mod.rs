//! Whether a plugin keeps its contract: what `sluicegate plugin test` runs before anybody's traffic does. Balancers are given thousands of
//! generated pools ([`balancer`]), their shares are compared with the weights ([`fairness`], [`weights`]), they are asked for what only shows with certain [`sizes`], after
//! certain [`updates`], when [`statistics`] change or in millions of picks ([`rare`], [`leaks`]), their instructions are counted ([`cost`]), and their author's own cases are run ([`cases`]);
//! routers are given generated requests ([`router`]). A discovery plugin acts on a network that no certification can stand for: of it only what
//! it says of itself is checked.

mod asked;
mod balancer;
mod cases;
mod cost;
mod fairness;
mod leaks;
mod rare;
mod router;
mod sizes;
mod statistics;
mod updates;
mod weights;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sluicegate_host::{Loaded, Loader};
use sluicegate_model::plugin::{Limits, PluginKind};

pub use cases::{Cases, read as read_cases};
pub use fairness::Fairness;
pub(crate) use router::listener;

use crate::Rows;
use crate::subject::Source;

/// What is demanded.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed of all that is generated.
    pub seed: u64,
    /// The number of pools; a router gets twenty times as many requests.
    pub pools: usize,
    /// The number of picks for what is rare. Leaks, sizes and the like get a part of that.
    pub picks: u64,
    /// The sizes of pools of equal endpoints, each of which is checked by itself.
    pub sizes: Vec<usize>,
    /// Only these checks of a balancer, after the trial; empty: all.
    pub only: Vec<Group>,
    /// The configuration, except for cases that have their own.
    pub config: Value,
    /// The limits, as the `Plugin` object would set them.
    pub limits: Limits,
    /// What is demanded of the shares. The author's cases may say it, too.
    pub fairness: Option<Fairness>,
    /// How far a share may be off, as a part of the share. The author's cases may say it, too.
    pub tolerance: Option<f64>,
    /// The author's own cases.
    pub cases: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            pools: 2_000,
            picks: PICKS,
            sizes: sizes::all(),
            only: Vec::new(),
            config: Value::Object(Default::default()),
            limits: Limits::default(),
            fairness: None,
            tolerance: None,
            cases: None,
        }
    }
}

/// The default number of picks for what is rare: what happens once in a million times is missed once in 150 times.
pub const PICKS: u64 = 5_000_000;

/// Checks of balancers that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Generated pools that change.
    Pools,
    /// Each size at which code goes wrong, and retries.
    Sizes,
    /// Shares against weights, small and large ones.
    Weights,
    /// What an update must change.
    Updates,
    /// Whether statistics are read anew.
    Statistics,
    /// Instructions as pools grow.
    Cost,
    /// What is kept and never given back.
    Memory,
    /// What goes wrong once in millions of picks.
    Rare,
}

impl Group {
    /// The groups with the names by which they are asked for.
    pub const ALL: [(&str, Self); 8] = [
        ("pools", Self::Pools),
        ("sizes", Self::Sizes),
        ("weights", Self::Weights),
        ("updates", Self::Updates),
        ("statistics", Self::Statistics),
        ("cost", Self::Cost),
        ("memory", Self::Memory),
        ("rare", Self::Rare),
    ];
}

impl std::str::FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, group)| group).ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(|(name, _)| name).join(", ")))
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The plugin does as it must.
    Passed,
    /// The plugin must not ship so.
    Failed,
    /// It is a figure of which nothing is demanded.
    Noted,
    /// The check was not run, as something before it has failed, or there is nothing to check.
    Skipped,
}

/// A check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The name of the check.
    pub name: String,
    /// The result of the check.
    pub verdict: Verdict,
    /// What was seen, for people.
    pub seen: String,
    /// What was seen, as figures.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub figures: Value,
}

impl Check {
    fn new(name: &str, verdict: Verdict, seen: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict, seen: seen.into(), figures: Value::Null }
    }

    fn passed_if(name: &str, passed: bool, seen: impl Into<String>) -> Self {
        Self::new(name, if passed { Verdict::Passed } else { Verdict::Failed }, seen)
    }

    fn with(self, figures: Value) -> Self {
        Self { figures, ..self }
    }
}

/// All checks of one plugin.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The name of the file, or of the built-in plugin.
    pub plugin: String,
    /// The plugin's kind; none if it could not be loaded.
    pub kind: Option<PluginKind>,
    /// The version that the plugin names.
    pub version: Option<String>,
    /// The SHA-256 of the file that was checked, in hexadecimal.
    pub sha256: String,
    /// The seed of all that was generated.
    pub seed: u64,
    /// The checks, in their order.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether the plugin may ship.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Failed)
    }

    /// The rows of a table for a terminal.
    pub fn rows(&self) -> Rows {
        let cells = |check: &Check| {
            let verdict = match check.verdict {
                Verdict::Passed => "passed",
                Verdict::Failed => "FAILED",
                Verdict::Noted => "noted",
                Verdict::Skipped => "skipped",
            };
            crate::row([&check.name, verdict, &check.seen])
        };
        std::iter::once(crate::row(["CHECK", "VERDICT", "SEEN"])).chain(self.checks.iter().map(cells)).collect()
    }
}

/// Certifies a plugin. An error means that the question is wrong, not the plugin.
pub fn certify(loader: &Loader, source: &Source, options: &Options) -> Result<Report, String> {
    let cases = options.cases.as_deref().map(read_cases).transpose()?;
    let mut report = Report {
        plugin: source.name.clone(),
        kind: None,
        version: None,
        sha256: sluicegate_host::load::sha256(&source.bytes),
        seed: options.seed,
        checks: Vec::new(),
    };
    let config = cases.as_ref().and_then(|cases| cases.config.clone()).unwrap_or_else(|| options.config.clone());
    let subject = match source.load(loader, &options.limits, &config) {
        Ok(subject) => subject,
        Err(reason) => {
            report.checks.push(Check::new("load", Verdict::Failed, reason));
            return Ok(report);
        }
    };
    report.kind = Some(subject.description.kind);
    report.version = Some(subject.description.version.clone());
    let about = &subject.description;
    report.checks.push(Check::new(
        "load",
        Verdict::Passed,
        format!("{} {} {}: its world is a {}'s, the configuration fits its schema", about.kind, about.name, about.version, about.kind),
    ));
    match &subject.loaded {
        Loaded::Balancer(generation) => {
            balancer::certify(loader, &subject, generation, &source.bytes, options, cases.as_ref(), &mut report.checks)?
        }
        Loaded::Router(generation) => {
            only_for_balancers(cases.as_ref())?;
            router::certify(&subject, generation, options, &mut report.checks);
        }
        Loaded::Discovery(_) => {
            only_for_balancers(cases.as_ref())?;
            let seen = "a discovery plugin acts on objects and a network that are not here: it is not run";
            report.checks.push(Check::new("behaviour", Verdict::Skipped, seen));
        }
    }
    Ok(report)
}

fn only_for_balancers(cases: Option<&Cases>) -> Result<(), String> {
    cases.map_or(Ok(()), |_| Err("cases are for balancers; this is none".to_owned()))
}

/// The times of calls, in nanoseconds.
struct Times {
    p50: Duration,
    p99: Duration,
    most: Duration,
}

impl Times {
    fn of(mut nanos: Vec<u32>) -> Option<Self> {
        nanos.sort_unstable();
        let at = |part: f64| nanos.get(((nanos.len() as f64 * part) as usize).min(nanos.len().saturating_sub(1))).copied();
        let span = |nanos: u32| Duration::from_nanos(nanos.into());
        Some(Self { p50: span(at(0.5)?), p99: span(at(0.99)?), most: span(at(1.0)?) })
    }

    /// Checks times. The deadline is a limit for the longest; what is usual may take a tenth of it.
    fn check(&self, name: &str, limit: Duration, what: &str) -> Check {
        let passed = self.p99 * 10 <= limit;
        let seen = format!(
            "{what}: p50 {:?}, p99 {:?}, most {:?}; p99 must be below {:?}, a tenth of the deadline",
            self.p50,
            self.p99,
            self.most,
            limit / 10
        );
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Check::passed_if(name, passed, seen).with(serde_json::json!({
            "p50Nanoseconds": nanos(self.p50), "p99Nanoseconds": nanos(self.p99), "mostNanoseconds": nanos(self.most), "deadlineNanoseconds": nanos(limit),
        }))
    }
}

/// Checks the memory that a plugin took between the first half of its calls and the last. It should have what it needs by then, but for what an allocator loses
/// between pieces of many sizes. A plugin that keeps a word of each call takes more.
fn memory(half: usize, end: usize, calls: u64) -> Check {
    const LEAST: usize = 128 << 10;
    let (grown, most) = (end.saturating_sub(half), (half / 4).max(LEAST));
    let seen =
        format!("{} KiB after {calls} calls, {} KiB more than after half of them; {} KiB may be", end >> 10, grown >> 10, most >> 10);
    Check::passed_if("memory", grown <= most, seen).with(serde_json::json!({"bytes": end, "grownBytes": grown, "calls": calls}))
}
