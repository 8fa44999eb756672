//! Builds the built-in plugins for wasm and writes down what `src/lib.rs` embeds: their `.wasm`, and the files of the SDK.
//!
//! A second cargo runs in a target directory of its own, since the outer one holds the lock of the usual one.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "wasm32-unknown-unknown";

const PLUGINS: [(&str, &str); 7] = [
    ("round-robin", "balancer"),
    ("random", "balancer"),
    ("least-request", "balancer"),
    ("maglev", "balancer"),
    ("rules", "router"),
    ("kubernetes", "discovery"),
    ("static", "discovery"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = here.parent().ok_or("plugins/ has no parent folder")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // <target>/<profile>/build/<package>/out
    let wasm_target = out.ancestors().nth(4).ok_or("OUT_DIR is not inside a target directory")?.join("wasm");
    watch(root, &here);
    build(root, &wasm_target)?;
    let built = wasm_target.join(TARGET).join("plugin");
    fs::write(out.join("generated.rs"), generate(root, &built)?)?;
    Ok(())
}

fn watch(root: &Path, here: &Path) {
    let mut paths = vec![here.join("build.rs"), root.join("Cargo.lock"), root.join("Cargo.toml"), root.join("sdk")];
    for (name, _) in PLUGINS {
        paths.extend([here.join(name).join("src"), here.join(name).join("Cargo.toml")]);
    }
    for path in paths {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn build(root: &Path, target_dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--lib", "--profile", "plugin", "--target", TARGET]);
    for (name, _) in PLUGINS {
        cargo.args(["-p", &format!("sluicegate-plugin-{name}")]);
    }
    cargo.env("CARGO_TARGET_DIR", target_dir);
    // What was meant for the outer build: flags of another target, and clippy or a coverage tool in the compiler's place.
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
    let output = cargo.output().map_err(|error| format!("cargo could not be run to build the plugins: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    // rustc says "can't find crate for `core`" (E0463), and "the `wasm32-unknown-unknown` target may not be installed".
    let missing = errors.contains("target may not be installed") || errors.contains("can't find crate for `core`");
    let hint = if missing { format!("\nthe target {TARGET} is missing: run `rustup target add {TARGET}`") } else { String::new() };
    Err(format!("the built-in plugins could not be built:\n{errors}{hint}").into())
}

fn generate(root: &Path, built: &Path) -> Result<String, Box<dyn Error>> {
    let mut code = String::from("static BUILTINS: &[Builtin] = &[\n");
    for (name, kind) in PLUGINS {
        let wasm = built.join(format!("sluicegate_plugin_{}.wasm", name.replace('-', "_")));
        writeln!(code, "    Builtin {{ name: {name:?}, kind: {kind:?}, wasm: include_bytes!({:?}) }},", utf8(&wasm)?)?;
    }
    code.push_str("];\nstatic SDK_FILES: &[(&str, &str)] = &[\n");
    let sdk = root.join("sdk");
    let mut files = vec![sdk.join("Cargo.toml"), sdk.join("README.md")];
    collect(&sdk.join("src"), &mut files)?;
    collect(&sdk.join("wit"), &mut files)?;
    for file in files {
        let relative = utf8(file.strip_prefix(&sdk)?)?.replace('\\', "/");
        writeln!(code, "    ({relative:?}, include_str!({:?})),", utf8(&file)?)?;
    }
    code.push_str("];\n");
    Ok(code)
}

/// The files of a folder and its subfolders, in an order that does not depend on the file system.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    let mut entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else {
            files.push(entry);
        }
    }
    Ok(())
}

fn utf8(path: &Path) -> Result<&str, Box<dyn Error>> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}
