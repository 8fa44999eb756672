//! One service port whose health is watched: its endpoints, and what becomes of them by probes, by exchanges, and by time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_model::health::{Checked, Sample};
use sluicegate_model::pool::Endpoint;
use sluicegate_model::settings::{BackendSettings, HealthSettings, Passive, ProxyVersion, SlowStart};
use sluicegate_model::snapshot::EndpointTls;
use sluicegate_model::stats::ServiceStats;

use crate::port::PortId;

use super::lines::Lines;
use super::member::Member;
use super::probe::Failure;
use super::{Named, outlier};

/// The least time between two pools of one service port, and what each endpoint adds to it. A worker tells its balancer of 10,000 endpoints in some
/// milliseconds, and is not to do so ten times a second. Workers avoid endpoints that they have ejected meanwhile.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_PER_ENDPOINT: Duration = Duration::from_micros(50);

pub(super) struct Watched {
    /// How its endpoints are spoken to.
    pub(super) tls: EndpointTls,
    settings: Arc<BackendSettings>,
    stats: Arc<ServiceStats>,
    /// The ready endpoints.
    members: HashMap<SocketAddr, Member>,
    /// The endpoints that are ejected or warm up, so that a tick need not look at all.
    ejected: Vec<SocketAddr>,
    warming: Vec<SocketAddr>,
    /// The value of [`sluicegate_model::health::ServiceHealth::news`] that was seen last.
    news: u32,
    compare_at: Instant,
    changed: bool,
    quiet_until: Instant,
}

impl Watched {
    pub(super) fn new(settings: Arc<BackendSettings>, stats: Arc<ServiceStats>, now: Instant) -> Self {
        let news = stats.health.news();
        Self {
            tls: EndpointTls::Off,
            settings,
            stats,
            members: HashMap::new(),
            ejected: Vec::new(),
            warming: Vec::new(),
            news,
            compare_at: now,
            changed: false,
            quiet_until: now,
        }
    }

    pub(super) fn settings(&self) -> &HealthSettings {
        &self.settings.health
    }

    /// The PROXY header that its endpoints expect.
    pub(super) fn proxy(&self) -> Option<ProxyVersion> {
        self.settings.proxy_protocol
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.members.keys().copied()
    }

    /// Resets the health of all endpoints, as nobody watches it any more.
    pub(super) fn release(&mut self) {
        self.members.values().for_each(Member::release);
        self.members.clear();
        self.stats.health.set_ejected(0, 0);
    }

    /// Takes in what the policy says, and which endpoints there are. Endpoints that are there from the start count as healthy until probes say otherwise: they
    /// may have served before the gateway started, and its start must not be an outage. An endpoint that joins others has to show first that it answers.
    pub(super) fn update(&mut self, settings: &Arc<BackendSettings>, all: &[Endpoint], now: Instant) {
        self.settings = settings.clone();
        let health = &settings.health;
        for member in self.members.values_mut() {
            if health.active.is_none() {
                member.stats.health.set_checked(Checked::Passing);
                member.run = Default::default();
            }
            if health.passive.is_none() {
                member.stats.health.readmit();
                member.ejections = Default::default();
            }
            if health.slow_start.is_none() {
                member.stats.health.set_share(100);
                member.warming = None;
            }
        }
        let ready: HashMap<SocketAddr, &Endpoint> = all.iter().filter(|e| e.ready).map(|e| (e.address, e)).collect();
        self.members.retain(|address, member| {
            let stays = ready.get(address).is_some_and(|e| Arc::ptr_eq(&e.stats, &member.stats));
            if !stays {
                member.release();
            }
            stays
        });
        let first = self.members.is_empty();
        for (address, endpoint) in ready {
            self.members.entry(address).or_insert_with(|| {
                let mut member = Member::new(endpoint.stats.clone());
                if !first && health.active.is_some() {
                    member.stats.health.set_checked(Checked::Pending);
                } else if !first && let Some(slow) = health.slow_start {
                    warm(&mut member, slow, now);
                }
                member
            });
        }
        let is = |which: fn(&Member) -> bool| self.members.iter().filter(|(_, m)| which(m)).map(|(a, _)| *a).collect();
        (self.ejected, self.warming) = (is(|m| m.ejections.until.is_some()), is(|m| m.warming.is_some()));
        self.count();
    }

    /// Counts how many endpoints are ejected, and how many may be: the largest share, or one while another is left.
    fn count(&self) {
        let all = self.members.len();
        let limit = self.settings.health.passive.as_ref().map_or(0, |rules| {
            let share = all * usize::from(rules.max_ejection_percent) / 100;
            if rules.always_eject_one && all > 1 { share.max(1) } else { share }
        });
        let ejected = self.members.values().filter(|m| m.stats.health.is_ejected()).count();
        let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
        self.stats.health.set_ejected(number(ejected), number(limit));
    }

