//! What HTTP/3 (RFC 9114) has over HTTP/2, over the libraries `quinn` and `h3`. [`transport`] lets the library `h3` read and write a connection's streams, and
//! gives it whole [`frames`] only: it has no limit on what it keeps of a frame that is not whole, and takes a stream that ends within one for complete.
//! [`meter`] counts what costs much and carries nothing. Clients' streams are taken in [`crate::http`].

mod frames;
mod meter;
mod transport;

#[cfg(fuzzing)]
pub(crate) use frames::{Frames, Kind};
pub(crate) use meter::Meter;
pub(crate) use transport::{Bidirectional, Last, Receiving, Sending, Transport};

/// The largest size of a head's fields, in bytes, as RFC 9114 §4.2.2 counts them, and of a frame that carries a head; it is that of HTTP/1.1's heads.
pub(crate) const MAX_HEAD: usize = 64 << 10;
