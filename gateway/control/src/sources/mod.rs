//! Where objects come from. A [`Source`] says which of its units are others than before: a unit is what it hands over as a whole, as a file of a
//! [`folder`] or an object of an API server. Of what is told and not yet taken, its [`Feed`] has the newest of each unit. [`Sources`] are all that the
//! gateway has, and the store joins what they say.

mod feed;
pub mod folder;
pub mod memory;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use feed::Feed;

/// What a source says of one of its units.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Names the unit, in faults as well: a file's path, or a path that begins with the source's name. No two sources have the same names.
    pub unit: PathBuf,
    /// What has become of it.
    pub what: What,
}

/// What has become of a unit.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// It is this text now: Kubernetes objects, YAML or JSON.
    Text(Arc<str>),
    /// The unit is this object now.
    Object(Box<Value>),
    /// It cannot be read, and why; nothing, where that is told of a folder around it. What it defined stays in its last good version.
    Unreadable(Option<String>),
    /// It can be read again, and is what it was before.
    Again,
    /// Why what was told of it last is not what stands there now; nothing: it is.
    Held(Option<String>),
    /// The unit is there no more.
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
    /// How it is called in faults and logs.
    fn name(&self) -> String;

    /// Begins to tell what there is, says when that was all ([`Feed::synced`]), and goes on to tell what changes. Returns at once. What of it was lost, as
    /// by a connection that broke, it finds out by itself: what is not there any more is told as [`What::Gone`].
    ///
    /// # Errors
    /// It cannot begin, and never will.
    fn start(self: Box<Self>, feed: Feed) -> Result<Running, SourceError>;
}

/// What sources have told.
#[derive(Debug, Default)]
pub struct Taken {
    /// Changes of units.
    pub changes: Vec<Change>,
    /// Something else has changed as well ([`Feed::nudge`]).
    pub other: bool,
}

/// All sources, at work.
pub struct Sources {
    all: Vec<(String, Feed, Running)>,
    news: Arc<Notify>,
}

impl Sources {
    /// Has all of them begin.
    ///
    /// # Errors
    /// One cannot begin.
    pub fn start(sources: Vec<Box<dyn Source>>) -> Result<Self, SourceError> {
        let news = Arc::<Notify>::default();
        let started = sources.into_iter().map(|source| {
            let (name, feed) = (source.name(), Feed::new(news.clone()));
            let running = source.start(feed.clone())?;
            Ok((name, feed, running))
        });
        Ok(Self { all: started.collect::<Result<_, SourceError>>()?, news })
    }

    /// Waits until something was told. Loses nothing when it is dropped before it is ready.
    pub async fn changed(&self) {
        while !self.all.iter().any(|(_, feed, _)| feed.has_news()) {
            self.news.notified().await;
        }
    }

    /// Waits until every source has told all that it has, so long at most; returns the names of those that have not.
    pub async fn synced(&self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        loop {
            let missing = self.all.iter().filter(|(_, feed, _)| !feed.is_synced());
            let missing: Vec<String> = missing.map(|(name, ..)| name.clone()).collect();
            if missing.is_empty() || tokio::time::timeout_at(deadline, self.news.notified()).await.is_err() {
                return missing;
            }
        }
    }

    /// What was told since this was asked last.
    pub fn take(&self) -> Taken {
        let mut taken = Taken::default();
        for (_, feed, _) in &self.all {
            taken.other |= feed.take(&mut taken.changes);
        }
        taken
    }
}

#[cfg(test)]
mod tests;
