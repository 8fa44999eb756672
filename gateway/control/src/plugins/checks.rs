//! What became of configuring generations for the uses there are, each tried once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use sluicegate_model::plugin::PluginError;
use sluicegate_model::route::{ListenerInfo, RouteTable};

use super::tries::check;
use super::{Use, Version};

/// What became of configuring a generation for a use.
pub(super) type Checked = Result<Option<Arc<RouteTable>>, PluginError>;

/// By the generation's id and the use.
#[derive(Default)]
pub(super) struct Checks {
    outcomes: HashMap<(u64, Use), Checked>,
    /// The last table of a generation for a listener, of which the next one is made.
    tables: HashMap<(u64, ListenerInfo), Weak<RouteTable>>,
}

impl Checks {
    /// What became of it; it is tried now if it was not yet.
    pub(super) fn of(&mut self, version: &Version, wanted: &Use) -> &Checked {
        let id = version.loaded.generation().id;
        if self.known(id, wanted).is_none() {
            let outcome = check(version, self.before(id, wanted).as_deref(), wanted);
            self.note(id, wanted.clone(), outcome);
        }
        self.outcomes.entry((id, wanted.clone())).or_insert(Ok(None))
    }

    /// What became of it, if it was tried.
    pub(super) fn known(&self, generation: u64, wanted: &Use) -> Option<&Checked> {
        self.outcomes.get(&(generation, wanted.clone()))
    }

    /// The last table of the generation for the listener of this use.
    pub(super) fn before(&self, generation: u64, wanted: &Use) -> Option<Arc<RouteTable>> {
        self.tables.get(&(generation, wanted.listener.clone()?))?.upgrade()
    }

    /// It was tried.
    pub(super) fn note(&mut self, generation: u64, wanted: Use, outcome: Checked) {
        if let (Ok(Some(table)), Some(listener)) = (&outcome, &wanted.listener) {
            self.tables.insert((generation, listener.clone()), Arc::downgrade(table));
        }
        self.outcomes.insert((generation, wanted), outcome);
    }

    /// Forgets all but these generations and uses.
    pub(super) fn retain(&mut self, generations: &[u64], uses: &HashSet<&Use>) {
        self.outcomes.retain(|(id, wanted), _| generations.contains(id) && uses.contains(wanted));
        self.tables.retain(|_, table| table.strong_count() > 0);
    }
}
