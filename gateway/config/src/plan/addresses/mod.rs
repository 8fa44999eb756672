//! Who listens where: the claims of all objects, kept by address. An address is settled again when a claim of it is added or removed ([`contest`]); listeners
//! of Gateways and ListenerSets that differ in their host names are [joined](front).

mod contest;
mod front;

use contest::Lost;

use super::compile::Claim;
use super::*;
use crate::object::{Named, error, warning};

/// The order of claims: by the rank of the kind, those that yield last; ListenerSets by their time of creation, those without one last; by the object, and the claim's number
/// in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    rank: u8,
    undated: bool,
    created: String,
    key: ObjectKey,
    number: usize,
}

impl Order {
    fn new(rank: u8, claim: &Claim, number: usize) -> Self {
        let rank = if claim.yields { u8::MAX } else { rank };
        let object = &claim.object;
        let created = (object.key.kind == "ListenerSet").then(|| policies::created(object)).flatten();
        Self { rank, undated: created.is_none(), created: created.unwrap_or_default(), key: object.key.clone(), number }
    }

    /// The order as text. Texts compare as the orders that they stand for.
    pub fn text(&self) -> Box<str> {
        let Self { rank, undated, created, key, number } = self;
        let Named { kind, namespace, name } = &**key;
        // A name contains no zero byte, so a name that begins with another one comes after it.
        format!("{rank:03}\0{}\0{created}\0{kind}\0{namespace}\0{name}\0{number:010}", u8::from(*undated)).into()
    }

    fn whose(&self) -> Whose {
        (self.rank, self.key.clone(), self.number)
    }
}

/// A claim: the rank of the kind, the object, its number in that.
type Whose = (u8, ObjectKey, usize);

/// A listener of a Gateway or ListenerSet that cannot be told apart from another one at its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The Gateway or ListenerSet.
    pub object: ObjectKey,
    /// The listener, as a field of it.
    pub path: String,
    /// `HostnameConflict` or `ProtocolConflict`.
    pub reason: Reason,
    /// What the conflict is, in words.
    pub message: String,
}

/// A ClientTrafficPolicy of a listener that shares an address with others. The settings of one policy count for all of them.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// The policy.
    pub policy: Arc<Object>,
    /// What the policy does not count for, or what else it counts for, in words.
    pub message: String,
}

/// Addresses, and the listener at each with its place among all listeners. `None`: nothing listens there.
pub type Listens = BTreeMap<At, Option<(Order, Arc<PlannedListener>)>>;

/// All claims, and their outcomes.
#[derive(Default)]
pub(super) struct Addresses {
    /// The claims of each address in their order. Most addresses have one.
    claims: BTreeMap<At, Vec<(Order, Claim)>>,
    winners: BTreeMap<At, Order>,
    refused: Refused,
    /// The addresses at which claims were added or removed since they were last settled.
    touched: BTreeSet<At>,
}

impl Addresses {
    /// Replaces the claims `before` of an object by the claims `now`.
    pub(super) fn change(&mut self, rank: u8, before: &[Claim], now: &[Claim]) {
        for (number, claim) in before.iter().enumerate() {
            let (at, order) = (claim.listener.at(), Order::new(rank, claim, number));
            if let Some(claims) = self.claims.get_mut(&at) {
                if let Ok(position) = claims.binary_search_by(|(known, _)| known.cmp(&order)) {
                    claims.remove(position);
                }
                if claims.is_empty() {
                    self.claims.remove(&at);
                }
            }
            self.refused.agree(&order.whose());
            self.touch(at);
        }
        for (number, claim) in now.iter().enumerate() {
            let at = claim.listener.at();
            let order = Order::new(rank, claim, number);
            let claims = self.claims.entry(at).or_insert_with(|| Vec::with_capacity(1));
            let position = claims.partition_point(|(known, _)| *known < order);
            claims.insert(position, (order, claim.clone()));
            self.touch(at);
        }
    }

