//! Which endpoints stand out from the others of their service port, by the exchanges of an interval.
//!
//! Success rate and failure percentage are Envoy's ("Outlier detection", §"Success rate", §"Failure percentage"): an endpoint is out when its
//! success rate is below `mean - factor × standard deviation` of all that had enough exchanges. Latency is compared with the median, which, unlike
//! mean and deviation, the outlier itself hardly moves.

use sluicegate_model::health::{Reason, Sample};
use sluicegate_model::settings::Passive;

/// Latencies that are closer to the median than this are noise, however large their ratio: 10 ms.
const LATENCY_NOISE_US: f64 = 10_000.0;

/// The indices of the endpoints that stand out, each once, and why.
pub(super) fn judge(rules: &Passive, samples: &[Sample]) -> Vec<(usize, Reason)> {
    let mut out: Vec<(usize, Reason)> = Vec::new();
    let mut found = |reason: Reason, indices: Vec<usize>| {
        for index in indices {
            if !out.iter().any(|(known, _)| *known == index) {
                out.push((index, reason));
            }
        }
    };
    let kinds: [fn(&Sample) -> (u32, u32); 2] = [|s| s.answers, |s| s.reached];
    for of in &kinds[..if rules.split_local_errors { 2 } else { 1 }] {
        let failed: Vec<(usize, f64)> = enough(rules, samples, |s| {
            let (all, failed) = of(s);
            (all, f64::from(failed) / f64::from(all.max(1)))
        });
        if failed.len() < rules.minimum_endpoints {
            continue;
        }
        if let Some(most) = rules.failure_percentage {
            let above = failed.iter().filter(|(_, share)| share * 100.0 >= f64::from(most));
            found(Reason::FailurePercentage, above.map(|(i, _)| *i).collect());
        }
        if let Some(factor) = rules.success_rate_stdev_factor {
            let n = failed.len() as f64;
            let mean = failed.iter().map(|(_, share)| share).sum::<f64>() / n;
            let variance = failed.iter().map(|(_, share)| (share - mean).powi(2)).sum::<f64>() / n;
            let most = mean + variance.sqrt() * f64::from(factor) / 1000.0;
            let above = failed.iter().filter(|(_, share)| *share > most);
            found(Reason::SuccessRate, above.map(|(i, _)| *i).collect());
        }
    }
    if let Some(percent) = rules.latency_percentage {
        let mut means = enough(rules, samples, |s| {
            let served = s.answers.0.saturating_sub(s.answers.1);
            (served, s.latency_us as f64 / f64::from(served.max(1)))
        });
        if means.len() >= rules.minimum_endpoints {
            means.sort_by(|a, b| a.1.total_cmp(&b.1));
            // If their number is even, the lower one of the two in the middle: the slower half must not decide for itself.
            let median = means[(means.len() - 1) / 2].1;
            let slow = means.iter().filter(|(_, mean)| *mean >= median * f64::from(percent) / 100.0 && *mean >= median + LATENCY_NOISE_US);
            found(Reason::Latency, slow.map(|(i, _)| *i).collect());
        }
    }
    out
}

/// The index and the figure of each endpoint that had enough exchanges.
fn enough(rules: &Passive, samples: &[Sample], figure: impl Fn(&Sample) -> (u32, f64)) -> Vec<(usize, f64)> {
    let figures = samples.iter().map(figure).enumerate();
    figures.filter(|(_, (volume, _))| *volume >= rules.request_volume).map(|(i, (_, value))| (i, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rules() -> Passive {
        Passive {
            split_local_errors: false,
            interval: Duration::from_secs(3),
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            consecutive_local_failures: 5,
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            always_eject_one: true,
            failure_percentage: None,
            success_rate_stdev_factor: None,
            latency_percentage: None,
            minimum_endpoints: 5,
            request_volume: 100,
        }
    }

    fn failed(shares: &[u32]) -> Vec<Sample> {
        shares.iter().map(|f| Sample { answers: (100, *f), reached: (100, *f), latency_us: 0 }).collect()
    }

    #[test]
    fn the_success_rate_is_compared_with_mean_and_deviation() {
        let rules = Passive { success_rate_stdev_factor: Some(1_900), ..rules() };
        assert_eq!(judge(&rules, &failed(&[1, 0, 2, 1, 0, 30])), [(5, Reason::SuccessRate)]);
        assert_eq!(judge(&rules, &failed(&[30, 30, 30, 30, 30, 30])), [], "all alike: it is not the endpoints");
        assert_eq!(judge(&rules, &failed(&[0, 0, 0, 30])), [], "too few to compare");
        let quiet: Vec<Sample> = failed(&[0, 0, 0, 0, 0, 30]).into_iter().map(|s| Sample { answers: (99, s.answers.1), ..s }).collect();
        assert_eq!(judge(&rules, &quiet), [], "too few exchanges to tell");
    }

    #[test]
    fn the_failure_percentage_counts_from_its_threshold() {
        let rules = Passive { failure_percentage: Some(30), ..rules() };
        assert_eq!(judge(&rules, &failed(&[29, 30, 31, 0, 0])), [(1, Reason::FailurePercentage), (2, Reason::FailurePercentage)]);
    }

    #[test]
    fn failures_to_reach_it_are_compared_where_they_are_split_off() {
        let mut samples = failed(&[0; 5]);
        samples[3].reached = (100, 50);
        let rules = Passive { failure_percentage: Some(30), ..rules() };
        assert_eq!(judge(&rules, &samples), []);
        assert_eq!(judge(&Passive { split_local_errors: true, ..rules }, &samples), [(3, Reason::FailurePercentage)]);
    }

    #[test]
    fn the_slow_one_is_found_against_the_median() {
        let rules = Passive { latency_percentage: Some(300), ..rules() };
        let slow = |means_ms: &[u64]| -> Vec<Sample> {
            means_ms.iter().map(|ms| Sample { answers: (200, 100), latency_us: ms * 100_000, ..Sample::default() }).collect()
        };
        assert_eq!(judge(&rules, &slow(&[20, 21, 22, 19, 60])), [], "below three times the median, 21 ms");
        assert_eq!(judge(&rules, &slow(&[20, 21, 22, 19, 63])), [(4, Reason::Latency)]);
        assert_eq!(judge(&rules, &slow(&[1, 1, 1, 1, 9])), [], "nine times, but 8 ms are noise");
        assert_eq!(judge(&rules, &slow(&[20, 20, 20, 90, 90, 90])).len(), 3);
    }
}
