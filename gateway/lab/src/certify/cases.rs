//! The author's own cases, from a YAML file: a pool, what the gateway would know of its endpoints, and what must be picked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rand::Rng as _;
use serde::Deserialize;
use serde_json::Value;
use sluicegate_config::manifest::{self, Document};
use sluicegate_config::object::ours::Span;
use sluicegate_config::object::plain;
use sluicegate_host::balancer::WasmBalancer;
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::health::Condition;
use sluicegate_model::plugin::{Balancer as _, PickContext, hash_bytes};
use sluicegate_model::pool::{Pool, unique};
use sluicegate_model::stats::Sight;

use super::{Check, Fairness};
use crate::generate::{endpoint, pool, stream};

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cases {
    /// The configuration for all cases that do not have their own, and for all other checks.
    #[serde(default)]
    pub config: Option<Value>,
    /// What is demanded of the shares.
    #[serde(default)]
    pub fairness: Option<Fairness>,
    /// How far a share may be off, as a part of the share.
    #[serde(default)]
    pub tolerance: Option<f64>,
    /// The cases, in their order.
    #[serde(default)]
    pub cases: Vec<Case>,
}

/// A case: a pool, and what must come of it.
#[derive(Debug, Deserialize)]
pub struct Case {
    name: String,
    #[serde(default)]
    config: Option<Value>,
    endpoints: Vec<Given>,
    /// Picks, one after another, each with what must be picked.
    #[serde(default)]
    picks: Vec<Pick>,
    /// Shares that many picks must have.
    #[serde(default)]
    shares: Option<Shares>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    address: SocketAddr,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    in_flight: u32,
    #[serde(default)]
    latency: Option<Span>,
    #[serde(default)]
    success: Option<f32>,
    #[serde(default)]
    condition: Option<Condition>,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
struct Pick {
    #[serde(default)]
    hash: Option<u64>,
    /// A key, which is hashed as the gateway hashes the value of a header.
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    attempt: u32,
    /// The random bits that the pick gets.
    #[serde(default)]
    random: Option<u64>,
    /// The endpoints of which one must be picked; empty: none may be.
    expect: Vec<SocketAddr>,
}

#[derive(Debug, Deserialize)]
struct Shares {
    /// The number of picks.
    #[serde(default = "ten_thousand")]
    picks: u32,
    /// Whether each pick has a hash of its own.
    #[serde(default)]
    hashed: bool,
    /// The shares of all picks, from 0 to 1. An endpoint that is not named may have any share.
    expect: BTreeMap<SocketAddr, f64>,
    /// How far a share may be off, as a part of all picks.
    #[serde(default = "two_percent")]
    tolerance: f64,
}

fn ten_thousand() -> u32 {
    10_000
}

fn two_percent() -> f64 {
    0.02
}

/// The largest number of picks, as more take too long.
const MOST_PICKS: u32 = 10_000_000;

/// Reads a file. The error shows every fault with its place.
pub fn read(file: &Path) -> Result<Cases, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    parse(file, &text).map_err(|faults| faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))
}

fn parse(file: &Path, text: &str) -> Result<Cases, Vec<Fault>> {
    let mut parsed = manifest::parse(file, text);
    let (document, more) = match parsed.documents.as_slice() {
        [] if parsed.faults.is_empty() => return Err(vec![fault(None, "", format!("{}: there are no cases in it", file.display()))]),
        [] => return Err(parsed.faults),
        [document, more @ ..] => (document.clone(), more.first()),
    };
    let mut faults = std::mem::take(&mut parsed.faults);
    faults.extend(more.map(|more| fault(Some(more), "", "a file of cases is one document".to_owned())));
    let (cases, wrong) = plain::<Cases>(&document);
    faults.extend(wrong);
    if let Some(cases) = &cases {
        check(cases, &document, &mut faults);
    }
    match cases {
        Some(cases) if faults.is_empty() => Ok(cases),
        _ => Err(faults),
    }
}

