//! The loop of events. Each event is at a nanosecond. Of two at the same one, the one that was scheduled first comes first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use sluicegate_host::balancer::WasmBalancer;
use sluicegate_model::plugin::BalancerGeneration as _;
use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};

use super::keys::{Probe, hash};
use super::outcome::{Ended, Outcome, Record};
use super::scenario::{Script, Step};
use super::settings::Settings;
use super::traffic::{Request, Traffic};
use super::worker::{Trust, Worker};
use super::world::{Server, Ticket};
use crate::generate::{Random, Time, stream};
use crate::subject::Subject;

/// After how many nanoseconds a refused connection is known, and an answer comes that costs nothing.
const AT_ONCE: u64 = 500_000;
/// Within how many nanoseconds a worker takes a new snapshot.
const TAKEN_WITHIN: u64 = 2_000_000;
/// How many endpoints are tried for one exchange, as in the data plane.
const TRIES: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The next request arrives.
    Arrival,
    /// The part of the script with this number is due.
    Part(usize),
    /// A worker takes the newest pool.
    Take(usize),
    /// A try ends.
    End(Ticket, End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Served,
    /// The endpoint answered 500, or 503 as its queue was full. No place was taken.
    Error,
    /// The endpoint could not be connected to, or was gone before it answered.
    Broken,
}

/// A request under way.
struct Flight {
    request: Request,
    tried: Vec<SocketAddr>,
    attempt: Option<Attempt>,
}

struct Attempt {
    number: u64,
    server: usize,
    begun: u64,
    pool: Arc<Pool>,
    index: usize,
    reports: bool,
}

struct Simulation<'a> {
    settings: &'a Settings,
    subject: &'a Subject,
    cache: Option<(usize, f64)>,
    /// From which number on endpoints are like earlier ones: see [`Script::replaced`].
    replaced: usize,
    now: u64,
    foreseen: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    traffic: Traffic,
    next: Option<Request>,
    servers: Vec<Server>,
    by_address: BTreeMap<SocketAddr, usize>,
    workers: Vec<Worker>,
    pool: Arc<Pool>,
    probe: Option<Probe>,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    attempts: u64,
    delays: Random,
    trust: Trust,
    record: Record,
}

