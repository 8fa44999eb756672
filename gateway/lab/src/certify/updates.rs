//! Checks what an update must change, above all one with as many endpoints as the one before. A plugin that takes it for no update, or keeps half of what it knew,
//! sends traffic to former addresses and by former weights. The plugin is its own measure: what it does after such an update must be what it does after one that
//! comes to the same list by way of a longer one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::Rng as _;
use sluicegate_host::balancer::WasmBalancer;
use sluicegate_model::plugin::PickContext;
use sluicegate_model::pool::{Endpoint, Pool, unique};

use super::asked::{Asked, Counts, Hashed};
use super::fairness::{Fairness, fits};
use super::{Check, Options, Verdict};
use crate::generate::{address, endpoint, pool};
use crate::subject::Subject;

/// The number of hashes, or of picks without one, in each comparison, at least and at most.
const ASKED: (u64, u64) = (500, 3_000);
/// How far two distributions may be apart, by half the sum of their differences, besides what is chance.
const APART: f64 = 0.1;

/// How the last list is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From a list of the same length.
    Same,
    /// From such a list by way of a longer one.
    Longer,
}

pub(super) fn check(subject: &Subject, generation: &WasmBalancer, options: &Options, demand: Fairness, tolerance: f64) -> Check {
    let asked = |purpose| Asked::new(subject, generation, options.seed, purpose);
    let picks = (options.picks / 40).clamp(ASKED.0, ASKED.1);
    let verdict = || -> Result<Option<String>, String> {
        if let Some(wrong) = weights(&mut asked(30), picks, demand, tolerance)? {
            return Ok(Some(wrong));
        }
        for size in [3, 10, 100] {
            let wrong = match keys(&asked, picks, size)? {
                None => shares(&asked, picks, size)?,
                wrong => wrong,
            };
            if wrong.is_some() {
                return Ok(wrong);
            }
        }
        Ok(None)
    };
    match verdict() {
        Err(failed) => Check::new("updates", Verdict::Failed, failed),
        Ok(Some(wrong)) => Check::new("updates", if demand == Fairness::Off { Verdict::Noted } else { Verdict::Failed }, wrong),
        Ok(None) => {
            Check::new("updates", Verdict::Passed, "an update of as many endpoints as before changes addresses, weights, zones and labels")
        }
    }
}

/// Checks the same addresses with weights that change places.
fn weights(asked: &mut Asked<'_>, picks: u64, demand: Fairness, tolerance: f64) -> Result<Option<String>, String> {
    let id = unique();
    let lists: [fn(usize) -> u32; 5] =
        [|i| (i % 2) as u32, |i| ((i + 1) % 2) as u32, |i| (i / 2 + 1) as u32, |i| ((9 - i) / 2 + 1) as u32, |_| 1];
    for (turn, weight) in lists.into_iter().enumerate() {
        let list = pool(id, (0..10).map(|i| endpoint(address(i), weight(i))).collect());
        for hashed in [Hashed::No, Hashed::Yes] {
            let mut counts = Counts::new(10);
            asked.exchanges(&list, hashed, 0, picks, &mut counts)?;
            if !fits(&list, &counts.of, demand.in_order(), tolerance + 6.0 / (picks as f64 / 30.0).sqrt()) && turn > 0 {
                let weights: Vec<u32> = list.endpoints.iter().map(|e| e.weight).collect();
                return Ok(Some(format!(
                    "after an update that changed only weights, to {weights:?}, they got {:?} of {picks} picks",
                    counts.of
                )));
            }
        }
    }
    Ok(None)
}

/// Lists of the same length: in the last one a third of the endpoints are others, and all else that is known of the endpoints is other, too.
fn lists(size: usize) -> (Vec<Endpoint>, Vec<Endpoint>, Vec<Endpoint>) {
    let shift = size.div_ceil(3);
    let made = |i: usize, turn: usize| {
        let mut made = endpoint(address(i), ((i + turn) % 3 + 1) as u32);
        made.zone = Some(format!("zone-{}", (i + turn) % 3));
        made.node = Some(format!("node-{}", (i + turn) % 5));
        made.labels = vec![("tier".to_owned(), ["gold", "silver"][(i + turn) % 2].to_owned())];
        made.annotations = vec![("example.com/cost".to_owned(), ((i + turn) % 4).to_string())];
        made
    };
    let before = (0..size).map(|i| made(i, 0)).collect();
    let after: Vec<Endpoint> = (shift..shift + size).map(|i| made(i, 1)).collect();
    let longer = after.iter().cloned().chain([made(shift + size, 1)]).collect();
    (before, after, longer)
}

