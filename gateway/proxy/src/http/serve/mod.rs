//! The loops that take requests off a client's connection, a file a version: [`http1`] one after the other, [`http2`] each as a [`stream`] with a
//! task of its own. Each request goes through [`exchange`](super::exchange); a connection that is upgraded ends in a [`tunnel`].

mod http1;
mod http2;
mod stream;
mod tunnel;

pub(crate) use http1::serve;

use std::cell::RefCell;
use std::rc::Rc;

use http::HeaderMap;

use super::client::OpenConnections;
use super::exchange::Exchanges;
use crate::core::Core;

/// So many fields the map may have room for that is kept.
const SPARE: usize = 64;

/// What all HTTP connections of a worker's clients share.
pub(crate) struct Http {
    pub(crate) core: Rc<Core>,
    exchanges: Rc<Exchanges>,
    pub(crate) open: OpenConnections,
    /// A request's map of fields that is done with.
    spare: RefCell<HeaderMap>,
}

impl Http {
    pub(crate) fn new(exchanges: Rc<Exchanges>) -> Self {
        let core = exchanges.core.clone();
        Self { open: OpenConnections::new(core.clock.clone()), core, exchanges, spare: RefCell::default() }
    }

    /// Keeps a map for another request, without what is in it.
    fn keep(&self, mut map: HeaderMap) {
        if map.capacity() <= SPARE {
            map.clear();
            self.spare.replace(map);
        }
    }
}
