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

/// How many bytes a plugin may publish between two waits for events, and how many may wait for control: endpoints, their texts, and the names of their
/// targets.
pub const MAX_PUBLISHED: usize = 128 << 20;

/// A discovery plugin's generation.
pub trait DiscoveryGeneration: Send + Sync {
    /// The generation's identity and counters.
    fn generation(&self) -> &Arc<Generation>;
    /// Runs until the plugin ends, which is always a failure, or until the future is dropped. It needs a tokio runtime, and a thread of its own.
    fn run(self: Arc<Self>, events: Box<dyn Events>, publisher: Arc<dyn Publisher>) -> Running;
}

/// A running discovery task, which ends by an error only.
pub type Running = Pin<Box<dyn Future<Output = PluginError> + Send>>;

/// How a task learns what has changed.
pub trait Events: Send {
    /// The next event, once there is one. Events never end: a task is stopped by being dropped.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event>;
    /// The next event, if there is one already.
    fn try_next(&mut self) -> Option<Event>;
    /// Whether the next event is there already and belongs to the same change as the last one. A plugin that publishes between the two publishes a state that
    /// never was: if one Pod takes another's place, that neither is there.
    fn is_within_a_change(&self) -> bool;
}

/// Where a task publishes what it has found.
pub trait Publisher: Send + Sync {
    /// Adds what was found, as soon as there is room for it.
    fn publish(&self, publications: Publications) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Says of which kinds the plugin wants to be told objects. Sources that report only what is wanted learn it by this.
    fn watches(&self, _kinds: &[String]) {}
}

/// Gives no events, and drops what is published: for a plugin that is only asked what it is, or is watched for a while.
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

/// The namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// An object that a discovery task may be told of. It is turned into text on the task's thread, and only if the plugin watches its kind.
pub trait AsJson: fmt::Debug + Send + Sync {
    /// The whole object as JSON.
    fn json(&self) -> String;
}

/// What a discovery task is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Find endpoints for this Service (JSON), with this configuration (JSON).
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

/// An endpoint, as a plugin publishes it. There may be 100,000 of them, so it is kept small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundEndpoint {
    /// The address, without a port.
    pub address: FoundAddress,
    /// The port.
    pub port: u16,
    /// The name of the service port that the endpoint serves; without a name it serves all of them.
    pub port_name: Option<Arc<str>>,
    /// Whether the endpoint takes new connections.
    pub ready: bool,
    /// Whether the endpoint answers, even if only for what it has begun.
    pub serving: bool,
    /// Whether the endpoint is about to end.
    pub terminating: bool,
    /// The endpoint's share of the traffic, relative to the others.
    pub weight: u32,
    /// What else is known of the endpoint, which is mostly the same for many.
    pub about: Arc<About>,
}

impl FoundEndpoint {
    /// A ready endpoint of weight 1, for all ports, of which nothing else is known.
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
    /// A text that is no IP address, as the plugin wrote it.
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

/// The newest that was published for each target. What is not taken yet is replaced by what is published later, so the size is bounded.
#[derive(Debug, Default)]
pub struct Publications {
    newest: HashMap<Key, (Result<Vec<FoundEndpoint>, String>, usize)>,
    bytes: usize,
}

impl Publications {
    /// Adds a target's endpoints, or why there are none.
    ///
    /// # Errors
    /// It is too much. It is taken over only when the task waits next, and would fill the gateway's memory until then, not the guest's.
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

    /// Adds publications that are newer, and returns how many endpoints they replace that nobody has taken.
    ///
    /// # Errors
    /// There is no room for them now, and they are given back. If nothing is published yet, everything fits.
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

    /// Takes what was published for the targets that are due.
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

/// The memory that endpoints take, in bytes. What an endpoint shares with the one before it is counted once.
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
