//! The loops that take requests off a client's connection, a file for each version: [`http1`] takes one after another, [`http2`] and [`http3`] take each as a [`stream`] with
//! a task of its own. Each request goes through [`exchange`](super::exchange); a connection that is upgraded ends in a [`tunnel`].

#[cfg(test)]
mod allocations;
mod http1;
mod http2;
mod http3;
mod stream;
mod tunnel;

pub(crate) use http1::serve;
pub(crate) use http3::serve3;

use std::cell::RefCell;
use std::rc::Rc;

use http::HeaderMap;

use super::client::OpenConnections;
use super::exchange::Exchanges;
use crate::core::Core;

/// For how many fields a map may have room that is kept.
const SPARE: usize = 64;

/// What all HTTP connections of a worker's clients share.
pub(crate) struct Http {
    pub(crate) core: Rc<Core>,
    exchanges: Rc<Exchanges>,
    pub(crate) open: OpenConnections,
    /// A map of fields whose request is done.
    spare: RefCell<HeaderMap>,
}

impl Http {
    pub(crate) fn new(exchanges: Rc<Exchanges>) -> Self {
        let core = exchanges.core.clone();
        Self { open: OpenConnections::new(core.clock.clone()), core, exchanges, spare: RefCell::default() }
    }

    /// Keeps a map for another request, without its content.
    fn keep(&self, mut map: HeaderMap) {
        if map.capacity() <= SPARE {
            map.clear();
            self.spare.replace(map);
        }
    }
}
