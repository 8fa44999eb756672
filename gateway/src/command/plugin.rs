//! `sluicegate plugin`: new, build and inspect here; a running gateway's plugins in [`super::lifecycle`]; what authors try them with in
//! [`super::lab`], [`super::simulate`] and [`super::trace`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use sluicegate_host::load::componentize;

use sluicegate_model::escape;
use sluicegate_model::operate::Action as Order;

use super::at::At;
use super::{fail, get, lab, lifecycle, out, sign, simulate, trace};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Write the files of a new plugin, with the SDK beside it
    New {
        /// The plugin's name, and its folder's
        name: String,
        /// What it decides
        #[arg(long, value_parser = ["balancer", "router", "discovery"])]
        kind: String,
    },
    /// Build the plugin of a folder and leave NAME.wasm in it
    Build {
        /// The plugin's folder
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Show what a plugin file is
    Inspect {
        /// A .wasm file
        file: PathBuf,
    },
    /// Make a pair of keys to sign plugins with, as minisign's: NAME.key and NAME.pub
    Keygen {
        /// The path and name of both files, without the ending
        name: PathBuf,
        /// Leave the secret key unencrypted
        #[arg(long, conflicts_with = "password_file")]
        without_password: bool,
        #[command(flatten)]
        password: sign::Password,
    },
    /// Sign a plugin's file, into FILE.minisig beside it
    Sign {
        /// The secret key's file
        #[arg(long)]
        key: PathBuf,
        /// A .wasm file
        file: PathBuf,
        /// What is said of the file and signed with it [default: the time and the file's name]
        #[arg(long)]
        comment: Option<String>,
        #[command(flatten)]
        password: sign::Password,
    },
    /// Check a plugin file's signature; exit 1 if it is not the key's
    Verify {
        /// The public key, or its file
        #[arg(long)]
        key: String,
        /// A .wasm file
        file: PathBuf,
    },
    /// Certify a plugin: does it keep its contract on thousands of generated pools, and in your own cases; exit 1 if it does not
    Test(Box<lab::Test>),
    /// Measure what a plugin's calls cost, beside the balancers that come with the gateway
    Bench(Box<lab::Bench>),
    /// Simulate a service under load with each of several balancers, and compare them
    Simulate(Box<simulate::Simulate>),
    /// Write decisions of a running gateway's balancer to a file, for `replay`
    Record(Box<trace::Record>),
    /// Play a trace to another version of a balancer: does it decide the same, and what would it have done
    Replay(Box<trace::Replay>),
    /// Show a running gateway's plugins, as `get plugins` does
    List(get::From),
    /// Show what happened to a running gateway's plugin: loaded, refused, quarantined, in shadow, a canary, promoted, rolled back, disabled
    History {
        /// The plugin's name
        name: String,
        #[command(flatten)]
        from: get::From,
    },
    /// Serve the generation before the live one, until the plugin's file changes; of one on trial, end the trial
    Rollback {
        /// The plugin's name
        name: String,
        #[command(flatten)]
        at: At,
    },
    /// Let the generation that is on trial, in shadow or as a canary, serve now
    Promote {
        /// The plugin's name
        name: String,
        #[command(flatten)]
        at: At,
    },
    /// Serve without the plugin: balancers by a random choice, routers by 503, discovery with the last endpoints
    Disable {
        /// The plugin's name
        name: String,
        #[command(flatten)]
        at: At,
    },
    /// Load the plugin from its source anew, also when nothing has changed; ends `disable` and `rollback`
    Reload {
        /// The plugin's name
        name: String,
        #[command(flatten)]
        at: At,
    },
}

impl Action {
    pub(super) fn execute(self) -> ExitCode {
        let done = match self {
            Self::New { name, kind } => new(&name, &kind),
            Self::Build { folder } => build(&folder),
            Self::Inspect { file } => inspect(&file),
            Self::Keygen { name, without_password, password } => sign::keygen(&name, without_password, &password),
            Self::Sign { key, file, comment, password } => sign::sign(&key, &file, comment.as_deref(), &password),
            Self::Verify { key, file } => sign::verify(&key, &file),
            Self::Test(test) => return test.execute(),
            Self::Bench(bench) => return bench.execute(),
            Self::Simulate(simulate) => return simulate.execute(),
            Self::Record(record) => return record.execute(),
            Self::Replay(replay) => return replay.execute(),
            Self::List(from) => return get::list_plugins(&from),
            Self::History { name, from } => lifecycle::history(&from.at, &name, from.output),
            Self::Rollback { name, at } => lifecycle::order(&at, &name, Order::Rollback),
            Self::Promote { name, at } => lifecycle::order(&at, &name, Order::Promote),
            Self::Disable { name, at } => lifecycle::order(&at, &name, Order::Disable),
            Self::Reload { name, at } => lifecycle::order(&at, &name, Order::Reload),
        };
        match done {
            Ok(text) => {
                out(text);
                ExitCode::SUCCESS
            }
            Err(error) => fail(error),
        }
    }
}

