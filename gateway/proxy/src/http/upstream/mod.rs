//! HTTP to endpoints. An exchange has a [`link`]: an HTTP/1.1 [`connection`] of its own, or a [`stream`] of an HTTP/2 connection ([`carrier`]) that it shares.
//! Idle HTTP/1.1 connections are kept here, in a stack for each endpoint, so that the warmest is used first and the coldest times out; HTTP/2 connections are
//! kept in [`shared`].

pub(in crate::http) mod breaker;
mod carrier;
mod connection;
mod link;
mod shared;
mod stream;
mod terms;
mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxBuildHasher;
use sluicegate_model::slots::Slots;
use sluicegate_model::snapshot::ServicePort;

use crate::core::decider::Picked;
use crate::core::delta::{Met, Mets};
use crate::core::places::Places;
use crate::endpoint::{Endpoints, Opening, dial};

pub(crate) use connection::Broken;
use connection::Connection;
pub(crate) use link::Link;
use terms::Terms;
use waiting::Queues;
pub(crate) use waiting::Waiting;

const IDLE_PER_ENDPOINT: usize = 128;

/// Connects to an endpoint, or finds a place on a connection that is being made for `upstreams`. `places`: what the connection takes.
pub(crate) async fn open(
    service: &ServicePort,
    to: &Picked,
    opening: Opening<'_>,
    places: Option<Box<Places>>,
    upstreams: &Rc<Upstreams>,
    endpoints: &Endpoints,
) -> Option<Link> {
    if service.protocol.is_http2() {
        return shared::open(service, to, opening, places, upstreams, endpoints).await.map(|stream| Link::Stream(Box::new(stream)));
    }
    let stream = dial(service, to, opening, endpoints).await?.counted(places);
    Some(Link::Alone(Box::new(Connection::new(stream, Terms::new(service), service.tls.id(), endpoints.scratch.clone()))))
}

/// A connection of HTTP/1.1 that has been used.
type Idle = Box<Connection>;

/// The connections of a worker, or of one client if endpoints are told of the client: idle ones of HTTP/1.1, and all of HTTP/2.
#[derive(Default)]
pub(crate) struct Upstreams {
    idle: RefCell<HashMap<Met, Vec<(Idle, Instant)>, FxBuildHasher>>,
    carriers: shared::Carriers,
    queues: Queues,
    /// The number of the next exchange that waits.
    next: Cell<u64>,
}

impl Upstreams {
    /// Checks out a connection, or a place on one, that its endpoint has not closed, as far as is known.
    pub(crate) fn check_out(&self, service: &ServicePort, address: SocketAddr) -> Option<Link> {
        if service.protocol.is_http2() {
            return self.carriers.check_out((address, service.tls.id())).map(|stream| Link::Stream(Box::new(stream)));
        }
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(&(address, service.tls.id()))?;
        while let Some((mut connection, since)) = stack.pop() {
            let terms = *connection.terms();
            if (!terms.is_strict() || terms.allow_idle(since, Instant::now())) && connection.is_idle() {
                return Some(Link::Alone(connection));
            }
        }
        None
    }

    /// Whether an endpoint of HTTP/2 has as many connections as it may have. If [`check_out`](Self::check_out) found no place, they are full.
    pub(crate) fn is_full(&self, service: &ServicePort, address: SocketAddr) -> bool {
        service.protocol.is_http2() && self.carriers.is_full((address, service.tls.id()))
    }

    /// A place on a connection that is being made, as many exchanges that begin at once share one. None: no connection is being made; none within: it failed.
    pub(crate) async fn join(&self, service: &ServicePort, address: SocketAddr) -> Option<Option<Link>> {
        if !service.protocol.is_http2() {
            return None;
        }
        self.carriers.join((address, service.tls.id())).await.map(|joined| joined.map(|stream| Link::Stream(Box::new(stream))))
    }

    /// Gives a connection back. It is closed if it cannot take another request, or if another worker, or an exchange with another endpoint, waits for it. A stream
    /// has ended.
    pub(crate) fn check_in(&self, address: SocketAddr, link: Link, now: Instant) {
        let Link::Alone(connection) = link else { return };
        if !connection.is_reusable(now) {
            return;
        }
        let counted = connection.places().map(Places::is_wanted);
        if counted == Some(true) && !self.queues.wake(address) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let stack = idle.entry((address, connection.tls())).or_default();
        if stack.len() < IDLE_PER_ENDPOINT {
            stack.push((connection, now));
        }
    }

    /// Joins those who wait in this worker for a connection to the endpoint.
    pub(crate) fn wait(this: &Rc<Self>, address: SocketAddr) -> Waiting {
        Waiting::new(this, address)
    }

    /// Closes one idle connection that takes one of these places.
    pub(crate) fn shed(&self, slots: &Arc<Slots>) {
        let mut idle = self.idle.borrow_mut();
        let counted = |(connection, _): &(Idle, Instant)| connection.places().is_some_and(|p| p.is_of(slots));
        let found = idle.values_mut().find_map(|stack| stack.iter().position(&counted).map(|at| stack.remove(at)));
        drop(idle);
        if found.is_none() {
            self.carriers.shed(slots);
        }
    }

    /// Closes the idle connections that somebody waits for, in whichever worker.
    pub(crate) fn relieve(&self) {
        let wanted = |(connection, _): &(Idle, Instant)| connection.places().is_some_and(Places::is_wanted);
        let mut idle = self.idle.borrow_mut();
        let closing: Vec<_> = idle.values_mut().flat_map(|stack| stack.extract_if(.., |c| wanted(c))).collect();
        drop(idle);
        drop(closing);
        self.carriers.relieve();
    }

    /// Closes idle connections to endpoints that are gone.
    pub(crate) fn forget(&self, gone: &Mets) {
        let mut idle = self.idle.borrow_mut();
        let closing: Vec<_> = gone.iter().filter_map(|met| idle.remove(met)).collect();
        drop(idle);
        drop(closing);
        self.carriers.forget(gone);
    }

    /// Closes connections that were idle for too long, or that their endpoints have closed. The others give memory back.
    pub(crate) fn prune(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|(connection, since)| connection.terms().allow_idle(*since, now) && connection.is_idle());
            stack.iter_mut().for_each(|(connection, _)| connection.rest());
            !stack.is_empty()
        });
        self.carriers.prune(now);
    }
}
