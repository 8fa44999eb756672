//! Failed logins of each address: after some within a minute, no more are taken from there until the minute is over. The table is bounded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many logins may fail within [`WINDOW`].
const MOST: u32 = 10;
/// How long failures of an address are remembered.
const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses are remembered. When there are more, all are forgotten.
const MOST_ADDRESSES: usize = 4_096;

/// The failures of the last minute.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<HashMap<IpAddr, Failures>>);

struct Failures {
    since: Instant,
    count: u32,
}

/// What a failure makes of its address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It is the first one of the last minute.
    First,
    /// There were others.
    Again,
    /// Nothing more is taken from there for the rest of the minute.
    Last,
}

impl Attempts {
    /// How long nothing is taken from this address; none: a login may be tried.
    pub(crate) fn refused(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.get(&network(address)).filter(|failures| failures.count >= MOST)?;
        WINDOW.checked_sub(now.saturating_duration_since(failures.since)).filter(|rest| !rest.is_zero())
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) -> Failed {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |failures: &Failures| now.saturating_duration_since(failures.since) >= WINDOW;
        let address = network(address);
        if all.len() >= MOST_ADDRESSES && !all.contains_key(&address) {
            all.retain(|_, failures| !over(failures));
            if all.len() >= MOST_ADDRESSES {
                all.clear();
            }
        }
        let failures = all.entry(address).or_insert(Failures { since: now, count: 0 });
        if over(failures) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count += 1;
        match failures.count {
            1 => Failed::First,
            MOST => Failed::Last,
            _ => Failed::Again,
        }
    }
}

/// What counts as one address: of IPv6 the network of a host, which has all addresses of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_ten_failures_an_address_waits_until_the_minute_is_over() {
        let (attempts, begun) = (Attempts::default(), Instant::now());
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().expect("an address"), "192.0.2.2".parse().expect("an address"));
        assert_eq!(attempts.failed(one, begun), Failed::First);
        for _ in 0..8 {
            assert_eq!(attempts.failed(one, begun), Failed::Again);
        }
        assert_eq!(attempts.refused(one, begun), None);
        assert_eq!(attempts.failed(one, begun + Duration::from_secs(20)), Failed::Last);
        assert_eq!(attempts.refused(one, begun + Duration::from_secs(20)), Some(Duration::from_secs(40)));
        assert_eq!(attempts.refused(other, begun), None);
        assert_eq!(attempts.refused(one, begun + WINDOW), None);
        assert_eq!(attempts.failed(one, begun + WINDOW), Failed::First);
    }

    #[test]
    fn a_host_of_ipv6_is_one_address_and_the_table_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for i in 0..10u16 {
            attempts.failed(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, i).into(), now);
        }
        assert!(attempts.refused(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 9, 9, 9, 9).into(), now).is_some());
        for i in 0..10_000u32 {
            attempts.failed(IpAddr::V4(i.into()), now);
        }
        assert!(attempts.0.lock().expect("a table").len() <= MOST_ADDRESSES);
    }
}
