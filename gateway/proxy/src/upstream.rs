//! HTTP/1.1 connections to endpoints, and the idle ones among them: a stack for each, so that the warmest is used first and the coldest
//! times out.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use rustc_hash::FxBuildHasher;
use sluicegate_model::snapshot::{ServicePort, Snapshot};

use crate::decide::Picked;
use crate::http::RequestBody;
use crate::io::Io;
use crate::tcp::dial;
use crate::worker::Shared;

const IDLE_PER_ENDPOINT: usize = 128;
const IDLE_TIME: Duration = Duration::from_secs(60);
/// A response's head must fit.
const MAX_BUFFER: usize = 64 << 10;

/// A connection to an endpoint. No task drives it: whoever waits for its answer does ([`Connection::drive`]), so an exchange costs no
/// wake-up of another task. An idle one is driven when it is taken out again, which is when it matters whether the endpoint has closed it.
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    /// None once it has ended.
    driver: Option<Box<http1::Connection<Io, RequestBody>>>,
}

/// Connects to an endpoint.
pub(crate) async fn open(service: &ServicePort, to: &Picked, shared: &Shared) -> Option<Connection> {
    let stream = dial(service, to, shared).await?;
    let (sender, driver) = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(Io::new(stream)).await.ok()?;
    let mut connection = Connection { sender, driver: Some(Box::new(driver)) };
    connection.ready().then_some(connection)
}

impl Connection {
    /// Lets it read and write as far as it can. Its error reaches who waits for the answer or its body.
    pub(crate) fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver.as_mut()).poll(context).is_ready()
        {
            self.driver = None;
        }
    }

    /// Whether a request may be sent: it is open, and done with the one before.
    fn ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer; the body needs further driving. What could not be written comes back.
    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        poll_fn(|context| {
            if let Some(running) = driver
                && Pin::new(running.as_mut()).poll(context).is_ready()
            {
                *driver = None;
            }
            answer.as_mut().poll(context)
        })
        .await
    }
}

/// A worker's idle connections.
#[derive(Default)]
pub(crate) struct Upstreams(RefCell<HashMap<SocketAddr, Vec<(Connection, Instant)>, FxBuildHasher>>);

impl Upstreams {
    /// A connection that is open and ready.
    pub(crate) fn check_out(&self, address: SocketAddr) -> Option<Connection> {
        let mut idle = self.0.borrow_mut();
        let stack = idle.get_mut(&address)?;
        while let Some((mut connection, _)) = stack.pop() {
            if connection.ready() {
                return Some(connection);
            }
        }
        None
    }

    /// One that is not ready still takes in the rest of a request whose answer came early, or has ended: it is closed.
    pub(crate) fn check_in(&self, address: SocketAddr, mut connection: Connection, now: Instant) {
        if !connection.sender.is_ready() && !connection.ready() {
            return;
        }
        let mut idle = self.0.borrow_mut();
        let stack = idle.entry(address).or_default();
        if stack.len() < IDLE_PER_ENDPOINT {
            stack.push((connection, now));
        }
    }

    /// Closes idle connections to endpoints that are gone.
    pub(crate) fn retain(&self, snapshot: &Snapshot) {
        let mut idle = self.0.borrow_mut();
        if idle.is_empty() {
            return;
        }
        let pools = snapshot.services.iter().flat_map(|s| [&s.internal, &s.external]);
        let live: HashSet<SocketAddr, FxBuildHasher> = pools.flat_map(|p| &p.endpoints).map(|e| e.address).collect();
        idle.retain(|address, _| live.contains(address));
    }

    /// Closes connections that were idle for too long.
    pub(crate) fn prune(&self) {
        self.0.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|(connection, since)| since.elapsed() < IDLE_TIME && connection.ready());
            !stack.is_empty()
        });
    }
}
