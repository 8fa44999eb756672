//! Reads the counters once a second, and knows what they were.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use sluicegate_model::health::Condition;
use sluicegate_model::pool::Endpoint;
use sluicegate_model::snapshot::BoundRule;
use sluicegate_model::stats::{ProxyStats, ServiceStats};
use sluicegate_model::status::{PortStatus, Status};

use super::index::Index;
use super::quantile::Lately;
use super::sample::{CURVE, Figures, PluginFigures, Point, RuleFigures, Sample, Totals, address};
use crate::View;

/// The time after which what was seen counts for 1/e: long enough for a figure to be read, short enough to see what a change does.
const FADE: Duration = Duration::from_secs(3);

/// Answers of the gateway's own that are no failures: rules ask for them.
const ASKED_FOR: [&str; 3] = ["redirect", "preflight", "direct"];
/// What is counted by its service port already.
const COUNTED: &str = "no-endpoint";

/// What is known of what was read before.
#[derive(Default)]
pub(super) struct Sampler {
    last: Option<Instant>,
    index: Arc<Index>,
    ports: HashMap<usize, KnownPort>,
    rules: HashMap<usize, KnownRule>,
    plugins: HashMap<String, KnownPlugin>,
    own_answers: Vec<Rate>,
    totals: [Rate; 2],
    curve: VecDeque<Point>,
}

/// How much time has passed, and how much of what was known still counts.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    seconds: f32,
    fade: f32,
}

impl Passed {
    /// What there is to say of a time.
    pub(super) fn of(time: Duration) -> Self {
        let seconds = time.as_secs_f32().max(1e-3);
        Self { seconds, fade: (-seconds / FADE.as_secs_f32()).exp() }
    }
}

/// A counter, and how fast it has grown of late.
#[derive(Clone, Copy, Default)]
pub(super) struct Rate {
    /// What was read last; none: nothing was.
    count: Option<u64>,
    a_second: f32,
}

impl Rate {
    /// Takes in what the counter says now.
    pub(super) fn note(&mut self, now: u64, passed: Option<Passed>) -> f32 {
        if let (Some(before), Some(Passed { seconds, fade })) = (self.count, passed) {
            let rate = now.saturating_sub(before) as f32 / seconds;
            self.a_second = self.a_second * fade + rate * (1.0 - fade);
            if self.a_second < 1e-3 {
                self.a_second = 0.0;
            }
        }
        self.count = Some(now);
        self.a_second
    }
}

struct KnownPort {
    /// It keeps the address from being given to other counters.
    stats: Arc<ServiceStats>,
    served: Rate,
    errors: Rate,
    connect_failures: Rate,
    bytes_in: Rate,
    bytes_out: Rate,
    http: Lately,
    connect: Lately,
    /// Those of the whole that are read once a second. Histograms are read when these have grown.
    exchanges: u64,
    connections: u64,
}

struct KnownRule {
    /// As in [`KnownPort`].
    rule: Arc<BoundRule>,
    taken: Vec<Rate>,
}

#[derive(Default)]
struct KnownPlugin {
    calls: Rate,
    failures: Rate,
    timed: u64,
    nanos: u64,
    lately: Option<f32>,
}

impl Sampler {
    /// Reads what there is now.
    pub(super) fn sample(&mut self, view: &View) -> Sample {
        let (status, snapshot) = (view.status.load_full(), view.snapshot.load_full());
        let now = Instant::now();
        let passed = self.last.replace(now).map(|last| Passed::of(now.saturating_duration_since(last)));
        if self.index.version != snapshot.version {
            self.index = Arc::new(Index::of(&snapshot));
        }
        let (ports, mut totals) = self.services(&status, passed);
        let rules = self.rules(passed);
        let plugins = self.plugins(&status, passed);
        let own_answers = self.whole(&view.proxy, &mut totals, passed);
        if passed.is_some() {
            self.curve.truncate(CURVE - 1);
            self.curve.push_front(Point(totals.requests, totals.errors, totals.p50, totals.p99, totals.open));
        }
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let (index, curve) = (self.index.clone(), self.curve.clone());
        Sample { at, status, snapshot, index, totals, curve, ports, rules, plugins, own_answers }
    }

