//! How many requests are decided otherwise, grouped by what was decided and what is decided instead.

use std::collections::HashMap;
use std::sync::Arc;

use sluicegate_model::requests::RequestLine;

use super::decide::Decision;
use super::effect::{Effect, Kind, Kinds, OfListener};

/// How many groups are told apart. Further differences are counted together.
pub(super) const MOST_GROUPS: usize = 2_000;
/// How many requests of a group are kept to be shown.
const EXAMPLES: usize = 3;
/// The largest size of a request that is shown, in characters.
const MOST_SHOWN: usize = 200;

/// A listener that both configurations have, or one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Place {
    pub(crate) listener: String,
    /// What the listeners say otherwise of all their requests.
    pub(crate) differences: Vec<(Kind, String, String)>,
}

impl Place {
    /// A listener; `old` and `new`: what is done with all its requests, if both have it.
    pub(crate) fn new(listener: &str, settings: Option<(&OfListener, &OfListener)>) -> Self {
        let differences = settings.map(|(old, new)| old.differences(new)).unwrap_or_default();
        Self { listener: listener.to_owned(), differences }
    }

    /// In which respects a request at this listener is treated otherwise.
    pub(crate) fn against(&self, old: &Decision, new: &Decision) -> Kinds {
        let mut kinds = old.against(new);
        self.differences.iter().for_each(|(kind, ..)| kinds.add(*kind));
        kinds
    }
}

/// Which group a difference belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    place: usize,
    /// The addresses of what both decide.
    old: usize,
    new: usize,
    kinds: Kinds,
}

/// Requests that are decided otherwise in the same way.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) place: Arc<Place>,
    pub(crate) kinds: Kinds,
    pub(crate) old: Arc<Effect>,
    pub(crate) new: Arc<Effect>,
    pub(crate) requests: u64,
    /// The first of them, by their numbers in the recording; with what becomes of each if that is not the same for all.
    pub(crate) examples: Vec<(u64, String)>,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// The number of requests that were compared.
    pub(crate) requests: u64,
    /// The number of those of which something else becomes.
    pub(crate) changed: u64,
    /// The number of requests by the respects in which their decisions differ.
    pub(crate) kinds: [u64; Kind::ALL.len()],
    groups: HashMap<Key, Group>,
    /// The number of differences that are in no group, as there are too many.
    pub(crate) beyond: u64,
}

/// A comparison that may come again.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    kinds: Kinds,
    key: Option<Key>,
}

impl Tally {
    /// Counts a request that both have decided.
    pub(crate) fn count(
        &mut self,
        number: u64,
        request: &RequestLine,
        (at, place): (usize, &Arc<Place>),
        old: &Decision,
        new: &Decision,
    ) -> Outcome {
        let kinds = place.against(old, new);
        if kinds.is_empty() {
            self.requests += 1;
            return Outcome { kinds, key: None };
        }
        let address = |decision: &Decision| Arc::as_ptr(&decision.effect) as usize;
        let key = Key { place: at, old: address(old), new: address(new), kinds };
        let told_apart = self.groups.contains_key(&key) || self.groups.len() < MOST_GROUPS;
        if told_apart {
            let group = self.groups.entry(key).or_insert_with(|| Group {
                place: place.clone(),
                kinds,
                old: old.effect.clone(),
                new: new.effect.clone(),
                requests: 0,
                examples: Vec::new(),
            });
            if group.examples.len() < EXAMPLES {
                group.examples.push((number, shown(request, old, new)));
            }
        }
        let outcome = Outcome { kinds, key: told_apart.then_some(key) };
        self.again(&outcome);
        outcome
    }

    /// Counts a request that is decided as another one was.
    pub(super) fn again(&mut self, outcome: &Outcome) {
        self.requests += 1;
        if outcome.kinds.is_empty() {
            return;
        }
        self.changed += u64::from(outcome.kinds.changed());
        for (kind, count) in Kind::ALL.into_iter().zip(&mut self.kinds) {
            *count += u64::from(outcome.kinds.has(kind));
        }
        match outcome.key.and_then(|key| self.groups.get_mut(&key)) {
            Some(group) => group.requests += 1,
            None => self.beyond += 1,
        }
    }

    /// Adds what another thread has counted.
    pub(super) fn join(&mut self, other: Self) {
        self.requests += other.requests;
        self.changed += other.changed;
        self.beyond += other.beyond;
        self.kinds.iter_mut().zip(other.kinds).for_each(|(count, more)| *count += more);
        for (key, group) in other.groups {
            // The other thread's decisions are at other addresses.
            let known = self.groups.values_mut().find(|known| {
                known.kinds == group.kinds
                    && known.old == group.old
                    && known.new == group.new
                    && known.place.listener == group.place.listener
            });
            match known {
                Some(known) => {
                    known.requests += group.requests;
                    known.examples.extend(group.examples);
                    known.examples.sort_unstable();
                    known.examples.truncate(EXAMPLES);
                }
                None => _ = self.groups.insert(key, group),
            }
        }
    }

    /// How many requests differ in this respect.
    pub(crate) fn of(&self, kind: Kind) -> u64 {
        self.kinds.get(kind as usize).copied().unwrap_or_default()
    }

    /// The groups: first those in which something else becomes of requests, and of these first the largest.
    pub(crate) fn groups(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.values().collect();
        let order = |group: &Group| {
            let first = group.examples.first().map_or(u64::MAX, |(number, _)| *number);
            (!group.kinds.changed(), std::cmp::Reverse(group.requests), first)
        };
        groups.sort_by_key(|group| order(group));
        groups
    }
}

/// A request in words.
fn shown(request: &RequestLine, old: &Decision, new: &Decision) -> String {
    let mut text = if request.is_request() {
        let scheme = if request.server_name.is_some() { "https://" } else { "" };
        format!("{} {scheme}{}{}", request.method, request.host, request.target)
    } else {
        format!("a {} connection {}", request.protocol, request.server_name.as_deref().unwrap_or_default())
    };
    if let Some((at, _)) = text.char_indices().nth(MOST_SHOWN) {
        text.truncate(at);
        text.push('…');
    }
    if old.detail != new.detail {
        let detail = |of: &Decision| of.detail.clone().unwrap_or_else(|| "as it is".to_owned());
        text = format!("{text} ({} -> {})", detail(old), detail(new));
    }
    text
}
