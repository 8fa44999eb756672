//! The protocols of listeners.

use std::fmt;

use sluicegate_model::route::Transport;

use super::RouteKind;

/// The protocol of a listener of a Gateway or ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocols")]
pub enum ListenerProtocol {
    Http,
    Https,
    Tls,
    Tcp,
    Udp,
    /// A protocol that is not served, as the object has it.
    Other(Box<str>),
}

impl ListenerProtocol {
    /// The protocol with this name in objects.
    pub fn named(name: &str) -> Self {
        let served = [Self::Http, Self::Https, Self::Tls, Self::Tcp, Self::Udp];
        served.into_iter().find(|protocol| protocol.name() == name).unwrap_or_else(|| Self::Other(name.into()))
    }

    /// The name of the protocol in objects.
    pub fn name(&self) -> &str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Other(name) => name,
        }
    }

    /// The kinds of routes that a listener of this protocol can take, the usual one first.
    pub fn routes(&self) -> &'static [RouteKind] {
        match self {
            Self::Http | Self::Https => &[RouteKind::Http, RouteKind::Grpc],
            Self::Tls => &[RouteKind::Tls],
            Self::Tcp => &[RouteKind::Tcp],
            Self::Udp => &[RouteKind::Udp],
            Self::Other(_) => &[],
        }
    }

    /// What a router of such a listener decides on: requests, connections or flows. `None`: the protocol is not served.
    pub(super) fn transport(&self) -> Option<Transport> {
        match self {
            Self::Http | Self::Https => Some(Transport::Http),
            Self::Tls => Some(Transport::Tls),
            Self::Tcp => Some(Transport::Tcp),
            Self::Udp => Some(Transport::Udp),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for ListenerProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
