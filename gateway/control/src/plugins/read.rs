//! A plugin's code: from the binary or a file, and signed where files must be.

use std::path::Path;
use std::time::Duration;

use sluicegate_config::object::ours::MinisignKey;
use sluicegate_config::plan::{PlannedPlugin, PluginSource};
use sluicegate_host::load::{MAX_PLUGIN_BYTES, sha256};

use super::Builtins;
use super::signature;
use crate::regular;

/// How long reading a file may take.
const ANSWER: Duration = Duration::from_secs(5);

pub(super) async fn read(plugin: &PlannedPlugin, builtins: Builtins) -> Result<Vec<u8>, String> {
    match &plugin.source {
        PluginSource::Builtin(name) => builtins(name).ok_or_else(|| format!("there is no built-in plugin {name:?}")),
        PluginSource::File { path, sha256: wanted } => {
            let file = path.clone();
            let bytes =
                answered(move || regular::read(&file, MAX_PLUGIN_BYTES as u64).map(|(bytes, _)| bytes).map_err(|e| e.to_string())).await;
            let bytes = bytes.and_then(|read| read).map_err(|e| format!("{}: {e}", path.display()))?;
            match wanted {
                Some(wanted) if !wanted.eq_ignore_ascii_case(&sha256(&bytes)) => {
                    Err(format!("{}: its SHA-256 is {}, and {wanted} is wanted", path.display(), sha256(&bytes)))
                }
                _ => Ok(bytes),
            }
        }
    }
}

/// The signer's comment on a plugin's file, where files must be signed.
pub(super) async fn signed(plugin: &PlannedPlugin, bytes: Vec<u8>, trusted: &[MinisignKey]) -> (Vec<u8>, Result<Option<String>, String>) {
    let Some(path) = plugin.file().filter(|_| !trusted.is_empty()).map(Path::to_owned) else { return (bytes, Ok(None)) };
    let trusted = trusted.to_vec();
    let checked = answered(move || {
        let says = signature::check(&path, &bytes, &trusted).map(Some);
        (bytes, says)
    });
    checked.await.unwrap_or_else(|error| (Vec::new(), Err(error)))
}

/// Asks the disk on another thread, since it may be a network file system that never answers.
async fn answered<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(ANSWER, tokio::task::spawn_blocking(question)).await {
        Err(_) => Err(format!("the disk did not answer within {ANSWER:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(answer)) => Ok(answer),
    }
}
