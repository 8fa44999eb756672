//! Builds the plugins of the list `sluicegate-builtins` for wasm and writes down what `src/lib.rs` embeds: their `.wasm`, compressed with zstd, and the
//! files of the SDK.

mod guests;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sluicegate_builtins::BUILTINS;

/// A high level of compression; it takes a second for all plugins.
const LEVEL: i32 = 19;

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = here.parent().ok_or("plugins/ has no parent folder")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    watch(root, &here);
    let packages: Vec<String> = BUILTINS.iter().map(|(name, _)| format!("sluicegate-plugin-{name}")).collect();
    let built = guests::build(root, &out, &packages)?;
    fs::write(out.join("generated.rs"), generate(root, &built, &out)?)?;
    Ok(())
}

fn watch(root: &Path, here: &Path) {
    let mut paths = vec![here.join("build.rs"), here.join("guests.rs"), root.join("Cargo.lock"), root.join("Cargo.toml")];
    // The folder sdk/examples is left out, as it is built where it lies.
    paths.extend(["Cargo.toml", "README.md", "CONTRACT.md", "src", "wit"].map(|path| root.join("sdk").join(path)));
    // The last four are libraries that some of the plugins use.
    for name in BUILTINS.iter().map(|(name, _)| *name).chain(["ring", "two-choices", "targets", "rule-values"]) {
        paths.extend([here.join(name).join("src"), here.join(name).join("Cargo.toml")]);
    }
    for path in paths {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn generate(root: &Path, built: &Path, out: &Path) -> Result<String, Box<dyn Error>> {
    let mut code = String::from("static BUILTINS: &[Builtin] = &[\n");
    for (name, kind) in BUILTINS {
        let wasm = fs::read(built.join(format!("sluicegate_plugin_{}.wasm", name.replace('-', "_"))))?;
        let packed = out.join(format!("{name}.wasm.zst"));
        fs::write(&packed, zstd::bulk::compress(&wasm, LEVEL)?)?;
        let (size, packed) = (wasm.len(), utf8(&packed)?);
        writeln!(code, "    Builtin {{ name: {name:?}, kind: Kind::{kind:?}, packed: include_bytes!({packed:?}), size: {size} }},")?;
    }
    code.push_str("];\nstatic SDK_FILES: &[(&str, &str)] = &[\n");
    let sdk = root.join("sdk");
    let mut files = vec![sdk.join("Cargo.toml"), sdk.join("README.md"), sdk.join("CONTRACT.md")];
    collect(&sdk.join("src"), &mut files)?;
    collect(&sdk.join("wit"), &mut files)?;
    for file in files {
        let relative = utf8(file.strip_prefix(&sdk)?)?.replace('\\', "/");
        writeln!(code, "    ({relative:?}, include_str!({:?})),", utf8(&file)?)?;
    }
    code.push_str("];\n");
    Ok(code)
}

/// Collects the files of a folder and its subfolders, in an order that does not depend on the file system.
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
