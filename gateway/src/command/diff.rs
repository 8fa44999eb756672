//! `sluicegate diff`: which requests another configuration would decide differently. Both are loaded, requests are made of what the routes of both
//! match, and each is decided twice, by the plugins that decide.

mod decided;
mod played;
mod probes;
mod sample;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use sluicegate_control::allocate::Allocator;
use sluicegate_control::sources::{Change, folder};
use sluicegate_model::escape;
use sluicegate_model::fault::Severity;
use sluicegate_model::route::Protocol;

use super::get::Output;
use super::{complain, flags, out, out_json};
use crate::compare::{Of, pairs};
use crate::loaded::{self, For, Loaded};
use decided::{Decided, Decider};
use played::Served;
use probes::Probe;

/// The exit status if the two cannot be compared, as that of diff(1).
const TROUBLE: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File or folder with the configuration that is served now; `running`: those of the gateway that answers at --admin-address
    old: PathBuf,
    /// File or folder with the one that is to replace it
    new: PathBuf,
    #[command(flatten)]
    network: flags::Network,
    /// The state folder of a gateway, whose allocations are read
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// A recording of requests (`record requests`), which is played to both in the place of requests that are made of the routes
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    played: played::Options,
    /// How differences are printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Arguments {
    pub(super) fn execute(self) -> ExitCode {
        match self.compare() {
            Ok(false) => ExitCode::SUCCESS,
            Ok(true) => ExitCode::FAILURE,
            Err(error) => {
                complain(error);
                ExitCode::from(TROUBLE)
            }
        }
    }

    /// Compares. Returns whether anything differs.
    fn compare(self) -> Result<bool, String> {
        let Served { paths: old, state_dir } = Served::of(&self.old, &self.played.at)?;
        let process = flags::Process { state_dir: self.state_dir.or(state_dir), ..flags::Process::default() };
        let read = flags::read(&old)?;
        let settled = flags::settle_with(old, &read, process, self.network)?;
        let load = |path: &PathBuf, read: Vec<Change>| -> Result<Loaded, String> {
            let allocator = Allocator::read_only(&settled.state_dir, settled.ranges.clone());
            let loaded = loaded::load(read, &settled, allocator, For::Comparing)?;
            let errors = loaded.status.faults.iter().filter(|fault| fault.severity == Severity::Error).count();
            if errors > 0 {
                let plural = if errors == 1 { "" } else { "s" };
                complain(format!(
                    "{} has {errors} error{plural}, and what is wrong there is left out: see `sluicegate check`",
                    path.display()
                ));
            }
            Ok(loaded)
        };
        let old = load(&self.old, read)?;
        if !self.new.exists() {
            return Err(format!("{} is not there", self.new.display()));
        }
        let new = load(&self.new, folder::read(std::slice::from_ref(&self.new)))?;
        if let Some(trace) = &self.trace {
            let what = format!("{} and {}, by {}", self.old.display(), self.new.display(), trace.display());
            return self.played.play(trace, &old, &new, self.output, &what);
        }
        let mut told = Told::default();
        for (old, new) in pairs(&old.snapshot, &new.snapshot) {
            told.take(old, new);
        }
        match self.output {
            Output::Json => out_json(format_args!("{:#}", Value::Array(told.rows.clone()))),
            Output::Table => told.lines.iter().for_each(out),
        }
        let cut = if told.cut { format!("; of some listeners only the first {} were made", probes::MOST) } else { String::new() };
        let (found, plural) = (told.rows.len(), if told.rows.len() == 1 { "" } else { "s" });
        complain(format_args!("{found} difference{plural} in {} requests and connections that were compared{cut}", told.compared));
        Ok(!told.rows.is_empty())
    }
}

/// What was found so far.
#[derive(Default)]
struct Told {
    lines: Vec<String>,
    rows: Vec<Value>,
    compared: usize,
    cut: bool,
}

impl Told {
    fn take(&mut self, old: Option<Of<'_>>, new: Option<Of<'_>>) {
        let Some((_, one)) = old.or(new) else { return };
        let place = |of: Option<Of<'_>>| {
            of.map(|(_, listener)| {
                format!("{} {}", if listener.front.protocol() == Protocol::Udp { "UDP" } else { "TCP" }, listener.address)
            })
        };
        let (was, is) = (place(old), place(new));
        if was != is {
            let text = |place: &Option<String>| place.clone().unwrap_or_else(|| "nothing".to_owned());
            self.lines.push(line(&one.name, "", &text(&was), &text(&is), 0));
            self.rows.push(json!({"listener": one.name, "old": {"address": was}, "new": {"address": is}}));
        }
        let (Some(old), Some(new)) = (old, new) else { return };
        let (probes, cut) = probes::of(old.1, new.1);
        self.cut |= cut;
        self.compared += probes.len();
        let (mut before, mut after) = (Decider::default(), Decider::default());
        let mut changes: BTreeMap<(Decided, Decided), Vec<&Probe>> = BTreeMap::new();
        for probe in &probes {
            let (was, is) = (before.decide(old, probe), after.decide(new, probe));
            if !was.is_same(&is) {
                changes.entry((was, is)).or_default().push(probe);
            }
        }
        for ((was, is), asked) in changes {
            let requests: Vec<String> = asked.iter().map(|probe| decided::asked(old.1, probe)).collect();
            let (was_told, is_told) = Decided::apart(&was, &is);
            self.lines.push(line(&old.1.name, &requests[0], &was_told, &is_told, requests.len() - 1));
            self.rows.push(json!({"listener": old.1.name, "requests": requests, "old": was.json(), "new": is.json()}));
        }
    }
}

/// A difference in three lines: what is asked, what became of it, and what will.
fn line(listener: &str, asked: &str, was: &str, is: &str, more: usize) -> String {
    let asked = if asked.is_empty() { String::new() } else { format!(": {asked}") };
    let more = if more > 0 { format!(" (and {more} like it)") } else { String::new() };
    let head = format!("{listener}{asked}{more}");
    format!("{}\n  - {}\n  + {}", escape::line(&head), escape::line(was), escape::line(is))
}
