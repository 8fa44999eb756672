//! Which objects' status is to be written, and when: what does not differ is not looked at again before something changes, what the server refused waits, and an
//! object that somebody else changes back each time is left alone for longer and longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluicegate_config::object::ObjectKey;
use tokio::time::Instant;

use super::merge;
use super::pace::Pace;
use super::wish::Wish;
use crate::events::{self, Happened};
use crate::seen::{Said, Seen};

/// How long an answer to a write counts for more than what the watch has told. An API server whose data was restored has older versions again.
const OWN_WORD: Duration = Duration::from_secs(10);
/// So many objects are compared before something else has its turn.
const LOOKS: usize = 500;

/// The present time, by this machine's clock and as conditions have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times<'t> {
    pub(crate) now: Instant,
    pub(crate) written: &'t str,
}

/// A status to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Due {
    /// The place in the list of wishes.
    pub(crate) at: usize,
    /// The version that was read.
    pub(crate) version: Box<str>,
    /// The fields of `status`.
    pub(crate) change: Value,
    /// The object's identity.
    pub(crate) uid: Box<str>,
    /// What an operator must see, once it is written.
    pub(crate) happened: Vec<Happened>,
}

/// What is known of objects' statuses besides what the server said.
#[derive(Default)]
pub(crate) struct Ledger {
    objects: HashMap<ObjectKey, Entry>,
}

#[derive(Default)]
struct Entry {
    /// A wish and the version of the object that needs no write for it.
    settled: Option<(u64, Box<str>)>,
    /// What the server answered to the last write or read, and until when it counts.
    answered: Option<(Arc<Said>, Instant)>,
    pace: Pace,
}

impl Ledger {
    /// The objects whose status differs from what is wished, in the order of the wishes, at most so many; when to look again, if some wait; and how many are not
    /// known to be as they are to be. Those that are not `allowed` are passed over.
    pub(crate) fn due(
        &mut self,
        wishes: &[Wish],
        allowed: impl Fn(&Wish) -> bool,
        seen: &Seen,
        Times { now, written: time }: Times<'_>,
        most: usize,
    ) -> (Vec<Due>, Option<Instant>, usize) {
        let (mut due, mut again, mut looked, mut pending) = (Vec::new(), None::<Instant>, 0, 0);
        for (at, wish) in wishes.iter().enumerate().filter(|(_, wish)| allowed(wish)) {
            // What the server has not told, or no longer has, is not written.
            let Some(said) = seen.get(&wish.key) else {
                self.objects.remove(&wish.key);
                continue;
            };
            let entry = self.objects.entry(wish.key.clone()).or_default();
            let said = entry.newest(&said, now);
            if entry.settled.as_ref().is_some_and(|(print, version)| *print == wish.print && *version == said.version) {
                continue;
            }
            pending += 1;
            if due.len() == most || looked == LOOKS {
                again = Some(now);
                continue;
            }
            if let Some(after) = entry.pace.waits(wish.print, now) {
                again = Some(again.map_or(after, |again| again.min(after)));
                continue;
            }
            looked += 1;
            let present = said.status();
            match merge::change(wish.written.form, &present, &wish.status, time) {
                None => {
                    entry.settled = Some((wish.print, said.version.clone()));
                    pending -= 1;
                }
                Some(change) => {
                    let happened = events::of(wish.written.kind, &present, &change);
                    due.push(Due { at, version: said.version.clone(), change, uid: said.uid.clone(), happened });
                }
            }
        }
        (due, again, pending)
    }

    /// The status was written, and the object is this now.
    pub(crate) fn written(&mut self, wish: &Wish, object: &Value, now: Instant) {
        let entry = self.objects.entry(wish.key.clone()).or_default();
        entry.pace.written(now);
        if let Some(said) = Said::of(object) {
            // Fields that the server does not know are not stored: asking again changes nothing.
            entry.settled = Some((wish.print, said.version.clone()));
            entry.answered = Some((Arc::new(said), now + OWN_WORD));
        }
    }

    /// Somebody else had written since it was read, and the object is this now.
    pub(crate) fn read(&mut self, wish: &Wish, object: &Value, now: Instant) {
        let entry = self.objects.entry(wish.key.clone()).or_default();
        entry.pace.conflict(now);
        if let Some(said) = Said::of(object) {
            entry.answered = Some((Arc::new(said), now + OWN_WORD));
        }
    }

    /// The server refuses to store this.
    pub(crate) fn refused(&mut self, wish: &Wish, now: Instant) {
        self.objects.entry(wish.key.clone()).or_default().pace.refused(wish.print, now);
    }

    /// Forgets all: another process may have written since.
    pub(crate) fn clear(&mut self) {
        self.objects.clear();
    }

    /// Forgets objects that are gone.
    pub(crate) fn keep(&mut self, seen: &Seen) {
        self.objects.retain(|key, _| seen.get(key).is_some());
    }
}

impl Entry {
    /// What the server said last: by the watch, or in an answer that the watch has not caught up with.
    fn newest(&mut self, told: &Arc<Said>, now: Instant) -> Arc<Said> {
        let number = |version: &str| version.parse::<u64>().ok();
        let counts = self.answered.as_ref().is_some_and(|(said, until)| {
            let later = number(&said.version).zip(number(&told.version)).is_some_and(|(said, told)| said > told);
            later && now < *until && said.uid == told.uid
        });
        if !counts {
            self.answered = None;
        }
        self.answered.as_ref().map_or(told, |(said, _)| said).clone()
    }
}

#[cfg(test)]
mod tests;
