//! `sluicegate check`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use sluicegate_config::diagnose::Diagnosis;
use sluicegate_config::plan::Settings;
use sluicegate_control::allocate::Allocator;
use sluicegate_control::controller::{Controller, Options};
use sluicegate_model::fault::Severity;

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
        let loader = match super::loader() {
            Ok(loader) => loader.offline(),
            Err(error) => return fail(error),
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(error),
        };
        // A faulty configuration object is among the faults below.
        let settled = flags::settle(self.paths.clone(), flags::Process::default(), self.network).unwrap_or_default();
        let allocator = Allocator::in_memory(settled.ranges.clone());
        let settings = Settings { here: settled.here.clone(), loopback_endpoints: settled.loopback_endpoints, ..Settings::default() };
        let options = Options {
            paths: self.paths,
            settings,
            builtins: crate::builtin,
            trusted_keys: settled.trusted_keys.clone(),
            admin: Some(settled.admin_address),
            turns: Default::default(),
        };
        let mut controller = Controller::new(options, loader, allocator).judging();
        let (snapshot, mut status) = runtime.block_on(controller.once(Duration::from_secs(2)));
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
        if errors > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
