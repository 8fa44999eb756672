//! Which service ports have series of their own. With thousands of Services each scrape, and whoever keeps what it brings, would have a hundred series for each of
//! them. So only as many ports have series of their own as fit into a number of series, the busiest ones, and the others are summed in series whose `service` is
//! `other`.
//!
//! A sum's counters must not go backwards when a port joins or leaves it. So what a port had counted when it left, because it has series of its own now or is gone,
//! stays in the sum; and of a port that comes, only what it counts from then on is added.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluicegate_model::health::Condition;
use sluicegate_model::pool::Endpoint;
use sluicegate_model::route::PortProtocol;
use sluicegate_model::stats::ServiceStats;
use sluicegate_model::status::{PortStatus, Status};

use super::family::{Labels, count};

/// How often ports change places, so that series do not come and go with each scrape.
const RANK_EVERY: Duration = Duration::from_secs(60);
/// How much more traffic than one with series of its own a port needs to get its place: twice as much, and so much more.
const MARGIN: u64 = 100;
/// How many series a port has: 52, and 20 for each of two histograms.
const COST: usize = 92;
/// How many series the sums have: 112 of TCP, as there are three histograms, and 78 of UDP.
const SUMS: usize = 190;
/// The conditions of endpoints, and their names.
pub(super) const CONDITIONS: [(&str, Condition); 5] = [
    ("healthy", Condition::Healthy),
    ("warming", Condition::Warming),
    ("pending", Condition::Pending),
    ("ejected", Condition::Ejected),
    ("unhealthy", Condition::Unhealthy),
];

