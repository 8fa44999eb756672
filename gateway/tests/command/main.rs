//! The binary, as operators and authors of plugins run it: one binary of tests. What measures the process or loads it stands beside this folder.

mod cli;
mod configuration;
mod diagnosis;
mod explain;
mod hostile_text;
mod install;
mod lab;
mod log;
mod rivals;
mod signing;

/// The binary. All these tests share the code that it compiles, so that each plugin is compiled once and not by every command.
fn binary() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.env("SLUICEGATE_CODE_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"));
    command
}
