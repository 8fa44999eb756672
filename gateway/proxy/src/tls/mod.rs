//! TLS on both sides. A client's connection that arrives at a TLS listener comes here from [`crate::worker`]: its hello is read ([`hello`]), the
//! listener chosen, and TLS ended or passed on ([`handshake`]); then it goes the way of all others, to [`crate::http`] or [`crate::tcp`].
//! [`identity`] says who a client is by its certificate. [`upstream`] is TLS towards endpoints.
//!
//! All of it happens in the connection's own task, within a deadline: accepts never wait for it.

mod handshake;
mod hello;
pub(crate) mod identity;
mod upstream;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use ::http::HeaderValue;
use sluicegate_model::stats::{Reset, TlsFailure, count};
use tokio::net::TcpStream;

use crate::http;
use crate::origin::Origin;
use crate::stream::Stream;
use crate::tcp::{self, Asked, Speak};
use crate::worker::Shared;
use handshake::{Failed, Met, meet};
#[cfg(fuzzing)]
pub(crate) use hello::{Hello, HelloReader};

pub(crate) use upstream::{Sessions, originate};

/// Handshakes under way at a time, for each worker: each holds what was read of a hello and rustls' state. Beyond it new ones are reset.
const AT_ONCE: usize = 4096;

/// What TLS told of a client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// The server name it asked for.
    pub(crate) server_name: Option<String>,
    /// The value of `X-Forwarded-Client-Cert`, if it showed a certificate that was verified.
    pub(crate) client: Option<HeaderValue>,
}

/// Serves a connection to a TLS listener.
pub(crate) async fn serve(stream: TcpStream, origin: Origin, address: SocketAddr, shared: &Rc<Shared>) {
    let client = origin.client;
    let Some(place) = Place::take(shared) else {
        tcp::refuse(&stream, Reset::Limit, shared);
        return failed(&TlsFailure::Busy.into(), client, address, shared);
    };
    // Boxed: the handshake's state is large, and gone when the connection is served.
    let met = Box::pin(meet(stream, address, shared)).await;
    drop(place);
    match met {
        Ok(Met::Passed { stream, raw, hello, view }) => {
            count(&shared.stats.tls.passed);
            let host = hello.server_name.as_deref().unwrap_or("");
            let asked = Asked { origin: &origin, listener: address, host, alpn: &hello.alpn, speak: Speak::Through };
            tcp::forward(Stream::Tcp(stream), &raw, &asked, view, shared).await;
        }
        Ok(Met::Ended { stream, secured, http: true, .. }) => {
            http::serve(Stream::Tls(Box::new((*stream).into())), origin, address, Some(secured), shared).await;
        }
        Ok(Met::Ended { stream, hello, http: false, .. }) => {
            let host = hello.server_name.as_deref().unwrap_or("");
            let asked = Asked { origin: &origin, listener: address, host, alpn: &hello.alpn, speak: Speak::Ended };
            tcp::forward(Stream::Tls(Box::new((*stream).into())), &[], &asked, shared.view(), shared).await;
        }
        Err(why) => failed(&why, client, address, shared),
    }
}

fn failed(Failed(why, error): &Failed, client: SocketAddr, address: SocketAddr, shared: &Shared) {
    count(&shared.stats.tls.failures[*why as usize]);
    let error = error.as_ref().map(ToString::to_string).unwrap_or_default();
    tracing::debug!(%client, %address, why = why.word(), error, "no TLS handshake");
}

/// One of the [`AT_ONCE`].
struct Place(Rc<Shared>);

impl Place {
    fn take(shared: &Rc<Shared>) -> Option<Self> {
        if shared.handshakes.get() >= AT_ONCE {
            return None;
        }
        shared.handshakes.set(shared.handshakes.get() + 1);
        count(&shared.stats.tls.under_way);
        Some(Self(shared.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get() - 1);
        self.0.stats.tls.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
