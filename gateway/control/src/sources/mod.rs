//! Where objects come from. A [`Source`] reports which of its units have changed. A unit is what it hands over as a whole, such as a file of a
//! [`folder`] or an object of an API server. Until the reports are taken, its [`Feed`] keeps the newest of each unit. [`Sources`] are all sources that
//! the gateway has; the store joins what they report.

mod feed;
pub mod folder;
pub mod memory;
mod wanted;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use feed::Feed;
pub use wanted::{Wanted, Wants};

/// A source's report about one of its units.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The unit's name, which faults show too: a file's path, or a path that begins with the source's name. No two sources have units of the same name.
    pub unit: PathBuf,
    /// What has become of it.
    pub what: What,
}

/// What has become of a unit.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The unit now has this text: Kubernetes objects in YAML or JSON.
    Text(Arc<str>),
    /// The unit is this object now.
    Object(Box<Value>),
    /// The unit is this object now, in JSON, which takes less memory than a value until it is taken. Somebody has checked it before, and may know fields that
    /// are unknown here: they are told, and the object counts without them.
    Json(Arc<str>),
    /// The unit cannot be read, and why; nothing if that is reported of a folder above it. What it defined stays in its last good version.
    Unreadable(Option<String>),
    /// The unit can be read again, and is the same as before.
    Again,
    /// Why what was last reported about the unit is not what it contains now; nothing if it is.
    Held(Option<String>),
    /// The unit is gone.
    Gone,
}

/// Ends a source when it is dropped.
pub type Running = Box<dyn Any + Send + Sync>;

/// Why a source could not start.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct SourceError {
    /// The source's name.
    pub name: String,
    /// What is wrong.
    pub reason: String,
}

/// Something that objects come from.
pub trait Source: Send {
    /// The name of the source in faults and logs.
    fn name(&self) -> String;

    /// Begins to report the units there are, says when all were reported ([`Feed::synced`]), and goes on to report what changes. Returns at once. If
    /// reports were lost, for instance by a broken connection, the source finds out by itself and reports what is gone as [`What::Gone`].
    ///
    /// # Errors
    /// The source cannot begin, and never will.
    fn start(self: Box<Self>, feed: Feed) -> Result<Running, SourceError>;

    /// Whether nothing is served before it has reported all that there is at first.
    fn is_awaited(&self) -> bool {
        false
    }
}

/// What sources have reported.
#[derive(Debug, Default)]
pub struct Taken {
    /// The changes of units.
    pub changes: Vec<Change>,
    /// Something other than a unit has changed as well ([`Feed::nudge`]).
    pub other: bool,
    /// With this, every source has told all that it had at first.
    pub complete: bool,
}

/// A source that was started.
struct Started {
    name: String,
    feed: Feed,
    is_awaited: bool,
    _running: Running,
}

/// A source that has not reported all that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsynced {
    /// Its name.
    pub name: String,
    /// Whether nothing is served before it has.
    pub is_awaited: bool,
}

/// All sources, after they were started.
pub struct Sources {
    all: Vec<Started>,
    news: Arc<Notify>,
}

impl Sources {
    /// Starts all sources.
    ///
    /// # Errors
    /// One of them cannot begin.
    pub fn start(sources: Vec<Box<dyn Source>>) -> Result<Self, SourceError> {
        let news = Arc::<Notify>::default();
        let started = sources.into_iter().map(|source| {
            let (name, is_awaited, feed) = (source.name(), source.is_awaited(), Feed::new(news.clone()));
            let running = source.start(feed.clone())?;
            Ok(Started { name, feed, is_awaited, _running: running })
        });
        Ok(Self { all: started.collect::<Result<_, SourceError>>()?, news })
    }

    /// Waits until something is reported. Nothing is lost if this is dropped before it is ready.
    pub async fn changed(&self) {
        while !self.all.iter().any(|source| source.feed.has_news()) {
            self.news.notified().await;
        }
    }

    /// Waits, for at most `patience`, until every source has reported all its units; returns those that have not.
    pub async fn synced(&self, patience: Duration) -> Vec<Unsynced> {
        let deadline = Instant::now() + patience;
        loop {
            let missing = self.all.iter().filter(|source| !source.feed.is_synced());
            let missing: Vec<Unsynced> =
                missing.map(|source| Unsynced { name: source.name.clone(), is_awaited: source.is_awaited }).collect();
            if missing.is_empty() || tokio::time::timeout_at(deadline, self.news.notified()).await.is_err() {
                return missing;
            }
        }
    }

    /// What was reported since the last call.
    pub fn take(&self) -> Taken {
        let mut taken = Taken { complete: true, ..Taken::default() };
        for Started { feed, .. } in &self.all {
            let rest = feed.take(&mut taken.changes);
            taken.other |= rest.other;
            taken.complete &= rest.complete;
        }
        taken
    }
}

#[cfg(test)]
mod tests;
