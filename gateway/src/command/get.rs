//! `sluicegate get`: tables from the admin API.

mod kinds;
mod objects;
mod tables;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;
use sluicegate_model::escape;

use super::at::At;
use super::{crds, fail, out, out_json};
use kinds::Kind;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
}

/// How `get` shows it.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Form {
    Table,
    /// The table with more columns: of what has a status, with reasons and messages
    Wide,
    Json,
    Yaml,
    /// A line for each, with its kind and name
    Name,
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to show
    #[arg(value_enum)]
    kind: Kind,
    /// Only those of these names; with NAMESPACE/ before it, of that namespace
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only those of this namespace [default: all]
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    at: At,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
    /// Go on, and show each second which rows or objects are new or have changed
    #[arg(short, long)]
    watch: bool,
}

/// The gateway that is asked, and how its answer is shown.
#[derive(Debug, clap::Args)]
pub(super) struct From {
    #[command(flatten)]
    pub(super) at: At,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
}

/// How often is looked what has changed.
const WATCH: Duration = Duration::from_secs(1);

impl Arguments {
    pub(super) fn execute(self) -> ExitCode {
        match self.show() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error),
        }
    }

    fn show(&self) -> Result<(), String> {
        let mut shown = Shown::default();
        loop {
            let rows = self.fetch()?;
            shown.show(self, &rows);
            if !self.watch {
                return self.missing(&rows);
            }
            std::thread::sleep(WATCH);
        }
    }

    /// What the admin API says, without what was not asked for.
    fn fetch(&self) -> Result<Vec<Value>, String> {
        let mut rows = Vec::new();
        for path in self.kind.paths() {
            match self.at.json(&format!("/api/v1/{path}"))? {
                Value::Array(all) => rows.extend(all),
                other => return Err(format!("/api/v1/{path} answers no list but {other}")),
            }
        }
        rows.retain(|row| {
            let (namespace, name) = self.kind.identity(row);
            let of_namespace = match (&self.namespace, &namespace) {
                (Some(wanted), Some(namespace)) => wanted == namespace,
                _ => true,
            };
            of_namespace && (self.names.is_empty() || self.names.iter().any(|wanted| is(wanted, namespace.as_deref(), &name)))
        });
        Ok(rows)
    }

    /// Fails if there is a name that nothing has.
    fn missing(&self, rows: &[Value]) -> Result<(), String> {
        let found: Vec<_> = rows.iter().map(|row| self.kind.identity(row)).collect();
        let has = |wanted: &String| found.iter().any(|(namespace, name)| is(wanted, namespace.as_deref(), name));
        let missing: Vec<String> = self.names.iter().filter(|wanted| !has(wanted)).map(|wanted| self.kind.not_found(wanted)).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
    }
}

/// Whether a name, with or without its namespace, is that of an object.
fn is(wanted: &str, namespace: Option<&str>, name: &str) -> bool {
    wanted == name || wanted.split_once('/').is_some_and(|(before, rest)| Some(before) == namespace && rest == name)
}

/// What was shown last, of which only what has changed is shown again.
#[derive(Default)]
struct Shown {
    /// Rows or objects as they were shown; none: nothing was shown yet.
    last: Option<HashSet<String>>,
    /// How wide the columns of the table were.
    widths: Vec<usize>,
}

impl Shown {
    fn show(&mut self, asked: &Arguments, rows: &[Value]) {
        match asked.output {
            Form::Json | Form::Yaml => {
                let first = self.last.is_none();
                let new = self.changed(rows.iter().collect(), |row| row.to_string());
                if first || !new.is_empty() {
                    // One that is asked for by its name is shown by itself, as by kubectl.
                    let value = match new.as_slice() {
                        [one] if asked.names.len() == 1 => (*one).clone(),
                        all => serde_json::json!(all),
                    };
                    match asked.output {
                        Form::Json => out_json(format_args!("{value:#}")),
                        _ => out(crds::yaml(&value).trim_end()),
                    }
                }
            }
            Form::Name => {
                let mut names: Vec<String> = rows.iter().map(|row| asked.kind.name(row)).collect();
                names.dedup();
                self.changed(names, Clone::clone).into_iter().for_each(|name| out(escape::line(&name)));
            }
            Form::Table | Form::Wide => {
                let table = asked.kind.table(rows, asked.output == Form::Wide);
                let new = self.changed(table, |row| row.join("\0"));
                if !new.is_empty() {
                    out(aligned(&new, &mut self.widths));
                }
            }
        }
    }

    /// Those that are not as they were the last time.
    fn changed<T>(&mut self, all: Vec<T>, text: impl Fn(&T) -> String) -> Vec<T> {
        let texts: Vec<String> = all.iter().map(&text).collect();
        let last = self.last.take().unwrap_or_default();
        let new = all.into_iter().zip(&texts).filter(|(_, text)| !last.contains(*text)).map(|(one, _)| one).collect();
        self.last = Some(texts.into_iter().collect());
        new
    }
}

/// Does what `get plugins` does, for `plugin list`.
pub(super) fn list_plugins(from: &From) -> ExitCode {
    let output = match from.output {
        Output::Table => Form::Table,
        Output::Json => Form::Json,
    };
    let (kind, at) = (Kind::Plugins, from.at.clone());
    Arguments { kind, names: Vec::new(), namespace: None, at, output, watch: false }.execute()
}

pub(super) fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => {
            items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned)).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Makes a table: columns are as wide as their widest cell, and the content of a cell stays in it.
pub(super) fn table(table: &[Vec<String>]) -> String {
    aligned(table, &mut Vec::new())
}

/// Does what [`table`] does, with columns at least as wide as they were the last time.
fn aligned(table: &[Vec<String>], widths: &mut Vec<usize>) -> String {
    let table: Vec<Vec<_>> = table.iter().map(|row| row.iter().map(|cell| escape::line(cell)).collect()).collect();
    for row in &table {
        widths.resize(widths.len().max(row.len()), 0);
        row.iter().zip(widths.iter_mut()).for_each(|(cell, width)| *width = (*width).max(cell.chars().count()));
    }
    let line = |row: &Vec<std::borrow::Cow<'_, str>>| {
        let cells: Vec<String> = row.iter().zip(widths.iter()).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}
