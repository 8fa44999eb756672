//! The present objects, each in its last good version, and what has changed since the last update. Only units that sources report are
//! parsed, and only objects that differ count as changed.

mod read;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluicegate_config::object::{self, Decoded, Object, ObjectKey};
use sluicegate_config::objects::{Change, Objects};
use sluicegate_config::{manifest, validate};
use sluicegate_model::fault::{Fault, Severity};

use crate::allocate::Unread;
use crate::sources;
use read::Read;

/// How many objects are named when they are gone; of further ones only the number is given.
const NAMED: usize = 20;

type Units = BTreeMap<Arc<Path>, Unit>;

/// All objects of all sources.
#[derive(Default)]
pub struct Store {
    units: Units,
    /// The units about which there is something to report.
    noted: BTreeSet<Arc<Path>>,
    /// Who defines an object: the units in the order of their names, each with its first definition.
    definitions: HashMap<ObjectKey, Vec<(Arc<Path>, Arc<Object>)>>,
    /// Objects that are defined in more than one unit, as the units after the first define them.
    again: BTreeMap<ObjectKey, Vec<Arc<Object>>>,
    /// In how many units an object is named but faulty.
    faulty: HashMap<ObjectKey, usize>,
    /// The units that could not be read at all.
    torn: BTreeSet<PathBuf>,
    good: Objects,
    /// The objects of `good` that are no longer defined and stay in their last good version.
    kept: BTreeSet<ObjectKey>,
    unread: Unread,
    judging: bool,
    /// How many units were parsed.
    parsed: u64,
}

/// The outcome of an update.
#[derive(Default)]
pub struct Update {
    /// What has changed, and each object as it was before.
    pub changes: Vec<(Change, Option<Arc<Object>>)>,
    /// Everything that is wrong with the units now.
    pub faults: Vec<Fault>,
}

#[derive(Default)]
struct Unit {
    parsed: Parsed,
    /// What the unit was before it could not be read.
    before: Option<Box<Parsed>>,
    /// Why that is not what the unit contains now.
    held: Option<String>,
}

#[derive(Default)]
struct Parsed {
    good: Vec<Arc<Object>>,
    /// Objects that the unit defines a second time.
    again: Vec<Arc<Object>>,
    /// Objects that are named in the unit but are faulty.
    bad: Vec<ObjectKey>,
    /// Part of the unit could not be read at all, so an object that is missing may only have become unreadable.
    torn: bool,
    /// The kinds of objects that are not read.
    skipped: Vec<String>,
    faults: Vec<Fault>,
}

impl Store {
    /// A store for checking a configuration, not for serving it. An object whose only fault is an unknown field is kept, so that faults of
    /// its references are found as well.
    pub fn judging() -> Self {
        Self { judging: true, ..Self::default() }
    }

    /// What could not be read in the last update and has no older version either.
    pub fn unread(&self) -> &Unread {
        &self.unread
    }

    /// All objects.
    pub fn objects(&self) -> &Objects {
        &self.good
    }

    /// How many units were parsed so far.
    pub fn parsed(&self) -> u64 {
        self.parsed
    }

    /// Takes in what sources have reported.
    pub fn update(&mut self, told: Vec<sources::Change>) -> Update {
        // These are all objects that a changed unit names or has named.
        let mut touched: BTreeSet<ObjectKey> = self.kept.clone();
        // At the first update all processors are used; later the others belong to the workers.
        let first = self.parsed == 0;
        for (unit, read) in read::all(told, self.judging, first, &self.units) {
            self.take(&unit, read, &mut touched);
        }
        let changes = self.settle(touched);
        Update { changes, faults: self.faults() }
    }

