//! A plugin's code: from the binary, a file or a ConfigMap, and signed where plugins must be.

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
            wanted_sum(wanted.as_deref(), &bytes).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(bytes)
        }
        PluginSource::Object { name, code, sha256: wanted } => {
            let code = code.as_ref().map_err(|e| format!("{name}: {e}"))?;
            if code.wasm.len() > MAX_PLUGIN_BYTES {
                return Err(format!("{name}: it has more than {MAX_PLUGIN_BYTES} bytes"));
            }
            wanted_sum(wanted.as_deref(), &code.wasm).map_err(|e| format!("{name}: {e}"))?;
            Ok(code.wasm.to_vec())
        }
    }
}

fn wanted_sum(wanted: Option<&str>, bytes: &[u8]) -> Result<(), String> {
    match wanted {
        Some(wanted) if !wanted.eq_ignore_ascii_case(&sha256(bytes)) => {
            Err(format!("its SHA-256 is {}, and {wanted} is wanted", sha256(bytes)))
        }
        _ => Ok(()),
    }
}

/// The signer's comment on a plugin, where plugins must be signed. The built-in ones need not be.
pub(super) async fn signed(plugin: &PlannedPlugin, bytes: Vec<u8>, trusted: &[MinisignKey]) -> (Vec<u8>, Result<Option<String>, String>) {
    if trusted.is_empty() {
        return (bytes, Ok(None));
    }
    match &plugin.source {
        PluginSource::Builtin(_) => (bytes, Ok(None)),
        PluginSource::File { path, .. } => {
            let (path, trusted) = (path.clone(), trusted.to_vec());
            let checked = answered(move || {
                let says = signature::check(&path, &bytes, &trusted).map(Some);
                (bytes, says)
            });
            checked.await.unwrap_or_else(|error| (Vec::new(), Err(error)))
        }
        PluginSource::Object { name, code, .. } => {
            let signature = code.as_ref().ok().and_then(|code| code.signature.as_deref());
            let says = signature::check_text(name, &format!("{name}.minisig"), signature, &bytes, trusted);
            (bytes, says.map(Some))
        }
    }
}

/// Asks the disk on another thread, since it may be a network file system that never answers.
async fn answered<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(ANSWER, tokio::task::spawn_blocking(question)).await {
        Err(_) => Err(format!("the disk did not answer within {ANSWER:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(answer)) => Ok(answer),
    }
}
