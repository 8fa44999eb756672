//! Sampling of a running gateway's requests: for recordings, which are written down to be played to another configuration, for who watches live, and for
//! a configuration in the shadow of the one that is served. While nobody wants any, an exchange pays one relaxed load and a branch. A worker that samples
//! one hands it over when its response begins, or counts it as dropped. It waits for nobody and wakes nobody, as readers look by themselves now and then.

mod filter;
mod line;
mod mask;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderName;

use crate::route::RouteTable;
use crate::snapshot::{BoundRule, Snapshot};

pub use filter::{Early, Filter, StatusFilter, network};
pub use line::{Begin, Decided, Dropped, End, Line, RequestLine, VERSION};
pub use mask::{ClientMask, Mask, QueryMask};

/// The number of samples that wait for their reader. Further ones are dropped and counted.
const QUEUE: usize = 1_024;
/// How many may read at a time.
const MOST_SESSIONS: usize = 4;
/// The largest size of what is kept of one request, in bytes. Larger ones are dropped and counted, as a part of a request may be decided otherwise than the whole.
pub const MOST_KEPT: usize = 16 << 10;
/// The header fields of which recordings have the values unless others are named: those that rules and answers often depend on, and none that is a secret.
pub const USUAL_HEADERS: [&str; 8] = [
    "accept",
    "access-control-request-headers",
    "access-control-request-method",
    "content-type",
    "origin",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-proto",
];

/// Who samples requests, of which a gateway has one.
#[derive(Debug, Default)]
pub struct Requests {
    on: AtomicBool,
    sessions: ArcSwap<Vec<Arc<Session>>>,
    /// Held while a session begins or ends.
    turn: Mutex<()>,
}

/// What is to be sampled.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Who wants it, for whoever is refused a session: `a recording`.
    pub who: &'static str,
    /// Of how many requests that pass the filter one is sampled, at least 1.
    pub every: u64,
    /// Which requests are sampled.
    pub filter: Filter,
    /// The header fields whose values are kept.
    pub fields: Fields,
    /// Whether connections that are forwarded whole, and flows, are sampled as well.
    pub connections: bool,
    /// Whether the reader wants what the decision was made by ([`Seen::by`]).
    pub decision: bool,
    /// The longest time that it lasts. From then on another one may take its place, as its reader may have stalled.
    pub time: Duration,
}

/// The header fields whose values are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Those of these names.
    Named(Vec<HeaderName>),
    /// All of them. Such samples do not leave the process.
    All,
}

impl Fields {
    /// Whether a field's value is kept.
    pub fn keep(&self, name: &HeaderName) -> bool {
        match self {
            Self::Named(names) => names.contains(name),
            Self::All => true,
        }
    }
}

/// Samples for one reader, as workers see it.
#[derive(Debug)]
pub struct Session {
    wanted: Wanted,
    until: Instant,
    /// The number of requests that passed the filter.
    passed: AtomicU64,
    /// Samples that may be handed over before the reader grants more.
    budget: AtomicI64,
    dropped: AtomicU64,
    queue: SyncSender<Box<Seen>>,
}

/// Samples for one reader, as the reader sees it. It ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    requests: Arc<Requests>,
    session: Arc<Session>,
    samples: Receiver<Box<Seen>>,
}

/// A sample.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What is known of it.
    pub line: RequestLine,
    /// What the decision was made by, if the session wants that.
    pub by: Option<By>,
}

/// What a decision was made by.
#[derive(Clone)]
pub struct By {
    /// The snapshot that was served then.
    pub snapshot: Arc<Snapshot>,
    /// The rule that took it, if one did.
    pub rule: Option<Ruled>,
    /// Where the answer sends the client, if the gateway has answered so.
    pub location: Option<String>,
}

impl std::fmt::Debug for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "By(snapshot {}, rule {:?})", self.snapshot.version, self.rule.as_ref().map(|rule| rule.index))
    }
}

/// A rule of a router.
#[derive(Clone)]
pub struct Ruled {
    /// The router's name.
    pub plugin: Arc<str>,
    /// The table that has the rule.
    pub table: Arc<RouteTable>,
    /// The rule's index.
    pub index: usize,
    /// Where the rule leads.
    pub bound: Arc<BoundRule>,
    /// The number of bytes of the path that the rule's prefix matched.
    pub matched_prefix: usize,
}

impl Requests {
    /// Whether anybody samples requests.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The sessions that want a request, as far as is known before it is decided.
    #[cold]
    pub fn wanting(&self, early: &Early<'_>) -> Vec<Arc<Session>> {
        self.sessions.load().iter().filter(|session| session.wants(early)).cloned().collect()
    }

    /// Begins a session.
    ///
    /// # Errors
    /// There are too many; the message says of whom.
    pub fn begin(self: &Arc<Self>, wanted: Wanted) -> Result<Watch, String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut sessions: Vec<Arc<Session>> = self.sessions.load().iter().filter(|session| session.until > now).cloned().collect();
        if sessions.len() >= MOST_SESSIONS {
            let who: Vec<&str> = sessions.iter().map(|session| session.wanted.who).collect();
            return Err(format!("requests are sampled for {} already, and there may be no more than {MOST_SESSIONS}", who.join(", ")));
        }
        let (queue, samples) = sync_channel(QUEUE);
        let wanted = Wanted { every: wanted.every.max(1), ..wanted };
        let session = Arc::new(Session {
            until: now + wanted.time,
            wanted,
            passed: AtomicU64::new(0),
            budget: AtomicI64::new(0),
            dropped: AtomicU64::new(0),
            queue,
        });
        sessions.push(session.clone());
        self.sessions.store(Arc::new(sessions));
        self.on.store(true, Ordering::Relaxed);
        Ok(Watch { requests: self.clone(), session, samples })
    }
}

