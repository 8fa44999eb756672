//! Stands in for the host in native tests: statistics of endpoints, random bits that can be repeated, metrics, shared state and log lines that can be looked
//! at, and answers of the network. All of it belongs to the test's thread. In wasm this module is empty.
#![cfg(not(target_arch = "wasm32"))]

pub(crate) mod metrics;
pub(crate) mod shared;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

pub use metrics::metric;
pub use shared::{pass, room};

use crate::ask::{Ask, Next, Reply};
use crate::discovery::{Discovery, PublishedEndpoint, Service};
use crate::http::{Error, Request, Response, Url};
use crate::names::{Failure, Record, RecordType};
use crate::objects::Objects;

/// The statistics that a [`Pick`](crate::Pick) reads that [`Pick::fake`](crate::Pick::fake) made. For endpoints past the end of a list they are those before
/// the first exchange: nothing in flight, latency 0, success 1, healthy.
///
/// ```
/// use sluicegate_sdk::{Pick, testing::FakeHost};
/// let pick = Pick::fake(&FakeHost { latency_us: vec![900, 100], ..FakeHost::default() });
/// assert_eq!((pick.latency_us(1), pick.in_flight(1)), (100, 0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct FakeHost {
    /// The exchanges under way at each endpoint.
    pub in_flight: Vec<u32>,
    /// The mean latency of each endpoint in microseconds.
    pub latency_us: Vec<u32>,
    /// The share of successes of each endpoint, from 0 to 1.
    pub success: Vec<f32>,
    /// The condition of each endpoint.
    pub conditions: Vec<crate::Condition>,
}

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
}

/// Seeds the random bits of this thread.
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

/// A line that was logged.
///
/// ```
/// use sluicegate_sdk::{Level, log, testing::{LogLine, log_lines}};
/// log(Level::Info, "ready");
/// assert_eq!(log_lines(), [LogLine { level: Level::Info, message: "ready".to_owned(), fields: Vec::new() }]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// The level of the line.
    pub level: crate::Level,
    /// The text of the line.
    pub message: String,
    /// The fields of the line, in their order.
    pub fields: Vec<(String, crate::FieldValue)>,
}

