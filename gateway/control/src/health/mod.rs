//! Decides which endpoints are used. [`probes`] asks endpoints ([`probe`]); workers note the outcomes of exchanges, and eject at errors in a row; [`outlier`]
//! compares endpoints every interval; [`member`] is what is remembered of one endpoint. Verdicts are written into the endpoint's statistics
//! (`sluicegate_model::health`), from which pools are made: [`Health`] says which service ports need new pools.
//!
//! One task owns all of it, that of control, so nothing is locked. Time is passed in as an argument, so that tests need no clock.

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

/// How often ejections, their ends and warming endpoints are looked at. An ejection by a worker takes so long to reach the pool.
const TICK: Duration = Duration::from_millis(100);

/// The health of all service ports that ask for it.
#[derive(Default)]
pub struct Health {
    services: HashMap<PortId, Watched>,
    probes: Probes,
    lines: Lines,
    ticks: Option<tokio::time::Interval>,
    /// Whether other probes may be wanted.
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

    /// Begins and ends probes: there is one task for each distinct endpoint and check. It needs an event loop.
    pub(crate) fn sync_probes(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let mut wanted: HashMap<Key, Wanted> = HashMap::new();
        for (service, watched) in &self.services {
            let Some(check) = &watched.settings().active else { continue };
            let tls = match &watched.tls {
                EndpointTls::On(tls) => Some(tls),
                // If nobody says how to verify the endpoints' TLS, a probe in plain text can only find out whether they accept.
                EndpointTls::Off | EndpointTls::Untold => None,
                EndpointTls::Broken => continue,
            };
            let check = Arc::new(check.clone());
            // UDP flows have no PROXY header, so their endpoints expect none.
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

    /// Takes in results of probes and the passing of time, until service ports need new pools, which are returned. If nothing is watched, it waits for ever.
    /// Dropping it loses nothing.
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

    /// The service ports whose pools are to be made anew. Large pools come less often, as telling a balancer of a pool costs by its size.
    fn take_changed(&mut self, now: Instant) -> HashSet<PortId> {
        self.services.iter_mut().filter_map(|(service, watched)| watched.take_changed(now).then(|| service.clone())).collect()
    }
}

/// A service port and an endpoint, as a line of the log names them.
struct Named<'a>(&'a PortId, SocketAddr);

#[cfg(test)]
mod tests;
