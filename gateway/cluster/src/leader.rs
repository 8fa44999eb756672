//! One of many processes leads: it writes statuses and gives addresses. Who leads is written in a Lease, as client-go does it (`tools/leaderelection`): the leader
//! renews it, and another takes it over once it was not renewed for its duration. [`Election`] decides, and is told what came of it; `run` asks the server.
//!
//! Clocks of other machines do not count: a Lease has run out when this process has seen the same record for as long as it lasts, whatever times stand in it.
//! The leader counts from before it asked for the renewal, and for less time ([`Options::renew`]), so it has stopped before another can begin. Two that write at
//! the same moment are told apart by the server (`resourceVersion`).

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

/// A Lease's longest duration that is believed of a record of another process.
const LONGEST: i64 = 3600;

/// How long what lasts in an election. All that take part in it need the same.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long others wait for a renewal before they take the Lease over.
    pub duration: Duration,
    /// How long a process leads after a renewal: less than `duration`.
    pub renew: Duration,
    /// The pause between two renewals, or two looks at another's Lease.
    pub retry: Duration,
}

impl Default for Terms {
    /// 15, 10 and 2 seconds, as most controllers have them.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { duration: seconds(15), renew: seconds(10), retry: seconds(2) }
    }
}

/// Whose Lease it is, and how long what lasts.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// The name of this process, which no other process has, and no earlier one had.
    pub identity: String,
    /// How long others wait for a renewal before they take the Lease over.
    pub duration: Duration,
    /// How long this process leads after a renewal: less than `duration`.
    pub renew: Duration,
    /// The pause between two renewals, or two looks at another's Lease.
    pub retry: Duration,
}

impl Options {
    /// With the usual [`Terms`].
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        let Terms { duration, renew, retry } = Terms::default();
        Self { namespace: namespace.into(), name: name.into(), identity: identity.into(), duration, renew, retry }
    }

    /// With other times.
    #[must_use]
    pub fn within(self, Terms { duration, renew, retry }: Terms) -> Self {
        Self { duration, renew, retry, ..self }
    }
}

/// What is to be asked of the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The Lease is read.
    Read,
    /// The Lease is created.
    Create(Value),
    /// The Lease is replaced; its `resourceVersion` is the one that was read.
    Write(Value),
}

/// What the API server said.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The Lease is this now.
    Lease(Value),
    /// There is none (404).
    Missing,
    /// Another was there first (409).
    Conflict,
    /// Anything else, or nothing.
    Failed,
}

/// When something was asked and when it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// By the clock of this machine, before it was asked.
    pub asked: Instant,
    /// By the same clock, when the answer was there.
    pub answered: Instant,
    /// The time of day, which is written for people.
    pub wall: jiff::Timestamp,
}

/// Decides whether this process leads.
#[derive(Clone, Debug)]
pub struct Election {
    options: Options,
    known: Option<Known>,
    /// Until when this process leads, if it does not renew.
    until: Option<Instant>,
    /// Whether this attempt has read the Lease again after a conflict.
    again: bool,
}

/// The Lease as it was last.
#[derive(Clone, Debug)]
struct Known {
    lease: Value,
    /// Since when its record is the same, as far as this process has seen.
    since: Instant,
}

impl Known {
    fn holder(&self) -> &str {
        self.lease.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default()
    }

    fn lasts(&self, usual: Duration) -> Duration {
        let seconds = self.lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64);
        let believed = seconds.filter(|seconds| (1..=LONGEST).contains(seconds)).and_then(|seconds| u64::try_from(seconds).ok());
        believed.map_or(usual, Duration::from_secs)
    }

    fn transitions(&self) -> i64 {
        self.lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or_default()
    }
}

impl Election {
    /// A process that does not lead yet.
    pub fn new(options: Options) -> Self {
        Self { options, known: None, until: None, again: false }
    }

    /// Until when this process leads if it does not renew; none if it does not lead.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// The name of the Lease.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Who holds the Lease, as far as is known.
    pub fn holder(&self) -> Option<&str> {
        self.known.as_ref().map(Known::holder).filter(|holder| !holder.is_empty())
    }

    /// With what an attempt to get or to renew the Lease begins.
    pub fn begin(&mut self, now: Instant, wall: jiff::Timestamp) -> Ask {
        self.again = false;
        match &self.known {
            Some(known) if self.until(now).is_some() => Ask::Write(self.written(known, wall)),
            _ => Ask::Read,
        }
    }

    /// Takes in an answer. Returns what is to be asked next in this attempt, if anything.
    pub fn told(&mut self, asked: &Ask, told: Told, times: Times) -> Option<Ask> {
        match (asked, told) {
            (Ask::Read, Told::Lease(lease)) => {
                self.observe(lease, times.answered);
                self.take(times)
            }
            (Ask::Read, Told::Missing) => {
                (self.known, self.until) = (None, None);
                Some(Ask::Create(self.created(times.wall)))
            }
            (Ask::Create(_) | Ask::Write(_), Told::Lease(lease)) => {
                self.observe(lease, times.answered);
                let ours = self.holder() == Some(&self.options.identity);
                self.until = ours.then(|| times.asked + self.options.renew);
                None
            }
            // Somebody else has changed it, and be it a label: who holds it now?
            (Ask::Write(_), Told::Conflict) if !self.again => {
                self.again = true;
                Some(Ask::Read)
            }
            (Ask::Write(_), Told::Missing) => {
                (self.known, self.until) = (None, None);
                None
            }
            _ => None,
        }
    }

