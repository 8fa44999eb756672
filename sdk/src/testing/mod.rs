//! Stands in for the host in native tests: statistics of endpoints, random bits that repeat, metrics, shared state and log lines to look at, and what
//! the network answers. All of it belongs to the test's thread. Empty in wasm.
#![cfg(not(target_arch = "wasm32"))]

pub(crate) mod metrics;
pub(crate) mod shared;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;

pub use metrics::metric;
pub use shared::pass;

use crate::http::{Error, Request, Response, Url};

/// The statistics that a [`Pick`](crate::Pick) made by [`Pick::fake`](crate::Pick::fake) reads. Endpoints past the end of a list read as on the
/// host before their first exchange: nothing in flight, latency 0, success 1, healthy.
///
/// ```
/// use sluicegate_sdk::{Pick, testing::FakeHost};
/// let pick = Pick::fake(&FakeHost { latency_us: vec![900, 100], ..FakeHost::default() });
/// assert_eq!((pick.latency_us(1), pick.in_flight(1)), (100, 0));
/// ```
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
///
/// ```
/// use sluicegate_sdk::{random, testing::seed};
/// seed(1);
/// let first = random();
/// seed(1);
/// assert_eq!(random(), first);
/// ```
pub fn seed(seed: u64) {
    RANDOM.set(seed);
}

pub(crate) fn next_random() -> u64 {
    RANDOM.with(crate::host::split_mix)
}

/// A line of the log.
///
/// ```
/// use sluicegate_sdk::{Level, log, testing::{LogLine, log_lines}};
/// log(Level::Info, "ready");
/// assert_eq!(log_lines(), [LogLine { level: Level::Info, message: "ready".to_owned(), fields: Vec::new() }]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// How much it matters.
    pub level: crate::Level,
    /// What it says.
    pub message: String,
    /// Its fields, in their order.
    pub fields: Vec<(String, crate::FieldValue)>,
}

thread_local! {
    static LINES: RefCell<Vec<LogLine>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn logged(level: crate::Level, message: &str, fields: Vec<(String, crate::FieldValue)>) {
    eprintln!("{level:?}: {message} {fields:?}");
    LINES.with_borrow_mut(|lines| lines.push(LogLine { level, message: message.to_owned(), fields }));
}

/// What this thread has logged since this was asked last.
///
/// ```
/// use sluicegate_sdk::{Level, log, testing::log_lines};
/// log(Level::Error, "lost");
/// assert_eq!((log_lines().len(), log_lines().len()), (1, 0));
/// ```
pub fn log_lines() -> Vec<LogLine> {
    LINES.with_borrow_mut(std::mem::take)
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
///
/// ```
/// use sluicegate_sdk::{http, testing};
/// testing::answer("http://sd.example/", http::Response { status: 200, body: b"10.0.0.1:80".to_vec(), ..Default::default() });
/// assert_eq!(http::get("http://sd.example/", &[]).unwrap().text(), Ok("10.0.0.1:80"));
/// ```
pub fn answer(url: &str, response: Response) {
    NETWORK.with_borrow_mut(|network| network.answers.insert(url.to_owned(), Ok(response)));
}

/// Requests of this thread to this URL fail so.
///
/// ```
/// use sluicegate_sdk::{http, testing};
/// testing::fail("http://sd.example/", http::Error::Busy);
/// assert_eq!(http::get("http://sd.example/", &[]), Err(http::Error::Busy));
/// ```
pub fn fail(url: &str, error: Error) {
    NETWORK.with_borrow_mut(|network| network.answers.insert(url.to_owned(), Err(error)));
}

/// Look-ups of this thread for this host find these addresses.
///
/// ```
/// let address = "10.0.0.1".parse().unwrap();
/// sluicegate_sdk::testing::resolves("web.example", &[address]);
/// assert_eq!(sluicegate_sdk::resolve("web.example"), Ok(vec![address]));
/// ```
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
