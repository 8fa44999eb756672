//! Which service ports have endpoints at which port number, and which have some that were refused. When the gateway begins or ceases to listen somewhere,
//! only the endpoints of these are judged anew.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;

use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::ServiceIndex;

/// Service ports, by their primary indices.
#[derive(Default)]
pub(super) struct Near {
    /// Service ports by the protocol and the port numbers of their endpoints, of which there mostly is one.
    at: HashMap<(Protocol, u16), HashSet<ServiceIndex>>,
    refused: HashSet<ServiceIndex>,
}

/// What is noted of a service port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted<'p> {
    pub(super) index: ServiceIndex,
    /// The port numbers, sorted.
    pub(super) ports: &'p [u16],
    pub(super) refused: bool,
}

impl Near {
    /// Notes what a service port is now, and was before; none: it is not there.
    pub(super) fn change(&mut self, protocol: Protocol, before: Option<Noted<'_>>, now: Option<Noted<'_>>) {
        if before == now {
            return;
        }
        if let Some(before) = before {
            for port in before.ports {
                if let Some(all) = self.at.get_mut(&(protocol, *port)) {
                    all.remove(&before.index);
                    if all.is_empty() {
                        self.at.remove(&(protocol, *port));
                    }
                }
            }
            self.refused.remove(&before.index);
        }
        if let Some(now) = now {
            now.ports.iter().for_each(|port| _ = self.at.entry((protocol, *port)).or_default().insert(now.index));
            if now.refused {
                self.refused.insert(now.index);
            }
        }
    }

    /// The service ports some of whose endpoints were refused.
    pub(super) fn refused(&self) -> impl Iterator<Item = ServiceIndex> {
        self.refused.iter().copied()
    }

    /// The service ports with an endpoint at one of these port numbers, whatever its address.
    pub(super) fn at(&self, own: &[(Protocol, SocketAddr)]) -> BTreeSet<ServiceIndex> {
        let ports: HashSet<(Protocol, u16)> = own.iter().map(|(protocol, address)| (*protocol, address.port())).collect();
        ports.iter().filter_map(|port| self.at.get(port)).flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_an_endpoint_at_the_port_are_found_as_they_are_now() {
        let mut near = Near::default();
        let noted = |index, ports, refused| Some(Noted { index, ports, refused });
        near.change(Protocol::Tcp, None, noted(1, &[80, 81], false));
        near.change(Protocol::Tcp, None, noted(2, &[80], true));
        near.change(Protocol::Udp, None, noted(3, &[80], false));
        let at = |near: &Near, port: u16| near.at(&[(Protocol::Tcp, ([127, 0, 0, 1], port).into())]).into_iter().collect::<Vec<_>>();
        assert_eq!((at(&near, 80), at(&near, 81), at(&near, 82)), (vec![1, 2], vec![1], vec![]));
        assert_eq!(near.refused().collect::<Vec<_>>(), [2]);
        near.change(Protocol::Tcp, noted(1, &[80, 81], false), noted(4, &[81], false));
        near.change(Protocol::Tcp, noted(2, &[80], true), noted(2, &[80], false));
        assert_eq!((at(&near, 80), at(&near, 81), near.refused().count()), (vec![2], vec![4], 0));
        near.change(Protocol::Tcp, noted(2, &[80], false), None);
        near.change(Protocol::Tcp, noted(4, &[81], false), None);
        near.change(Protocol::Udp, noted(3, &[80], false), None);
        assert!(near.at.is_empty() && near.refused.is_empty(), "nothing is left of what is gone");
    }
}
