//! Builds the hostile guests; `GUESTS` is the folder of their `.wasm` files.

#[path = "../plugins/guests.rs"]
mod guests;

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let root = here.parent().ok_or("tests/ has no parent folder")?;
    for path in ["tests/build.rs", "tests/guests", "plugins/guests.rs", "sdk", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    let packages = ["balancer", "router", "discovery"].map(|kind| format!("hostile-{kind}"));
    let built = guests::build(root, &PathBuf::from(std::env::var("OUT_DIR")?), &packages)?;
    println!("cargo::rustc-env=GUESTS={}", built.display());
    Ok(())
}
