//! `sluicegate check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use sluicegate_config::diagnose::Diagnosis;
use sluicegate_control::allocate::Allocator;
use sluicegate_control::sources::folder;
use sluicegate_model::fault::Severity;

use super::loaded::{self, For, Loaded};
use super::{fail, flags, out, out_json, reach};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Files or folders with Kubernetes objects
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    network: flags::Network,
    /// How faults are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Arguments {
    pub(super) fn execute(self) -> ExitCode {
        // If something is not there, that is among the faults below.
        let read = flags::read(&self.paths).unwrap_or_else(|_| folder::read(&self.paths));
        // So is what is wrong with the configuration object.
        let settled = flags::settle_with(self.paths, &read, flags::Process::default(), self.network).unwrap_or_default();
        let allocator = Allocator::in_memory(settled.ranges.clone());
        let loaded = match loaded::load(read, &settled, allocator, For::Judging) {
            Ok(loaded) => loaded,
            Err(error) => return fail(error),
        };
        let Loaded { controller, snapshot, mut status } = loaded;
        status.faults.extend(Diagnosis::new(controller.objects()).all(controller.plan()));
        status.faults.extend(reach::routes(&snapshot, controller.plan()));
        status.faults.extend(reach::addresses(controller.objects(), controller.plan(), &settled.nodeport_addresses));
        status.faults.sort_by(|a, b| (&a.place, &a.message).cmp(&(&b.place, &b.message)));
        let errors = status.faults.iter().filter(|f| f.severity == Severity::Error).count();
        match self.format {
            Format::Json => out_json(serde_json::json!(status.faults)),
            Format::Text => {
                for fault in &status.faults {
                    out(fault);
                }
                let warnings = status.faults.len() - errors;
                let plural = |count: usize| if count == 1 { "" } else { "s" };
                out(format!("{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings)));
            }
        }
        // The process ends here. To take down thousands of objects one by one would cost a twentieth of its time.
        std::mem::forget((controller, snapshot, status));
        if errors > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
