//! Discovery plugins, which say which endpoints exist. A generation runs as one long task: it is told of its targets and of objects ([`Events`]), and
//! publishes what it finds ([`Publisher`]). Control runs the tasks, `host` has plugins over wasm, and tests of control have one without.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::plugin::{Generation, PluginError};
use crate::pool::About;

/// What a plugin may publish between two waits for events, and what may wait for control, in bytes: endpoints, their texts and their targets' names.
pub const MAX_PUBLISHED: usize = 128 << 20;

/// A discovery plugin's generation.
pub trait DiscoveryGeneration: Send + Sync {
    /// Its identity and counters.
    fn generation(&self) -> &Arc<Generation>;
    /// Runs until the plugin ends, which is always a failure, or until the future is dropped. Needs a tokio runtime, on a thread of the task's own.
    fn run(self: Arc<Self>, events: Box<dyn Events>, publisher: Arc<dyn Publisher>) -> Running;
}

/// A discovery task, which ends by an error only.
pub type Running = Pin<Box<dyn Future<Output = PluginError> + Send>>;

/// Where a task learns what has changed.
pub trait Events: Send {
    /// The next event, once there is one. There is no end: a task is stopped by being dropped.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event>;
    /// The next event, if there is one now.
    fn try_next(&mut self) -> Option<Event>;
    /// Whether the next event is there and is of the same change as the last one. Who publishes in between publishes what never was: of a Pod that
    /// takes another's place, that neither is there.
    fn is_within_a_change(&self) -> bool;
}

/// Where a task leaves what it has found.
pub trait Publisher: Send + Sync {
    /// Adds what was found, once there is room for it.
    fn publish(&self, publications: Publications) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// No events ever, and what is published is dropped: for a plugin that is only asked what it is, or watched for a while.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Events for Silent {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Event> {
        Poll::Pending
    }

    fn try_next(&mut self) -> Option<Event> {
        None
    }

    fn is_within_a_change(&self) -> bool {
        false
    }
}

impl Publisher for Silent {
    fn publish(&self, _publications: Publications) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}

/// A namespace and a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// An object that a discovery task may be told of. It becomes text on the task's thread, and only if the plugin watches its kind.
pub trait AsJson: fmt::Debug + Send + Sync {
    /// The whole object as JSON.
    fn json(&self) -> String;
}

/// What a discovery task is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Find endpoints for this Service (JSON), configured so (JSON).
    Target(Key, Arc<str>, Arc<str>),
    /// Endpoints of this Service are no longer asked for.
    TargetGone(Key),
    /// An object of this kind is new or has changed.
    Object(String, Key, Arc<dyn AsJson>),
    /// An object of this kind is gone.
    ObjectGone(String, Key),
    /// Everything that existed when the task began has been sent.
    Synced,
}

/// An endpoint, as a plugin publishes it. There are 100,000 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundEndpoint {
    /// Its address, without a port.
    pub address: FoundAddress,
    /// Its port.
    pub port: u16,
    /// The name of the service port that it serves; without one it serves all of them.
    pub port_name: Option<Arc<str>>,
    /// Whether it takes new connections.
    pub ready: bool,
    /// Whether it answers, be it only what it has begun.
    pub serving: bool,
    /// Whether it is about to end.
    pub terminating: bool,
    /// Its share of the traffic, beside those of the others.
    pub weight: u32,
    /// What else is known of it, which is mostly the same of many.
    pub about: Arc<About>,
}

impl FoundEndpoint {
    /// A ready one of weight 1, for all ports, of which nothing else is known.
    pub fn new(address: &str, port: u16) -> Self {
        Self {
            address: FoundAddress::new(address.to_owned()),
            port,
            port_name: None,
            ready: true,
            serving: true,
            terminating: false,
            weight: 1,
            about: About::nothing(),
        }
    }
}

/// What a plugin gives as an endpoint's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundAddress {
    /// An IP address.
    Ip(IpAddr),
    /// What is no IP address, as the plugin wrote it.
    Other(Box<str>),
}

impl FoundAddress {
    /// Reads the address that a plugin wrote.
    pub fn new(text: String) -> Self {
        text.parse().map_or_else(|_| Self::Other(text.into()), Self::Ip)
    }
}

/// What a discovery task found for a target.
#[derive(Clone, Debug)]
pub enum Found {
    /// These are the endpoints of a target now.
    Endpoints(Key, Vec<FoundEndpoint>),
    /// The endpoints of a target could not be found, for this reason; those that were found last stay.
    Failed(Key, String),
}

