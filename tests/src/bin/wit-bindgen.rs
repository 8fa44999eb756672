//! The official generator of bindings for C, as `wit-bindgen c`, at the version that Cargo.lock pins. `cargo install wit-bindgen-cli` takes
//! minutes, and the tests need no more of it than this.

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

#[derive(Parser)]
enum Command {
    C {
        #[command(flatten)]
        options: wit_bindgen_c::Opts,
        #[arg(long)]
        world: String,
        #[arg(long)]
        out_dir: PathBuf,
        wit: PathBuf,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let Command::C { options, world, out_dir, wit } = Command::parse();
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(&world))?;
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    std::fs::create_dir_all(&out_dir)?;
    for (name, content) in files.iter() {
        std::fs::write(out_dir.join(name), content)?;
    }
    Ok(())
}
