//! How long is waited before a server is asked again that did not answer as it should.

use std::time::Duration;

use rand::RngExt as _;

/// The first pause and the longest.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Pauses {
    /// 200 ms and 30 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(30) }
    }
}

/// The pause after so many failures in a row, the first of which is 1: it doubles up to the longest, and up to half of it is left to chance, as thousands
/// of gateways may have lost the same server. A server that says after how long it wants to be asked is asked then, and not before.
pub(super) fn after(failures: u32, asked_for: Option<Duration>, pauses: Pauses) -> Duration {
    let whole = pauses.first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(pauses.longest);
    let pause = whole.mul_f64(rand::rng().random_range(0.5..=1.0));
    match asked_for {
        Some(asked_for) => asked_for + pause.min(asked_for.mul_f64(0.5)),
        None => pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_limit_and_differs() {
        let within = |failures, from: u64, to: u64| {
            let pause = after(failures, None, Pauses::default()).as_millis();
            assert!((u128::from(from)..=u128::from(to)).contains(&pause), "{failures}: {pause}");
        };
        within(1, 100, 200);
        within(2, 200, 400);
        within(8, 12_800, 25_600);
        within(9, 15_000, 30_000);
        within(1000, 15_000, 30_000);
        let all: std::collections::BTreeSet<Duration> = (0..20).map(|_| after(5, None, Pauses::default())).collect();
        assert!(all.len() > 10, "gateways do not come together");
        for failures in [1, 20] {
            let pause = after(failures, Some(Duration::from_secs(1)), Pauses::default());
            assert!(pause >= Duration::from_secs(1) && pause <= Duration::from_millis(1500), "what the server asks for counts: {pause:?}");
        }
    }
}
