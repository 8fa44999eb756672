//! The objects as they are now, each in its last good version. A file is parsed again only when its text changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::object::{self, Object, ObjectKey};
use sluicegate_model::{manifest, validate};

use crate::source::File;

/// All objects of a source.
#[derive(Default)]
pub struct Store {
    files: HashMap<PathBuf, Parsed>,
    good: BTreeMap<ObjectKey, Arc<Object>>,
    complete: bool,
    judging: bool,
}

struct Parsed {
    text: Result<String, String>,
    good: Vec<Arc<Object>>,
    /// Named in the file, but faulty.
    bad: Vec<ObjectKey>,
    /// Some of the file could not be read at all, so an object that is not in it may only have become unreadable.
    torn: bool,
    faults: Vec<Fault>,
}

impl Store {
    /// One for looking at a configuration, not for serving it: an object whose only fault is a field too many is among the others, so that what
    /// is wrong with its references is found as well.
    pub fn judging() -> Self {
        Self { judging: true, ..Self::default() }
    }

    /// Whether every object of the last update is there, if only in an older version: one that is not there is then gone.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Takes in the files as they are now. Returns all objects and all faults.
    pub fn update(&mut self, files: Vec<File>) -> (Vec<Arc<Object>>, Vec<Fault>) {
        let mut parsed = HashMap::new();
        let mut order = Vec::new();
        for (path, text) in files {
            let known = self.files.get_mut(&path).filter(|p| p.text == text).map(std::mem::take);
            parsed.insert(path.clone(), known.unwrap_or_else(|| parse(&path, text, self.judging)));
            order.push(path);
        }
        self.files = parsed;

        let mut good: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        let mut faults = Vec::new();
        let mut kept: BTreeSet<&ObjectKey> = BTreeSet::new();
        for file in order.iter().filter_map(|path| self.files.get(path)) {
            faults.extend(file.faults.iter().cloned());
            for object in &file.good {
                if let Some(first) = good.get(&object.key) {
                    faults.push(Fault {
                        severity: Severity::Error,
                        place: Some(object.origin.place("metadata.name")),
                        object: Some(object.key.to_string()),
                        message: format!("{} is defined twice", object.key),
                        expected: Some(format!("the first one, in {}, is used", first.origin.place("metadata.name").file.display())),
                    });
                } else {
                    good.insert(object.key.clone(), object.clone());
                }
            }
            kept.extend(&file.bad);
        }
        let torn: BTreeSet<&PathBuf> = self.files.iter().filter(|(_, f)| f.torn).map(|(path, _)| path).collect();
        for (key, object) in &self.good {
            let file = &*object.origin.place("").file;
            if !good.contains_key(key) && (kept.contains(key) || torn.contains(file)) {
                good.insert(key.clone(), object.clone());
            }
        }
        self.complete = torn.is_empty() && kept.iter().all(|key| good.contains_key(*key));
        self.good = good;
        (self.good.values().cloned().collect(), faults)
    }
}

impl Default for Parsed {
    fn default() -> Self {
        Self { text: Ok(String::new()), good: Vec::new(), bad: Vec::new(), torn: false, faults: Vec::new() }
    }
}

fn parse(path: &std::path::Path, text: Result<String, String>, judging: bool) -> Parsed {
    let mut made = Parsed { text, ..Parsed::default() };
    let text = match &made.text {
        Ok(text) => text,
        Err(error) => {
            made.torn = true;
            made.faults.push(Fault {
                severity: Severity::Error,
                place: None,
                object: None,
                message: format!("{}: {error}", path.display()),
                expected: None,
            });
            return made;
        }
    };
    let manifest = manifest::parse(path, text);
    made.torn = manifest.faults.iter().any(|f| f.severity == Severity::Error);
    made.faults = manifest.faults;
    for document in manifest.documents {
        let (object, mut faults) = object::decode(document);
        if let Some(object) = object {
            faults.extend(validate::object(&object, &faults));
            let mut errors = faults.iter().filter(|f| f.severity == Severity::Error).peekable();
            let faulty = errors.peek().is_some();
            if faulty {
                made.bad.push(object.key.clone());
            }
            if !faulty || (judging && errors.all(|f| f.message.starts_with("unknown field"))) {
                made.good.push(Arc::new(object));
            }
        } else if faults.iter().any(|f| f.severity == Severity::Error) {
            // Its key may not even be known.
            made.torn = true;
        }
        made.faults.append(&mut faults);
    }
    made
}
