//! Plays a recording of requests to two configurations: one thread reads lines, and others decide. What is decided once is not decided again for a request that is
//! the same in all that decisions depend on, if all that decide are plugins that come with the gateway, which decide the same again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{BufRead, Read as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use sluicegate_model::requests::{Begin, Line, RequestLine, VERSION};
use sluicegate_model::route::Protocol;
use sluicegate_model::settings::Trust;
use sluicegate_model::snapshot::{Listener, RouterBinding, Snapshot, Target};

use super::decide::Decider;
use super::effect::OfListener;
use super::tally::{Outcome, Place, Tally};
use super::{Of, pairs};

/// The longest line that is read, in bytes.
const LONGEST_LINE: u64 = 1 << 20;
/// How many lines are handed to a thread at once, and how many such parts wait.
const PART: usize = 256;
const WAITING: usize = 8;
/// How many comparisons a thread remembers. Beyond that it forgets all.
const REMEMBERED: usize = 65_536;

/// What comes of playing a recording.
pub(crate) struct Played {
    pub(crate) tally: Tally,
    /// What is to be known of the figures.
    pub(crate) notes: Vec<String>,
}

/// A listener of either configuration, or of both.
pub(crate) struct Pair<'s> {
    pub(crate) old: Option<Of<'s>>,
    pub(crate) new: Option<Of<'s>>,
    pub(crate) place: Arc<Place>,
    /// What its decisions depend on.
    reads: Reads,
}

/// What decisions of a listener depend on besides method, host, path and query.
#[derive(Clone, Debug, Default)]
struct Reads {
    client: bool,
    length: bool,
}

/// Pairs the listeners of two snapshots.
pub(crate) fn paired<'s>(old: &'s Snapshot, new: &'s Snapshot) -> Vec<Pair<'s>> {
    let pair = |(old, new): (Option<Of<'s>>, Option<Of<'s>>)| {
        let both = old.zip(new).map(|(old, new)| (OfListener::new(&old.1.settings), OfListener::new(&new.1.settings)));
        let name = old.or(new).map(|of| of.1.name.as_str()).unwrap_or_default();
        let place = Arc::new(Place::new(name, both.as_ref().map(|(old, new)| (old, new))));
        let either = || [old, new].into_iter().flatten().map(|of| of.1);
        let reads = Reads { client: either().any(looks_at_client), length: either().any(|one| one.settings.content.is_some()) };
        Pair { old, new, place, reads }
    };
    pairs(old, new).into_iter().map(pair).collect()
}

fn looks_at_client(listener: &Listener) -> bool {
    let settings = &listener.settings;
    let by_router = bindings(listener).into_iter().any(|binding| each(binding, &mut |table| table.interests.client));
    settings.trust != Trust::Nobody || !settings.sources.is_empty() || by_router
}

/// The routers of a listener.
fn bindings(listener: &Listener) -> Vec<&RouterBinding> {
    let targets = listener.front.targets().into_iter();
    targets.filter_map(|target| if let Target::Router(binding) = target { Some(&**binding) } else { None }).collect()
}

/// Whether something is so of one of the tables of a router and of those to which its rules leave the decision.
fn each(binding: &RouterBinding, ask: &mut dyn FnMut(&sluicegate_model::route::RouteTable) -> bool) -> bool {
    let mut found = false;
    for rung in &binding.ladder {
        found |= ask(&rung.table);
        if rung.hands_over {
            for next in rung.rules.iter().filter_map(|rule| rule.next.as_deref()) {
                found |= each(next, ask);
            }
        }
    }
    found
}

/// Finds the listener at which something was recorded: by its address, or else by its name.
struct Listeners {
    addresses: HashMap<(Protocol, SocketAddr), usize>,
    names: HashMap<String, usize>,
}

impl Listeners {
    fn new(pairs: &[Pair<'_>]) -> Self {
        let (mut addresses, mut names) = (HashMap::new(), HashMap::new());
        for (at, pair) in pairs.iter().enumerate() {
            for of in [pair.new, pair.old].into_iter().flatten() {
                addresses.insert(of.1.at(), at);
                names.insert(of.1.name.clone(), at);
            }
        }
        Self { addresses, names }
    }

    fn find(&self, request: &RequestLine) -> Option<usize> {
        let protocol = if request.protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        let by_address = request.address.and_then(|address| self.addresses.get(&(protocol, address)));
        by_address.or_else(|| self.names.get(&request.listener)).copied()
    }
}

/// Decides and counts, in one thread.
pub(crate) struct Player<'p, 's> {
    pairs: &'p [Pair<'s>],
    listeners: &'p Shared,
    old: Decider,
    new: Decider,
    known: HashMap<String, Outcome>,
    key: String,
    tally: Tally,
    unplaced: u64,
}

