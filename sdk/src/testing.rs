//! Stands in for the host in native tests: statistics of endpoints, random bits that repeat, and what the network answers. Empty in wasm.
#![cfg(not(target_arch = "wasm32"))]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;

use crate::http::{Error, Request, Response, Url};

/// The statistics that a [`Pick`](crate::Pick) made by [`Pick::fake`](crate::Pick::fake) reads. Endpoints past the end of a list read as on the
/// host before their first exchange: nothing in flight, latency 0, success 1, healthy.
#[derive(Clone, Debug, Default)]
pub struct FakeHost {
    /// Exchanges under way, by endpoint.
    pub in_flight: Vec<u32>,
    /// Mean latency in microseconds, by endpoint.
    pub latency_us: Vec<u32>,
    /// Share of successes from 0 to 1, by endpoint.
    pub success: Vec<f32>,
    /// Whether it is fit, by endpoint.
    pub conditions: Vec<crate::Condition>,
}

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
}

/// Makes the random bits of this thread begin anew, from this seed.
pub fn seed(seed: u64) {
    RANDOM.set(seed);
}

pub(crate) fn next_random() -> u64 {
    RANDOM.with(crate::host::split_mix)
}

/// What the network answers, and what it was asked last.
#[derive(Default)]
struct Network {
    answers: HashMap<String, Result<Response, Error>>,
    names: HashMap<String, Vec<IpAddr>>,
    last: Option<Request>,
}

thread_local! {
    static NETWORK: RefCell<Network> = RefCell::default();
}

/// Requests of this thread to this URL get this response.
pub fn answer(url: &str, response: Response) {
    NETWORK.with_borrow_mut(|network| network.answers.insert(url.to_owned(), Ok(response)));
}

/// Requests of this thread to this URL fail so.
pub fn fail(url: &str, error: Error) {
    NETWORK.with_borrow_mut(|network| network.answers.insert(url.to_owned(), Err(error)));
}

/// Look-ups of this thread for this host find these addresses.
pub fn resolves(host: &str, addresses: &[IpAddr]) {
    NETWORK.with_borrow_mut(|network| network.names.insert(host.to_owned(), addresses.to_vec()));
}

pub(crate) fn exchange(request: &Request, url: &Url) -> Result<Response, Error> {
    NETWORK.with_borrow_mut(|network| {
        network.last = Some(request.clone());
        let unknown = || Error::Unreachable(format!("{url} has no answer in this test"));
        let response = network.answers.get(&url.to_string()).cloned().ok_or_else(unknown)??;
        if response.body.len() > request.limit { Err(Error::TooLarge(request.limit)) } else { Ok(response) }
    })
}

pub(crate) fn resolved(host: &str) -> Result<Vec<IpAddr>, Error> {
    NETWORK.with_borrow(|network| network.names.get(host).cloned().ok_or_else(|| Error::Unresolved(host.to_owned())))
}

#[cfg(test)]
pub(crate) fn last_request() -> Option<Request> {
    NETWORK.with_borrow(|network| network.last.clone())
}
