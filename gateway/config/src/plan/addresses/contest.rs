//! One address, and all objects that want to listen on it.
//!
//! Claims come in tiers: Services one by one, as each is a listener of its own; the listeners of all Gateways; then those of each ListenerSet, the oldest first
//! (GEP-1713, "Listener Precedence"); and last Services that are served on the nodes' own addresses for want of others. A claim that cannot be told apart from one of an earlier tier does not get the address, and is ignored when later claims
//! are judged. Of the remaining claims of one tier that cannot be told apart, none gets the address: no listener of a Gateway wins over another one ("Handling
//! indistinct Listeners" of the Gateway API), and no later claim takes their place.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::front::{self, Sharing};
use super::{Claim, Order, Shadow};
use crate::object::ObjectKey;
use crate::plan::{PlannedListener, Reason};

/// The outcome of the claims of one address.
pub(super) struct Contest<'c> {
    /// The listener that gets the address, and the first of the claims that are joined in it.
    pub(super) listener: Option<(&'c Order, Arc<PlannedListener>)>,
    /// All claims in their order, each with what became of it.
    pub(super) claims: Vec<(&'c Order, &'c Claim, Result<(), Lost>)>,
    /// Policies of joined listeners that count for less than they say.
    pub(super) shadows: Vec<(&'c Order, Shadow)>,
}

/// Why a claim does not get the address.
pub(super) struct Lost {
    /// `HostnameConflict` or `ProtocolConflict`.
    pub(super) reason: Reason,
    /// Why the address was lost, for people.
    pub(super) message: String,
}

/// Settles the claims of an address.
pub(super) fn settle(address: SocketAddr, claims: &[(Order, Claim)]) -> Contest<'_> {
    let all: Vec<(&Order, &Claim)> = claims.iter().map(|(order, claim)| (order, claim)).collect();
    let mut contest = Contest { listener: None, claims: Vec::with_capacity(all.len()), shadows: Vec::new() };
    let mut seen = Seen::default();
    let mut first = None;
    for (number, tier) in all.chunk_by(|(_, a), (_, b)| same_tier(&a.object.key, &b.object.key)).enumerate() {
        let earlier: Vec<Option<&Claim>> = tier.iter().map(|(_, claim)| seen.enter(claim, number)).collect();
        for ((order, claim), earlier) in tier.iter().copied().zip(earlier) {
            let lost = match (earlier, if earlier.is_none() { seen.rival(claim) } else { None }) {
                (Some(rival), _) => Err(Lost::new(claim, rival, format!("{address} is already taken by {}", shown(claim, rival)))),
                (None, Some(rival)) => {
                    let what =
                        format!("{address} is wanted by {} too, and nothing tells the two apart: neither is served", shown(claim, rival));
                    Err(Lost::new(claim, rival, what))
                }
                (None, None) => Ok(()),
            };
            if lost.is_ok() {
                match &mut contest.listener {
                    None => contest.listener = Some((order, claim.listener.clone())),
                    Some((_, listener)) => front::join(&mut Arc::make_mut(listener).front, &claim.listener.front),
                }
                contest.shadows.extend(shadow(claim, first.get_or_insert(claim)).map(|shadow| (order, shadow)));
            }
            contest.claims.push((order, claim, lost));
        }
    }
    if let Some((_, listener)) = contest.listener.as_mut().filter(|(_, listener)| front::hostnames(&listener.front).nth(1).is_some()) {
        front::sort(&mut Arc::make_mut(listener).front);
    }
    contest
}

/// Which listener a connection is for is only known after something was read from it. So the settings of one listener, the first, count for all at an address.
fn shadow(claim: &Claim, first: &Claim) -> Option<Shadow> {
    let (own, shared) = (&claim.listener, &first.listener);
    if Arc::ptr_eq(&own.settings, &shared.settings) || own.settings == shared.settings {
        return None;
    }
    let (port, other) = (own.address.port(), shown(claim, first));
    Some(match &claim.policy {
        Some(policy) => {
            let what = format!("has no effect on the {}, but for `tls` and `router`: it shares port {port} with {other}", own.name);
            Shadow { policy: policy.clone(), message: format!("{what}, and what counts there counts for both") }
        }
        None => {
            let message = format!("counts for the {} too: it shares port {port} with the {}", shown_to(first, claim), shared.name);
            Shadow { policy: first.policy.clone()?, message }
        }
    })
}

