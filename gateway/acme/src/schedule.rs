//! When an order is due: at once for a name without a certificate, before a certificate runs out, and again after a failure.

use std::time::Duration;

use super::problem::Reason;

/// How patient orders are.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The pause after the first failure that is the CA's own, such as not being reachable. It doubles with each further one.
    pub unreachable: Duration,
    /// The longest such pause.
    pub unreachable_at_most: Duration,
    /// The pause after the first failure of another kind. It doubles with each further one. Let's Encrypt allows five failed validations of a name an hour: with
    /// two minutes, there are five orders in the first hour.
    pub refused: Duration,
    /// The longest such pause.
    pub refused_at_most: Duration,
    /// How long one request to a CA may take.
    pub request: Duration,
    /// How long a whole order may take.
    pub order: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            unreachable: Duration::from_secs(10),
            unreachable_at_most: Duration::from_secs(10 * 60),
            refused: Duration::from_secs(2 * 60),
            refused_at_most: Duration::from_secs(6 * 60 * 60),
            request: Duration::from_secs(30),
            order: Duration::from_secs(5 * 60),
        }
    }
}

/// The longest time that a CA's `Retry-After` is heeded.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Timing {
    /// The pause after the failure with this number in a row, from 1. `spread`: a random number from 0 to 1, so that not all names are tried at one time.
    /// What the CA asks for counts if it is longer.
    pub(crate) fn pause(&self, reason: Reason, failures: u32, wait: Option<Duration>, spread: f64) -> Duration {
        let own = matches!(reason, Reason::Unreachable | Reason::Timeout | Reason::Storage);
        let (first, most) = if own { (self.unreachable, self.unreachable_at_most) } else { (self.refused, self.refused_at_most) };
        let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(most);
        doubled.mul_f64(0.9 + 0.2 * spread).max(wait.unwrap_or_default().min(LONGEST_WAIT))
    }
}

/// When a certificate is renewed unless its CA says something else: after two thirds of its life, and a random part of a twentieth of it. All times are in seconds
/// since 1970.
pub(crate) fn renew_at(not_before: i64, not_after: i64, spread: f64) -> i64 {
    #[expect(clippy::cast_precision_loss, reason = "lives of certificates are far below 2^52 seconds")]
    let life = not_after.saturating_sub(not_before).max(0) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "it is less than the life")]
    let until = (life * (2.0 / 3.0 + spread / 20.0)) as i64;
    not_before.saturating_add(until)
}

/// When a certificate is renewed of which the CA suggests this window (RFC 9773 §4.2): at a random time in it. A time that was chosen before is kept if it is in the
/// window.
pub(crate) fn within(start: i64, end: i64, chosen: Option<i64>, spread: f64) -> i64 {
    if let Some(chosen) = chosen.filter(|chosen| (start..=end.max(start)).contains(chosen)) {
        return chosen;
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "windows are far below 2^52 seconds")]
    let into = (end.saturating_sub(start).max(0) as f64 * spread) as i64;
    start.saturating_add(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_a_ca_may_ask_for_longer_ones() {
        let timing = Timing::default();
        let pause = |reason, failures, wait| timing.pause(reason, failures, wait, 0.5).as_secs();
        assert_eq!([1, 2, 3, 4, 99].map(|n| pause(Reason::NotValidated, n, None)), [120, 240, 480, 960, 6 * 3600]);
        assert_eq!([1, 2, 99].map(|n| pause(Reason::Unreachable, n, None)), [10, 20, 600]);
        assert_eq!(pause(Reason::RateLimited, 1, Some(Duration::from_secs(3600))), 3600);
        assert_eq!(pause(Reason::RateLimited, 9, Some(Duration::from_secs(1))), 6 * 3600, "a short one does not shorten ours");
        assert_eq!(pause(Reason::RateLimited, 1, Some(Duration::MAX)), LONGEST_WAIT.as_secs());
        // Five orders in the first hour, the first of them at once.
        let before: u64 = (1..=4).map(|n| pause(Reason::NotValidated, n, None)).sum();
        assert!(before < 3600 && before + pause(Reason::NotValidated, 5, None) >= 3600);
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life_or_when_its_ca_says() {
        assert_eq!(renew_at(0, 90, 0.0), 60);
        assert_eq!(renew_at(0, 9000, 1.0), 6450);
        assert_eq!(renew_at(100, 0, 0.5), 100, "one that never was valid is renewed at once");
        assert_eq!(within(100, 200, None, 0.25), 125);
        assert_eq!(within(100, 200, Some(180), 0.25), 180);
        assert_eq!(within(100, 150, Some(180), 0.5), 125, "the window has moved");
        assert_eq!(within(200, 100, None, 0.5), 200);
    }
}
