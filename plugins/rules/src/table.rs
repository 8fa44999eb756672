//! The compiled rules, and the way of a request through them: host name, then path, then the rest, each from the most to the least specific.
//! The first match found is the one that precedence asks for, because every list is in its order.

use rustc_hash::FxHashMap;
use sluicegate_sdk::{Answer, Choice, Decision, Header, Request};

use crate::paths::{PathTest, Paths};
use crate::query::Params;
use crate::value::{Budget, Condition, OverBudget, all_hold};

/// RFC 1035 §2.3.4. No rule names a longer host, and looking for wildcards in one would take time that grows with its square.
const LONGEST_HOSTNAME: usize = 253;

/// The rules of one listener.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The host names that the listener is limited to.
    pub(crate) listener: Option<HostPattern>,
    pub(crate) hosts: Hosts,
    /// What the lists of `hosts` point to.
    pub(crate) matches: Vec<Match>,
    /// The backends of each rule.
    pub(crate) shares: Vec<Shares>,
    pub(crate) params: Params,
}

/// A host name with or without wildcard.
#[derive(Clone, Debug)]
pub(crate) enum HostPattern {
    Exact(Box<str>),
    /// With its dot: `.example.com`.
    Suffix(Box<str>),
}

impl HostPattern {
    /// The pattern of a checked host name.
    pub(crate) fn new(hostname: &str) -> Self {
        match hostname.strip_prefix('*') {
            Some(suffix) => Self::Suffix(suffix.into()),
            None => Self::Exact(hostname.into()),
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            // A wildcard stands for one label at least.
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

/// The matches by host name. FxHash, since the keys are the operator's and cannot be chosen to collide by clients.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    exact: FxHashMap<Box<str>, Paths>,
    suffix: FxHashMap<Box<str>, Paths>,
    any: Paths,
}

impl Hosts {
    pub(crate) fn entry(&mut self, pattern: Option<HostPattern>) -> &mut Paths {
        match pattern {
            None => &mut self.any,
            Some(HostPattern::Exact(name)) => self.exact.entry(name).or_default(),
            Some(HostPattern::Suffix(suffix)) => self.suffix.entry(suffix).or_default(),
        }
    }

    /// From the most specific host name to the least.
    fn matching<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Paths> {
        let named = host.len() <= LONGEST_HOSTNAME;
        let exact = named.then(|| self.exact.get(host)).flatten();
        let wildcards = named && !self.suffix.is_empty();
        let suffixes = if wildcards { host } else { "" };
        let suffixes = suffixes.match_indices('.').filter(|(i, _)| *i > 0).filter_map(|(i, _)| self.suffix.get(&host[i..]));
        exact.into_iter().chain(suffixes).chain([&self.any])
    }
}

/// One of a rule's matches.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) rule: u32,
    pub(crate) path: PathTest,
    pub(crate) method: Option<Box<str>>,
    pub(crate) headers: Vec<Condition>,
    pub(crate) params: Vec<Condition>,
}

/// What a request was too long in.
enum TooLong {
    Target,
    Headers,
}

impl Match {
    /// Whether all holds that the lists do not settle already.
    fn holds(&self, request: &Request, params: &Params, budget: &Budget) -> Result<bool, TooLong> {
        if self.method.as_deref().is_some_and(|method| *method != *request.method) {
            return Ok(false);
        }
        let header = |index: usize| request.headers.get(index)?.as_deref();
        if !all_hold(&self.headers, header, budget).map_err(|OverBudget| TooLong::Headers)? {
            return Ok(false);
        }
        if !all_hold(&self.params, |index| params.value(index), budget).map_err(|OverBudget| TooLong::Target)? {
            return Ok(false);
        }
        self.path.holds(&request.path, budget).map_err(|OverBudget| TooLong::Target)
    }
}

/// How a rule's requests are shared among its backends.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// Of each backend of weight above 0, the sum of the weights up to and with it; and its index, none for one that is known to be invalid.
    sums: Box<[(u64, Option<u32>)]>,
}

impl Shares {
    /// The shares of backends, by their weights.
    pub(crate) fn new(backends: impl Iterator<Item = (Option<u32>, u32)>) -> Self {
        let weighted = backends.filter(|(_, weight)| *weight > 0);
        let sums = weighted.scan(0u64, |sum, (backend, weight)| {
            *sum += u64::from(weight);
            Some((*sum, backend))
        });
        Self { sums: sums.collect() }
    }

    fn pick(&self) -> Option<u32> {
        match &*self.sums {
            [] => None,
            // It needs no random bits.
            [(_, only)] => *only,
            [.., (total, _)] => {
                // Multiply-shift: a uniform number below the total.
                let point = ((u128::from(sluicegate_sdk::random()) * u128::from(*total)) >> 64) as u64;
                let at = self.sums.partition_point(|(sum, _)| *sum <= point);
                self.sums.get(at)?.1
            }
        }
    }
}

impl Table {
    pub(crate) fn route(&mut self, request: &Request) -> Decision {
        if !self.params.is_empty() {
            self.params.read(&request.query);
        }
        match self.find(request) {
            Ok(Some(found)) => Decision::Matched(Choice {
                rule: found.rule,
                backend: self.shares.get(found.rule as usize).and_then(Shares::pick),
                matched_prefix: found.path.matched_prefix(),
            }),
            Ok(None) => Decision::NoMatch,
            Err(TooLong::Target) => too_long(414, "the URL is too long for the rules of this gateway\n"),
            Err(TooLong::Headers) => too_long(431, "a header is too long for the rules of this gateway\n"),
        }
    }

    fn find(&self, request: &Request) -> Result<Option<&Match>, TooLong> {
        // `example.com.` is the same host (RFC 1034 §3.1).
        let host = request.host.strip_suffix('.').unwrap_or(&request.host);
        if self.listener.as_ref().is_some_and(|listener| !listener.matches(host)) {
            return Ok(None);
        }
        let budget = Budget::default();
        for paths in self.hosts.matching(host) {
            for id in paths.matching(&request.path) {
                let candidate = &self.matches[id as usize];
                if candidate.holds(request, &self.params, &budget)? {
                    return Ok(Some(candidate));
                }
            }
        }
        Ok(None)
    }
}

fn too_long(status: u16, body: &str) -> Decision {
    let headers = vec![Header::new("content-type", "text/plain; charset=utf-8")];
    Decision::Answer(Answer { status, headers, body: body.to_owned() })
}
