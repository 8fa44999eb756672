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
    /// CPU a request, over nginx's in the same layer and round.
    ratio_to_nginx: f64,
    rate: f64,
    p99_ms: f64,
}

/// All there is to say.
#[derive(Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    calls: Vec<Call>,
    /// Route and pick over the CPU time of a request at L7.
    wasm_share: f64,
    rounds: Vec<Vec<Measured>>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Report {
    pub(crate) fn of(rounds: &[Vec<Measured>], calls: Vec<Call>) -> Self {
        let names: Vec<(String, &'static str)> = rounds.first().into_iter().flatten().map(|m| (m.name.clone(), m.layer)).collect();
        let rows: Vec<Row> = names
            .into_iter()
            .map(|(name, layer)| {
                let each = |f: &dyn Fn(&Measured, &[Measured]) -> f64| {
                    median(rounds.iter().filter_map(|round| Some(f(round.iter().find(|m| m.name == name)?, round))).collect())
                };
                let nginx = |round: &[Measured]| {
                    round.iter().find(|m| m.layer == layer && m.name.starts_with("nginx")).map_or(f64::NAN, |m| m.cpu_us)
                };
                Row {
                    cpu_us: each(&|m, _| m.cpu_us),
                    ratio_to_nginx: each(&|m, round| m.cpu_us / nginx(round)),
                    rate: each(&|m, _| m.rate),
                    p99_ms: each(&|m, _| m.p99_ms),
                    name,
                    layer,
                }
            })
            .collect();
        let ours = rows.iter().find(|r| r.name == "sluicegate L7").map_or(f64::NAN, |r| r.cpu_us);
        let in_path: f64 = calls.iter().filter(|c| c.in_path).map(|c| c.nanos).sum();
        Self { wasm_share: in_path / 1e3 / ours, rows, calls, rounds: rounds.to_vec() }
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| proxy | CPU a request | to nginx | requests/s | p99 |\n| --- | ---: | ---: | ---: | ---: |\n");
        for r in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {} | {:.2} µs | {:.2} | {:.0} | {:.2} ms |", r.name, r.cpu_us, r.ratio_to_nginx, r.rate, r.p99_ms);
        }
        text.push_str("\n| wasm call alone | time | allocations |\n| --- | ---: | ---: |\n");
        for c in &self.calls {
            let _ = writeln!(text, "| {} | {:.0} ns | {} |", c.name, c.nanos, c.allocations);
        }
        let _ = writeln!(text, "\nRoute and pick are {:.1} % of the CPU time of a request at L7.", self.wasm_share * 100.0);
        text
    }
}
