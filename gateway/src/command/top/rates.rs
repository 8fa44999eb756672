//! Rates: the differences of counters between two looks, and what they say of how long things take.

use std::collections::HashMap;

use serde_json::Value;

use super::{Kind, Sort};

/// The counters at one moment, by name.
#[derive(Debug, Default)]
pub(super) struct Look {
    microseconds: u64,
    rows: HashMap<String, Counters>,
}

#[derive(Clone, Debug, Default)]
struct Counters {
    count: u64,
    errors: u64,
    in_flight: Option<u64>,
    bytes: Option<u64>,
    /// Upper bounds in seconds, without one for the last bucket, and counts.
    times: Vec<(Option<f64>, u64)>,
    mean: Option<f64>,
    state: String,
}

impl Look {
    /// Reads what the admin API says.
    pub(super) fn of(answer: &Value) -> Result<Self, String> {
        let rows = answer["rows"].as_array().ok_or("the admin API has no counters; is the gateway of this version?")?;
        let row = |row: &Value| {
            let number = |field: &str| row[field].as_u64();
            let times = row["times"].as_array().map(Vec::as_slice).unwrap_or_default();
            let counters = Counters {
                count: number("count").unwrap_or_default(),
                errors: number("errors").unwrap_or_default(),
                in_flight: number("inFlight"),
                bytes: number("bytesIn").zip(number("bytesOut")).map(|(a, b)| a.saturating_add(b)),
                times: times.iter().map(|bucket| (bucket[0].as_f64(), bucket[1].as_u64().unwrap_or_default())).collect(),
                mean: row["meanMicroseconds"].as_f64().map(|us| us / 1e6),
                state: row["state"].as_str().unwrap_or_default().to_owned(),
            };
            (row["name"].as_str().unwrap_or_default().to_owned(), counters)
        };
        Ok(Self { microseconds: answer["atMicroseconds"].as_u64().unwrap_or_default(), rows: rows.iter().map(row).collect() })
    }
}

/// What has happened between two looks.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// All rows.
    pub(super) all: Vec<Rate>,
    /// Those that are shown, in this order.
    pub(super) shown: Vec<usize>,
}

/// What has happened to one thing, a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) name: String,
    pub(super) rate: f64,
    pub(super) errors: f64,
    /// Half, and 99 of 100, took at most so many seconds; none: nothing ended. Where only a mean is known, it is the first.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) in_flight: Option<u64>,
    pub(super) bytes: Option<f64>,
    pub(super) state: String,
}

impl Rates {
    /// The rates between two looks. What was not there before counts from 0, and so does everything after a restart of the gateway.
    pub(super) fn between(before: &Look, after: &Look) -> Self {
        let restarted = after.microseconds < before.microseconds;
        let since = if restarted { 0 } else { before.microseconds };
        let seconds = (after.microseconds.saturating_sub(since) as f64 / 1e6).max(1e-3);
        let none = Counters::default();
        let row = |(name, now): (&String, &Counters)| {
            let then = before.rows.get(name).filter(|then| !restarted && then.count <= now.count).unwrap_or(&none);
            let a_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            let taken = difference(&now.times, &then.times);
            Rate {
                name: name.clone(),
                rate: a_second(now.count, then.count),
                errors: a_second(now.errors, then.errors),
                p50: quantile(&taken, 0.5).or(now.mean.filter(|mean| *mean > 0.0)),
                p99: quantile(&taken, 0.99),
                in_flight: now.in_flight,
                bytes: now.bytes.map(|bytes| a_second(bytes, then.bytes.unwrap_or_default())),
                state: now.state.clone(),
            }
        };
        Self { all: after.rows.iter().map(row).collect(), shown: Vec::new() }
    }

    /// The rows that are shown.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &Rate> {
        self.shown.iter().filter_map(|i| self.all.get(*i)).collect::<Vec<_>>().into_iter()
    }

    /// Shows the rows whose names contain a text, the largest first, or the smallest; by name from A.
    pub(super) fn select(&mut self, filter: &str, by: Sort, reverse: bool) {
        let key = |row: &Rate| match by {
            Sort::Name => 0.0,
            Sort::Rate => row.rate,
            Sort::Errors => row.errors,
            Sort::P50 => row.p50.unwrap_or(-1.0),
            Sort::P99 => row.p99.unwrap_or(-1.0),
            Sort::InFlight => row.in_flight.map_or(-1.0, |n| n as f64),
            Sort::Bytes => row.bytes.unwrap_or(-1.0),
        };
        let mut rows: Vec<(usize, &Rate)> = self.all.iter().enumerate().filter(|(_, row)| row.name.contains(filter)).collect();
        rows.sort_by(|(_, a), (_, b)| key(b).total_cmp(&key(a)).then_with(|| a.name.cmp(&b.name)));
        if reverse {
            rows.reverse();
        }
        self.shown = rows.into_iter().map(|(i, _)| i).collect();
    }
}