    fn take(&mut self, name: &Path, read: Read, touched: &mut BTreeSet<ObjectKey>) {
        let unreadable = self.units.get(name).is_some_and(|unit| unit.before.is_some());
        if unreadable && matches!(read, Read::Parsed(_) | Read::Again) {
            tracing::info!(path = %name.display(), "it can be read again");
        }
        let unit = match read {
            Read::Held(held) => {
                let (name, unit) = self.entry(name);
                unit.held = held;
                self.note(&name);
                return;
            }
            Read::Gone => None,
            Read::Parsed(parsed) => {
                self.parsed += 1;
                Some(Unit { parsed, ..Unit::default() })
            }
            Read::Again => {
                let Some(before) = self.units.get_mut(name).and_then(|unit| unit.before.take()) else { return };
                Some(Unit { parsed: *before, ..Unit::default() })
            }
            Read::Unreadable(why) => {
                let before =
                    self.units.get_mut(name).map(|unit| unit.before.take().unwrap_or_else(|| Box::new(std::mem::take(&mut unit.parsed))));
                // The unit no longer defines what is kept from before.
                if let Some(before) = &before {
                    self.forget(name, before, touched);
                }
                let parsed = why.map_or_else(Parsed::default, |why| Parsed::unreadable(name, &why));
                Some(Unit { parsed, before: Some(before.unwrap_or_default()), held: None })
            }
        };
        self.replace(name, unit, touched);
    }

    fn entry(&mut self, name: &Path) -> (Arc<Path>, &mut Unit) {
        let name = self.units.get_key_value(name).map_or_else(|| Arc::from(name), |(name, _)| name.clone());
        let unit = self.units.entry(name.clone()).or_default();
        (name, unit)
    }

    /// Removes what a unit defined.
    fn forget(&mut self, name: &Path, parsed: &Parsed, touched: &mut BTreeSet<ObjectKey>) {
        for object in &parsed.good {
            if let Some(definitions) = self.definitions.get_mut(&object.key) {
                definitions.retain(|(by, _)| **by != *name);
                if definitions.is_empty() {
                    self.definitions.remove(&object.key);
                }
            }
            touched.insert(object.key.clone());
        }
        for key in &parsed.bad {
            if let Some(count) = self.faulty.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.faulty.remove(key);
                }
            }
            touched.insert(key.clone());
        }
        self.torn.remove(name);
    }

    /// Replaces a unit, or removes it.
    fn replace(&mut self, name: &Path, new: Option<Unit>, touched: &mut BTreeSet<ObjectKey>) {
        let (known, old) = self.units.remove_entry(name).unzip();
        if let Some(unit) = old {
            self.forget(name, &unit.parsed, touched);
        }
        let name = known.unwrap_or_else(|| name.into());
        if let Some(unit) = new {
            for object in &unit.parsed.good {
                let definitions = self.definitions.entry(object.key.clone()).or_insert_with(|| Vec::with_capacity(1));
                let at = definitions.partition_point(|(by, _)| *by < name);
                definitions.insert(at, (name.clone(), object.clone()));
                touched.insert(object.key.clone());
            }
            for key in &unit.parsed.bad {
                *self.faulty.entry(key.clone()).or_default() += 1;
                touched.insert(key.clone());
            }
            if unit.parsed.torn {
                self.torn.insert(name.to_path_buf());
            }
            self.units.insert(name.clone(), unit);
        }
        self.note(&name);
    }

    /// Notes whether there is something to report about a unit.
    fn note(&mut self, name: &Arc<Path>) {
        let tells = |Unit { parsed, held, .. }: &Unit| {
            held.is_some() || !parsed.faults.is_empty() || !parsed.again.is_empty() || !parsed.skipped.is_empty()
        };
        if self.units.get(name).is_some_and(tells) {
            self.noted.insert(name.clone());
        } else {
            self.noted.remove(name);
        }
    }

    /// Finds out which version of each of these objects is the good one now.
    fn settle(&mut self, touched: BTreeSet<ObjectKey>) -> Vec<(Change, Option<Arc<Object>>)> {
        let mut changes = Vec::new();
        let mut gone = Vec::new();
        for key in touched {
            let defined = self.definitions.get(&key).and_then(|definitions| definitions.first()).map(|(_, object)| object.clone());
            self.note_again(&key);
            let known = self.good.of_key(&key);
            let change = match (defined, known) {
                (Some(object), known) => {
                    self.kept.remove(&key);
                    if known.is_some_and(|known| known.value == object.value && known.origin.is_same(&object.origin)) {
                        continue;
                    }
                    Change::Applied(object)
                }
                (None, None) => continue,
                (None, Some(known)) => {
                    // A folder above the file may be what could not be read.
                    let torn = || known.origin.file().ancestors().any(|above| self.torn.contains(above));
                    if self.faulty.contains_key(&key) || torn() {
                        self.kept.insert(key);
                        continue;
                    }
                    self.kept.remove(&key);
                    gone.push(known.clone());
                    Change::Gone(key)
                }
            };
            let old = self.good.change(&change);
            changes.push((change, old));
        }
        tell_gone(gone.iter());
        let objects = self.faulty.keys().filter(|key| self.good.of_key(key).is_none()).cloned().collect();
        self.unread = Unread { files: self.torn.clone(), objects };
        changes
    }

    /// Notes an object that is defined in several units.
    fn note_again(&mut self, key: &ObjectKey) {
        let definitions = self.definitions.get(key).into_iter().flatten();
        let again: Vec<Arc<Object>> = definitions.skip(1).map(|(_, object)| object.clone()).collect();
        if again.is_empty() {
            self.again.remove(key);
        } else {
            self.again.insert(key.clone(), again);
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let units = || self.noted.iter().filter_map(|name| Some((name, self.units.get(name)?)));
        let mut faults: Vec<Fault> = units().filter_map(|(name, unit)| Some(waiting(name, unit.held.as_ref()?))).collect();
        faults.extend(units().flat_map(|(_, unit)| unit.parsed.faults.iter().cloned()));
        for object in units().flat_map(|(_, unit)| &unit.parsed.again).chain(self.again.values().flatten()) {
            let first = self.definitions.get(&object.key).and_then(|definitions| definitions.first());
            faults.push(Fault {
                severity: Severity::Error,
                place: Some(object.origin.place("metadata.name")),
                object: Some(object.key.to_string()),
                message: format!("{} is defined twice", object.key),
                expected: first.map(|(unit, _)| format!("the first one, in {}, is used", unit.display())),
            });
        }
        faults.extend(object::skipped(units().flat_map(|(_, unit)| &unit.parsed.skipped).map(String::as_str)));
        faults
    }
}

