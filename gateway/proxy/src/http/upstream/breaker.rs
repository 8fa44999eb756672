//! Circuit breakers: how many exchanges a service port may have under way, over all workers, and who waits for a connection.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use sluicegate_model::slots::Slot;
use sluicegate_model::snapshot::ServicePort;
use sluicegate_model::stats::count;

use super::{Link, Upstreams};
use crate::core::decider::Picked;
use crate::core::places::{self, Places};

/// As much is under way as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tripped;

/// A place for another exchange; none: exchanges are not counted.
pub(crate) fn exchange(service: &ServicePort) -> Result<Option<Slot>, Tripped> {
    let settings = &service.settings;
    let most = match settings.breaker.requests {
        Some(most) => most,
        // They are counted, as a budget is a share of them.
        None if settings.budget.is_some() => u32::MAX,
        None => return Ok(None),
    };
    service.stats.load.requests.take(most).map(Some).ok_or_else(|| {
        count(&service.stats.refused.requests);
        Tripped
    })
}

/// What a waiting exchange has got.
pub(crate) enum Got {
    /// Places for a connection.
    Places(Option<Box<Places>>),
    /// A connection that another exchange of this worker has left, or a stream on one that has room again.
    Link(Link),
}

/// Waits for a place, or for a connection that serves as well, as long as connecting may take. The queue is bounded, and is one for all workers: the first in it
/// is woken when a connection closes. An idle connection is closed if somebody else waits for it.
pub(crate) async fn wait(service: &ServicePort, to: &Picked, upstreams: &Rc<Upstreams>) -> Result<Got, Tripped> {
    let load = &service.stats.load;
    let Some(for_service) = load.connections.wait(service.settings.breaker.pending) else {
        count(&service.stats.refused.pending);
        return Err(Tripped);
    };
    let for_endpoint = to.stats.connections.wait(u32::MAX);
    let here = Upstreams::wait(upstreams, to.address);
    upstreams.shed(&load.connections);
    let waiting = poll_fn(|context| {
        here.register(context.waker());
        for_service.register(context.waker());
        if let Some(queue) = &for_endpoint {
            queue.register(context.waker());
        }
        if let Some(link) = upstreams.check_out(service, to.address) {
            return Poll::Ready(Got::Link(link));
        }
        match places::connection(service, to) {
            Ok(places) => Poll::Ready(Got::Places(places)),
            Err(_) => Poll::Pending,
        }
    });
    tokio::time::timeout(service.settings.timeouts.connect, waiting).await.map_err(|_| {
        count(&service.stats.refused.pending_timeout);
        Tripped
    })
}