/// The counts of the buckets that have grown.
fn difference(now: &[(Option<f64>, u64)], then: &[(Option<f64>, u64)]) -> Vec<(Option<f64>, u64)> {
    let before = |bound: &Option<f64>| then.iter().find(|(other, _)| other == bound).map_or(0, |(_, count)| *count);
    now.iter().map(|(bound, count)| (*bound, count.saturating_sub(before(bound)))).filter(|(_, count)| *count > 0).collect()
}

/// The bound of the bucket that the quantile is in, in seconds; of the last bucket, which has none, infinity.
fn quantile(buckets: &[(Option<f64>, u64)], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().map(|(_, count)| count).sum();
    let wanted = (all as f64 * share).ceil().max(1.0);
    let mut seen = 0;
    let found = buckets.iter().find(|(_, count)| {
        seen += count;
        seen as f64 >= wanted
    });
    found.map(|(bound, _)| bound.unwrap_or(f64::INFINITY))
}

/// The head of the table.
pub(super) fn head(of: Kind) -> Vec<String> {
    let (name, rate, state) = match of {
        Kind::Services => ("SERVICE", "RATE/S", "READY"),
        Kind::Endpoints => ("ENDPOINT", "PICKS/S", "STATE"),
        Kind::Plugins => ("PLUGIN", "CALLS/S", "STATE"),
    };
    let p50 = if of == Kind::Services { "P50" } else { "MEAN" };
    [name, rate, "ERRORS/S", p50, "P99", "IN-FLIGHT", "BYTES/S", state].map(str::to_owned).to_vec()
}

impl Rate {
    /// The row of the table.
    pub(super) fn cells(&self) -> Vec<String> {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            self.name.clone(),
            number(self.rate),
            number(self.errors),
            or_none(self.p50.map(time)),
            or_none(self.p99.map(time)),
            or_none(self.in_flight.map(|n| n.to_string())),
            or_none(self.bytes.map(bytes)),
            self.state.clone(),
        ]
    }
}

fn number(of: f64) -> String {
    if of == 0.0 {
        "0".to_owned()
    } else if of < 9.95 {
        format!("{of:.1}")
    } else {
        format!("{of:.0}")
    }
}

/// A bucket's bound: what it holds took at most so long.
fn time(seconds: f64) -> String {
    match seconds {
        s if s.is_infinite() => ">60s".to_owned(),
        s if s < 1e-3 => format!("{:.0}µs", s * 1e6),
        s if s < 1.0 => format!("{}ms", (s * 1e4).round() / 10.0),
        s => format!("{}s", (s * 10.0).round() / 10.0),
    }
}

fn bytes(of: f64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(size, _)| of >= *size) {
        Some((size, unit)) => format!("{:.1}{unit}", of / size),
        None => format!("{of:.0}B"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look(at: u64, rows: Value) -> Look {
        Look::of(&json!({"atMicroseconds": at, "rows": rows})).expect("counters")
    }

    #[test]
    fn rates_are_differences_by_the_time_between() {
        let before = look(
            1_000_000,
            json!([{"name": "a", "count": 100, "errors": 1, "inFlight": 3, "bytesIn": 0, "bytesOut": 10, "times": [[0.001, 100]]}]),
        );
        let rows = json!([
            {"name": "a", "count": 200, "errors": 3, "inFlight": 5, "bytesIn": 1000, "bytesOut": 3010, "times": [[0.001, 190], [0.25, 8], [null, 2]], "state": "1/2"},
            {"name": "b", "count": 4, "errors": 0, "meanMicroseconds": 1500},
        ]);
        let mut rates = Rates::between(&before, &look(3_000_000, rows));
        rates.select("", Sort::Rate, false);
        let names = |rates: &Rates| rates.rows().map(|row| row.name.clone()).collect::<Vec<_>>();
        let cells = |rates: &Rates, i: usize| rates.rows().nth(i).expect("a row").cells();
        assert_eq!(cells(&rates, 0), ["a", "50", "1.0", "1ms", ">60s", "5", "2.0kB", "1/2"]);
        assert_eq!(cells(&rates, 1), ["b", "2.0", "0", "1.5ms", "-", "-", "-", ""]);
        rates.select("", Sort::Rate, true);
        assert_eq!(names(&rates), ["b", "a"]);
        rates.select("a", Sort::Name, false);
        assert_eq!((names(&rates), rates.all.len()), (vec!["a".to_owned()], 2));
    }

    #[test]
    fn a_gateway_that_was_started_anew_counts_from_nothing() {
        let before = look(9_000_000, json!([{"name": "a", "count": 900, "errors": 0}]));
        let after = look(2_000_000, json!([{"name": "a", "count": 1000, "errors": 0}]));
        assert!((Rates::between(&before, &after).all[0].rate - 500.0).abs() < 1e-9);
        assert!(Look::of(&json!([])).is_err());
    }

    #[test]
    fn units_are_those_that_people_read() {
        assert_eq!([0.000_25, 0.0025, 0.25, 2.5].map(time), ["250µs", "2.5ms", "250ms", "2.5s"]);
        assert_eq!([0.0, 999.0, 1500.0, 2e9].map(bytes), ["0B", "999B", "1.5kB", "2.0GB"]);
        assert_eq!([0.0, 0.25, 9.96, 12_345.6].map(number), ["0", "0.2", "10", "12346"]);
    }
}
