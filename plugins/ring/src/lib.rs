//! A library that the consistent-hash balancers share: the hash of an address, weights as shares, and the ring.
//!
//! A plugin's crate exports functions to the host, so it cannot be a library of another one. Code that several plugins need lies here.

use sluicegate_sdk::Endpoint;

/// FNV-1a (Fowler, Noll, Vo), finished with [`mix`], since FNV alone leaves neighbouring addresses close together. It must never change: the
/// gateways of a fleet agree on endpoints by it, also while some of them are a version behind.
pub fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The endpoints that take traffic, by index, with their weights. Endpoints of weight 0 take none, unless all have weight 0; then all are alike.
pub fn weighted(endpoints: &[Endpoint]) -> Vec<(usize, u32)> {
    let all_zero = endpoints.iter().all(|endpoint| endpoint.weight == 0);
    let weights = endpoints.iter().map(|endpoint| if all_zero { 1 } else { endpoint.weight });
    weights.enumerate().filter(|&(_, weight)| weight > 0).collect()
}

/// Consistent hashing (Karger et al., STOC 1997) as ketama lays it out (Jones, last.fm 2007): each endpoint stands at many points of a circle,
/// and a key belongs to the first point from its hash on.
#[derive(Debug, Default)]
pub struct Ring {
    /// The points on the ring in their order, each with the endpoint that it belongs to.
    points: Vec<(u64, u32)>,
}

/// The greatest number of points of one ring, which take 16 MiB.
const MOST_POINTS: u64 = 1 << 20;

impl Ring {
    /// Makes a ring with `points` for each endpoint on average, in proportion to the weights, and at least one for each.
    pub fn new(endpoints: &[Endpoint], points: u32) -> Self {
        let chosen = weighted(endpoints);
        let total: u64 = chosen.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let all = (chosen.len() as u64 * u64::from(points)).min(MOST_POINTS);
        let mut ring = Vec::with_capacity(all as usize + chosen.len());
        for (index, weight) in chosen {
            let own = (u128::from(all) * u128::from(weight) / u128::from(total)).max(1) as u64;
            let start = hash(endpoints[index].address.as_bytes());
            ring.extend((0..own).map(|i| (mix(start ^ mix(i)), index as u32)));
        }
        // If two points are equal, the address decides and not the order of the pool. The ring is sorted in place: the largest one takes a quarter of an
        // instance's memory, and a stable sort would need half as much again.
        ring.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| endpoints[a.1 as usize].address.cmp(&endpoints[b.1 as usize].address)));
        Self { points: ring }
    }

    /// The endpoints from a hash on, once around the ring, each as often as it has points.
    pub fn from(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let start = self.points.partition_point(|&(at, _)| at < hash);
        self.points[start..].iter().chain(&self.points[..start]).map(|&(_, index)| index as usize)
    }

    /// The endpoint of a key for its first, second, ... try: the n-th different endpoint from its hash on. This does not allocate: it remembers the last 16
    /// different ones, and a policy allows fewer tries.
    pub fn nth_different(&self, hash: u64, attempt: u32) -> Option<usize> {
        let wanted = (attempt as usize).min(SEEN);
        let (mut seen, mut count) = ([0; SEEN], 0);
        let mut first = None;
        for index in self.from(hash) {
            if count == wanted && !seen[..count].contains(&index) {
                return Some(index);
            }
            first = first.or(Some(index));
            if count < wanted && !seen[..count].contains(&index) {
                seen[count] = index;
                count += 1;
            }
        }
        // There are fewer endpoints than tries, so they come again from the first.
        if count == 0 { first } else { Some(seen[attempt as usize % count]) }
    }
}

const SEEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(weights: &[u32]) -> Vec<Endpoint> {
        let endpoint = |(i, &weight): (usize, &u32)| Endpoint { weight, ..Endpoint::new(format!("10.0.0.{i}:80")) };
        weights.iter().enumerate().map(endpoint).collect()
    }

    #[test]
    fn points_follow_the_weights_and_their_number_is_bounded() {
        let ring = Ring::new(&pool(&[1, 3, 0]), 100);
        let own = |of: u32| ring.points.iter().filter(|p| p.1 == of).count();
        assert_eq!((own(0), own(1), own(2)), (50, 150, 0));
        assert!(Ring::new(&pool(&[u32::MAX; 200]), u32::MAX).points.len() as u64 <= MOST_POINTS);
        assert_eq!(Ring::new(&pool(&[1, u32::MAX]), 1).points.iter().filter(|p| p.1 == 0).count(), 1);
    }

    #[test]
    fn tries_go_to_different_endpoints_and_come_round() {
        let ring = Ring::new(&pool(&[1; 5]), 40);
        for key in (0..200).map(mix) {
            let mut tried: Vec<_> = (0..5).filter_map(|attempt| ring.nth_different(key, attempt)).collect();
            assert_eq!(ring.nth_different(key, 5), Some(tried[0]));
            tried.sort_unstable();
            assert_eq!(tried, [0, 1, 2, 3, 4]);
        }
        assert_eq!(Ring::new(&[], 40).nth_different(7, 0), None);
        assert_eq!(Ring::new(&pool(&[1]), 40).nth_different(7, 3), Some(0));
    }
}
