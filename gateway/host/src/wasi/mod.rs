//! What of WASI preview 2 a discovery plugin has: `wasi:http` outgoing ([`fields`], [`request`], [`response`], [`body`]; [`send`] does it),
//! [`clocks`], random bits and the look-up of names ([`lookup`]), over `wasi:io` of wasmtime; and two interfaces of our own where WASI's would give
//! too much or say too little: [`files`], which [`watch`] watches, and DNS records ([`names`]). [`egress`] decides what may be reached. There are no `wasi:filesystem`, no
//! environment and no sockets: these interfaces do not exist here, and a plugin that imports them is refused when loaded.

pub(crate) mod body;
pub(crate) mod clocks;
pub(crate) mod egress;
pub(crate) mod fields;
pub(crate) mod files;
pub(crate) mod lookup;
pub(crate) mod names;
pub(crate) mod request;
pub(crate) mod response;
mod send;
mod watch;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use rand::Rng as _;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi_io::IoView;

use crate::bindings::discovery::sluicegate::plugin as ours;
use crate::bindings::discovery::wasi;
use egress::{Egress, Refusals};

/// How many resources a guest may hold at once, besides those of its requests: far more than a plugin needs, and far less than would weigh.
const MAX_RESOURCES: usize = 4096;
/// The resources of a request: its body and response with their fields, streams and pollables.
const RESOURCES_OF_A_REQUEST: usize = 8;
/// How many random bytes may be asked for in one call.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// The WASI of one task.
pub(crate) struct Wasi {
    pub(crate) table: ResourceTable,
    refusals: Refusals,
    egress: Arc<Egress>,
    /// Limits the requests and look-ups under way at once. Reading an answer counts as under way.
    connections: Arc<Semaphore>,
    folders: Option<watch::FolderWatch>,
    started: Instant,
    /// Whether a request was denied because this process sends none (`check`).
    pub(crate) kept_offline: bool,
}

impl Wasi {
    pub(crate) fn new(plugin: Arc<str>, egress: Arc<Egress>, requests: usize) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES + requests * RESOURCES_OF_A_REQUEST);
        let connections = Arc::new(Semaphore::new(requests));
        let refusals = Refusals::of(plugin);
        Self { table, refusals, egress, connections, folders: None, started: Instant::now(), kept_offline: false }
    }
}

impl IoView for Wasi {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

struct HasWasi;

impl HasData for HasWasi {
    type Data<'a> = &'a mut Wasi;
}

/// Adds all of these interfaces to a linker. `wasi` finds the state in the store's data.
pub(crate) fn add_to_linker<T: IoView + Send + 'static>(linker: &mut Linker<T>, wasi: fn(&mut T) -> &mut Wasi) -> wasmtime::Result<()> {
    wasmtime_wasi_io::add_to_linker_async(linker)?;
    wasi::clocks::monotonic_clock::add_to_linker::<T, HasWasi>(linker, wasi)?;
    wasi::clocks::wall_clock::add_to_linker::<T, HasWasi>(linker, wasi)?;
    wasi::random::random::add_to_linker::<T, HasWasi>(linker, wasi)?;
    wasi::sockets::network::add_to_linker::<T, HasWasi>(linker, wasi)?;
    wasi::sockets::instance_network::add_to_linker::<T, HasWasi>(linker, wasi)?;
    wasi::sockets::ip_name_lookup::add_to_linker::<T, HasWasi>(linker, wasi)?;
    ours::names::add_to_linker::<T, HasWasi>(linker, wasi)?;
    ours::files::add_to_linker::<T, HasWasi>(linker, wasi)?;
    wasi::http::types::add_to_linker::<T, HasWasi>(linker, wasi)?;
    wasi::http::outgoing_handler::add_to_linker::<T, HasWasi>(linker, wasi)
}

impl wasi::random::random::Host for Wasi {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let len = usize::try_from(len.min(MAX_RANDOM_BYTES + 1)).unwrap_or(usize::MAX);
        if len as u64 > MAX_RANDOM_BYTES {
            return Err(wasmtime::Error::msg(format!("asked for more than {MAX_RANDOM_BYTES} random bytes at once")));
        }
        let mut bytes = vec![0; len];
        // The thread's generator is fit for secrets.
        rand::rng().fill_bytes(&mut bytes);
        Ok(bytes)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::rng().next_u64())
    }
}

/// Work on control's runtime that ends with its owner: with a resource that the guest drops, or with the guest.
pub(crate) struct Work<T>(JoinHandle<T>);

impl<T: Send + 'static> Work<T> {
    fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// Its result, once it has ended; none if it panicked, which was logged.
    async fn ended(&mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }

    /// Its result, if it has ended.
    fn poll(&mut self) -> Option<Option<T>> {
        match pin!(&mut self.0).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => Some(ended.ok()),
            Poll::Pending => None,
        }
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
