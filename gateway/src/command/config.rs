//! `sluicegate config dump`: what a running gateway serves, with its settings and where they come from.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::at::At;
use super::{crds, fail, out, out_json};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Print what is served right now: listeners with their routes, rules and actions, Services with settings and endpoints, plugins with generations, and the
    /// process's settings with where each comes from; secrets are hidden
    Dump {
        #[command(flatten)]
        at: At,
        /// How to show it
        #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
        output: Form,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Form {
    Yaml,
    Json,
}

impl Action {
    pub(super) fn execute(self) -> ExitCode {
        let Self::Dump { at, output } = self;
        match at.json("/api/v1/config") {
            Ok(config) => {
                match output {
                    Form::Yaml => out(crds::yaml(&config).trim_end()),
                    Form::Json => out_json(format_args!("{config:#}")),
                }
                ExitCode::SUCCESS
            }
            Err(error) => fail(error),
        }
    }
}