/// Plays a script with one plugin.
pub(super) fn run(settings: &Settings, script: &Script, generation: &WasmBalancer, subject: &Subject) -> Outcome {
    let cache = script.hit.map(|hit| ((settings.keys * 3).div_ceil(settings.endpoints * 2), hit));
    let room = cache.map(|(room, _)| room);
    let mut servers: Vec<Server> = (0..script.endpoints).map(|i| Server::new(i, i, settings, room)).collect();
    servers.iter_mut().for_each(|server| server.member = true);
    let pool = members(unique(), &servers);
    let time = Time::default();
    let shared = time.shared(generation.limits());
    let worker = |i: usize| Worker {
        instance: generation.seeded_with(settings.seed.wrapping_add(i as u64 * 1_000_003), shared.clone()),
        pool: pool.clone(),
        random: stream(settings.seed, 100 + i as u64),
    };
    let mut simulation = Simulation {
        settings,
        subject,
        cache,
        replaced: script.replaced,
        now: 0,
        foreseen: 0,
        events: BinaryHeap::new(),
        traffic: Traffic::new(settings, &script.rate),
        next: None,
        by_address: servers.iter().enumerate().map(|(i, server)| (server.address, i)).collect(),
        servers,
        workers: (0..settings.workers).map(worker).collect(),
        probe: Probe::new(generation, &subject.config, settings.seed, &pool),
        pool,
        flights: Vec::new(),
        free: Vec::new(),
        attempts: 0,
        delays: stream(settings.seed, 21),
        trust: Trust::default(),
        record: Record::default(),
    };
    for (i, (at, _)) in script.steps.iter().enumerate() {
        simulation.foresee(nanos(*at), Event::Part(i));
    }
    simulation.await_arrival();
    while let Some(Reverse((at, _, event))) = simulation.events.pop() {
        simulation.now = at;
        time.set(at);
        match event {
            Event::Arrival => simulation.arrive(),
            Event::Part(i) => simulation.part(&script.steps[i].1),
            Event::Take(worker) => simulation.workers[worker].pool = simulation.pool.clone(),
            Event::End(ticket, end) => simulation.end(ticket, end),
        }
    }
    simulation.outcome(generation)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The pool of the endpoints that are in it, selected as in the gateway.
fn members(id: u64, servers: &[Server]) -> Arc<Pool> {
    let all: Vec<Endpoint> = servers.iter().filter(|s| s.member).map(Server::endpoint).collect();
    Arc::new(Pool::select(id, &all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 0))
}

impl Simulation<'_> {
    fn foresee(&mut self, at: u64, event: Event) {
        self.foreseen += 1;
        self.events.push(Reverse((at, self.foreseen, event)));
    }

    fn await_arrival(&mut self) {
        self.next = self.traffic.next();
        if let Some(request) = self.next {
            self.foresee(request.at, Event::Arrival);
        }
    }

    fn arrive(&mut self) {
        let Some(request) = self.next.take() else { return };
        let flight = Some(Flight { request, tried: Vec::new(), attempt: None });
        let at = match self.free.pop() {
            Some(at) => {
                self.flights[at] = flight;
                at
            }
            None => {
                self.flights.push(flight);
                self.flights.len() - 1
            }
        };
        self.send(at);
        self.await_arrival();
    }

    /// Picks an endpoint for a request and sends it there.
    fn send(&mut self, at: usize) {
        let Some(flight) = &mut self.flights[at] else { return };
        let worker = &mut self.workers[flight.request.worker];
        let picked = worker.pick(&self.subject.config, hash(flight.request.key), &flight.tried, self.now, &mut self.trust);
        let Some((index, reports)) = picked else { return self.finish(at, false) };
        let pool = worker.pool.clone();
        let Some(&server) = self.by_address.get(&pool.endpoints[index].address) else { return self.finish(at, false) };
        self.attempts += 1;
        let ticket = (at, self.attempts);
        flight.attempt = Some(Attempt { number: self.attempts, server, begun: self.now, pool, index, reports });
        let to = &mut self.servers[server];
        to.picks += 1;
        to.stats.begin();
        if !to.up {
            self.foresee(self.now + AT_ONCE, Event::End(ticket, End::Broken));
        } else if to.fails {
            self.foresee(self.now + AT_ONCE, Event::End(ticket, End::Error));
        } else if to.serving.len() < to.places {
            self.serve(server, ticket);
        } else if to.waiting.len() < to.queue {
            to.waiting.push_back(ticket);
        } else {
            self.foresee(self.now + AT_ONCE, Event::End(ticket, End::Error));
        }
    }

    /// An endpoint begins to work on a request.
    fn serve(&mut self, server: usize, ticket: Ticket) {
        let Some(flight) = &self.flights[ticket.0] else { return };
        let to = &mut self.servers[server];
        let known = to.cache.as_mut().is_some_and(|cache| cache.has(flight.request.key));
        let part = self.cache.filter(|_| known).map_or(1.0, |(_, hit)| hit);
        let takes = self.settings.latency.mean().as_nanos() as f64 * flight.request.size * part * to.slow / to.speed;
        to.serving.push(ticket);
        to.worked += takes;
        self.foresee(self.now + takes as u64, Event::End(ticket, End::Served));
    }

    fn end(&mut self, ticket: Ticket, end: End) {
        // What had broken off before was told then.
        let Some(flight) = &mut self.flights[ticket.0] else { return };
        let Some(attempt) = flight.attempt.take_if(|attempt| attempt.number == ticket.1) else { return };
        let server = &mut self.servers[attempt.server];
        let took = Duration::from_nanos(self.now - attempt.begun);
        server.stats.end();
        server.stats.observe(end == End::Served, took);
        if attempt.reports {
            let worker = &mut self.workers[flight.request.worker];
            worker.report(&attempt.pool, attempt.index, end == End::Served, took, self.now, &mut self.trust);
        }
        match end {
            End::Served => {
                self.finish(ticket.0, true);
                self.next_in_line(attempt.server, ticket);
            }
            End::Error => self.finish(ticket.0, false),
            End::Broken => {
                flight.tried.push(server.address);
                if flight.tried.len() < TRIES {
                    self.record.retries += 1;
                    self.send(ticket.0);
                } else {
                    self.finish(ticket.0, false);
                }
            }
        }
    }

    fn next_in_line(&mut self, server: usize, done: Ticket) {
        let to = &mut self.servers[server];
        to.serving.retain(|ticket| *ticket != done);
        if let Some(next) = to.waiting.pop_front() {
            self.serve(server, next);
        }
    }

    fn finish(&mut self, at: usize, served: bool) {
        if let Some(flight) = self.flights[at].take() {
            let arrived = flight.request.at;
            self.record.ended.push(Ended { arrived, took: self.now - arrived, served });
            self.free.push(at);
        }
    }

    fn part(&mut self, steps: &[Step]) {
        let mut changed = false;
        for step in steps {
            match *step {
                Step::Join(i) => {
                    if i == self.servers.len() {
                        let like = if i >= self.replaced { i - self.replaced } else { i };
                        let server = Server::new(i, like, self.settings, self.cache.map(|(room, _)| room));
                        self.by_address.insert(server.address, i);
                        self.servers.push(server);
                    }
                    self.servers[i].set_member(true, self.now);
                    changed = true;
                }
                Step::Leave(i) => {
                    self.servers[i].set_member(false, self.now);
                    changed = true;
                }
                Step::Stop(i) => self.stop(i),
                Step::Start(i) => self.servers[i].up = true,
                Step::Slow(i, factor) => self.servers[i].slow = factor,
                Step::Fails(i, fails) => self.servers[i].fails = fails,
                Step::Forget(i) => {
                    if let Some(cache) = &mut self.servers[i].cache {
                        cache.forget();
                    }
                }
            }
        }
        if changed {
            self.publish();
        }
    }

    /// An endpoint stops, and what it worked on and what waited is lost.
    fn stop(&mut self, server: usize) {
        let to = &mut self.servers[server];
        to.up = false;
        let broken: Vec<Ticket> = to.serving.drain(..).chain(to.waiting.drain(..)).collect();
        if let Some(cache) = &mut to.cache {
            cache.forget();
        }
        for ticket in broken {
            self.end(ticket, End::Broken);
        }
    }

    /// Publishes a new pool, which each worker takes a little later, one after the other.
    fn publish(&mut self) {
        self.pool = members(self.pool.id, &self.servers);
        if let Some(probe) = &mut self.probe {
            probe.changed(&self.pool);
        }
        for worker in 0..self.workers.len() {
            let at = self.now + self.delays.random_range(0..TAKEN_WITHIN);
            self.foresee(at, Event::Take(worker));
        }
    }

    fn outcome(self, generation: &WasmBalancer) -> Outcome {
        let about = &self.subject.description;
        let outcome = Outcome::of(self.settings, self.record, &self.servers, nanos(self.settings.duration).max(self.now));
        Outcome {
            plugin: self.subject.name.clone(),
            version: about.version.clone(),
            sha256: generation.generation().sha256.clone(),
            failures: self.trust.failures,
            fallbacks: self.trust.fallbacks,
            failure: self.trust.reason,
            moved: self.probe.map(Probe::moved),
            ..outcome
        }
    }
}
