//! The HTTP/2 connections of a worker, by endpoint. An exchange goes on the first that has room, so that the last ones become idle and time out. If none has
//! room, another is made, once for all who wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use rustc_hash::FxBuildHasher;
use sluicegate_model::health::Outcome as Observed;
use sluicegate_model::slots::Slots;
use sluicegate_model::snapshot::ServicePort;
use sluicegate_model::stats::count;
use tokio::sync::watch;

use super::Upstreams;
use super::carrier::Carrier;
use super::stream::Stream;
use crate::core::decider::Picked;
use crate::core::delta::{Met, Mets};
use crate::core::places::Places;
use crate::endpoint::{Endpoints, Opening, dial};

/// How many connections there are to one endpoint from one worker. If all are full, an exchange goes to another endpoint, or waits for the end of a stream.
const PER_ENDPOINT: usize = 128;

#[derive(Default)]
pub(super) struct Carriers(RefCell<HashMap<Met, Endpoint, FxBuildHasher>>);

#[derive(Default)]
struct Endpoint {
    carriers: Vec<Rc<Carrier>>,
    dialing: Weak<Dialing>,
}

/// A connection that is being made. When this is dropped, all who wait are told.
struct Dialing(watch::Sender<Outcome>);

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Open,
    Failed,
}

impl Carriers {
    /// A stream on a connection that has room.
    pub(super) fn check_out(&self, met: Met) -> Option<Stream> {
        let mut endpoints = self.0.borrow_mut();
        let endpoint = endpoints.get_mut(&met)?;
        let now = Instant::now();
        endpoint.carriers.retain(|c| c.is_open(now) && !c.is_stale(now));
        endpoint.carriers.iter().find(|c| c.has_room()).map(|c| Stream::new(c.clone()))
    }

    /// Does what [`Upstreams::join`] says.
    pub(super) async fn join(&self, met: Met) -> Option<Option<Stream>> {
        while let Some(mut dialing) = self.dialing(met) {
            // An error means that its maker has gone, and it is this exchange's turn.
            if dialing.changed().await.is_ok() && *dialing.borrow() == Outcome::Failed {
                return Some(None);
            }
            if let Some(stream) = self.check_out(met) {
                return Some(Some(stream));
            }
        }
        None
    }

    /// The connection that is being made, if there is one.
    fn dialing(&self, met: Met) -> Option<watch::Receiver<Outcome>> {
        Some(self.0.borrow().get(&met)?.dialing.upgrade()?.0.subscribe())
    }

    /// Whether there are as many connections as there may be.
    pub(super) fn is_full(&self, met: Met) -> bool {
        self.0.borrow().get(&met).is_some_and(|e| e.carriers.len() >= PER_ENDPOINT)
    }

    /// Lets connections to endpoints that are gone end with the exchanges on them.
    pub(super) fn forget(&self, gone: &Mets) {
        let mut endpoints = self.0.borrow_mut();
        for met in gone {
            if let Some(endpoint) = endpoints.get_mut(met) {
                endpoint.carriers.clear();
                if endpoint.dialing.strong_count() == 0 {
                    endpoints.remove(met);
                }
            }
        }
    }

    /// Closes connections that were idle for too long, or served for too long.
    pub(super) fn prune(&self, now: Instant) {
        self.keep(|_, carrier| carrier.is_open(now) && !carrier.is_stale(now));
    }

    /// Closes the idle connections that somebody waits for, in whichever worker.
    pub(super) fn relieve(&self) {
        self.keep(|_, carrier| !carrier.is_idle() || !carrier.places().is_some_and(|p| p.is_wanted()));
    }

    /// Closes one idle connection that takes one of these places.
    pub(super) fn shed(&self, slots: &Arc<Slots>) {
        let mut found = false;
        self.keep(|_, carrier| {
            let this = !found && carrier.is_idle() && carrier.places().is_some_and(|p| p.is_of(slots));
            found |= this;
            !this
        });
    }

    /// Keeps some connections. A connection to which there is no handle any more sends GOAWAY and ends.
    fn keep(&self, mut which: impl FnMut(&Met, &Rc<Carrier>) -> bool) {
        self.0.borrow_mut().retain(|met, endpoint| {
            endpoint.carriers.retain(|carrier| which(met, carrier));
            !endpoint.carriers.is_empty() || endpoint.dialing.strong_count() > 0
        });
    }
}

/// A stream on a connection that is new, or that somebody else is making; or, if there are as many as there may be, on the first that has room. None: there is
/// none in time.
pub(super) async fn open(
    service: &ServicePort,
    to: &Picked,
    opening: Opening<'_>,
    places: Option<Box<Places>>,
    upstreams: &Rc<Upstreams>,
    endpoints: &Endpoints,
) -> Option<Stream> {
    let (carriers, met) = (&upstreams.carriers, (to.address, service.tls.id()));
    loop {
        if let Some(joined) = carriers.join(met).await {
            return joined;
        }
        if !carriers.is_full(met) {
            break;
        }
        if let Some(stream) = tokio::time::timeout(service.settings.timeouts.connect, room(met, to, upstreams)).await.ok()? {
            return Some(stream);
        }
    }
    let dialing = Rc::new(Dialing(watch::Sender::new(Outcome::Open)));
    carriers.0.borrow_mut().entry(met).or_default().dialing = Rc::downgrade(&dialing);
    let made = match dial(service, to, opening, endpoints).await {
        Some(stream) => greet(stream, service, to, places, upstreams, endpoints).await,
        None => None,
    };
    let outcome = if made.is_some() { Outcome::Open } else { Outcome::Failed };
    let stream = made.map(|carrier| {
        let stream = Stream::new(carrier.clone());
        carriers.0.borrow_mut().entry(met).or_default().carriers.push(carrier);
        stream
    });
    dialing.0.send_replace(outcome);
    // Those who wait for a place of a circuit breaker may have one here.
    while stream.is_some() && upstreams.queues.wake(to.address) {}
    stream
}

/// Waits for the end of a stream; none: there may be another connection.
async fn room(met: Met, to: &Picked, upstreams: &Rc<Upstreams>) -> Option<Stream> {
    let waiting = Upstreams::wait(upstreams, to.address);
    poll_fn(|context| {
        waiting.register(context.waker());
        match upstreams.carriers.check_out(met) {
            Some(stream) => Poll::Ready(Some(stream)),
            None if !upstreams.carriers.is_full(met) => Poll::Ready(None),
            None => Poll::Pending,
        }
    })
    .await
}

/// Begins HTTP/2 on a connection. If that fails, the connection counts as failed.
async fn greet(
    stream: crate::stream::Stream,
    service: &ServicePort,
    to: &Picked,
    places: Option<Box<Places>>,
    upstreams: &Rc<Upstreams>,
    endpoints: &Endpoints,
) -> Option<Rc<Carrier>> {
    let begun = Instant::now();
    let carrier = Carrier::new(stream, service, places, (upstreams, to.address), endpoints.core.clock.clone()).await;
    // A connection that takes no streams at all, as it may for a while (RFC 9113 §6.5.2), is as good as none.
    let carrier = carrier.filter(|carrier| carrier.has_room());
    if carrier.is_none() {
        count(&service.stats.connect_failures);
        endpoints.core.decider.borrow_mut().observe(&service.settings, &service.stats, to, Observed::Unreachable, begun.elapsed());
    }
    carrier
}
