//! A runtime on a thread of its own, for what must answer while control computes: probes of the gateway's own health, and operators who want to know what keeps it
//! busy.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The runtime. When it is dropped, it ends with all that runs on it.
pub(crate) struct Apart {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Apart {
    /// Starts the runtime. `name`: that of its thread, at most 15 bytes.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// The handle on which tasks are spawned.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.stop = None;
        // The end is waited for, as its sockets are closed then.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
