//! The binary as operators and authors of plugins run it, in one binary of tests. Tests that measure or load the process are beside this folder.

mod cli;
mod configuration;
mod diagnosis;
mod diff;
mod dump;
mod explain;
mod get;
mod hostile_text;
mod install;
mod lab;
mod log;
mod login;
mod rivals;
mod signing;
mod top;
mod traced;

use std::path::Path;
use std::process::{Command, Output};

/// The binary. All these tests share the code that it compiles, so that each plugin is compiled once and not by every command.
fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.env("SLUICEGATE_CODE_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"));
    command
}

/// The binary, in a folder that is also its home.
fn sluicegate(folder: &Path) -> Command {
    let mut command = binary();
    command.current_dir(folder).env("HOME", folder).env_remove("XDG_STATE_HOME").env_remove("SLUICEGATE_LOG");
    command
}

/// A command's exit code, and what it prints on both streams.
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = sluicegate(folder).args(arguments).output().expect("runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}