fn same_tier(a: &ObjectKey, b: &ObjectKey) -> bool {
    match (a.kind.as_str(), b.kind.as_str()) {
        ("Gateway", "Gateway") => true,
        ("ListenerSet", "ListenerSet") => a == b,
        _ => false,
    }
}

/// How a listener is named to the owner of another one. ListenerSets of one Gateway may belong to different tenants, who do not see each other's.
fn shown(claim: &Claim, rival: &Claim) -> String {
    let (own, other) = (&claim.object.key, &rival.object.key);
    let strangers = other.kind == "ListenerSet" && other.namespace != own.namespace;
    if strangers { "a listener that comes before it".to_owned() } else { format!("the {}", rival.listener.name) }
}

/// The name of the claim, as the owner of another claim is told it.
fn shown_to(owner: &Claim, claim: &Claim) -> String {
    let strangers = claim.object.key.kind == "ListenerSet" && claim.object.key.namespace != owner.object.key.namespace;
    if strangers { format!("listener of a ListenerSet of namespace {:?}", claim.object.key.namespace) } else { claim.listener.name.clone() }
}

impl Lost {
    fn new(claim: &Claim, rival: &Claim, what: String) -> Self {
        let alike = Sharing::of(&claim.listener.front) == Sharing::of(&rival.listener.front);
        let reason = if alike { Reason::HostnameConflict } else { Reason::ProtocolConflict };
        Self { reason, message: format!("{}: {what}", claim.listener.name) }
    }
}

/// What must be known of claims in order to judge others.
#[derive(Default)]
struct Seen<'c> {
    sharing: [Place<'c>; 3],
    hostnames: HashMap<Option<&'c str>, Place<'c>>,
}

/// Who came first to something that tells listeners apart: the number of their tier, and the first two of it. For any given claim, at least one of these is a
/// different one.
#[derive(Clone, Copy, Default)]
struct Place<'c> {
    tier: usize,
    claims: [Option<&'c Claim>; 2],
}

impl<'c> Place<'c> {
    fn add(&mut self, claim: &'c Claim, tier: usize) {
        if self.claims[0].is_none() {
            self.tier = tier;
        }
        if let Some(free) = self.claims.iter_mut().find(|place| place.is_none()).filter(|_| self.tier == tier) {
            *free = Some(claim);
        }
    }

    /// Who came in an earlier tier.
    fn before(&self, tier: usize) -> Option<&'c Claim> {
        self.claims[0].filter(|_| self.tier < tier)
    }

    fn other(&self, than: &Claim) -> Option<&'c Claim> {
        self.claims.into_iter().flatten().find(|claim| !std::ptr::eq(*claim, than))
    }
}

impl<'c> Seen<'c> {
    /// Adds a claim of this tier, unless it cannot be told apart from one of an earlier tier, which is returned then.
    fn enter(&mut self, claim: &'c Claim, tier: usize) -> Option<&'c Claim> {
        let rival = self.find(claim, |place| place.before(tier));
        if rival.is_none() {
            self.sharing[Sharing::of(&claim.listener.front) as usize].add(claim, tier);
            for hostname in front::hostnames(&claim.listener.front) {
                self.hostnames.entry(hostname).or_default().add(claim, tier);
            }
        }
        rival
    }

    /// Another claim from which this one cannot be told apart.
    fn rival(&self, claim: &'c Claim) -> Option<&'c Claim> {
        self.find(claim, |place| place.other(claim))
    }

    fn find(&self, claim: &'c Claim, mut rival: impl FnMut(&Place<'c>) -> Option<&'c Claim>) -> Option<&'c Claim> {
        let own = Sharing::of(&claim.listener.front);
        for sharing in [Sharing::Http, Sharing::Tls, Sharing::Nothing] {
            let together = sharing == own && own != Sharing::Nothing;
            if let Some(rival) = rival(&self.sharing[sharing as usize]).filter(|_| !together) {
                return Some(rival);
            }
        }
        front::hostnames(&claim.listener.front).find_map(|hostname| rival(self.hostnames.get(&hostname)?))
    }
}
