//! Keeps allocations on disk: in a file of the state folder, and in a journal of what has changed since the file was written. So a Service that comes or goes
//! is one line, however many there are.

use std::collections::BTreeSet;
use std::io::{Error, Result};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sluicegate_model::fault::{Fault, Severity};

use super::{Allocator, State};
use crate::state_file::journal::{End, Journaled, Write};
use crate::state_file::{Found, StateFile};

/// The size above which a file is not this gateway's, in bytes. The allocations of a hundred thousand Services take a tenth of it.
const LARGEST_FILE: u64 = 256 << 20;

/// A line of the journal: what these Services and Gateways hold now, instead of what they held before.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    /// The Services and Gateways, as the file names them.
    of: BTreeSet<String>,
    now: State,
}

impl Change {
    fn apply(self, state: &mut State) {
        state.take_out(&self.of);
        state.put_in(self.now);
    }
}

/// Where allocations are kept, and what waits to be written.
#[derive(Default)]
pub(super) struct Keeping {
    /// The file in which allocations are kept; none: they are not kept.
    file: Option<Journaled>,
    /// The holders of which something else was saved last.
    unsaved: BTreeSet<String>,
    /// Whether something was damaged. It is repaired with the next change, or at once.
    damaged: bool,
    /// The number of the state that was written whole last.
    number: u64,
    /// Why the last attempt to save failed, for as long as none succeeds.
    failed: Option<String>,
}

fn file(folder: &Path) -> StateFile {
    StateFile::new(folder.join("allocations.json"), "allocations", LARGEST_FILE)
}

/// Reads what is there, and changes nothing.
pub(super) fn look(folder: &Path) -> State {
    Journaled::new(file(folder)).look(|state, change: Change| change.apply(state)).content.unwrap_or_default()
}

impl Keeping {
    pub(super) fn load(folder: &Path) -> (State, Self) {
        let mut file = Journaled::new(file(folder));
        let Found { content, damage, lost, .. } = file.load(|state, change: Change| change.apply(state));
        let outcome = match content {
            Some(_) if lost => "of what is not used new ones are made",
            Some(_) => "the copy is used, nothing is lost",
            None => "new ones are made",
        };
        for damage in &damage {
            tracing::error!(damage, "the file of allocations is damaged; {outcome}");
        }
        let state: State = content.unwrap_or_default();
        let kept = Self { file: Some(file), damaged: !damage.is_empty(), number: state.number, ..Self::default() };
        (state, kept)
    }

    /// Notes that these hold something else than before.
    pub(super) fn changed(&mut self, ids: BTreeSet<String>) {
        if self.file.is_some() {
            self.unsaved.extend(ids);
        }
    }

    fn waits(&self) -> bool {
        self.file.is_some() && (self.damaged || !self.unsaved.is_empty())
    }

    /// What is to be written next, and where; none: nothing waits.
    fn next(&mut self, state: &State) -> Option<(Journaled, Result<Write<State>>)> {
        let waits = self.waits();
        let file = self.file.as_ref().filter(|_| waits)?;
        let change = || Change { of: self.unsaved.clone(), now: state.of(&self.unsaved) };
        // If something has changed for many, the whole is written.
        let line = if self.damaged || self.unsaved.len() > state.files.len() / 8 { Ok(None) } else { file.line(&change()) };
        let next = line.map(|line| match line {
            Some(line) => Write::Line(line),
            None => {
                self.number += 1;
                Write::Whole(State { number: self.number, ..state.clone() })
            }
        });
        Some((file.clone(), next))
    }

    fn saved(&mut self, saved: Result<Option<End>>) -> Option<Fault> {
        let file = self.file.as_mut()?;
        match file.went_on(saved) {
            Ok(()) => {
                self.unsaved.clear();
                self.damaged = false;
                if self.failed.take().is_some() {
                    tracing::info!(file = %file.path().display(), "the allocations are saved again");
                }
                None
            }
            Err(error) => {
                let error = self.failed.insert(error.to_string());
                Some(Fault {
                    severity: Severity::Warning,
                    place: None,
                    object: None,
                    message: format!("the allocations could not be saved: {error}: a restart may give other ports"),
                    expected: Some(format!(
                        "room in a folder that this process may write to, for {}; it is tried again",
                        file.path().display()
                    )),
                })
            }
        }
    }
}

impl Allocator {
    /// Whether something waits to be saved.
    pub fn unsaved(&self) -> bool {
        self.keeping.waits()
    }

    /// Saves what has changed since it was saved last. What cannot be saved waits for the next call. It blocks.
    pub fn save(&mut self) -> Option<Fault> {
        let (file, next) = self.keeping.next(&self.state)?;
        self.keeping.saved(next.and_then(|next| file.write(&next)))
    }

    /// Saves on another thread, as a disk may take its time.
    pub async fn save_beside(&mut self) -> Option<Fault> {
        let (file, next) = self.keeping.next(&self.state)?;
        let saved = match next {
            Ok(next) => tokio::task::spawn_blocking(move || file.write(&next)).await.unwrap_or_else(|error| Err(Error::other(error))),
            Err(error) => Err(error),
        };
        self.keeping.saved(saved)
    }
}