/// What threads share.
pub(crate) struct Shared {
    listeners: Listeners,
    /// Whether what was decided once is decided the same again.
    remember: bool,
}

impl Shared {
    pub(crate) fn new(pairs: &[Pair<'_>], remember: bool) -> Self {
        Self { listeners: Listeners::new(pairs), remember }
    }
}

impl<'p, 's> Player<'p, 's> {
    pub(crate) fn new(pairs: &'p [Pair<'s>], listeners: &'p Shared) -> Self {
        let (old, new) = (Decider::default(), Decider::default());
        Self { pairs, listeners, old, new, known: HashMap::new(), key: String::new(), tally: Tally::default(), unplaced: 0 }
    }

    pub(crate) fn play(&mut self, number: u64, request: &RequestLine) {
        let at = self.listeners.listeners.find(request);
        let Some((at, pair)) = at.and_then(|at| Some((at, self.pairs.get(at)?))) else {
            self.unplaced += 1;
            return;
        };
        if self.listeners.remember {
            key(&mut self.key, at, &pair.reads, request);
            if let Some(known) = self.known.get(&self.key) {
                self.tally.again(known);
                return;
            }
        }
        let (old, new) = (self.old.decide(pair.old, request), self.new.decide(pair.new, request));
        let outcome = self.tally.count(number, request, (at, &pair.place), &old, &new);
        if self.listeners.remember {
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
            self.known.insert(self.key.clone(), outcome);
        }
    }
}

/// Writes all that decisions about a request depend on. No part has a character 0, so two requests with the same key are the same.
fn key(key: &mut String, at: usize, reads: &Reads, request: &RequestLine) {
    key.clear();
    let RequestLine { method, host, target, headers, server_name, client, peer, content_length, .. } = request;
    // Writing to a String cannot fail.
    let _ = write!(key, "{at}\0{method}\0{host}\0{target}\0");
    if let Some(name) = server_name {
        let _ = write!(key, "tls {name}\0");
    }
    if reads.client {
        let _ = write!(key, "client {client} {peer:?}\0");
    }
    if reads.length {
        let _ = write!(key, "{content_length:?}\0");
    }
    for (name, value) in headers {
        let _ = write!(key, "{name}:{value}\0");
    }
}

/// Plays a recording by so many threads.
///
/// # Errors
/// It is no recording, or it cannot be read; the message names the line.
pub(crate) fn play(file: impl BufRead, old: &Snapshot, new: &Snapshot, threads: usize, remember: bool) -> Result<Played, String> {
    let pairs = paired(old, new);
    let shared = Shared::new(&pairs, remember);
    let (parts, waiting) = sync_channel::<Vec<(u64, String)>>(WAITING);
    let (waiting, failed) = (Mutex::new(waiting), (AtomicBool::new(false), Mutex::new(None::<(u64, String)>)));
    let work = || {
        let mut player = Player::new(&pairs, &shared);
        while let Some(part) = next(&waiting) {
            for (number, line) in part {
                match serde_json::from_str(&line) {
                    Ok(Line::Request(request)) => player.play(number, &request),
                    Ok(_) => {}
                    Err(error) => {
                        failed.0.store(true, Ordering::Relaxed);
                        let mut first = failed.1.lock().unwrap_or_else(PoisonError::into_inner);
                        if first.as_ref().is_none_or(|(before, _)| *before > number) {
                            *first = Some((number, error.to_string()));
                        }
                    }
                }
            }
        }
        (player.tally, player.unplaced)
    };
    let (read, counted) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let read = read(file, |part| !failed.0.load(Ordering::Relaxed) && parts.send(part).is_ok());
        drop(parts);
        let counted: Vec<_> = workers.into_iter().map(|worker| worker.join().map_err(|_| "a thread that decides failed")).collect();
        (read, counted)
    });
    let (begin, ended) = read?;
    if let Some((number, error)) = failed.1.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(format!("line {number}: {error}"));
    }
    let (mut tally, mut unplaced) = (Tally::default(), 0);
    for counted in counted {
        let (one, without) = counted?;
        tally.join(one);
        unplaced += without;
    }
    let mut notes = notes(&begin, old, new);
    if unplaced > 0 {
        notes.push(format!("{unplaced} requests came at listeners that neither configuration has, and are not counted"));
    }
    match ended {
        Some(dropped) if dropped > 0 => notes.push(format!("{dropped} requests were dropped when it was recorded, and are not in it")),
        Some(_) => {}
        None => notes.push("the recording was cut off".to_owned()),
    }
    Ok(Played { tally, notes })
}

