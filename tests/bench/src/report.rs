//! Medians and ratios, as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::calls::Call;

/// One measurement of one proxy in one round.
#[derive(Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    /// `L7` or `L4`: what it is compared within.
    pub(crate) layer: &'static str,
    /// Microseconds of CPU a request.
    pub(crate) cpu_us: f64,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) p99_ms: f64,
}

/// One proxy over all rounds.
#[derive(Serialize)]
struct Row {
    name: String,
    layer: &'static str,
    cpu_us: f64,
    /// CPU a request, over nginx's in the same layer and round; none if nginx was not measured.
    ratio_to_nginx: Option<f64>,
    rate: f64,
    p99_ms: f64,
}

/// All there is to say.
#[derive(Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    calls: Vec<Call>,
    /// Route and pick over the CPU time of a request at L7; none if that was not measured.
    wasm_share: Option<f64>,
    rounds: Vec<Vec<Measured>>,
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Report {
    pub(crate) fn of(rounds: &[Vec<Measured>], calls: Vec<Call>) -> Self {
        let names: Vec<(String, &'static str)> = rounds.first().into_iter().flatten().map(|m| (m.name.clone(), m.layer)).collect();
        let rows: Vec<Row> = names
            .into_iter()
            .filter_map(|(name, layer)| {
                let of = |round: &[Measured]| round.iter().find(|m| m.name == name).cloned();
                let each = |value: fn(&Measured) -> f64| median(rounds.iter().filter_map(|round| Some(value(&of(round)?))));
                let nginx = |round: &[Measured]| Some(round.iter().find(|m| m.layer == layer && m.name.starts_with("nginx"))?.cpu_us);
                let ratio = |round: &Vec<Measured>| Some(of(round)?.cpu_us / nginx(round)?);
                let ratio_to_nginx = median(rounds.iter().filter_map(ratio));
                Some(Row { cpu_us: each(|m| m.cpu_us)?, ratio_to_nginx, rate: each(|m| m.rate)?, p99_ms: each(|m| m.p99_ms)?, name, layer })
            })
            .collect();
        let ours = rows.iter().find(|r| r.name == "sluicegate L7").map(|r| r.cpu_us);
        let in_path: f64 = calls.iter().filter(|c| c.in_path).map(|c| c.nanos).sum();
        Self { wasm_share: ours.map(|ours| in_path / 1e3 / ours), rows, calls, rounds: rounds.to_vec() }
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| proxy | CPU a request | to nginx | requests/s | p99 |\n| --- | ---: | ---: | ---: | ---: |\n");
        for r in &self.rows {
            // Writing to a String cannot fail.
            let ratio = r.ratio_to_nginx.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(text, "| {} | {:.2} µs | {ratio} | {:.0} | {:.2} ms |", r.name, r.cpu_us, r.rate, r.p99_ms);
        }
        text.push_str("\n| wasm call alone | time | allocations |\n| --- | ---: | ---: |\n");
        for c in &self.calls {
            let _ = writeln!(text, "| {} | {:.0} ns | {} |", c.name, c.nanos, c.allocations);
        }
        if let Some(share) = self.wasm_share {
            let _ = writeln!(text, "\nRoute and pick are {:.1} % of the CPU time of a request at L7.", share * 100.0);
        }
        text
    }
}
