//! Memory that a change of the configuration needed for a while is given back to the system.
//!
//! mimalloc returns pages only in passing, when it is asked for others. Once the workers serve a new configuration nobody asks: what compiling
//! and assembling it took, as much again as all that is kept, would stay with an idle process.

use std::time::Duration;

use tokio::sync::watch;

/// So long after a change nothing else may have changed.
const QUIET: Duration = Duration::from_secs(1);
/// After so long the threads that compiled have ended (tokio ends idle ones after ten seconds), and what they left can be taken.
const LEFT: Duration = Duration::from_secs(12);

/// After each change, once it is quiet, and once more when the helpers have ended. Ends with the sender.
pub(crate) async fn give_back(mut changes: watch::Receiver<()>) {
    let mut pauses = [].iter();
    loop {
        let changed = match pauses.next() {
            None => changes.changed().await,
            Some(pause) => match tokio::time::timeout(*pause, changes.changed()).await {
                Ok(changed) => changed,
                Err(_) => {
                    collect();
                    continue;
                }
            },
        };
        if changed.is_err() {
            return;
        }
        pauses = [QUIET, LEFT].iter();
    }
}

#[allow(unsafe_code, reason = "mi_collect takes no pointer and may be called by any thread at any time; mimalloc's crate does not wrap it")]
fn collect() {
    unsafe { libmimalloc_sys::mi_collect(true) };
}
