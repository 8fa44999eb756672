//! What all protocols share on the way to an endpoint: where a connection or a flow is led, how an endpoint is [dialled](dial()), by TLS or not
//! ([`mod@originate`]), and from which address ([`source`]), how it counts as busy, and how a client is refused for whom there is none.

mod dial;
mod originate;
pub(crate) mod source;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use sluicegate_decide::way;
use sluicegate_model::snapshot::{ServiceIndex, Side, Target};
use sluicegate_model::stats::{EndpointStats, Reset, count};
use tokio::net::TcpStream;

use crate::core::Core;
use crate::core::decider::Picked;
use crate::stream::Scratch;

pub(crate) use dial::{Opening, Patience, Speak, dial};
use originate::Sessions;

/// How many endpoints are tried for one connection or request.
pub(crate) const TRIES: usize = 3;

/// What all who connect to endpoints share.
pub(crate) struct Endpoints {
    pub(crate) core: Rc<Core>,
    /// TLS sessions with endpoints.
    pub(crate) sessions: Sessions,
    /// What all connections read into, to endpoints and from clients.
    pub(crate) scratch: Rc<Scratch>,
}

impl Endpoints {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Self { core, sessions: Sessions::default(), scratch: Rc::default() }
    }
}

/// Where a connection or a flow goes. Without TLS only its client's address is known.
pub(crate) fn lead(target: &Target, host: &str, headers: &HeaderMap, client: IpAddr, core: &Core) -> Option<(ServiceIndex, Side)> {
    let forwarded = way::forward(target, host, headers, client, &mut *core.decider.borrow_mut()).ok()?;
    if let Some((rung, choice)) = forwarded.rule {
        rung.note(choice);
    }
    Some((forwarded.to.service, forwarded.to.side))
}

/// Resets a client's connection, and counts why. A connection that is refused must not look like an empty answer.
pub(crate) fn refuse(client: &TcpStream, why: Reset, core: &Core) {
    count(core.stats.reset(why));
    reset(client);
}

/// Has a connection reset, rather than closed, when it is dropped.
pub(crate) fn reset(stream: &TcpStream) {
    // It fails only on a socket that is gone already.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Counts work in flight at an endpoint, until it is dropped.
pub(crate) struct Busy(Arc<EndpointStats>);

impl Busy {
    pub(crate) fn new(picked: &Picked) -> Self {
        picked.stats.begin();
        Self(picked.stats.clone())
    }

    /// The endpoint whose work it is.
    pub(crate) fn endpoint(&self) -> &EndpointStats {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}
