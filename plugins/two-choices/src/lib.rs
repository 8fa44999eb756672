//! The power of two choices, for balancers that choose so among some of their endpoints.

use sluicegate_sdk::{Endpoint, Pick};

/// An endpoint that takes traffic: its index in the pool, and its weight, which is never 0.
pub type Candidate = (usize, u64);

/// Those that take traffic: of weight 0 only when all have it, and then alike.
pub fn candidates(endpoints: &[Endpoint]) -> impl Iterator<Item = Candidate> + '_ {
    let all_zero = endpoints.iter().all(|endpoint| endpoint.weight == 0);
    let weight = move |endpoint: &Endpoint| if all_zero { 1 } else { u64::from(endpoint.weight) };
    endpoints.iter().map(weight).enumerate().filter(|&(_, weight)| weight > 0)
}

/// Exchanges under way at a candidate and the one to be placed, for its weight.
pub fn load((index, weight): Candidate, pick: &Pick) -> f64 {
    (f64::from(pick.in_flight(index)) + 1.0) / weight as f64
}

/// The less busy of two different ones taken at random (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10),
/// 2001), and its load; the first of one.
pub fn less_busy(of: &[Candidate], pick: &Pick) -> Option<(usize, f64)> {
    let n = of.len();
    if n < 2 {
        return of.first().map(|&one| (one.0, load(one, pick)));
    }
    let first = pick.below(n);
    let second = (first + 1 + pick.below(n - 1)) % n;
    let (a, b) = ((of[first].0, load(of[first], pick)), (of[second].0, load(of[second], pick)));
    Some(if a.1 <= b.1 { a } else { b })
}
