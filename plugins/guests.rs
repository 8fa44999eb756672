//! Builds guests for wasm from a build script. The build script of the tests uses it, too.
//!
//! A second cargo runs in a target directory of its own, since the outer one holds the lock of the usual one.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the packages and returns the folder of their `.wasm` files. `out` is the build script's `OUT_DIR`.
pub(crate) fn build(root: &Path, out: &Path, packages: &[String]) -> Result<PathBuf, Box<dyn Error>> {
    // <target>/<profile>/build/<package>/out, or with --target <target>/<triple>/<profile>/build/<package>/out
    let outer = out.ancestors().nth(3).ok_or("OUT_DIR is not inside a target directory")?;
    let target = env::var("TARGET")?;
    let crossed = outer.parent().is_some_and(|parent| parent.ends_with(&target));
    let target_dir = outer.ancestors().nth(if crossed { 2 } else { 1 }).ok_or("OUT_DIR is not inside a target directory")?.join("wasm");
    let profile = if outer.ends_with("demo") { "plugin-demo" } else { "plugin" };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--lib", "--profile", profile, "--target", TARGET]);
    for package in packages {
        cargo.args(["-p", package]);
    }
    cargo.env("CARGO_TARGET_DIR", &target_dir);
    // These variables were meant for the outer build: flags of another target, and clippy or a coverage tool in place of the compiler.
    for name in [
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_BUILD_DIR",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
        "LLVM_PROFILE_FILE",
    ] {
        cargo.env_remove(name);
    }
    let output = cargo.output().map_err(|error| format!("cargo could not be run to build the guests: {error}"))?;
    if output.status.success() {
        return Ok(target_dir.join(TARGET).join(profile));
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    // rustc says "can't find crate for `core`" (E0463), and "the `wasm32-unknown-unknown` target may not be installed".
    let missing = errors.contains("target may not be installed") || errors.contains("can't find crate for `core`");
    let hint = if missing { format!("\nthe target {TARGET} is missing: run `rustup target add {TARGET}`") } else { String::new() };
    Err(format!("the guests could not be built:\n{errors}{hint}").into())
}