/// Namespace, name, port and protocol.
type Key = (String, String, u16, &'static str);

/// The choice of ports, which is kept from one scrape to the next.
#[derive(Debug)]
pub struct Ports {
    series: usize,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    known: HashMap<Key, Known>,
    /// What stays in each sum, by protocol.
    past: BTreeMap<&'static str, Past>,
    ranked: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    stats: Arc<ServiceStats>,
    is_own: bool,
    /// Whether it was told as a part of a sum.
    is_told: bool,
    /// The traffic when places were changed last.
    traffic: u64,
}

#[derive(Debug, Default)]
struct Past {
    stats: ServiceStats,
    picks: u64,
}

/// What is shown of a port, or of the sum of many.
pub(super) struct Row {
    pub(super) labels: Labels,
    pub(super) protocol: PortProtocol,
    pub(super) stats: Arc<ServiceStats>,
    pub(super) picks: u64,
    pub(super) now: Now,
}

/// What is under way, and how endpoints are.
#[derive(Clone, Copy, Default)]
pub(super) struct Now {
    /// Ready, serving, terminating, all.
    pub(super) endpoints: [i64; 4],
    pub(super) conditions: [i64; CONDITIONS.len()],
    pub(super) panics: i64,
    /// Connections, requests, retries, and who waits for a connection.
    pub(super) load: [i64; 4],
    pub(super) open_flows: i64,
}

impl Ports {
    /// There are to be no more than so many series, of ports and of everything else.
    pub fn new(series: usize) -> Self {
        Self { series, ledger: Mutex::default() }
    }

    /// The rows of all ports: each that has series of its own, and the sums of the others. And how many are summed. `beside`: the number of other series.
    pub(super) fn rows(&self, status: &Status, beside: usize) -> (Vec<Row>, usize) {
        let mut guard = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = &mut *guard;
        let ports = || status.services.iter().flat_map(|s| s.ports.iter().map(move |p| (key(&s.namespace, &s.name, p), p)));
        ledger.follow(ports());
        let room = self.series.saturating_sub(beside);
        // Where all have a place, there are no sums.
        let all = ledger.known.len() * COST <= room && ledger.past.is_empty();
        ledger.place(if all { ledger.known.len() } else { room.saturating_sub(SUMS) / COST });
        let (mut rows, mut sums) = (Vec::new(), BTreeMap::<&'static str, (Row, usize)>::new());
        for (protocol, past) in &ledger.past {
            let sum = Row::sum(protocol);
            sum.stats.absorb(&past.stats);
            sums.insert(protocol, (Row { picks: past.picks, ..sum }, 0));
        }
        for (key, port) in ports() {
            let Some(known) = ledger.known.get_mut(&key).filter(|known| !known.is_own) else {
                rows.push(Row::of(&key, port));
                continue;
            };
            known.is_told = true;
            let (sum, count) = sums.entry(key.3).or_insert_with(|| (Row::sum(key.3), 0));
            sum.protocol = port.protocol;
            sum.stats.absorb(&port.stats);
            sum.picks = sum.picks.wrapping_add(port.stats.picks.counts()[0]);
            sum.now.add(Now::of(port));
            *count += 1;
        }
        let summed = sums.values().map(|(_, count)| count).sum();
        rows.extend(sums.into_values().map(|(sum, _)| sum));
        (rows, summed)
    }
}

impl Ledger {
    /// Takes over which ports there are.
    fn follow<'p>(&mut self, ports: impl Iterator<Item = (Key, &'p PortStatus)>) {
        let mut known = HashMap::with_capacity(self.known.len());
        for (key, port) in ports {
            // A port that is made anew has other counters, and the former one is gone.
            let before = self.known.get(&key).is_some_and(|known| Arc::ptr_eq(&known.stats, &port.stats));
            let before = if before { self.known.remove(&key) } else { None };
            known.insert(key, before.unwrap_or_else(|| Known { stats: port.stats.clone(), is_own: false, is_told: false, traffic: 0 }));
        }
        for (key, gone) in std::mem::replace(&mut self.known, known) {
            if gone.is_told {
                self.past.entry(key.3).or_default().keep(&gone.stats);
            }
        }
    }

    /// Gives places to ports.
    fn place(&mut self, most: usize) {
        let mut others: Vec<(u64, Key)> = self.of(false);
        let own = self.known.len() - others.len();
        if self.known.len() <= most {
            return others.into_iter().for_each(|(_, key)| self.promote(&key));
        }
        let mut owners = self.of(true);
        owners.sort_by_key(|(recent, key)| (*recent, Reverse(key.clone())));
        // There are fewer places than before.
        for (_, owner) in owners.drain(..owners.len().saturating_sub(most)) {
            self.demote(&owner);
        }
        others.sort_by_key(|(recent, key)| (Reverse(*recent), key.clone()));
        let free = most.saturating_sub(own);
        let busy = others.iter().take_while(|(recent, _)| *recent > 0).take(free).map(|(_, key)| key.clone()).collect::<Vec<_>>();
        let placed = busy.len();
        busy.iter().for_each(|key| self.promote(key));
        if self.ranked.is_some_and(|at| at.elapsed() < RANK_EVERY) {
            return;
        }
        for ((recent, key), (has, owner)) in others.iter().skip(placed).zip(&owners) {
            if *recent <= has.saturating_mul(2).saturating_add(MARGIN) {
                break;
            }
            self.demote(owner);
            self.promote(key);
        }
        self.ranked = Some(Instant::now());
        self.known.values_mut().for_each(|known| known.traffic = traffic(&known.stats));
    }

    /// The ports that have series of their own, or have none, with their traffic since places were changed.
    fn of(&self, is_own: bool) -> Vec<(u64, Key)> {
        let found = self.known.iter().filter(|(_, known)| known.is_own == is_own);
        found.map(|(key, known)| (traffic(&known.stats).saturating_sub(known.traffic), key.clone())).collect()
    }

    /// The port has series of its own from now on. What it counted until now stays in the sum, if it was a part of that.
    fn promote(&mut self, key: &Key) {
        let Some(known) = self.known.get_mut(key).filter(|known| !known.is_own) else { return };
        known.is_own = true;
        if std::mem::take(&mut known.is_told) {
            self.past.entry(key.3).or_default().keep(&known.stats);
        }
    }

    /// The port is a part of the sum from now on.
    fn demote(&mut self, key: &Key) {
        if let Some(known) = self.known.get_mut(key) {
            (known.is_own, known.is_told) = (false, true);
            self.past.entry(key.3).or_default().leave_out(&known.stats);
        }
    }
}

impl Past {
    fn keep(&mut self, stats: &ServiceStats) {
        self.stats.absorb(stats);
        self.picks = self.picks.wrapping_add(stats.picks.counts()[0]);
    }

    fn leave_out(&mut self, stats: &ServiceStats) {
        self.stats.release(stats);
        self.picks = self.picks.wrapping_sub(stats.picks.counts()[0]);
    }
}

impl Row {
    fn of((namespace, service, number, protocol): &Key, port: &PortStatus) -> Self {
        let (stats, picks) = (port.stats.clone(), port.stats.picks.counts()[0]);
        let labels = labels(namespace, service, &number.to_string(), protocol);
        Self { labels, protocol: port.protocol, stats, picks, now: Now::of(port) }
    }

