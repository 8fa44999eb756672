//! TLS that clients begin. A client's connection to a TLS listener comes here from [`crate::worker`]. Its hello is read ([`hello`]), the host chosen, and TLS ended
//! or passed through ([`handshake`]), or the hello refused ([`crate::alert`]). Then the connection takes the way of all others, to [`crate::http`] or
//! [`crate::tcp`]. A CA that validates a name by TLS-ALPN-01 is answered in the handshake. [`identity`] tells who a client is by its certificate. TLS towards endpoints is in [`crate::endpoint`].
//!
//! All of it happens in the connection's own task, within a deadline, so that accepts never wait for it.

mod handshake;
pub(crate) mod hello;
mod identity;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use sluicegate_model::stats::{Reset, TlsFailure, count};
use tokio::net::TcpStream;

use crate::core::Core;
use crate::endpoint::{Speak, refuse};
use crate::http::{self, Http};
use crate::origin::Origin;
use crate::stream::Stream;
use crate::tcp::{self, Asked, Tcp};
pub(crate) use handshake::{Failed, failure, identify};
use handshake::{Met, meet};
#[cfg(fuzzing)]
pub(crate) use hello::{Hello, HelloReader};

/// How many handshakes may be under way in each worker, as each holds what was read of a hello, and rustls' state. Further connections are reset.
const AT_ONCE: usize = 4096;

/// What all connections of a worker to TLS listeners share.
pub(crate) struct Tls {
    pub(crate) core: Rc<Core>,
    pub(crate) http: Rc<Http>,
    pub(crate) tcp: Rc<Tcp>,
    /// The number of handshakes under way.
    handshakes: Cell<usize>,
}

impl Tls {
    pub(crate) fn new(http: Rc<Http>, tcp: Rc<Tcp>) -> Self {
        Self { core: http.core.clone(), http, tcp, handshakes: Cell::new(0) }
    }

    /// The number of handshakes under way.
    pub(crate) fn under_way(&self) -> usize {
        self.handshakes.get()
    }
}

/// Serves a connection to a TLS listener.
pub(crate) async fn serve(stream: TcpStream, origin: Origin, address: SocketAddr, shared: &Rc<Tls>) {
    let client = origin.client;
    let Some(place) = Place::take(shared) else {
        refuse(&stream, Reset::Limit, &shared.core);
        return failed(&TlsFailure::Busy.into(), client, address, &shared.core);
    };
    // It is boxed, as the handshake's state is large, and gone when the connection is served.
    let met = Box::pin(meet(stream, address, &shared.core)).await;
    drop(place);
    match met {
        Ok(Met::Passed { stream, raw, hello, view }) => {
            count(&shared.core.stats.tls.passed);
            let host = hello.server_name.as_deref().unwrap_or("");
            let asked = Asked { origin: &origin, listener: address, host, alpn: &hello.alpn, speak: Speak::Through };
            tcp::forward(Stream::Tcp(stream), &raw, &asked, view, &shared.tcp).await;
        }
        Ok(Met::Validated) => tracing::debug!(%client, %address, "a CA's challenge by TLS-ALPN-01 was answered"),
        Ok(Met::Ended { stream, secured, http: true, .. }) => {
            http::serve(Stream::Tls(Box::new((*stream).into())), origin, address, Some(secured), &shared.http).await;
        }
        Ok(Met::Ended { stream, hello, http: false, .. }) => {
            let host = hello.server_name.as_deref().unwrap_or("");
            let asked = Asked { origin: &origin, listener: address, host, alpn: &hello.alpn, speak: Speak::Ended };
            tcp::forward(Stream::Tls(Box::new((*stream).into())), &[], &asked, shared.core.view(), &shared.tcp).await;
        }
        Err(why) => failed(&why, client, address, &shared.core),
    }
}

/// Counts and logs a handshake that failed.
pub(crate) fn failed(Failed(why, error): &Failed, client: SocketAddr, address: SocketAddr, core: &Core) {
    count(&core.stats.tls.failures[*why as usize]);
    let error = error.as_ref().map(ToString::to_string).unwrap_or_default();
    tracing::debug!(%client, %address, why = why.label(), error, "no TLS handshake");
}

/// A place among the [`AT_ONCE`].
pub(crate) struct Place(Rc<Tls>);

impl Place {
    pub(crate) fn take(shared: &Rc<Tls>) -> Option<Self> {
        if shared.handshakes.get() >= AT_ONCE {
            return None;
        }
        shared.handshakes.set(shared.handshakes.get() + 1);
        count(&shared.core.stats.tls.under_way);
        Some(Self(shared.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get() - 1);
        self.0.core.stats.tls.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