fn new(name: &str, kind: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        return Err(format!("{name:?}: a plugin's name has lower-case letters, digits and '-', and begins with a letter"));
    }
    let folder = Path::new(name);
    if folder.exists() {
        return Err(format!("{name} exists already"));
    }
    let template = sluicegate_plugins::template(kind).ok_or_else(|| format!("there is no template for a {kind}"))?;
    let sdk = sluicegate_plugins::sdk_files().iter().map(|(path, text)| (Path::new("sdk").join(path), (*text).to_owned()));
    let own = template.iter().map(|(path, text)| (PathBuf::from(path.trim_end_matches(".tmpl")), text.replace("{{name}}", name)));
    for (path, text) in own.chain(sdk) {
        let path = folder.join(path);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        written.map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(format!("{name} is created. Next: edit {name}/src/lib.rs, `cargo test` in {name}, `sluicegate plugin build {name}`"))
}

fn build(folder: &Path) -> Result<String, String> {
    let cargo = || std::process::Command::new("cargo");
    let metadata =
        cargo().args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(folder).output().map_err(|e| format!("cargo: {e}"))?;
    if !metadata.status.success() {
        return Err(format!("{}: {}", folder.display(), String::from_utf8_lossy(&metadata.stderr).trim()));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let text = |pointer: &str| {
        metadata.pointer(pointer).and_then(serde_json::Value::as_str).ok_or_else(|| format!("cargo metadata has no {pointer}"))
    };
    let (name, target) = (text("/packages/0/name")?, Path::new(text("/target_directory")?));
    let built = cargo()
        .args(["build", "--release", "--target", "wasm32-unknown-unknown"])
        .current_dir(folder)
        .status()
        .map_err(|e| format!("cargo: {e}"))?;
    if !built.success() {
        return Err("the build failed; if it misses the target, run `rustup target add wasm32-unknown-unknown`".to_owned());
    }
    let core = target.join("wasm32-unknown-unknown/release").join(format!("{}.wasm", name.replace('-', "_")));
    let bytes = std::fs::read(&core).map_err(|e| format!("{}: {e}; does Cargo.toml say crate-type = [\"cdylib\"]?", core.display()))?;
    let component = componentize(&bytes).map_err(|(stage, reason)| format!("{stage}: {reason}"))?;
    let loader = super::loader()?;
    let seen = loader.inspect(name, &component).map_err(|e| e.to_string())?;
    // It is written beside and renamed into place, so that a gateway that watches the file never sees half of it.
    let file = folder.join(format!("{name}.wasm"));
    let partial = folder.join(format!(".{name}.wasm.partial"));
    std::fs::write(&partial, &component).and_then(|()| std::fs::rename(&partial, &file)).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(format!("{}: {} {}, {} bytes", file.display(), seen.description.kind, escape::line(&seen.description.version), seen.size))
}

fn inspect(file: &Path) -> Result<String, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let loader = super::loader()?;
    let name = file.file_stem().map_or_else(|| "plugin".to_owned(), |n| n.to_string_lossy().into_owned());
    let seen = loader.inspect(&name, &bytes).map_err(|e| e.to_string())?;
    let about = &seen.description;
    let listed = |names: &[String]| names.iter().map(|name| escape::line(name)).collect::<Vec<_>>().join("\n          ");
    Ok(format!(
        "name:     {}\nversion:  {}\nkind:     {}\ncontract: {}\ncalled:   {}\nsize:     {} bytes\nsha256:   {}\nimports:  {}\nexports:  {}\nconfig:   {}",
        escape::line(&about.name),
        escape::line(&about.version),
        about.kind,
        seen.contract,
        match &about.component {
            Ok(()) => "by its core module".to_owned(),
            Err(why) => format!("as a component: {}", escape::line(why)),
        },
        seen.size,
        seen.sha256,
        listed(&seen.imports),
        listed(&seen.exports),
        escape::json(&format!("{:#}", about.config_schema))
    ))
}