    fn sum(protocol: &'static str) -> Self {
        let of = if protocol == "UDP" { PortProtocol::Udp } else { PortProtocol::Tcp };
        Self { labels: labels("", "other", "", protocol), protocol: of, stats: Arc::default(), picks: 0, now: Now::default() }
    }
}

impl Now {
    fn of(port: &PortStatus) -> Self {
        let number = |which: &dyn Fn(&Endpoint) -> bool| port.endpoints.iter().filter(|e| which(e)).count() as i64;
        let (load, stats) = (&port.stats.load, &port.stats);
        let used = [&load.connections, &load.requests, &load.retries].map(|slots| slots.get().map_or(0, |slots| i64::from(slots.used())));
        let waiting = load.connections.get().map_or(0, |slots| i64::from(slots.waiting()));
        Self {
            endpoints: [number(&|e| e.ready), number(&|e| e.serving), number(&|e| e.terminating), number(&|_| true)],
            conditions: CONDITIONS.map(|(_, condition)| number(&|e| e.is(condition))),
            panics: i64::from(stats.health.panic.load(Relaxed)),
            load: [used[0], used[1], used[2], waiting],
            open_flows: stats.udp.get().map_or(0, |udp| count(&udp.open).cast_signed()),
        }
    }

    fn add(&mut self, other: Self) {
        let add = |own: &mut [i64], other: &[i64]| own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        add(&mut self.endpoints, &other.endpoints);
        add(&mut self.conditions, &other.conditions);
        add(&mut self.load, &other.load);
        self.panics += other.panics;
        self.open_flows += other.open_flows;
    }
}

fn key(namespace: &str, name: &str, port: &PortStatus) -> Key {
    let protocol = match port.protocol {
        PortProtocol::Tcp => "TCP",
        PortProtocol::Udp => "UDP",
        PortProtocol::Sctp => "SCTP",
    };
    (namespace.to_owned(), name.to_owned(), port.port, protocol)
}

fn labels(namespace: &str, service: &str, port: &str, protocol: &str) -> Labels {
    [("namespace", namespace), ("service", service), ("port", port), ("protocol", protocol)].map(|(n, v)| (n, v.to_owned())).to_vec()
}

/// What has passed: exchanges, connections, flows, and those that found no endpoint.
fn traffic(stats: &ServiceStats) -> u64 {
    let flows = stats.udp.get().map_or(0, |udp| count(&udp.flows));
    stats.exchanges() + count(&stats.connections) + count(&stats.no_endpoint) + flows
}

#[cfg(test)]
mod tests {
    use sluicegate_model::status::ServiceStatus;

    use super::super::family::Page;
    use super::super::{health, limits, services as shown_services, udp};
    use super::*;

    fn port(stats: &Arc<ServiceStats>) -> PortStatus {
        PortStatus {
            name: String::new(),
            port: 80,
            protocol: PortProtocol::Tcp,
            node_port: None,
            balancer: String::new(),
            endpoints: Arc::default(),
            stats: stats.clone(),
        }
    }

    fn status(services: &[(String, Arc<ServiceStats>)]) -> Status {
        let service = |(name, stats): &(String, Arc<ServiceStats>)| ServiceStatus {
            namespace: "default".to_owned(),
            name: name.clone(),
            type_: "ClusterIP".to_owned(),
            cluster_ips: Vec::new(),
            external_ips: Vec::new(),
            ports: vec![port(stats)],
        };
        let mut status = Status::default();
        services.iter().map(service).for_each(|service| status.services.insert(Arc::new(service)));
        status
    }

    fn serve(stats: &ServiceStats, times: u64) {
        stats.connections.fetch_add(times, Relaxed);
        (0..times.min(3)).for_each(|_| stats.connection_time.observe(Duration::from_millis(1)));
    }

    fn services(count: usize) -> Vec<(String, Arc<ServiceStats>)> {
        (0..count).map(|n| (format!("s{n:04}"), Arc::default())).collect()
    }

    /// So many ports have a place, beside sums.
    fn holding(ports: usize) -> Ports {
        Ports::new(SUMS + ports * COST)
    }

    /// The connections of each service that is shown.
    fn shown(ports: &Ports, services: &[(String, Arc<ServiceStats>)]) -> BTreeMap<String, u64> {
        let (rows, _) = ports.rows(&status(services), 0);
        rows.iter().map(|row| (row.labels[1].1.clone(), count(&row.stats.connections))).collect()
    }

