//! Signals that ask the gateway to stop. They are waited for by a thread of their own, so that they work whatever else hangs: a disk that does not answer, a plugin,
//! a lock.

use std::process::exit;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// The exit status after a second signal.
const ENDED_BY_SIGNAL: i32 = 130;
/// How long the end may take after the grace period; then the process ends as it is.
const MARGIN: Duration = Duration::from_secs(10);

/// Is ready at the first SIGTERM or SIGINT. The second one ends the process at once, and so does the end of the time that stopping may take: `patience` and some
/// seconds.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn asked(patience: Duration) -> std::io::Result<impl Future<Output = ()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _within = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let (ask, asked) = oneshot::channel();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!("stopping; a second signal ends at once");
            // Nobody may wait for it, if the gateway is just ending by itself.
            let _ = ask.send(());
            tokio::select! {
                _ = terminate.recv() => exit(ENDED_BY_SIGNAL),
                _ = interrupt.recv() => exit(ENDED_BY_SIGNAL),
                () = tokio::time::sleep(patience.saturating_add(MARGIN)) => {}
            }
            tracing::error!("stopping takes longer than its delay and the grace period allow, something hangs; the process ends now");
            crate::standard_error::end();
            exit(1);
        });
    })?;
    Ok(async move {
        if asked.await.is_err() {
            // The thread is gone, after a panic.
            std::future::pending().await
        }
    })
}
