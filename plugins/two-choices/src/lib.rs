//! The power of two choices, for balancers that choose like this among some of their endpoints.

use sluicegate_sdk::{Endpoint, Pick};

/// An endpoint that takes traffic: its index in the pool, and its weight, which is never 0.
pub type Candidate = (usize, u64);

/// The endpoints that take traffic. Endpoints of weight 0 take none, unless all have weight 0; then all are alike.
pub fn candidates(endpoints: &[Endpoint]) -> impl Iterator<Item = Candidate> + '_ {
    let all_zero = endpoints.iter().all(|endpoint| endpoint.weight == 0);
    let weight = move |endpoint: &Endpoint| if all_zero { 1 } else { u64::from(endpoint.weight) };
    endpoints.iter().map(weight).enumerate().filter(|&(_, weight)| weight > 0)
}

/// The number of exchanges under way at a candidate, including the one to be placed, for each unit of its weight.
pub fn load((index, weight): Candidate, pick: &Pick) -> f64 {
    (f64::from(pick.in_flight(index)) + 1.0) / weight as f64
}

/// Returns the less busy of two different random candidates (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001),
/// and its load. If there is only one candidate, it is returned.
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
