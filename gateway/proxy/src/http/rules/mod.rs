//! What HTTP says of fields between hops, apart from connections: which belong to one hop ([`headers`]), which tell the next of the client
//! ([`forwarding`], which may be [`deferred`]) and of the request ([`identify`]), what comes round and round ([`loops`]), what stands behind the content ([`trailers`]), and how
//! connections become something else ([`upgrade`]). Heads that cannot be read are answered by [`unreadable`].

pub(super) mod deferred;
pub(super) mod forwarding;
pub(super) mod headers;
pub(super) mod identify;
pub(super) mod loops;
pub(super) mod trailers;
pub(super) mod unreadable;
pub(super) mod upgrade;