fn waiting(path: &Path, why: &str) -> Fault {
    Fault {
        severity: Severity::Warning,
        place: None,
        object: None,
        message: format!("{}: {why}", path.display()),
        expected: Some("its last version serves".to_owned()),
    }
}

/// Writes to the log, in one line, which objects are gone.
fn tell_gone<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) {
    let mut names = String::new();
    let mut count = 0_usize;
    for object in objects {
        if count < NAMED {
            let file = object.origin.file().display().to_string();
            names.push_str(&format!("{}{} ({file})", if count == 0 { "" } else { ", " }, object.key));
        }
        count += 1;
    }
    if count > 0 {
        let more = if count > NAMED { ", …" } else { "" };
        tracing::info!(objects = count, "gone from the configuration: {names}{more}");
    }
}

impl Unit {
    /// The lists of rules that its objects have.
    fn rules(&self) -> impl Iterator<Item = Arc<manifest::Rules>> {
        let parsed = [Some(&self.parsed), self.before.as_deref()].into_iter().flatten();
        parsed.flat_map(|parsed| &parsed.good).filter_map(|object| object.value.rules().cloned())
    }
}

impl Parsed {
    /// The fault of a unit that cannot be read.
    fn unreadable(name: &Path, why: &str) -> Self {
        let fault =
            Fault { severity: Severity::Error, place: None, object: None, message: format!("{}: {why}", name.display()), expected: None };
        Self { torn: true, faults: vec![fault], ..Self::default() }
    }

    fn of(manifest: manifest::Parsed, judging: bool) -> Self {
        let mut made = Self { torn: manifest.faults.iter().any(|f| f.severity == Severity::Error), ..Self::default() };
        made.faults = manifest.faults;
        let mut seen = HashSet::new();
        for document in manifest.documents {
            if let Some(kind) = object::foreign(&document) {
                made.skipped.push(kind.to_owned());
                continue;
            }
            let Decoded { object, mut faults, unknown_fields } = object::decode_whole(document);
            if let Some(object) = object {
                faults.extend(validate::object(&object, &faults));
                let errors = faults.iter().filter(|f| f.severity == Severity::Error).count();
                if errors > 0 {
                    made.bad.push(object.key.clone());
                }
                if errors == 0 || (judging && errors == unknown_fields) {
                    let object = Arc::new(object.compact());
                    let list = if seen.insert(object.key.clone()) { &mut made.good } else { &mut made.again };
                    list.push(object);
                }
            } else if faults.iter().any(|f| f.severity == Severity::Error) {
                // Even the key of such an object may be unknown.
                made.torn = true;
            }
            made.faults.append(&mut faults);
        }
        made
    }
}

#[cfg(test)]
mod tests;
