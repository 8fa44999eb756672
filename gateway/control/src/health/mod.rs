//! Which endpoints are used. [`probes`] asks endpoints on their own ([`probe`]); workers note what comes of exchanges and eject at errors in a
//! row; [`outlier`] compares endpoints every interval; [`member`] is what is remembered of one endpoint. All verdicts are marks on the
//! endpoint's statistics (`sluicegate_model::health`), which pools are made by: [`Health`] says which service ports need new pools.
//!
//! One task owns all of it, control's own, so nothing is locked. Time comes in as an argument, so that tests need no clock.

mod lines;
mod member;
mod outlier;
mod probe;
mod probes;
mod watched;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_model::pool::Endpoint;
use sluicegate_model::route::Protocol;
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::EndpointTls;
use sluicegate_model::stats::ServiceStats;
use tokio::time::MissedTickBehavior;

use crate::port::PortId;
use lines::Lines;
use probes::{Key, Probes, Wanted};
use watched::Watched;

/// How often ejections, their ends and warming endpoints are looked at: an ejection by a worker is in the pool so soon.
const TICK: Duration = Duration::from_millis(100);

/// The health of all service ports that ask for it.
#[derive(Default)]
pub struct Health {
    services: HashMap<PortId, Watched>,
    probes: Probes,
    lines: Lines,
    ticks: Option<tokio::time::Interval>,
    /// Whether probes may have to be others.
    changed: bool,
}

impl Health {
    /// Takes in the endpoints of a service port and what its policy says, before its pools are made.
    pub(crate) fn admit(
        &mut self,
        service: &PortId,
        settings: &Arc<BackendSettings>,
        tls: &EndpointTls,
        stats: &Arc<ServiceStats>,
        all: &[Endpoint],
        now: Instant,
    ) {
        if !settings.health.is_on() {
            if let Some(mut watched) = self.services.remove(service) {
                watched.release();
                self.changed = true;
            }
            return;
        }
        self.changed = true;
        let watched = self.services.entry(service.clone()).or_insert_with(|| Watched::new(settings.clone(), stats.clone(), now));
        watched.tls = tls.clone();
        watched.update(settings, all, now);
    }

    /// Forgets a service port that is gone.
    pub(crate) fn forget(&mut self, service: &PortId) {
        self.changed |= self.services.remove(service).is_some();
    }

    /// Begins and ends probes, one task for each distinct endpoint and check. In an event loop only.
    pub(crate) fn sync_probes(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let mut wanted: HashMap<Key, Wanted> = HashMap::new();
        for (service, watched) in &self.services {
            let Some(check) = &watched.settings().active else { continue };
            let tls = match &watched.tls {
                EndpointTls::On(tls) => Some(tls),
                // What is asked in plain text of endpoints whose TLS nobody explains can only be whether they accept.
                EndpointTls::Off | EndpointTls::Untold => None,
                EndpointTls::Broken => continue,
            };
            let check = Arc::new(check.clone());
            // Flows of UDP are not announced, so no endpoint of theirs expects it.
            let proxy = watched.proxy().filter(|_| service.1 == Protocol::Tcp);
            for address in watched.addresses() {
                let key = Key { address, check: check.clone(), tls: watched.tls.id(), proxy };
                let one = wanted.entry(key).or_default();
                one.tls = tls.cloned();
                one.watchers.push(service.clone());
            }
        }
        self.probes.sync(wanted);
    }

    /// Takes in probes' results and the passing of time, until service ports need new pools: these. For ever where nothing is watched. Dropping
    /// it loses nothing.
    pub(crate) async fn next(&mut self) -> HashSet<PortId> {
        if self.services.is_empty() {
            return std::future::pending().await;
        }
        loop {
            let ticks = self.ticks.get_or_insert_with(|| {
                let mut ticks = tokio::time::interval(TICK);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            });
            tokio::select! {
                found = self.probes.next() => {
                    for (key, result) in found {
                        self.probed(&key, &result, Instant::now());
                    }
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    self.tick(now);
                    let changed = self.take_changed(now);
                    if !changed.is_empty() {
                        return changed;
                    }
                }
            }
        }
    }

    fn probed(&mut self, key: &Key, result: &Result<(), probe::Failure>, now: Instant) {
        for service in self.probes.watchers(key) {
            if let Some(watched) = self.services.get_mut(service) {
                watched.probed(service, key.address, result, now, &mut self.lines);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        for (service, watched) in &mut self.services {
            watched.tick(service, now, &mut self.lines);
        }
        self.lines.tick(now);
    }

    /// The service ports whose pools are to be made anew. Large pools come less often: telling a balancer of a pool costs by its size.
    fn take_changed(&mut self, now: Instant) -> HashSet<PortId> {
        self.services.iter_mut().filter_map(|(service, watched)| watched.take_changed(now).then(|| service.clone())).collect()
    }
}

/// For a line of the log.
struct Named<'a>(&'a PortId, SocketAddr);

#[cfg(test)]
mod tests;