    /// The whole data plane. Returns the answers of the gateway's own.
    fn whole(&mut self, proxy: &ProxyStats, totals: &mut Totals, passed: Option<Passed>) -> Vec<(&'static str, f32)> {
        let [requests, accepted] = &mut self.totals;
        totals.requests = requests.note(read(&proxy.requests), passed);
        totals.connections = accepted.note(read(&proxy.accepted), passed);
        totals.open = read(&proxy.open);
        let rows: Vec<(&'static str, u64)> = proxy.own_answers.rows().collect();
        self.own_answers.resize(rows.len(), Rate::default());
        let rates = rows.into_iter().zip(&mut self.own_answers).map(|((reason, count), rate)| (reason, rate.note(count, passed)));
        let own_answers: Vec<_> = rates.filter(|(_, rate)| *rate > 0.0).collect();
        totals.own_answers = own_answers.iter().fold(0.0, |sum, (_, rate)| sum + rate);
        let failures = own_answers.iter().filter(|(reason, _)| !ASKED_FOR.contains(reason) && *reason != COUNTED);
        totals.errors += failures.fold(0.0, |sum, (_, rate)| sum + rate);
        own_answers
    }

    fn services(&mut self, status: &Status, passed: Option<Passed>) -> (HashMap<usize, Figures>, Totals) {
        let mut totals = Totals::default();
        let mut times = Lately::default();
        let mut figures = HashMap::with_capacity(self.ports.len());
        for service in status.services.iter() {
            totals.services += 1;
            for port in &service.ports {
                let key = address(&port.stats);
                let known = self.ports.entry(key).or_insert_with(|| KnownPort::new(port.stats.clone()));
                let of = known.note(port, passed);
                times.add(&known.http);
                totals.add(&of);
                figures.insert(key, of);
            }
        }
        self.ports.retain(|key, _| figures.contains_key(key));
        (totals.p50, totals.p99) = (times.quantile(0.5), times.quantile(0.99));
        (figures, totals)
    }

    fn rules(&mut self, passed: Option<Passed>) -> HashMap<usize, RuleFigures> {
        let mut figures = HashMap::with_capacity(self.rules.len());
        for rule in self.index.routers.iter().filter_map(|router| router.rung()).flat_map(|rung| &rung.rules) {
            let key = address(rule);
            let known = self.rules.entry(key).or_insert_with(|| KnownRule { rule: rule.clone(), taken: Vec::new() });
            let counts: Vec<u64> = known.rule.taken.counts().collect();
            known.taken.resize(counts.len(), Rate::default());
            let rates: Vec<f32> = counts.into_iter().zip(&mut known.taken).map(|(count, rate)| rate.note(count, passed)).collect();
            let backends = rates.split_last().map(|(_, backends)| backends.into()).unwrap_or_default();
            figures.insert(key, RuleFigures { rate: rates.iter().sum(), backends });
        }
        self.rules.retain(|key, _| figures.contains_key(key));
        figures
    }

    fn plugins(&mut self, status: &Status, passed: Option<Passed>) -> HashMap<String, PluginFigures> {
        let mut figures = HashMap::new();
        for plugin in &status.plugins {
            let [calls, failures, timed, nanos, ..] = plugin.counters.counts();
            let known = self.plugins.entry(plugin.name.clone()).or_default();
            let (more, took) = (timed.saturating_sub(known.timed), nanos.saturating_sub(known.nanos));
            if more > 0 {
                let mean = took as f32 / more as f32;
                // One call in 64 is timed, so a second may have none.
                known.lately = Some(known.lately.map_or(mean, |lately| lately * 0.7 + mean * 0.3));
            }
            (known.timed, known.nanos) = (timed, nanos);
            let (rate, failures) = (known.calls.note(calls, passed), known.failures.note(failures, passed));
            figures.insert(plugin.name.clone(), PluginFigures { rate, failures, nanos: known.lately });
        }
        self.plugins.retain(|name, _| figures.contains_key(name));
        figures
    }
}

impl KnownPort {
    fn new(stats: Arc<ServiceStats>) -> Self {
        let rate = Rate::default();
        let (served, errors, connect_failures, bytes_in, bytes_out) = (rate, rate, rate, rate, rate);
        let (http, connect) = (Lately::default(), Lately::default());
        Self { stats, served, errors, connect_failures, bytes_in, bytes_out, http, connect, exchanges: 0, connections: 0 }
    }