fn next(waiting: &Mutex<Receiver<Vec<(u64, String)>>>) -> Option<Vec<(u64, String)>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Reads lines and hands them on in parts, until there are no more or nobody wants them. Returns the first one; and how many requests it says that were dropped, if
/// it ends as recordings do.
fn read(mut file: impl BufRead, mut give: impl FnMut(Vec<(u64, String)>) -> bool) -> Result<(Begin, Option<u64>), String> {
    let (mut begin, mut ended, mut part) = (None, None, Vec::with_capacity(PART));
    for number in 1.. {
        let mut line = String::new();
        let length = file.by_ref().take(LONGEST_LINE).read_line(&mut line).map_err(|error| format!("line {number}: {error}"))?;
        if length == 0 {
            break;
        }
        if length as u64 == LONGEST_LINE {
            return Err(format!("line {number} has more than {LONGEST_LINE} bytes"));
        }
        if begin.is_none() {
            match serde_json::from_str(&line) {
                Ok(Line::Begin(first)) if first.version == VERSION => begin = Some(first),
                Ok(Line::Begin(other)) => {
                    return Err(format!("it is a recording of version {:?}, and {VERSION} is read here", other.version));
                }
                _ => return Err("it is no recording of requests: `sluicegate record requests` writes them".to_owned()),
            }
            continue;
        }
        if line.starts_with("{\"end\"") {
            ended = match serde_json::from_str(&line) {
                Ok(Line::End(end)) => Some(end.dropped),
                _ => ended,
            };
            continue;
        }
        part.push((number, line));
        if part.len() == PART && !give(std::mem::replace(&mut part, Vec::with_capacity(PART))) {
            break;
        }
    }
    give(part);
    begin.map(|begin| (begin, ended)).ok_or_else(|| "it is empty".to_owned())
}

/// What the recording lacks that the configurations look at.
fn notes(begin: &Begin, old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let (mut names, mut query, mut client) = (BTreeSet::new(), false, false);
    let mut seen = HashSet::new();
    let mut note = |table: &sluicegate_model::route::RouteTable| {
        if seen.insert(std::ptr::from_ref(table) as usize) {
            names.extend(table.interests.headers.iter().map(|name| name.as_str().to_owned()));
            names.extend(table.interests.cookies.first().map(|_| "cookie".to_owned()));
            (query, client) = (query | table.interests.query, client | table.interests.client);
        }
        false
    };
    for snapshot in [old, new] {
        for listener in snapshot.listeners.values() {
            bindings(listener).into_iter().for_each(|binding| _ = each(binding, &mut note));
        }
    }
    let mut notes = Vec::new();
    let has = |name: &String| name == "host" || begin.headers.contains(name);
    let missing: Vec<&str> = names.iter().filter(|name| !has(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        notes.push(format!("rules look at {}, which the recording has no values of: record with `--header`", missing.join(", ")));
    }
    let hashed: Vec<&str> = names.iter().filter(|name| begin.hashed.contains(name)).map(String::as_str).collect();
    if !hashed.is_empty() {
        notes.push(format!("rules look at {}, of which the recording has hashes, which match no value", hashed.join(", ")));
    }
    if query && begin.query != "full" {
        notes.push("rules look at queries, which the recording does not have in full".to_owned());
    }
    if client && begin.client != "full" {
        notes.push("rules look at clients' addresses, which the recording does not have in full".to_owned());
    }
    if begin.every > 1 {
        notes.push(format!("one of {} requests was recorded", begin.every));
    }
    notes
}