impl Session {
    /// What is to be sampled.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Whether a request is to be sampled, as far as is known before it is decided. If the filter looks at nothing else, one of so many is.
    fn wants(&self, early: &Early<'_>) -> bool {
        (self.wanted.connections || early.request)
            && self.wanted.filter.begins(early)
            && (self.wanted.filter.looks_at_outcome() || self.is_its_turn())
    }

    fn is_its_turn(&self) -> bool {
        self.passed.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.wanted.every)
    }

    /// Hands a sample over, or counts it as dropped: too many came at once, or the reader is slow, or gone.
    pub fn tell(&self, seen: Box<Seen>) {
        let filter = &self.wanted.filter;
        if filter.looks_at_outcome() && !(filter.ends(&seen.line) && self.is_its_turn()) {
            return;
        }
        let too_much = seen.line.size() > MOST_KEPT && self.wanted.fields != Fields::All;
        if too_much || self.budget.fetch_sub(1, Ordering::Relaxed) <= 0 || self.queue.try_send(seen).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Watch {
    /// What is sampled.
    pub fn wanted(&self) -> &Wanted {
        &self.session.wanted
    }

    /// Allows so many samples from now on. What is left of an earlier allowance is lost.
    pub fn grant(&self, samples: u64) {
        self.session.budget.store(i64::try_from(samples).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// The next sample, if there is one. It does not wait, so workers have nobody to wake.
    pub fn next(&self) -> Option<Box<Seen>> {
        self.samples.try_recv().ok()
    }

    /// The number of samples that were dropped.
    pub fn dropped(&self) -> u64 {
        self.session.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _turn = self.requests.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let others: Vec<Arc<Session>> =
            self.requests.sessions.load().iter().filter(|session| !Arc::ptr_eq(session, &self.session)).cloned().collect();
        self.requests.on.store(!others.is_empty(), Ordering::Relaxed);
        self.requests.sessions.store(Arc::new(others));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn wanted(every: u64) -> Wanted {
        Wanted {
            who: "a test",
            every,
            filter: Filter::default(),
            fields: Fields::Named(Vec::new()),
            connections: false,
            decision: false,
            time: Duration::from_secs(3600),
        }
    }

    const EARLY: Early<'static> = Early { request: true, method: "GET", host: "a.example", path: "/" };

    fn seen(status: u16) -> Box<Seen> {
        let decided = Decided { status: Some(status), ..Decided::default() };
        Box::new(Seen { line: RequestLine { decided, ..RequestLine::default() }, by: None })
    }

    #[test]
    fn one_of_so_many_is_sampled_and_what_is_too_much_is_counted() {
        let requests = Arc::new(Requests::default());
        assert!(!requests.is_on());
        let watch = requests.begin(wanted(10)).unwrap();
        assert!(requests.is_on());
        watch.grant(2);
        let sampled: Vec<_> = (0..30).flat_map(|_| requests.wanting(&EARLY)).collect();
        assert_eq!(sampled.len(), 3);
        assert!(requests.wanting(&Early { request: false, ..EARLY }).is_empty(), "connections are not wanted");
        sampled.iter().for_each(|session| session.tell(seen(200)));
        assert_eq!((std::iter::from_fn(|| watch.next()).count(), watch.dropped()), (2, 1), "more than was granted");
        watch.grant(u64::MAX);
        let mut large = seen(200);
        large.line.target = "x".repeat(MOST_KEPT);
        sampled[0].tell(large);
        (0..QUEUE + 5).for_each(|_| sampled[0].tell(seen(200)));
        assert_eq!(watch.dropped(), 1 + 1 + 5, "a large one, and those that nobody reads in time");
        drop(watch);
        assert!(!requests.is_on() && requests.wanting(&EARLY).is_empty());
        sampled[0].tell(seen(200));
    }

    #[test]
    fn what_a_filter_leaves_out_counts_for_nothing() {
        let requests = Arc::new(Requests::default());
        let filter = Filter { path: Some("/a".to_owned()), status: Some(StatusFilter::Class(5)), ..Filter::default() };
        let watch = requests.begin(Wanted { filter, ..wanted(2) }).unwrap();
        watch.grant(10);
        assert!(requests.wanting(&EARLY).is_empty());
        let session = requests.wanting(&Early { path: "/a/b", ..EARLY }).remove(0);
        for status in [200, 500, 404, 503, 502] {
            session.tell(seen(status));
        }
        let told: Vec<_> = std::iter::from_fn(|| watch.next()).filter_map(|seen| seen.line.decided.status).collect();
        assert_eq!((told, watch.dropped()), (vec![500, 502], 0), "every other one of those that pass");
    }

    #[test]
    fn there_are_few_sessions_and_a_stalled_one_is_no_obstacle_for_ever() {
        let requests = Arc::new(Requests::default());
        let mut all: Vec<Watch> = (1..MOST_SESSIONS).map(|_| requests.begin(wanted(1)).unwrap()).collect();
        let stalled = requests.begin(Wanted { time: Duration::ZERO, ..wanted(1) }).unwrap();
        all.push(requests.begin(wanted(1)).unwrap());
        assert!(requests.begin(wanted(1)).unwrap_err().contains("a test, a test"));
        drop(stalled);
        assert_eq!(requests.wanting(&EARLY).len(), MOST_SESSIONS, "it ended itself and no other one");
        all.pop();
        assert!(requests.begin(wanted(1)).is_ok());
    }
}
