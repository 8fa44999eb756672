//! The binary, as operators and authors of plugins run it: one binary of tests. What measures the process or loads it stands beside this folder.

mod cli;
mod configuration;
mod diagnosis;
mod diff;
mod explain;
mod hostile_text;
mod install;
mod lab;
mod log;
mod rivals;
mod signing;

use std::path::Path;
use std::process::{Command, Output};

/// The binary. All these tests share the code that it compiles, so that each plugin is compiled once and not by every command.
fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.env("SLUICEGATE_CODE_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"));
    command
}

/// The binary in a folder, and with that as its home.
fn sluicegate(folder: &Path) -> Command {
    let mut command = binary();
    command.current_dir(folder).env("HOME", folder).env_remove("XDG_STATE_HOME").env_remove("SLUICEGATE_LOG");
    command
}

/// What it leaves with, and what it says on both its outputs.
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = sluicegate(folder).args(arguments).output().expect("runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}
