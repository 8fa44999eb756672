//! What a configuration would serve, for commands that serve nothing.

use std::sync::Arc;
use std::time::Duration;

use sluicegate_config::plan::Settings;
use sluicegate_control::allocate::Allocator;
use sluicegate_control::controller::{Controller, Options};
use sluicegate_control::sources::Change;
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::status::Status;

use crate::Settled;

/// How long discovery plugins may take.
const DISCOVERY: Duration = Duration::from_secs(2);

/// A configuration as a gateway would serve it.
pub(super) struct Loaded {
    pub(super) controller: Controller,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) status: Status,
}

/// What a configuration is loaded for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// To tell what would be decided.
    Deciding,
    /// To compare what routes say; endpoints do not matter.
    Comparing,
    /// To tell everything that is wrong, whether or not what plugins ask answers.
    Judging,
}

/// Loads the objects of what was read of files and folders, and looks for endpoints once. The node's own addresses are left out, so that it works on another machine, too.
pub(super) fn load(read: Vec<Change>, settled: &Settled, allocator: Allocator, purpose: For) -> Result<Loaded, String> {
    let loader = super::loader_beside(&settled.state_dir)?;
    let loader = if purpose == For::Deciding { loader.guarding(settled.admin_address) } else { loader.offline() };
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