/// The newest that was published for each target. Who publishes faster than it is taken replaces what it published before, so this is bounded.
#[derive(Debug, Default)]
pub struct Publications {
    newest: HashMap<Key, (Result<Vec<FoundEndpoint>, String>, usize)>,
    bytes: usize,
}

impl Publications {
    /// Adds a target's endpoints, or why there are none.
    ///
    /// # Errors
    /// It is too much: what is taken over only at the task's next wait would fill the gateway's memory, not the guest's.
    pub fn push(&mut self, target: Key, found: Result<Vec<FoundEndpoint>, String>) -> Result<(), String> {
        self.put(target, found);
        if self.bytes > MAX_PUBLISHED {
            return Err(format!("published more than {MAX_PUBLISHED} bytes between two waits for events"));
        }
        Ok(())
    }

    /// Whether nothing is published.
    pub fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// Adds others, which are newer, and tells how many endpoints they replace that nobody has taken.
    ///
    /// # Errors
    /// There is no room for them now: they are given back. Into nothing everything fits.
    pub fn add(&mut self, newer: Self) -> Result<usize, Self> {
        let replaced: usize = newer.newest.keys().filter_map(|target| self.newest.get(target)).map(|(_, bytes)| bytes).sum();
        if !self.is_empty() && self.bytes - replaced + newer.bytes > MAX_PUBLISHED {
            return Err(newer);
        }
        let mut untaken = 0;
        for (target, (found, _)) in newer.newest {
            untaken += self.newest.get(&target).map_or(0, |(found, _)| found.as_ref().map_or(0, Vec::len));
            self.put(target, found);
        }
        Ok(untaken)
    }

    /// Takes what was published for targets that are due.
    pub fn take(&mut self, mut due: impl FnMut(&Key) -> bool) -> Vec<Found> {
        let taken: Vec<_> = self.newest.extract_if(|target, _| due(target)).collect();
        self.bytes -= taken.iter().map(|(_, (_, bytes))| bytes).sum::<usize>();
        let found = |(target, (found, _)): (Key, (Result<_, _>, usize))| match found {
            Ok(endpoints) => Found::Endpoints(target, endpoints),
            Err(reason) => Found::Failed(target, reason),
        };
        taken.into_iter().map(found).collect()
    }

    fn put(&mut self, target: Key, found: Result<Vec<FoundEndpoint>, String>) {
        let bytes = target.namespace.len() + target.name.len() + found.as_ref().map_or_else(String::len, |endpoints| weigh(endpoints));
        self.bytes += bytes;
        if let Some((_, replaced)) = self.newest.insert(target, (found, bytes)) {
            self.bytes -= replaced;
        }
    }
}

/// What endpoints take in memory, in bytes. What one shares with the one before it is counted once.
pub fn weigh(endpoints: &[FoundEndpoint]) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let texts = |texts: &[String]| texts.iter().map(|text| size_of::<String>() + text.len()).sum::<usize>();
    let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(k, v)| 2 * size_of::<String>() + k.len() + v.len()).sum::<usize>();
    let about = |a: &About| {
        let names = size_of::<About>() + text(&a.zone) + text(&a.node);
        names + texts(&a.hint_zones) + texts(&a.hint_nodes) + pairs(&a.labels) + pairs(&a.annotations)
    };
    let one = |e: &FoundEndpoint, before: Option<&FoundEndpoint>| {
        let address = if let FoundAddress::Other(words) = &e.address { words.len() } else { 0 };
        let shared = before.is_some_and(|before| Arc::ptr_eq(&before.about, &e.about));
        let name = e.port_name.as_ref().filter(|name| !before.is_some_and(|b| b.port_name.as_ref().is_some_and(|n| Arc::ptr_eq(n, name))));
        size_of::<FoundEndpoint>() + address + name.map_or(0, |name| name.len()) + if shared { 0 } else { about(&e.about) }
    };
    let before = std::iter::once(None).chain(endpoints.iter().map(Some));
    endpoints.iter().zip(before).map(|(e, before)| one(e, before)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "n".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn only_the_newest_of_a_target_waits_and_not_without_bound() {
        let mut pending = Publications::default();
        for i in 0..1_000 {
            pending.push(key("a"), Err(format!("{i} {}", "x".repeat(1 << 20)))).expect("the same target");
        }
        pending.push(key("b"), Ok(Vec::new())).expect("room");
        assert_eq!(pending.newest.len(), 2);
        let refused = (0..1_000).find_map(|i| pending.push(key(&i.to_string()), Err("x".repeat(1 << 20))).err());
        assert!(refused.is_some_and(|reason| reason.contains("between two waits")) && pending.newest.len() < 130);
    }
}
