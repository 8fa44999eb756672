//! The compiled rules, and the way of a request through them: host name, then path, then the rest, each from the most to the least specific. The first match
//! that is found is the right one by precedence, as every list is in that order. Rules are added and removed one by one ([`Table::replace`]): each of their
//! matches is put into its lists, or taken out of them.

use std::cmp::Reverse;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use sluicegate_sdk::{Answer, Choice, Decision, Header, Interests, Request, Transport};

use crate::config::FaultyRules;
use crate::names::Headers;
use crate::paths::{PathTest, Paths, Precedence};
use crate::query::Params;
use crate::value::{Budget, Condition, OverBudget, all_hold};

/// The greatest length of a host name (RFC 1035 §2.3.4). No rule names a longer one, and looking for wildcards in one would take time that grows with its
/// square.
const LONGEST_HOSTNAME: usize = 253;

/// The rules of one listener.
#[derive(Debug)]
pub(crate) struct Table {
    /// The host names that the listener is limited to.
    pub(crate) listener: Option<HostPattern>,
    pub(crate) transport: Transport,
    pub(crate) faulty_rules: FaultyRules,
    /// The rules, in the order of the configuration.
    pub(crate) rules: Vec<Entry>,
    hosts: Hosts,
    /// The matches, to which the lists of `hosts` point.
    matches: Vec<Match>,
    /// The indexes in `matches` that are free.
    free: Vec<u32>,
    pub(crate) headers: Headers,
    pub(crate) params: Params,
    /// Whether headers or parameters are read that no rule names any more.
    pub(crate) reads_too_much: bool,
    /// The size of all rules together.
    pub(crate) size: Size,
}

/// The size of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// The number of matches that are written.
    pub(crate) matches: usize,
    /// The number of pairs of a match and a host name.
    pub(crate) entries: usize,
}

impl Size {
    /// The size of a rule.
    pub(crate) fn of(matches: usize, hostnames: usize) -> Self {
        Self { matches: matches.max(1), entries: matches.max(1) * hostnames.max(1) }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.matches += more.matches;
        self.entries += more.entries;
    }

    pub(crate) fn take(&mut self, less: Self) {
        self.matches -= less.matches;
        self.entries -= less.entries;
    }
}

/// A rule in the table.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The rule's backends, by their shares.
    pub(crate) shares: Shares,
    /// The host names in lower case.
    pub(crate) hostnames: Box<[Box<str>]>,
    pub(crate) created_at: Option<Box<str>>,
    pub(crate) source: Option<Box<str>>,
    /// The number of matches that are written.
    pub(crate) written: u32,
    /// The indexes of the matches that are listed.
    pub(crate) matches: Box<[u32]>,
}

/// A rule that is not yet in the table.
pub(crate) struct Compiled {
    pub(crate) entry: Entry,
    pub(crate) matches: Vec<Match>,
}

/// A host name with or without wildcard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostPattern {
    Exact(Box<str>),
    /// A wildcard, kept as the suffix with its dot: `.example.com`.
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
            // A wildcard stands for at least one label.
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

/// The matches by host name. The hash is FxHash, as the operator chooses the keys, and clients cannot make them collide.
#[derive(Debug, Default)]
struct Hosts {
    exact: FxHashMap<Box<str>, Paths>,
    suffix: FxHashMap<Box<str>, Paths>,
    any: Paths,
}

impl Hosts {
    fn entry(&mut self, pattern: Option<HostPattern>) -> &mut Paths {
        match pattern {
            None => &mut self.any,
            Some(HostPattern::Exact(name)) => self.exact.entry(name).or_default(),
            Some(HostPattern::Suffix(suffix)) => self.suffix.entry(suffix).or_default(),
        }
    }

    /// Removes the empty lists of a host name, once matches were taken out of them.
    fn tidy(&mut self, pattern: Option<&HostPattern>) {
        let (of, name) = match pattern {
            None => return self.any.tidy(),
            Some(HostPattern::Exact(name)) => (&mut self.exact, name),
            Some(HostPattern::Suffix(suffix)) => (&mut self.suffix, suffix),
        };
        if let Some(paths) = of.get_mut(name) {
            paths.tidy();
            if paths.is_empty() {
                of.remove(name);
            }
        }
    }