/// Leads an instance to the last list. `picks`: the number of picks of each list on the way.
fn lead(
    asked: &mut Asked<'_>,
    size: usize,
    way: Way,
    mut picks: impl FnMut(&mut Asked<'_>, &Arc<Pool>) -> Result<(), String>,
) -> Result<Arc<Pool>, String> {
    let (id, (before, after, longer)) = (unique(), lists(size));
    picks(asked, &pool(id, before))?;
    if way == Way::Longer {
        let longer = pool(id, longer);
        let context = asked.context(Hashed::No, 0);
        asked.exchange(&longer, context)?;
    }
    Ok(pool(id, after))
}

/// Checks a plugin that keeps the same hash on the same endpoint: hashes whose endpoint is still there must stay, as they do by the longer way.
fn keys<'s>(fresh: &impl Fn(u64) -> Asked<'s>, picks: u64, size: usize) -> Result<Option<String>, String> {
    let stay = |way: Way| -> Result<f64, String> {
        let mut asked = fresh(31);
        let mut held: HashMap<u64, SocketAddr> = HashMap::new();
        let after = lead(&mut asked, size, way, |asked, before| {
            for _ in 0..picks {
                let hash = asked.random.next_u64();
                if let Some(picked) = asked.exchange(before, keyed(hash))? {
                    held.insert(hash, before.endpoints[picked].address);
                }
            }
            Ok(())
        })?;
        held.retain(|_, address| after.endpoints.iter().any(|endpoint| endpoint.address == *address));
        let mut held: Vec<_> = held.into_iter().collect();
        held.sort_unstable();
        let mut same = 0_u32;
        for (hash, address) in &held {
            let picked = asked.exchange(&after, keyed(*hash))?;
            same += u32::from(picked.is_some_and(|picked| after.endpoints[picked].address == *address));
        }
        Ok(f64::from(same) / held.len().max(1) as f64)
    };
    let (longer, same) = (stay(Way::Longer)?, stay(Way::Same)?);
    // By chance a hash stays once in `size` times. A plugin that keeps none by the longer way keeps none at all.
    let keeps = longer > 1.5 / (size as f64 * 2.0 / 3.0) && longer > 0.3;
    Ok((keeps && same < longer / 2.0).then(|| {
        format!(
            "pool of {size}: of the hashes whose endpoint is still there {:.0} % stay with it after an update of the same length, and {:.0} % by way of a longer list: it keeps addresses that were",
            same * 100.0,
            longer * 100.0
        )
    }))
}

fn keyed(hash: u64) -> PickContext {
    // The random bits follow from the hash, so that a key is asked in the same way whatever else is asked.
    PickContext { hash: Some(hash), attempt: 0, random: Some(hash.rotate_left(17)) }
}

/// Checks that shares are what they are by the longer way.
fn shares<'s>(fresh: &impl Fn(u64) -> Asked<'s>, picks: u64, size: usize) -> Result<Option<String>, String> {
    let counted = |way: Way| -> Result<Counts, String> {
        let mut asked = fresh(32);
        let after = lead(&mut asked, size, way, |asked, before| asked.exchanges(before, Hashed::No, 0, 100, &mut Counts::new(size)))?;
        let mut counts = Counts::new(size);
        asked.exchanges(&after, Hashed::No, 0, picks * 2, &mut counts)?;
        Ok(counts)
    };
    let (longer, same) = (counted(Way::Longer)?, counted(Way::Same)?);
    let apart: f64 = longer.of.iter().zip(&same.of).map(|(a, b)| a.abs_diff(*b) as f64).sum::<f64>() / 2.0 / longer.picks as f64;
    // Two samples of the same distribution are so far apart on average.
    let chance = (size as f64 / std::f64::consts::PI / longer.picks as f64).sqrt();
    Ok((apart > APART + 1.5 * chance).then(|| {
        format!(
            "pool of {size}: {:.0} % of the picks go elsewhere after an update of the same length than by way of a longer list: it keeps what was",
            apart * 100.0
        )
    }))
}