    fn rank_again(ports: &Ports) {
        let mut ledger = ports.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.ranked = ledger.ranked.and_then(|at| at.checked_sub(RANK_EVERY));
    }

    #[test]
    fn few_ports_have_series_of_their_own_whether_or_not_they_are_used() {
        let all = services(3);
        let ports = holding(3);
        assert_eq!(shown(&ports, &all).into_keys().collect::<Vec<_>>(), ["s0000", "s0001", "s0002"]);
    }

    #[test]
    fn of_thousands_the_busiest_are_shown_and_no_sum_goes_backwards() {
        let mut all = services(5_000);
        let ports = holding(2);
        assert_eq!(shown(&ports, &all), BTreeMap::from([("other".to_owned(), 0)]));
        serve(&all[7].1, 10);
        serve(&all[9].1, 20);
        let named = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<BTreeMap<_, _>>();
        // What they counted before they had series of their own was in the sum, and stays there.
        assert_eq!(shown(&ports, &all), named(&[("other", 30), ("s0007", 10), ("s0009", 20)]));
        serve(&all[11].1, 5);
        assert_eq!(shown(&ports, &all), named(&[("other", 35), ("s0007", 10), ("s0009", 20)]), "there is no place");
        rank_again(&ports);
        serve(&all[11].1, 1_000);
        assert_eq!(shown(&ports, &all), named(&[("other", 1_035), ("s0009", 20), ("s0011", 1_005)]), "it is busier");
        serve(&all[7].1, 1);
        assert_eq!(shown(&ports, &all)["other"], 1_036, "only what is new of it");
        all.remove(7);
        assert_eq!(shown(&ports, &all)["other"], 1_036, "a port that is gone has been counted");
        serve(&all[0].1, 2);
        assert_eq!(shown(&ports, &all)["other"], 1_038);
        all[0].1 = Arc::default();
        serve(&all[0].1, 4);
        assert_eq!(shown(&ports, &all)["other"], 1_042, "one that is made anew counts anew, and what it had counted stays");
        let (rows, summed) = ports.rows(&status(&all), 0);
        assert_eq!((rows.len(), summed), (3, 4_997));
    }

    #[test]
    fn all_series_of_thousands_of_ports_stay_within_their_bound() {
        let mut all = services(5_000);
        let ports = Ports::new(1_000);
        for (n, (_, stats)) in all.iter().enumerate() {
            serve(stats, n as u64 % 50);
            stats.connect_time.observe(Duration::from_millis(1));
            stats.udp.flows.fetch_add(1, Relaxed);
        }
        // Beside them there are about as many as a gateway with some plugins has.
        let beside = 300;
        for turn in 0..3 {
            let mut page = Page::default();
            let (rows, summed) = ports.rows(&status(&all), beside);
            shown_services::encode(&mut page, &rows);
            health::encode(&mut page, &rows);
            udp::encode(&mut page, &rows);
            limits::services(&mut page, &rows);
            assert!(page.series() + beside <= 1_000, "{}", page.series());
            assert!(summed < all.len() && rows.len() > 4, "{} have series of their own", rows.len() - 1);
            // Then there are other ones.
            serve(&all[turn].1, 10_000);
            all.remove(4_000);
            rank_again(&ports);
        }
        let (rows, summed) = ports.rows(&status(&all[..5]), beside);
        assert_eq!((rows.len(), summed), (5 + 1, 0), "all have a place, and what others have counted is still told");
    }

    /// Whatever happens, what a series shows never shrinks.
    #[test]
    fn counters_only_grow_while_ports_come_go_and_change_places() {
        let mut all = services(40);
        let ports = holding(5);
        let mut random = 12_345_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let mut last = (0, 0);
        for turn in 0..400 {
            (0..10).for_each(|_| serve(&all[next(40)].1, next(500) as u64));
            if turn % 7 == 0 {
                all[next(40)] = (format!("n{turn}"), Arc::default());
            }
            if turn % 3 == 0 {
                rank_again(&ports);
            }
            let (rows, _) = ports.rows(&status(&all), 0);
            let other = rows.iter().find(|row| row.labels[1].1 == "other").expect("a sum");
            let buckets = other.stats.connection_time.buckets().iter().map(|(_, n)| n).sum::<u64>();
            let now = (count(&other.stats.connections), buckets);
            assert!(now.0 >= last.0 && now.1 >= last.1 && now.0 < 1 << 40, "{last:?} {now:?} in turn {turn}");
            last = now;
        }
    }
}