fn fault(document: Option<&Document>, path: &str, message: String) -> Fault {
    let place = document.map(|document| document.origin.place(path));
    Fault { severity: Severity::Error, place, object: None, message, expected: None }
}

/// Checks what types cannot express.
fn check(cases: &Cases, document: &Document, faults: &mut Vec<Fault>) {
    let mut wrong = |path: String, message: String| {
        let fault = fault(Some(document), &path, format!("{path}: {message}"));
        // A field that could not be read was told already, and the value in its place is not looked at.
        if faults.iter().all(|known| known.place != fault.place) {
            faults.push(fault);
        }
    };
    if cases.tolerance.is_some_and(|t| !(0.0..=1.0).contains(&t)) {
        wrong("tolerance".to_owned(), "is not from 0 to 1".to_owned());
    }
    for (i, case) in cases.cases.iter().enumerate() {
        let at = format!("cases[{i}]");
        let known = |address: &SocketAddr| case.endpoints.iter().any(|e| e.address == *address);
        if case.picks.is_empty() && case.shares.is_none() {
            wrong(at.clone(), "it has neither `picks` nor `shares`: nothing is demanded".to_owned());
        }
        for (j, given) in case.endpoints.iter().enumerate() {
            if case.endpoints[..j].iter().any(|other| other.address == given.address) {
                wrong(format!("{at}.endpoints[{j}].address"), format!("{} is there already", given.address));
            }
            if given.success.is_some_and(|s| !(0.0..=1.0).contains(&s)) {
                wrong(format!("{at}.endpoints[{j}].success"), "is not from 0 to 1".to_owned());
            }
        }
        for (j, pick) in case.picks.iter().enumerate() {
            if pick.hash.is_some() && pick.key.is_some() {
                wrong(format!("{at}.picks[{j}].key"), "there is a `hash` already".to_owned());
            }
            for (k, address) in pick.expect.iter().enumerate().filter(|(_, address)| !known(address)) {
                wrong(format!("{at}.picks[{j}].expect[{k}]"), format!("{address} is none of the endpoints"));
            }
        }
        if let Some(shares) = &case.shares {
            if !(1..=MOST_PICKS).contains(&shares.picks) {
                wrong(format!("{at}.shares.picks"), format!("is not from 1 to {MOST_PICKS}"));
            }
            for address in shares.expect.keys().filter(|address| !known(address)) {
                wrong(format!("{at}.shares.expect.{address}"), format!("{address} is none of the endpoints"));
            }
        }
    }
}

impl Cases {
    pub(super) fn run(&self, generation: &WasmBalancer, config: &Arc<str>, seed: u64) -> Vec<Check> {
        let check = |case: &Case| {
            let outcome = case.run(generation, config, seed);
            let seen = outcome.as_ref().map_or_else(Clone::clone, Clone::clone);
            Check::passed_if(&format!("case {:?}", case.name), outcome.is_ok(), seen)
        };
        self.cases.iter().map(check).collect()
    }
}

impl Case {
    fn run(&self, generation: &WasmBalancer, config: &Arc<str>, seed: u64) -> Result<String, String> {
        let own = self.config.as_ref().map(|config| Arc::from(config.to_string()));
        let config = own.as_ref().unwrap_or(config);
        let mut endpoints: Vec<_> = self.endpoints.iter().map(Given::endpoint).collect();
        endpoints.sort_by_key(|e| e.address);
        let pool = pool(unique(), endpoints);
        let mut instance = generation.seeded(seed);
        for (i, pick) in self.picks.iter().enumerate() {
            if let Some(random) = pick.random {
                instance.play(vec![random]);
            }
            let hash = pick.hash.or_else(|| pick.key.as_ref().map(|key| hash_bytes(key.as_bytes())));
            let picked =
                instance.pick(&pool, config, PickContext { hash, attempt: pick.attempt, random: None }).map_err(|e| e.to_string())?;
            let picked = picked.map(|index| pool.endpoints[index].address);
            if !picked.map_or(pick.expect.is_empty(), |address| pick.expect.contains(&address)) {
                let show = |all: &[SocketAddr]| all.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" or ");
                let wanted = if pick.expect.is_empty() { "none".to_owned() } else { show(&pick.expect) };
                return Err(format!(
                    "picks[{i}]: {}, and {wanted} is expected",
                    picked.map_or_else(|| "none".to_owned(), |a| a.to_string())
                ));
            }
        }
        let told = format!("{} picks as expected", self.picks.len());
        match &self.shares {
            None => Ok(told),
            Some(shares) => shares.run(&mut instance, &pool, config, seed).map(|seen| format!("{told}; {seen}")),
        }
    }
}

