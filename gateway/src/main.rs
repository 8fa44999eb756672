//! The `sluicegate` command. See [`sluicegate::command`].

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sluicegate::command::Command::parse().execute()
}
