//! Builds the hostile and flawed guests, those of the contract's older version, and the one that probes it; `GUESTS` is the folder of their `.wasm` files.

#[path = "../plugins/guests.rs"]
mod guests;

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let root = here.parent().ok_or("tests/ has no parent folder")?;
    let sdk = ["sdk/Cargo.toml", "sdk/src", "sdk/wit"];
    let others = ["tests/build.rs", "tests/guests", "plugins/guests.rs", "gateway/host/wit", "Cargo.lock", "Cargo.toml"];
    for path in sdk.into_iter().chain(others) {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    let kinds = ["hostile", "old"].iter().flat_map(|of| ["balancer", "router", "discovery"].map(|kind| format!("{of}-{kind}")));
    let packages: Vec<String> = kinds.chain(["probe", "flawed-balancer"].map(str::to_owned)).collect();
    let built = guests::build(root, &PathBuf::from(std::env::var("OUT_DIR")?), &packages)?;
    println!("cargo::rustc-env=GUESTS={}", built.display());
    Ok(())
}
