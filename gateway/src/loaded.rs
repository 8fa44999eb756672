//! What a configuration would serve, for who serves nothing of it: commands, and a configuration in the shadow of the one that is served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluicegate_config::plan::Settings;
use sluicegate_control::allocate::Allocator;
use sluicegate_control::controller::{Controller, Options};
use sluicegate_control::sources::Change;
use sluicegate_host::Loader;
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::status::Status;

use crate::Settled;

/// How long discovery plugins may take.
const DISCOVERY: Duration = Duration::from_secs(2);

/// A configuration as a gateway would serve it.
pub(crate) struct Loaded {
    pub(crate) controller: Controller,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) status: Status,
}

/// What a configuration is loaded for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// To tell what would be decided.
    Deciding,
    /// To compare what routes say; endpoints do not matter.
    Comparing,
    /// To tell everything that is wrong, whether or not what plugins ask answers.
    Judging,
}

/// Loads the objects of what was read of files and folders, and looks for endpoints once. The node's own addresses are left out, so that it works on another machine, too.
pub(crate) fn load(read: Vec<Change>, settled: &Settled, allocator: Allocator, purpose: For) -> Result<Loaded, String> {
    load_by(loader_beside(&settled.state_dir)?, read, settled, allocator, purpose)
}

/// Does what [`load`] does, by this loader.
pub(crate) fn load_by(loader: Loader, read: Vec<Change>, settled: &Settled, allocator: Allocator, purpose: For) -> Result<Loaded, String> {
    let loader = if purpose == For::Deciding { loader.guarding(settled.admin_address) } else { loader.offline() };
    let loader = if purpose == For::Comparing { loader.unhurried() } else { loader };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let settings = Settings {
        here: settled.here.clone(),
        loopback_endpoints: settled.loopback_endpoints,
        acme: settled.issuers(),
        ..Settings::default()
    };
    let options = Options {
        paths: settled.paths.clone(),
        settings,
        builtins: crate::builtin,
        trusted_keys: settled.trusted_keys.clone(),
        admin: Some(settled.admin_address),
        turns: Default::default(),
    };
    let mut controller = Controller::new(options, loader, allocator);
    if purpose == For::Judging {
        controller = controller.judging();
    }
    let (snapshot, status) = runtime.block_on(controller.once(read, if purpose == For::Comparing { Duration::ZERO } else { DISCOVERY }));
    Ok(Loaded { controller, snapshot, status })
}

/// Where compiled code is kept, if not in the state folder: for commands that have no state folder, and for gateways that share the code.
pub(crate) fn code_cache() -> Option<PathBuf> {
    std::env::var_os("SLUICEGATE_CODE_CACHE").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// What loads plugins for a command that serves nothing.
pub(crate) fn loader() -> Result<Loader, String> {
    loader_with(code_cache())
}

/// What loads plugins for a command that looks at a configuration. If a gateway has compiled them in this state folder, that is not done again.
pub(crate) fn loader_beside(state: &Path) -> Result<Loader, String> {
    loader_with(code_cache().or_else(|| Some(state.join("compiled")).filter(|folder| folder.is_dir())))
}

fn loader_with(cache: Option<PathBuf>) -> Result<Loader, String> {
    cache.map_or_else(Loader::new, |folder| Loader::keeping(&folder)).map_err(|error| error.to_string())
}
