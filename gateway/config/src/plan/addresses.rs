//! Who listens where: of the objects that would like to have an address the first does, Services before Gateways, each in the order of names. A listener
//! of a Gateway may join another one as one more host name.

use std::collections::HashSet;

use super::compile::Claim;
use super::gateways::host_order;
use super::*;
use crate::object::{error, warning};

/// The order of claims: the rank of the kind, the object, the claim's number in it.
pub(super) type Order = (u8, ObjectKey, usize);

/// A listener of a Gateway whose address is another one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The Gateway.
    pub object: ObjectKey,
    /// The listener, as a field of it.
    pub path: String,
    /// `HostnameConflict` or `ProtocolConflict`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What no two listeners have in common.
pub(super) type At = (Protocol, SocketAddr);

/// All claims, and what comes of them.
#[derive(Default)]
pub(super) struct Addresses {
    claims: BTreeMap<At, BTreeMap<Order, Claim>>,
    winners: BTreeMap<At, Order>,
    listeners: BTreeMap<Order, Arc<PlannedListener>>,
    /// Of those that were refused.
    faults: BTreeMap<Order, Fault>,
    conflicts: BTreeMap<Order, Conflict>,
    /// Where somebody came or went.
    touched: BTreeSet<At>,
}

impl Addresses {
    /// The claims of an object are these now, instead of those of before.
    pub(super) fn change(&mut self, rank: u8, key: &ObjectKey, before: &[Claim], now: &[Claim]) {
        for (number, claim) in before.iter().enumerate() {
            let (at, order) = (at(claim), (rank, key.clone(), number));
            if let Some(claims) = self.claims.get_mut(&at) {
                claims.remove(&order);
                if claims.is_empty() {
                    self.claims.remove(&at);
                }
            }
            self.agree(&order);
            self.touch(at);
        }
        for (number, claim) in now.iter().enumerate() {
            let at = at(claim);
            self.claims.entry(at).or_default().insert((rank, key.clone(), number), claim.clone());
            self.touch(at);
        }
    }

    /// Whether an address is refused may be said of that of IPv4 already.
    fn touch(&mut self, (protocol, address): At) {
        self.touched.insert((protocol, address));
        if address.ip() == Ipv4Addr::UNSPECIFIED {
            self.touched.insert((protocol, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())));
        }
    }

    /// Settles what was touched. True if there is anything else than before.
    pub(super) fn settle(&mut self) -> bool {
        // Those of IPv4 come first.
        let touched = std::mem::take(&mut self.touched);
        let any = !touched.is_empty();
        // All of them first: the number of a claim may have been another address's before.
        for old in touched.iter().filter_map(|at| self.winners.remove(at)) {
            self.listeners.remove(&old);
        }
        for at in touched {
            let Some(claims) = self.claims.get(&at) else { continue };
            let mut claims = claims.iter();
            let Some((winner, first)) = claims.next() else { continue };
            let mut listener = first.listener.clone();
            let ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.1.port());
            let ipv4 = self.winners.get(&(at.0, ipv4)).filter(|_| at.1.ip() == Ipv6Addr::UNSPECIFIED);
            // All addresses are two listeners, and what is said of IPv4's need not be said twice.
            let said = ipv4.and_then(|order| self.listeners.get(order)).is_some_and(|same| same.name == listener.name);
            let (tls, names) = listener.front.hostnames().unzip();
            let mut names: HashSet<Option<String>> = names.unwrap_or_default().into_iter().collect();
            for (order, claim) in claims {
                let of_gateway = claim.object.key.kind == "Gateway";
                let more = claim.listener.front.hostnames().filter(|(of_tls, more)| {
                    // One more host name of the same protocol.
                    of_gateway && tls == Some(*of_tls) && more.iter().all(|name| !names.contains(name))
                });
                if let Some((_, more)) = more {
                    names.extend(more);
                    Arc::make_mut(&mut listener).front.join(&claim.listener.front);
                    self.faults.remove(order);
                    self.conflicts.remove(order);
                } else if said {
                    self.faults.remove(order);
                    self.conflicts.remove(order);
                } else {
                    let name = &claim.listener.name;
                    let message = format!("{name}: {} is already taken by the {}", at.1, listener.name);
                    // Of a Gateway it is no fault of the object, but a conflict (`status.listeners[].conditions`): an API server takes it.
                    if of_gateway {
                        let same = tls.is_some() && tls == claim.listener.front.hostnames().map(|(tls, _)| tls);
                        let reason =
                            if same || claim.listener.front.is_like(&listener.front) { "HostnameConflict" } else { "ProtocolConflict" };
                        let (object, path, message) = (claim.object.key.clone(), claim.path.clone(), message.clone());
                        self.conflicts.insert(order.clone(), Conflict { object, path, reason, message });
                    }
                    let fault = if of_gateway { warning } else { error };
                    let fault = fault(&claim.object.origin, &claim.object.key, &claim.path, message, None);
                    self.faults.insert(order.clone(), fault);
                }
            }
            self.faults.remove(winner);
            self.conflicts.remove(winner);
            let sorted = match &listener.front {
                PlannedFront::Http(hosts) => hosts.len() < 2,
                PlannedFront::Tls(hosts) => hosts.len() < 2,
                PlannedFront::Tcp(_) | PlannedFront::Udp(_) => true,
            };
            if !sorted {
                match &mut Arc::make_mut(&mut listener).front {
                    PlannedFront::Http(hosts) => hosts.sort_by_cached_key(|(h, _)| host_order(h.as_deref())),
                    PlannedFront::Tls(hosts) => hosts.sort_by_cached_key(|h| host_order(h.hostname.as_deref())),
                    PlannedFront::Tcp(_) | PlannedFront::Udp(_) => {}
                }
            }
            self.winners.insert(at, winner.clone());
            self.listeners.insert(winner.clone(), listener);
        }
        any
    }

    fn agree(&mut self, order: &Order) {
        self.faults.remove(order);
        self.conflicts.remove(order);
    }

    /// Listeners of Gateways whose address is another one's.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.values()
    }

    /// In the order of those who listen.
    pub(super) fn listeners(&self) -> impl Iterator<Item = &Arc<PlannedListener>> {
        self.listeners.values()
    }

    /// Of the claims of one object, why they were refused.
    pub(super) fn faults(&self, rank: u8, key: &ObjectKey) -> impl Iterator<Item = &Fault> {
        self.faults.range((rank, key.clone(), 0)..=(rank, key.clone(), usize::MAX)).map(|(_, fault)| fault)
    }

    /// The objects of which claims were refused.
    pub(super) fn faulty(&self) -> impl Iterator<Item = (u8, &ObjectKey)> {
        self.faults.keys().map(|(rank, key, _)| (*rank, key))
    }
}

fn at(claim: &Claim) -> At {
    (claim.listener.front.protocol(), claim.listener.address)
}
