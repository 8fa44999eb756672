//! Medians and ratios, as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::calls::Call;
use crate::fleet::Fleet;
use crate::scale::Scale;
use crate::scenario::Scenario;

/// One measurement of one proxy in one round.
#[derive(Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) scenario: &'static str,
    pub(crate) proxy: &'static str,
    pub(crate) round: usize,
    /// Microseconds of CPU for each unit that the scenario counts.
    pub(crate) cpu_us: f64,
    /// How many units a second were done.
    pub(crate) rate: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) p999_ms: Option<f64>,
}

/// One proxy in one scenario, over all rounds.
#[derive(Serialize)]
struct Row {
    scenario: &'static str,
    unit: &'static str,
    proxy: &'static str,
    cpu_us: f64,
    /// The median, over the rounds, of the proxy's CPU time divided by the reference's in the same round.
    ratio: Option<f64>,
    reference: &'static str,
    /// The highest ratio that is wanted of Sluicegate.
    goal: f64,
    /// The lowest and the highest of these ratios.
    spread: Option<(f64, f64)>,
    rate: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    p999_ms: Option<f64>,
}

/// The whole report.
#[derive(Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    calls: Vec<Call>,
    /// The share of route and pick in the CPU time of a request at L7; none if that was not measured.
    wasm_share: Option<f64>,
    /// Sluicegate's CPU time for each request with 5,000 routes divided by that with 100, in the same rounds; at most 1.10 is wanted.
    routes_growth: Option<f64>,
    fleet: Option<Fleet>,
    scale: Option<Scale>,
    measured: Vec<Measured>,
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Report {
    pub(crate) fn of(
        scenarios: &[&Scenario],
        measured: Vec<Measured>,
        calls: Vec<Call>,
        fleet: Option<Fleet>,
        scale: Option<Scale>,
    ) -> Self {
        let mut rows = Vec::new();
        for scenario in scenarios {
            let here: Vec<&Measured> = measured.iter().filter(|m| m.scenario == scenario.name).collect();
            let mut proxies: Vec<&'static str> = here.iter().map(|m| m.proxy).collect();
            proxies.sort_unstable();
            proxies.dedup();
            for proxy in proxies {
                let own = || here.iter().filter(|m| m.proxy == proxy);
                let reference = |round| here.iter().find(|m| m.proxy == scenario.reference && m.round == round);
                let (Some(cpu_us), Some(rate)) = (median(own().map(|m| m.cpu_us)), median(own().map(|m| m.rate))) else { continue };
                let ratios: Vec<f64> = own().filter_map(|m| Some(m.cpu_us / reference(m.round)?.cpu_us)).collect();
                rows.push(Row {
                    scenario: scenario.name,
                    unit: scenario.unit,
                    proxy,
                    cpu_us,
                    ratio: median(ratios.iter().copied()),
                    spread: ratios.iter().copied().reduce(f64::min).zip(ratios.iter().copied().reduce(f64::max)),
                    reference: scenario.reference,
                    goal: scenario.goal,
                    rate,
                    p50_ms: median(own().filter_map(|m| m.p50_ms)),
                    p99_ms: median(own().filter_map(|m| m.p99_ms)),
                    p999_ms: median(own().filter_map(|m| m.p999_ms)),
                });
            }
        }
        let ours = rows.iter().find(|r| r.proxy == "sluicegate" && r.scenario == crate::scenario::ALL[0].name).map(|r| r.cpu_us);
        let of_routes = |name: &'static str| measured.iter().filter(move |m| m.scenario == name && m.proxy == "sluicegate");
        let [few, many] = crate::scenario::FEW_AND_MANY_ROUTES;
        let growth = of_routes(many).filter_map(|many| Some(many.cpu_us / of_routes(few).find(|few| few.round == many.round)?.cpu_us));
        let routes_growth = median(growth);
        let in_path: f64 = calls.iter().filter(|c| c.in_path).map(|c| c.nanos).sum();
        Self { wasm_share: ours.map(|ours| in_path / 1e3 / ours), rows, calls, routes_growth, fleet, scale, measured }
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "| what | proxy | CPU for each | ratio (lowest to highest) | goal | a second | p50 | p99 | p99.9 |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for r in &self.rows {
            // Writing to a String cannot fail.
            let ratio = r.ratio.zip(r.spread);
            let ratio = ratio.map_or_else(|| "-".to_owned(), |(ratio, (low, high))| format!("{ratio:.2} ({low:.2} to {high:.2})"));
            let goal = if r.proxy.starts_with("sluicegate") && r.proxy != r.reference {
                format!("{:.2} × {}", r.goal, r.reference)
            } else {
                String::new()
            };
            let [p50, p99, p999] = [r.p50_ms, r.p99_ms, r.p999_ms].map(|at| at.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2} ms")));
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} µs a {} | {ratio} | {goal} | {:.0} | {p50} | {p99} | {p999} |",
                r.scenario, r.proxy, r.cpu_us, r.unit, r.rate
            );
        }
        text.push_str("\n| wasm call alone | time | instructions |\n| --- | ---: | ---: |\n");
        for c in &self.calls {
            let _ = writeln!(text, "| {} | {:.0} ns | {:.0} |", c.name, c.nanos, c.instructions);
        }
        if let Some(share) = self.wasm_share {
            let _ = writeln!(text, "\nRoute and pick are {:.1} % of the CPU time of a request at L7.", share * 100.0);
        }
        if let Some(growth) = self.routes_growth {
            let _ = writeln!(text, "\nA request's CPU time with 5,000 routes is {growth:.2} of that with 100 (goal: at most 1.10).");
        }
        if let Some(fleet) = &self.fleet {
            text.push_str(&fleet.markdown());
        }
        if let Some(scale) = &self.scale {
            text.push_str(&scale.markdown());
        }
        text
    }
}
