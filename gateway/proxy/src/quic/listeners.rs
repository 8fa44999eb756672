//! A worker's endpoints of QUIC, by address. They begin and end with what changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, TokioRuntime, VarInt};
use rustc_hash::FxBuildHasher;
use sluicegate_model::persistent::Change;
use tokio::task::JoinHandle;

use super::id::Generator;
use super::post::Quic;
use super::socket::Socket;

/// H3_NO_ERROR (RFC 9114 §8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// How long the last packets of connections may take, when the worker ends.
const FAREWELL: Duration = Duration::from_millis(100);

/// Begins a task that takes an endpoint's connections.
pub(crate) type Accepting = dyn Fn(Endpoint, SocketAddr) -> JoinHandle<()>;

/// One address, as one worker has it.
struct Open {
    quic: Arc<Quic>,
    socket: Arc<Socket>,
    endpoint: Endpoint,
    /// The task that takes connections; none: the listener is gone, and the last connections run.
    accepting: Option<JoinHandle<()>>,
}

/// The endpoints of one worker.
pub(crate) struct Listeners {
    open: HashMap<SocketAddr, Open, FxBuildHasher>,
    worker: u16,
    accept: Rc<Accepting>,
}

impl Listeners {
    pub(crate) fn new(worker: usize, accept: Rc<Accepting>) -> Self {
        Self { open: HashMap::default(), worker: u16::try_from(worker).unwrap_or(u16::MAX), accept }
    }

    /// Listens where sockets are new, and takes no more connections where they are gone. The connections that run need their socket, so it closes with the last of them.
    pub(crate) fn sync(&mut self, changes: &[Change<'_, SocketAddr, Quic>]) {
        for change in changes {
            match change.after {
                None => self.open.get_mut(&change.key).into_iter().for_each(Open::refuse),
                Some(quic) => self.listen(change.key, quic),
            }
        }
    }

    fn listen(&mut self, address: SocketAddr, quic: &Arc<Quic>) {
        if let Some(open) = self.open.get_mut(&address).filter(|open| Arc::ptr_eq(&open.quic, quic)) {
            // It came back while connections ran.
            open.accepting.get_or_insert_with(|| (self.accept)(open.endpoint.clone(), address));
            return;
        }
        let Some(queue) = quic.queue(self.worker.into()) else { return };
        let sockets = quic.sockets.take(self.worker.into());
        if sockets.is_empty() {
            return;
        }
        let opened = Socket::new(sockets, address, self.worker, quic.post.clone(), queue).and_then(|socket| {
            let (socket, ids, worker) = (Arc::new(socket), quic.post.ids, self.worker);
            let mut config = EndpointConfig::default();
            config.cid_generator(move || Box::new(Generator { ids, worker }));
            let endpoint = Endpoint::new_with_abstract_socket(config, None, socket.clone(), Arc::new(TokioRuntime))?;
            Ok((socket, endpoint))
        });
        match opened {
            Ok((socket, endpoint)) => {
                let accepting = Some((self.accept)(endpoint.clone(), address));
                self.open.insert(address, Open { quic: quic.clone(), socket, endpoint, accepting });
            }
            Err(error) => tracing::error!(%error, %address, "cannot listen for QUIC"),
        }
    }

    /// Closes the sockets of listeners that are gone, once their last connections have ended. It is called once a second.
    pub(crate) fn second(&mut self) {
        self.open.retain(|_, open| open.accepting.is_some() || open.endpoint.open_connections() > 0);
    }

    /// Leaves what comes from now on to a successor, which has the same sockets.
    pub(crate) fn leave(&self) {
        self.open.values().for_each(|open| open.socket.silence());
    }

    /// Ends the connections that are left.
    pub(crate) async fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        open.values().for_each(|open| open.endpoint.close(NO_ERROR, b""));
        let idle = async {
            for open in open.values() {
                open.endpoint.wait_idle().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, idle).await;
        // What arrives from now on comes to workers that still run, or is refused by the kernel.
        for quic in open.into_values().map(|open| open.quic) {
            drop(quic.sockets.close(self.worker.into()));
        }
    }
}

impl Open {
    fn refuse(&mut self) {
        if let Some(task) = self.accepting.take() {
            task.abort();
        }
        self.endpoint.set_server_config(None);
    }
}