thread_local! {
    static LINES: RefCell<Vec<LogLine>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn logged(level: crate::Level, message: &str, fields: Vec<(String, crate::FieldValue)>) {
    eprintln!("{level:?}: {message} {fields:?}");
    LINES.with_borrow_mut(|lines| lines.push(LogLine { level, message: message.to_owned(), fields }));
}

/// Returns what this thread has logged since the last call.
///
/// ```
/// use sluicegate_sdk::{Level, log, testing::log_lines};
/// log(Level::Error, "lost");
/// assert_eq!((log_lines().len(), log_lines().len()), (1, 0));
/// ```
pub fn log_lines() -> Vec<LogLine> {
    LINES.with_borrow_mut(std::mem::take)
}

/// What the network answers, and what it was last asked.
#[derive(Default)]
struct Network {
    answers: HashMap<String, Result<Response, Error>>,
    names: HashMap<String, Vec<IpAddr>>,
    records: HashMap<(String, RecordType), Result<Vec<Record>, Failure>>,
    files: BTreeMap<String, Vec<u8>>,
    last: Option<Request>,
}

thread_local! {
    static NETWORK: RefCell<Network> = RefCell::default();
}

/// Provides the response to this thread's requests for a URL.
///
/// ```
/// use sluicegate_sdk::{http, testing};
/// testing::answer("http://sd.example/", http::Response { status: 200, body: b"10.0.0.1:80".to_vec(), ..Default::default() });
/// assert_eq!(http::get("http://sd.example/", &[]).unwrap().text(), Ok("10.0.0.1:80"));
/// ```
pub fn answer(url: &str, response: Response) {
    NETWORK.with_borrow_mut(|network| network.answers.insert(url.to_owned(), Ok(response)));
}

/// Makes this thread's requests for a URL fail with this error.
///
/// ```
/// use sluicegate_sdk::{http, testing};
/// testing::fail("http://sd.example/", http::Error::Busy);
/// assert_eq!(http::get("http://sd.example/", &[]), Err(http::Error::Busy));
/// ```
pub fn fail(url: &str, error: Error) {
    NETWORK.with_borrow_mut(|network| network.answers.insert(url.to_owned(), Err(error)));
}

/// Provides the addresses that this thread's look-ups of a host find.
///
/// ```
/// let address = "10.0.0.1".parse().unwrap();
/// sluicegate_sdk::testing::resolves("web.example", &[address]);
/// assert_eq!(sluicegate_sdk::resolve("web.example"), Ok(vec![address]));
/// ```
pub fn resolves(host: &str, addresses: &[IpAddr]) {
    NETWORK.with_borrow_mut(|network| network.names.insert(host.to_owned(), addresses.to_vec()));
}

/// A request whose response is there at once.
pub(crate) struct Underway(Option<Result<Response, Error>>);

impl Underway {
    pub(crate) fn poll(&mut self, _: &Request, _: &Url) -> Option<Result<Response, Error>> {
        self.0.take()
    }
}

pub(crate) fn begin(request: &Request, url: &Url) -> Result<Underway, Error> {
    NETWORK.with_borrow_mut(|network| {
        network.last = Some(request.clone());
        let unknown = || Error::Unreachable(format!("{url} has no answer in this test"));
        let response = network.answers.get(&url.to_string()).cloned().ok_or_else(unknown)??;
        let fits = response.body.len() <= request.limit;
        Ok(Underway(Some(if fits { Ok(response) } else { Err(Error::TooLarge(request.limit)) })))
    })
}

/// Provides the answer to this thread's questions for records of a name.
pub fn records(name: &str, record_type: RecordType, answer: Result<Vec<Record>, Failure>) {
    NETWORK.with_borrow_mut(|network| network.records.insert((name.to_owned(), record_type), answer));
}

/// Provides a file that this thread may read. `None` removes it.
pub fn file(path: &str, content: Option<&[u8]>) {
    NETWORK.with_borrow_mut(|network| match content {
        Some(content) => drop(network.files.insert(path.to_owned(), content.to_vec())),
        None => drop(network.files.remove(path)),
    });
}

pub(crate) fn files<T>(look: impl FnOnce(&BTreeMap<String, Vec<u8>>) -> T) -> T {
    NETWORK.with_borrow(|network| look(&network.files))
}

/// Answers an [`Ask`]: of HTTP with what [`answer`] and [`fail`] provide, and of names with what [`records`] provides, or that there are no records.
pub fn reply(ask: Ask) -> Reply {
    match ask {
        Ask::Http(request) => Reply::Http(request.send()),
        Ask::Names(query) => Reply::Names(NETWORK.with_borrow(|network| {
            let answer = |question: crate::names::Question| {
                network.records.get(&(question.name, question.record_type)).cloned().unwrap_or(Err(Failure::Missing(None)))
            };
            query.questions.into_iter().map(answer).collect()
        })),
    }
}

/// Asks a plugin for a service's endpoints as the gateway does, with the answers of this thread.
///
/// # Errors
/// They are the plugin's.
pub fn endpoints<D: Discovery>(plugin: &mut D, service: &Service, objects: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
    let Some(mut ask) = plugin.ask(service) else { return plugin.endpoints(service, objects) };
    loop {
        match plugin.answered(service, reply(ask))? {
            Next::Endpoints(endpoints) => return Ok(endpoints),
            Next::Ask(next) => ask = next,
        }
    }
}

pub(crate) fn resolved(host: &str) -> Result<Vec<IpAddr>, Error> {
    NETWORK.with_borrow(|network| network.names.get(host).cloned().ok_or_else(|| Error::Unresolved(host.to_owned())))
}

#[cfg(test)]
pub(crate) fn last_request() -> Option<Request> {
    NETWORK.with_borrow(|network| network.last.clone())
}