    /// Marks an address to be settled again, and the unspecified address of the other family with it: a refusal that is reported for IPv4's is not repeated for
    /// IPv6's.
    fn touch(&mut self, (protocol, address): At) {
        self.touched.insert((protocol, address));
        if address.ip() == Ipv4Addr::UNSPECIFIED {
            self.touched.insert((protocol, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())));
        }
    }

    /// Settles the addresses that were touched. Returns those whose listener may have been added, changed or removed, with what listens there now.
    pub(super) fn settle(&mut self, listeners: &mut BTreeMap<Order, Arc<PlannedListener>>) -> Listens {
        // Addresses of IPv4 come first.
        let touched = std::mem::take(&mut self.touched);
        // All old winners are removed first, as a claim's number may have belonged to another address before.
        for old in touched.iter().filter_map(|at| self.winners.remove(at)) {
            listeners.remove(&old);
        }
        let mut listens: Listens = touched.iter().map(|at| (*at, None)).collect();
        for at in touched {
            let Some(claims) = self.claims.get(&at) else { continue };
            let said = said_of_ipv4(&self.claims, &self.refused, at);
            let contest = contest::settle(at.1, claims);
            for (order, claim, outcome) in contest.claims {
                match outcome {
                    Err(lost) if !said.contains(&(&claim.object.key, &*claim.path)) => self.refused.refuse(order.whose(), claim, lost),
                    _ => self.refused.agree(&order.whose()),
                }
            }
            for (order, shadow) in contest.shadows {
                self.refused.shadows.insert(order.whose(), shadow);
            }
            if let Some((order, listener)) = contest.listener {
                self.winners.insert(at, order.clone());
                listeners.insert(order.clone(), listener.clone());
                listens.insert(at, Some((order.clone(), listener)));
            }
        }
        listens
    }

    /// The object that has an address, or the first of those that share it.
    pub(super) fn holder(&self, at: &At) -> Option<&ObjectKey> {
        self.winners.get(at).map(|order| &order.key)
    }

    /// Listeners of Gateways and ListenerSets that cannot be told apart from others.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.refused.conflicts.values()
    }

    /// Policies that count for less or more than they say because listeners share addresses.
    pub(super) fn shadows(&self) -> impl Iterator<Item = &Shadow> {
        self.refused.shadows.values()
    }

    /// Why claims of one object were refused.
    pub(super) fn faults(&self, rank: u8, key: &ObjectKey) -> impl Iterator<Item = &Fault> {
        self.refused.faults.range((rank, key.clone(), 0)..=(rank, key.clone(), usize::MAX)).map(|(_, fault)| fault)
    }

    /// The objects that have refused claims.
    pub(super) fn faulty(&self) -> impl Iterator<Item = (u8, &ObjectKey)> {
        self.refused.faults.keys().map(|(rank, key, _)| (*rank, key))
    }
}

/// "All addresses" is two listeners, one of each IP family. What was refused at IPv4's is not reported again for IPv6's.
fn said_of_ipv4<'c>(
    claims: &'c BTreeMap<At, Vec<(Order, Claim)>>,
    refused: &Refused,
    (protocol, address): At,
) -> BTreeSet<(&'c ObjectKey, &'c str)> {
    if address.ip() != Ipv6Addr::UNSPECIFIED {
        return BTreeSet::new();
    }
    let ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
    let there = claims.get(&(protocol, ipv4)).into_iter().flatten();
    let refused = there.filter(|(order, _)| refused.faults.contains_key(&order.whose()));
    refused.map(|(_, claim)| (&claim.object.key, &*claim.path)).collect()
}

/// The claims that were refused, and what became of others that share an address.
#[derive(Default)]
struct Refused {
    faults: BTreeMap<Whose, Fault>,
    conflicts: BTreeMap<Whose, Conflict>,
    /// Policies of claims that were not refused and share an address.
    shadows: BTreeMap<Whose, Shadow>,
}

impl Refused {
    fn agree(&mut self, whose: &Whose) {
        self.faults.remove(whose);
        self.conflicts.remove(whose);
        self.shadows.remove(whose);
    }

    /// Notes a claim that was refused. For a Gateway or ListenerSet this is no fault of the object but a conflict (`status.listeners[].conditions`), as an API
    /// server takes such objects.
    fn refuse(&mut self, whose: Whose, claim: &Claim, Lost { reason, message }: Lost) {
        self.shadows.remove(&whose);
        let standard = claim.object.key.kind != "Service";
        let fault = if standard { warning } else { error };
        self.faults.insert(whose.clone(), fault(&claim.object.origin, &claim.object.key, &claim.path, message.clone(), None));
        if standard {
            let (object, path) = (claim.object.key.clone(), claim.path.to_string());
            self.conflicts.insert(whose, Conflict { object, path, reason, message });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_places_have_their_order() {
        let mut all = Vec::new();
        for (rank, created) in [(1, ""), (3, ""), (4, "2026-01-01T00:00:00Z"), (4, "2026-11-01T00:00:00Z"), (10, "")] {
            for (namespace, name) in [("a", "b"), ("a", "b-c"), ("a", "b.c"), ("a-b", "a"), ("aa", "")] {
                for number in [0, 2, 10] {
                    let key = ObjectKey::new("Gateway", namespace, name);
                    all.push(Order { rank, undated: created.is_empty(), created: created.to_owned(), key, number });
                }
            }
        }
        let mut texts: Vec<Box<str>> = all.iter().map(Order::text).collect();
        all.sort();
        texts.sort();
        assert_eq!(all.iter().map(Order::text).collect::<Vec<_>>(), texts);
    }
}