    /// Takes in the result of a probe.
    pub(super) fn probed(&mut self, service: &PortId, address: SocketAddr, result: &Result<(), Failure>, now: Instant, lines: &mut Lines) {
        let settings = self.settings.clone();
        let (Some(check), Some(member)) = (&settings.health.active, self.members.get_mut(&address)) else { return };
        self.stats.health.probed(result.as_ref().map_or_else(|failure| failure.kind, |()| sluicegate_model::health::Probed::Passed));
        let before = member.stats.health.checked();
        let after = member.run.after(result.is_ok(), before, check);
        if let Err(failure) = result
            && after == Checked::Failing
        {
            member.stats.health.tell(|detail| failure.why.clone_into(&mut detail.why));
        }
        if after == before {
            return;
        }
        member.stats.health.set_checked(after);
        self.changed = true;
        match result {
            Err(failure) => lines.bad(Named(service, address), "the endpoint is unhealthy", &failure.why),
            Ok(()) => {
                member.stats.health.tell(|detail| detail.why.clear());
                lines.good(
                    Named(service, address),
                    if before == Checked::Pending { "the endpoint joins" } else { "the endpoint is healthy again" },
                );
                if let Some(slow) = settings.health.slow_start {
                    warm(member, slow, now);
                    self.warming.push(address);
                }
            }
        }
    }

    /// Takes in that time has passed.
    pub(super) fn tick(&mut self, service: &PortId, now: Instant, lines: &mut Lines) {
        let settings = self.settings.clone();
        if let Some(rules) = &settings.health.passive {
            if now >= self.compare_at {
                self.compare_at = now + rules.interval;
                self.compare(rules, now);
            }
            let news = self.stats.health.news();
            if news != self.news {
                self.news = news;
                self.begin_ejections(rules, service, now, lines);
            }
            self.end_ejections(settings.health.slow_start, service, now, lines);
        }
        if let Some(slow) = settings.health.slow_start {
            self.go_on_warming(slow, now);
        }
    }

    /// Compares the endpoints at the end of an interval.
    fn compare(&mut self, rules: &Passive, now: Instant) {
        let mut compared: Vec<&mut Member> = Vec::with_capacity(self.members.len());
        let mut samples: Vec<Sample> = Vec::with_capacity(self.members.len());
        for member in self.members.values_mut() {
            member.ejections.interval(rules, now);
            let sample = member.stats.health.take_sample();
            if !member.stats.health.is_ejected() {
                samples.push(sample);
                compared.push(member);
            }
        }
        for (index, reason) in outlier::judge(rules, &samples) {
            self.stats.health.eject(&compared[index].stats.health, reason);
        }
        self.count();
    }

    /// Takes in which endpoints workers and comparisons have ejected.
    fn begin_ejections(&mut self, rules: &Passive, service: &PortId, now: Instant, lines: &mut Lines) {
        for (address, member) in &mut self.members {
            let Some(reason) = member.stats.health.ejected_for().filter(|_| member.ejections.until.is_none()) else { continue };
            let lasts = member.ejections.begin(rules, now);
            member.stats.health.tell(|detail| detail.until = member.ejections.until);
            self.ejected.push(*address);
            self.changed = true;
            lines.bad(Named(service, *address), "the endpoint is ejected", format_args!("{reason}, for {lasts:?}"));
        }
    }

    fn end_ejections(&mut self, slow: Option<SlowStart>, service: &PortId, now: Instant, lines: &mut Lines) {
        let before = self.ejected.len();
        let members = &mut self.members;
        let warming = &mut self.warming;
        self.ejected.retain(|address| {
            let Some(member) = members.get_mut(address) else { return false };
            if member.ejections.until.is_some_and(|until| until > now) {
                return true;
            }
            member.ejections.end(now);
            member.stats.health.readmit();
            member.stats.health.tell(|detail| detail.until = None);
            if let Some(slow) = slow {
                warm(member, slow, now);
                warming.push(*address);
            }
            lines.good(Named(service, *address), "the endpoint's ejection is over");
            false
        });
        if self.ejected.len() != before {
            self.changed = true;
            self.count();
        }
    }

    fn go_on_warming(&mut self, slow: SlowStart, now: Instant) {
        let members = &mut self.members;
        let changed = &mut self.changed;
        self.warming.retain(|address| {
            let Some((member, since)) = members.get_mut(address).and_then(|m| m.warming.map(|since| (m, since))) else { return false };
            let share = slow.share(now.saturating_duration_since(since));
            *changed |= member.stats.health.set_share(share);
            if share >= 100 {
                member.warming = None;
            }
            share < 100
        });
    }

    /// Whether the pools are to be made anew now.
    pub(super) fn take_changed(&mut self, now: Instant) -> bool {
        if !self.changed || now < self.quiet_until {
            return false;
        }
        self.changed = false;
        let size = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        self.quiet_until = now + PAUSE + PAUSE_PER_ENDPOINT.saturating_mul(size);
        true
    }
}

fn warm(member: &mut Member, slow: SlowStart, now: Instant) {
    member.warming = Some(now);
    member.stats.health.set_share(slow.share(Duration::ZERO));
}