    /// Takes in what a watch has told of the Lease; none: it is gone. Whoever leads goes by the answers to its own writes.
    pub fn watched(&mut self, lease: Option<Value>, now: Instant) {
        match lease {
            Some(lease) => self.observe(lease, now),
            None => self.known = None,
        }
    }

    /// Until when another process holds the Lease, as far as is known; none: it may be had, or this process has it.
    pub fn held_until(&self, now: Instant) -> Option<Instant> {
        let known = self.known.as_ref().filter(|known| !known.holder().is_empty() && known.holder() != self.options.identity)?;
        Some(known.since + known.lasts(self.options.duration)).filter(|until| now < *until)
    }

    /// The version of the Lease that was seen last.
    pub fn version(&self) -> Option<&str> {
        self.known.as_ref()?.lease.pointer("/metadata/resourceVersion")?.as_str()
    }

    /// For how long this process waits when the Lease is to be had, so that many do not ask for it at the same moment. `random` is from 0 to 1.
    pub fn spread(&self, random: f64) -> Duration {
        self.options.retry.mul_f64(random.clamp(0.0, 1.0))
    }

    /// How long the pause is before the next attempt. `random` is from 0 to 1, so that many do not ask at the same moment.
    pub fn pause(&self, now: Instant, random: f64) -> Duration {
        let retry = self.options.retry;
        if self.until(now).is_some() {
            return retry;
        }
        let spread = retry.mul_f64(1.0 + 1.2 * random.clamp(0.0, 1.0));
        let Some(known) = &self.known else { return spread };
        // As soon as it can be had, but not all at once.
        let runs_out = (known.since + known.lasts(self.options.duration)).saturating_duration_since(now);
        if runs_out.is_zero() { spread } else { spread.min(runs_out + retry.mul_f64(random.clamp(0.0, 1.0) / 4.0)) }
    }

    /// Gives the Lease up, if this process leads: it is written without a holder, so that another need not wait. This process does not lead from now on.
    pub fn give_up(&mut self, now: Instant, wall: jiff::Timestamp) -> Option<Ask> {
        let leads = self.until(now).is_some();
        self.until = None;
        let mut lease = self.known.as_ref().filter(|_| leads)?.lease.clone();
        let spec = json!({"holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": micro(wall), "renewTime": micro(wall)});
        set(&mut lease, &spec);
        Some(Ask::Write(lease))
    }

    fn observe(&mut self, lease: Value, now: Instant) {
        // A renewal is a new version, even if the holder's clock stands still.
        let version = "/metadata/resourceVersion";
        let since = match &self.known {
            Some(known) if known.lease.get("spec") == lease.get("spec") && known.lease.pointer(version) == lease.pointer(version) => {
                known.since
            }
            _ => now,
        };
        self.known = Some(Known { lease, since });
    }

    /// Takes the Lease, if nobody else holds it.
    fn take(&mut self, times: Times) -> Option<Ask> {
        let known = self.known.as_ref()?;
        let (holder, now) = (known.holder(), times.answered);
        let ours = holder == self.options.identity;
        let held = !ours && !holder.is_empty() && now < known.since + known.lasts(self.options.duration);
        let write = (!held).then(|| Ask::Write(self.written(known, times.wall)));
        if !ours {
            self.until = None;
        }
        write
    }

    /// The Lease, held by this process from now on. What else stands in it stays.
    fn written(&self, known: &Known, wall: jiff::Timestamp) -> Value {
        let mut lease = known.lease.clone();
        let ours = known.holder() == self.options.identity;
        let mut spec = json!({
            "holderIdentity": self.options.identity, "leaseDurationSeconds": self.options.duration.as_secs().max(1), "renewTime": micro(wall),
        });
        if !ours {
            spec["acquireTime"] = micro(wall).into();
            spec["leaseTransitions"] = (known.transitions() + 1).into();
        }
        set(&mut lease, &spec);
        lease
    }

    fn created(&self, wall: jiff::Timestamp) -> Value {
        let Options { namespace, name, identity, duration, .. } = &self.options;
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "holderIdentity": identity, "leaseDurationSeconds": duration.as_secs().max(1), "acquireTime": micro(wall), "renewTime": micro(wall),
                "leaseTransitions": 0,
            },
        })
    }
}

/// Sets fields of a Lease's `spec`.
fn set(lease: &mut Value, fields: &Value) {
    let Some(lease) = lease.as_object_mut() else { return };
    let spec = lease.entry("spec").or_insert_with(|| json!({}));
    if !spec.is_object() {
        *spec = json!({});
    }
    for (name, value) in fields.as_object().into_iter().flatten() {
        spec[name.as_str()] = value.clone();
    }
}

/// A `metav1.MicroTime`: with six digits of a second, always.
fn micro(time: jiff::Timestamp) -> String {
    format!("{time:.6}")
}
