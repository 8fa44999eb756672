//! Finds memory that is kept and never given back: by pick or report, by address, by pool. A plugin takes what it needs within the first third of each walk. One
//! that takes more than a quarter of that afterwards grows for ever. A bounded table of what was seen is full by then.

use std::sync::Arc;

use rand::RngExt as _;
use sluicegate_host::balancer::WasmBalancer;
use sluicegate_model::plugin::PickContext;
use sluicegate_model::pool::{Pool, unique};

use super::asked::{Asked, Counts, Hashed};
use super::{Check, Verdict};
use crate::generate::{address, endpoint, plain, pool};
use crate::subject::Subject;

/// What an allocator loses between pieces of many sizes, and what a small table takes that is not full yet: four pages of WebAssembly.
const LEAST: usize = 256 << 10;
/// The number of endpoints in each list of new addresses.
const ADDRESSES: usize = 50;

/// `picks`: all there may be of one kind, of which a quarter is asked for here.
pub(super) fn check(subject: &Subject, generation: &WasmBalancer, seed: u64, picks: u64) -> Vec<Check> {
    let asked = |purpose| Asked::new(subject, generation, seed, purpose);
    let (calls, lists, opened) = ((picks / 4).max(10_000), (picks / 1_250).max(100), (picks / 1_600).max(100));
    vec![
        Walk { name: "memory by pick", of: "picks", turns: calls / 100 * 100, each: 100 }.go(asked(20), by_pick(plain(10, |_| 1))),
        Walk { name: "memory by address", of: "addresses", turns: lists * ADDRESSES as u64, each: ADDRESSES as u64 }
            .go(asked(21), by_address()),
        Walk { name: "memory by pool", of: "pools that came and went", turns: opened, each: 1 }.go(asked(22), by_pool),
    ]
}

/// One way in which memory may grow.
struct Walk {
    name: &'static str,
    /// What is counted.
    of: &'static str,
    /// The number of turns.
    turns: u64,
    /// How much is counted in each turn.
    each: u64,
}

impl Walk {
    fn go(&self, mut asked: Asked<'_>, mut step: impl FnMut(&mut Asked<'_>, u64) -> Result<(), String>) -> Check {
        let Self { name, of, turns, each } = self;
        let steps = turns / each;
        let (mut first, mut third) = (0, 0);
        for at in 0..steps {
            if let Err(failed) = step(&mut asked, at) {
                return Check::new(name, Verdict::Failed, format!("after {} {of}: {failed}", at * each));
            }
            match at {
                _ if at == steps / 50 => first = asked.memory(),
                _ if at == steps / 3 => third = asked.memory(),
                _ => {}
            }
        }
        let end = asked.memory();
        let (grown, most) = (end.saturating_sub(third), (third.saturating_sub(first) / 4).max(LEAST));
        let seen =
            format!("{} KiB after {turns} {of}, {} KiB more than after a third of them; {} KiB may be", end >> 10, grown >> 10, most >> 10);
        Check::passed_if(name, grown <= most, seen).with(serde_json::json!({"bytes": end, "grownBytes": grown, "turns": turns}))
    }
}

fn by_pick(pool: Arc<Pool>) -> impl FnMut(&mut Asked<'_>, u64) -> Result<(), String> {
    let mut counts = Counts::new(pool.endpoints.len());
    move |asked, _| {
        asked.exchanges(&pool, Hashed::Yes, 0, 50, &mut counts)?;
        asked.exchanges(&pool, Hashed::No, 0, 50, &mut counts)
    }
}

fn by_address() -> impl FnMut(&mut Asked<'_>, u64) -> Result<(), String> {
    let id = unique();
    move |asked, at| {
        let first = usize::try_from(at).unwrap_or(0) * ADDRESSES;
        let list = pool(id, (first..first + ADDRESSES).map(|i| endpoint(address(i), 1)).collect());
        for hashed in [Hashed::Yes, Hashed::No] {
            let context = asked.context(hashed, 0);
            asked.exchange(&list, context)?;
        }
        Ok(())
    }
}

fn by_pool(asked: &mut Asked<'_>, _: u64) -> Result<(), String> {
    let pool = plain(10, |_| 1);
    let hash = Some(asked.random.random());
    asked.exchange(&pool, PickContext { hash, attempt: 0, random: None })?;
    asked.retain(&[]);
    Ok(())
}