    /// The lists that a host may lead to, the most specific host name first.
    fn matching<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Paths> {
        let named = host.len() <= LONGEST_HOSTNAME;
        let exact = named.then(|| self.exact.get(host)).flatten();
        let wildcards = named && !self.suffix.is_empty();
        let suffixes = if wildcards { host } else { "" };
        let suffixes = suffixes.match_indices('.').filter(|(i, _)| *i > 0).filter_map(|(i, _)| self.suffix.get(&host[i..]));
        exact.into_iter().chain(suffixes).chain([&self.any])
    }
}

/// A match of a rule.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) rule: u32,
    /// The number of the match within its rule.
    pub(crate) number: u32,
    pub(crate) path: PathTest,
    pub(crate) method: Option<Box<str>>,
    pub(crate) headers: Vec<Condition>,
    pub(crate) params: Vec<Condition>,
}

/// Which part of a request was too long.
enum TooLong {
    Target,
    Headers,
}

/// The rank of a match, by which lists are sorted; the least comes first.
type Rank<'t> = (Reverse<(Precedence, bool, usize, usize)>, (bool, Option<&'t str>), &'t str, (u32, u32));

impl Match {
    /// The rank of the match. Host name and path are settled by the lists themselves, except for what [`PathTest::precedence`] orders. At the end the order of
    /// the rules counts, and then that of their matches.
    fn rank<'t>(&self, rules: &'t [Entry]) -> Rank<'t> {
        let specific = (self.path.precedence(), self.method.is_some(), self.headers.len(), self.params.len());
        let rule = rules.get(self.rule as usize);
        let created_at = rule.and_then(|rule| rule.created_at.as_deref());
        let source = rule.and_then(|rule| rule.source.as_deref()).unwrap_or("");
        (Reverse(specific), (created_at.is_none(), created_at), source, (self.rule, self.number))
    }

    /// Whether the match has no condition.
    fn is_unconditional(&self) -> bool {
        matches!(&self.path, PathTest::Prefix(prefix) if prefix.is_empty())
            && self.method.is_none()
            && self.headers.is_empty()
            && self.params.is_empty()
    }

    /// Whether all conditions hold that the lists do not settle already.
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
    /// For each backend of a weight above 0, the sum of the weights up to and with it, and its index. A backend that is known to be invalid has no index.
    sums: Box<[(u64, Option<u32>)]>,
}

impl Shares {
    /// Makes the shares of backends from their weights.
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
            // A single backend needs no random bits.
            [(_, only)] => *only,
            [.., (total, _)] => {
                // Multiply-shift gives a uniform number below the total.
                let point = ((u128::from(sluicegate_sdk::random()) * u128::from(*total)) >> 64) as u64;
                let at = self.sums.partition_point(|(sum, _)| *sum <= point);
                self.sums.get(at)?.1
            }
        }
    }
}

impl Entry {
    pub(crate) fn size(&self) -> Size {
        Size::of(self.written as usize, self.hostnames.len())
    }

    /// The host names under which the rule's matches are listed.
    fn patterns(&self) -> impl Iterator<Item = Option<HostPattern>> {
        let anywhere = self.hostnames.is_empty().then_some(None);
        self.hostnames.iter().map(|name| Some(HostPattern::new(name))).chain(anywhere)
    }
}

impl Table {
    /// Makes a table without rules.
    pub(crate) fn new(transport: Transport, faulty_rules: FaultyRules) -> Self {
        Self {
            listener: None,
            transport,
            faulty_rules,
            rules: Vec::new(),
            hosts: Hosts::default(),
            matches: Vec::new(),
            free: Vec::new(),
            headers: Headers::default(),
            params: Params::default(),
            reads_too_much: false,
            size: Size::default(),
        }
    }

    /// What must be read of a request.
    pub(crate) fn interests(&self) -> Interests {
        match self.transport {
            Transport::Http => Interests { headers: self.headers.names().to_vec(), query: !self.params.is_empty(), ..Interests::default() },
            Transport::Tls | Transport::Tcp | Transport::Udp => Interests::default(),
        }
    }

