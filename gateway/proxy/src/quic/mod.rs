//! QUIC (RFC 9000), over the library `quinn`: what is below HTTP/3.
//!
//! Each worker has a socket and an endpoint of its own for each address, as with TCP. The kernel spreads packets by a hash of both addresses and ports
//! (SO_REUSEPORT), so the packets of a client whose address changes may come to another worker than the one that has its connection. So each connection
//! ID says which worker made it ([`id`]), and a worker that receives another's packet hands it over ([`post`]), before the library sees it ([`socket`]). A
//! filter in the kernel could choose the worker, too; but it would choose by a socket's place among those that are bound, which a successor with another
//! number of workers does not keep, and one that opens sealed IDs takes rights that a gateway need not have. Only packets of clients that have moved
//! cost more this way.
//!
//! [`succession`] does the same between processes. [`session`] ends TLS by the host that the client asks for, [`transport`] has the limits, and [`listeners`] what a worker has for each address.

mod id;
mod listeners;
mod post;
mod session;
mod socket;
mod succession;
mod transport;

pub(crate) use id::Ids;
pub(crate) use listeners::Listeners;
pub(crate) use post::Quic;
pub(crate) use session::Chosen;
pub(crate) use succession::{Predecessor, pair, take};
pub(crate) use transport::server;
