//! Who is believed about clients, and which header fields and paths are made or changed.

use http::HeaderValue;
use ipnet::IpNet;

pub use crate::object::ours::{EscapedSlashes, ForwardedAction, RequestIdAction, WithUnderscoresAction};
use crate::route::HeaderChanges;

/// Who is believed about the client's address, and about `X-Forwarded-*`, `Forwarded` and `X-Request-Id`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Nobody: the client is who connected.
    #[default]
    Nobody,
    /// So many proxies, at least one.
    Hops(usize),
    /// Proxies in these networks.
    Networks(Vec<IpNet>),
}

/// What becomes of a request's header fields before it is routed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderSettings {
    /// Names with underscores.
    pub underscores: WithUnderscoresAction,
    /// What costs more than a look; none: nothing of it is wanted.
    pub extras: Option<Box<HeaderExtras>>,
}

/// See [`HeaderSettings`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderExtras {
    /// Changes before everything else.
    pub early: HeaderChanges,
    /// RFC 7239's field.
    pub forwarded: ForwardedAction,
    /// The name under which this gateway adds itself to `Via`.
    pub via: Option<Via>,
    /// `X-Request-Id`.
    pub request_id: RequestIdAction,
    /// `traceparent` is made, and so many of 100 are sampled.
    pub trace: Option<u32>,
}

/// This gateway's element of `Via`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// A token (RFC 9110 §7.6.3).
    pub pseudonym: String,
    /// `1.1 pseudonym`
    pub element: HeaderValue,
}

/// How paths are read before requests are routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSettings {
    /// `%2F`, `%5C` and `\`.
    pub escaped: EscapedSlashes,
    /// Several slashes become one.
    pub merge: bool,
}

impl Default for PathSettings {
    fn default() -> Self {
        Self { escaped: EscapedSlashes::default(), merge: true }
    }
}
