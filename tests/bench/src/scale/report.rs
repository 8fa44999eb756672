//! The table "Scale", as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::peers::Tried;

/// All rows of the table.
#[derive(Default, Serialize)]
pub(crate) struct Scale {
    rows: Vec<Row>,
    pub(super) peers: Vec<Tried>,
}

/// One figure of the table.
#[derive(Serialize)]
pub(super) struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    /// The highest value that is wanted, or the lowest.
    goal: Option<f64>,
    least: bool,
}

impl Row {
    pub(super) fn of(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, goal: None, least: false }
    }

    pub(super) fn goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Makes the goal the lowest value that is wanted.
    pub(super) fn more(self) -> Self {
        Self { least: true, ..self }
    }
}

fn number(value: f64) -> String {
    if value >= 100.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

impl Scale {
    /// Adds a row, and prints it.
    pub(super) fn row(&mut self, row: Row) {
        println!("  {}: {} {}", row.what, number(row.value), row.unit);
        self.rows.push(row);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("\n| scale, one worker | measured | goal |\n| --- | ---: | ---: |\n");
        for Row { what, value, unit, goal, least } in &self.rows {
            let sign = if *least { "≥" } else { "≤" };
            let goal = goal.map_or_else(String::new, |goal| format!("{sign} {}", number(goal)));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {what} | {} {unit} | {goal} |", number(*value));
        }
        text.push_str(
            "\n| one change, under load | proxy | served after | the slowest | CPU | requests failed | sent again | memory | at most |\n",
        );
        text.push_str("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
        for t in &self.peers {
            let _ = writeln!(
                text,
                "| {} | {} | {} ms | {} ms | {} ms | {} | {} | {:.0} MiB | {:.0} MiB |",
                t.change,
                t.proxy,
                number(t.median),
                number(t.slowest),
                number(t.cpu),
                t.failed,
                t.again,
                t.memory,
                t.most
            );
        }
        text
    }
}