    fn note(&mut self, port: &PortStatus, passed: Option<Passed>) -> Figures {
        let stats = &*self.stats;
        let (exchanges, connections) = (stats.exchanges(), read(&stats.connections));
        let (mut served, mut from, mut to) = (exchanges + connections, read(&stats.bytes_in), read(&stats.bytes_out));
        if let Some(udp) = stats.udp.get() {
            served += read(&udp.flows);
            (from, to) = (from + read(&udp.bytes_in), to + read(&udp.bytes_out));
        }
        let fade = passed.map_or(0.0, |passed| passed.fade);
        if passed.is_none() || exchanges != self.exchanges || !self.http.is_still() {
            self.http.note(&stats.exchange_time, fade);
        }
        if passed.is_none() || connections != self.connections || !self.connect.is_still() {
            self.connect.note(&stats.connect_time, fade);
        }
        (self.exchanges, self.connections) = (exchanges, connections);
        if passed.is_none() {
            // What was counted before anybody watched is none of the last seconds.
            (self.http, self.connect) = (self.http.forgetting(), self.connect.forgetting());
        }
        let times = if exchanges > 0 { &self.http } else { &self.connect };
        let failed = stats.responses.last().map_or(0, read) + read(&stats.no_endpoint);
        Figures {
            rate: self.served.note(served, passed),
            errors: self.errors.note(failed, passed),
            connect_failures: self.connect_failures.note(read(&stats.connect_failures), passed),
            bytes_in: self.bytes_in.note(from, passed),
            bytes_out: self.bytes_out.note(to, passed),
            p50: times.quantile(0.5),
            p99: times.quantile(0.99),
            in_flight: port.endpoints.iter().map(|endpoint| endpoint.stats.in_flight()).sum(),
            ready: u32::try_from(port.endpoints.iter().filter(|endpoint| serves(endpoint)).count()).unwrap_or(u32::MAX),
            endpoints: u32::try_from(port.endpoints.len()).unwrap_or(u32::MAX),
            panic: stats.health.panic.load(Ordering::Relaxed),
        }
    }
}

impl Totals {
    fn add(&mut self, port: &Figures) {
        self.service_ports += 1;
        self.errors += port.errors;
        self.in_flight += u64::from(port.in_flight);
        self.bytes_in += port.bytes_in;
        self.bytes_out += port.bytes_out;
        self.endpoints += port.endpoints as usize;
        self.ready_endpoints += port.ready as usize;
        self.without_endpoint += usize::from(port.ready == 0);
    }
}

/// Whether an endpoint is ready, and healthy as far as anybody looks.
fn serves(endpoint: &Endpoint) -> bool {
    endpoint.ready && matches!(endpoint.stats.health.condition(), Condition::Healthy | Condition::Warming)
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mean_of_the_last_seconds() {
        let mut rate = Rate::default();
        let second = Some(Passed::of(Duration::from_secs(1)));
        assert_eq!(rate.note(1_000_000, None), 0.0, "what was counted before is no rate");
        for second_of in 1..=20 {
            rate.note(1_000_000 + second_of * 100, second);
        }
        assert!((rate.a_second - 100.0).abs() < 1.0, "{}", rate.a_second);
        for _ in 0..60 {
            rate.note(1_002_000, second);
        }
        assert_eq!(rate.a_second, 0.0);
        assert_eq!(rate.note(5, second), 0.0, "counters that begin anew are no flood");
    }
}