    /// Lists rules in place of others. Each item has the index of the first of the rules that are replaced, their number, and the new rules. Indexes rise, and
    /// items do not overlap.
    pub(crate) fn replace(&mut self, replaced: Vec<(usize, usize, Vec<Compiled>)>) {
        let moves = replaced.iter().any(|(_, removed, rules)| *removed != rules.len());
        let mut first = replaced.first().map_or(0, |(at, ..)| *at);
        let mut gone: Vec<Entry> = Vec::new();
        let mut come = Vec::new();
        // A single item is replaced in place. With many, each would move all rules behind it, so the list is made again.
        if let [(at, removed, _)] = replaced[..] {
            for (_, _, rules) in replaced {
                let (entries, matches): (Vec<_>, Vec<_>) = rules.into_iter().map(|rule| (rule.entry, rule.matches)).unzip();
                come.extend(matches.into_iter().enumerate().map(|(i, matches)| (at + i, matches)));
                gone.extend(self.rules.splice(at..at + removed, entries));
            }
        } else {
            first = 0;
            let mut rest = std::mem::take(&mut self.rules).into_iter();
            let mut next = 0;
            for (at, removed, rules) in replaced {
                self.rules.extend(rest.by_ref().take(at - next));
                gone.extend(rest.by_ref().take(removed));
                next = at + removed;
                for Compiled { entry, matches } in rules {
                    come.push((self.rules.len(), matches));
                    self.rules.push(entry);
                }
            }
            self.rules.extend(rest);
        }
        let mut emptied = Vec::new();
        for entry in &gone {
            self.size.take(entry.size());
            self.unlist(entry, &mut emptied);
        }
        if moves {
            for (i, entry) in self.rules.iter().enumerate().skip(first) {
                for id in &entry.matches {
                    self.matches[*id as usize].rule = i as u32;
                }
            }
        }
        for (rule, matches) in come {
            self.size.add(self.rules[rule].size());
            self.list(rule, matches);
        }
        // Mostly a new rule is listed where an old one was, so most of these lists are not empty any more.
        emptied.retain(|(pattern, path)| self.hosts.entry(pattern.clone()).list(path).is_empty());
        let mut emptied: Vec<Option<HostPattern>> = emptied.into_iter().map(|(pattern, _)| pattern).collect();
        emptied.sort_unstable();
        emptied.dedup();
        emptied.iter().for_each(|pattern| self.hosts.tidy(pattern.as_ref()));
    }

    /// Puts the matches of a rule into their lists.
    fn list(&mut self, rule: usize, matches: Vec<Match>) {
        let mut ids = Vec::with_capacity(matches.len());
        for one in matches {
            one.headers.iter().for_each(|condition| self.headers.uses(condition.index));
            one.params.iter().for_each(|condition| self.params.uses(condition.index));
            let id = self.free.pop().unwrap_or(self.matches.len() as u32);
            let one = Match { rule: rule as u32, ..one };
            match self.matches.get_mut(id as usize) {
                Some(place) => *place = one,
                None => self.matches.push(one),
            }
            ids.push(id);
        }
        self.rules[rule].matches = ids.into();
        let (entry, all, rules) = (&self.rules[rule], &self.matches, &self.rules);
        for id in &entry.matches {
            let one = &all[*id as usize];
            // A connection has no path, no method and no headers.
            if self.transport != Transport::Http && !one.is_unconditional() {
                continue;
            }
            let rank = one.rank(rules);
            for pattern in entry.patterns() {
                let list = self.hosts.entry(pattern).list(&one.path);
                let at = list.partition_point(|other| all[*other as usize].rank(rules) < rank);
                // A host name may be written twice.
                if list.get(at) != Some(id) {
                    list.insert(at, *id);
                }
            }
        }
    }

    /// Takes the matches of a rule out of their lists, and notes which lists are empty afterwards.
    fn unlist(&mut self, entry: &Entry, emptied: &mut Vec<(Option<HostPattern>, Rc<PathTest>)>) {
        for id in &entry.matches {
            // An index that is free holds a match that takes no memory.
            let free =
                Match { rule: 0, number: 0, path: PathTest::Prefix("".into()), method: None, headers: Vec::new(), params: Vec::new() };
            let one = std::mem::replace(&mut self.matches[*id as usize], free);
            let path = Rc::new(one.path);
            for pattern in entry.patterns() {
                let list = self.hosts.entry(pattern.clone()).list(&path);
                list.retain(|other| other != id);
                if list.is_empty() {
                    emptied.push((pattern, path.clone()));
                }
            }
            for condition in &one.headers {
                self.reads_too_much |= self.headers.leaves(condition.index);
            }
            for condition in &one.params {
                self.reads_too_much |= self.params.leaves(condition.index);
            }
            self.free.push(*id);
        }
    }

    pub(crate) fn route(&mut self, request: &Request) -> Decision {
        if !self.params.is_empty() {
            self.params.read(&request.query);
        }
        match self.find(request) {
            Ok(Some(found)) => Decision::Matched(Choice {
                rule: found.rule,
                backend: self.rules.get(found.rule as usize).and_then(|rule| rule.shares.pick()),
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
