//! A source in memory: whoever has its [`Hand`] says what the units are. It serves programs that make their configuration themselves, and tests.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Change, Feed, Running, Source, SourceError, What};

/// A source in memory.
pub struct Memory {
    name: String,
    hand: Hand,
}

/// Changes the units of a [`Memory`].
#[derive(Clone, Default)]
pub struct Hand {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    name: PathBuf,
    /// Changes from before the source was started.
    early: Vec<Change>,
    feed: Option<Feed>,
}

impl Memory {
    /// Creates a source of this name, and its [`Hand`].
    pub fn new(name: &str) -> (Self, Hand) {
        let hand = Hand { state: Arc::new(Mutex::new(State { name: name.into(), ..State::default() })) };
        (Self { name: name.to_owned(), hand: hand.clone() }, hand)
    }
}

impl Source for Memory {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn start(self: Box<Self>, feed: Feed) -> Result<Running, SourceError> {
        let mut state = self.hand.state.lock().unwrap_or_else(PoisonError::into_inner);
        feed.tell(state.early.drain(..));
        feed.synced();
        state.feed = Some(feed);
        drop(state);
        Ok(Box::new(()))
    }
}

impl Hand {
    /// Sets the unit of this name within the source.
    pub fn put(&self, unit: impl AsRef<Path>, what: What) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let change = Change { unit: state.name.join(unit), what };
        match &state.feed {
            Some(feed) => feed.tell([change]),
            None => state.early.push(change),
        }
    }
}