impl Shares {
    fn run(
        &self,
        instance: &mut sluicegate_host::balancer::Instance,
        pool: &Arc<Pool>,
        config: &Arc<str>,
        seed: u64,
    ) -> Result<String, String> {
        let mut random = stream(seed, 4);
        let mut counts = vec![0_u32; pool.endpoints.len()];
        for _ in 0..self.picks {
            let context = PickContext { hash: self.hashed.then(|| random.next_u64()), attempt: 0, random: None };
            if let Some(picked) = instance.pick(pool, config, context).map_err(|e| e.to_string())? {
                counts[picked] += 1;
            }
        }
        let share = |address: &SocketAddr| {
            let at = pool.endpoints.binary_search_by_key(address, |e| e.address).ok();
            at.map_or(0.0, |at| f64::from(counts[at]) / f64::from(self.picks))
        };
        let shown: Vec<String> =
            self.expect.iter().map(|(address, wanted)| format!("{address} {:.3} of {wanted}", share(address))).collect();
        let off = self.expect.iter().any(|(address, wanted)| (share(address) - wanted).abs() > self.tolerance);
        let seen = format!("shares of {} picks, seen of expected: {}, within {}", self.picks, shown.join(", "), self.tolerance);
        if off { Err(seen) } else { Ok(seen) }
    }
}

impl Given {
    fn endpoint(&self) -> sluicegate_model::pool::Endpoint {
        let mut made = endpoint(self.address, self.weight);
        (made.zone, made.node) = (self.zone.clone(), self.node.clone());
        made.labels = self.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        made.annotations = self.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let known = Sight::default();
        made.stats.show(Sight {
            in_flight: self.in_flight,
            latency_us: self.latency.map_or(0, |span| u32::try_from(span.0.as_micros()).unwrap_or(u32::MAX)),
            success: self.success.unwrap_or(known.success),
            condition: self.condition.unwrap_or(known.condition),
        });
        made
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_with_its_place() {
        let text = "\
tolerance: 3
cases:
- name: a
  endpoints:
  - {address: 10.0.0.1:80, wieght: 2}
  - {address: 10.0.0.1}
  picks:
  - {key: a, expect: [10.0.0.9:80]}
  shares: {picks: 0, expect: {}}
";
        let told: Vec<String> = parse(Path::new("cases.yaml"), text).unwrap_err().iter().map(ToString::to_string).collect();
        let told = told.join("\n");
        for wanted in [
            "cases.yaml:1:12: error: tolerance: is not from 0 to 1",
            "cases.yaml:5:36: error: cases[0].endpoints[0].wieght: there is no such field",
            "cases.yaml:6:15: error: cases[0].endpoints[1].address: invalid socket address",
            "cases.yaml:8:23: error: cases[0].picks[0].expect[0]: 10.0.0.9:80 is none of the endpoints",
            "cases.yaml:9:19: error: cases[0].shares.picks: is not from 1",
        ] {
            assert!(told.contains(wanted), "{wanted:?} is missing in\n{told}");
        }
        assert!(parse(Path::new("x"), "").is_err());
        assert!(parse(Path::new("x"), "cases: [").is_err());
        assert!(parse(Path::new("x"), "{}\n---\n{}\n").is_err());
    }
}
