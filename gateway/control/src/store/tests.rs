//! A store that takes in changes has the same objects as one that reads everything.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::sources::What;

fn map(name: &str, value: usize) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{v: '{value}'}}\n---\n")
}

type File = Result<Arc<str>, String>;

/// What is reported when files change from `last` to `now`.
fn told(last: &BTreeMap<PathBuf, File>, now: &BTreeMap<PathBuf, File>) -> Vec<sources::Change> {
    let gone = last.keys().filter(|path| !now.contains_key(*path)).map(|path| (path.clone(), What::Gone));
    let other = now.iter().filter(|(path, file)| last.get(*path) != Some(*file)).map(|(path, file)| {
        let what = match file {
            Ok(text) => What::Text(text.clone()),
            Err(error) => What::Unreadable(Some(error.clone())),
        };
        (path.clone(), what)
    });
    gone.chain(other).map(|(unit, what)| sources::Change { unit, what }).collect()
}

fn text(unit: &str, text: &str) -> sources::Change {
    sources::Change { unit: unit.into(), what: What::Text(text.into()) }
}

fn gone(unit: &str) -> sources::Change {
    sources::Change { unit: unit.into(), what: What::Gone }
}

fn shown(store: &Store) -> Vec<String> {
    store.objects().iter().map(|object| format!("{} {} {}", object.key, object.value, object.origin.file().display())).collect()
}

/// The rules, applied to all files at once.
#[derive(Default)]
struct Reference(BTreeMap<ObjectKey, Arc<Object>>);

impl Reference {
    fn update(&mut self, files: &BTreeMap<PathBuf, File>) -> Unread {
        let parse = |path: &PathBuf, file: &File| match file {
            Ok(text) => Parsed::of(manifest::parse(path, text), false),
            Err(error) => Parsed::unreadable(path, error),
        };
        let parsed: Vec<(&PathBuf, Parsed)> = files.iter().map(|(path, file)| (path, parse(path, file))).collect();
        let mut good: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        for object in parsed.iter().flat_map(|(_, parsed)| &parsed.good) {
            good.entry(object.key.clone()).or_insert_with(|| object.clone());
        }
        let faulty: BTreeSet<ObjectKey> = parsed.iter().flat_map(|(_, parsed)| parsed.bad.iter().cloned()).collect();
        let torn: BTreeSet<PathBuf> = parsed.iter().filter(|(_, parsed)| parsed.torn).map(|(path, _)| (*path).clone()).collect();
        for (key, object) in &self.0 {
            let torn = || object.origin.file().ancestors().any(|above| torn.contains(above));
            if !good.contains_key(key) && (faulty.contains(key) || torn()) {
                good.insert(key.clone(), object.clone());
            }
        }
        let objects = faulty.into_iter().filter(|key| !good.contains_key(key)).collect();
        self.0 = good;
        Unread { files: torn, objects }
    }

    fn shown(&self) -> Vec<String> {
        self.0.values().map(|object| format!("{} {} {}", object.key, object.value, object.origin.file().display())).collect()
    }
}

#[test]
fn what_has_changed_comes_to_what_everything_comes_to() {
    for seed in 0..30 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut store, mut reference) = (Store::default(), Reference::default());
        let mut files: BTreeMap<PathBuf, File> = BTreeMap::new();
        let mut last = files.clone();
        let mut followed: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        for step in 0..60 {
            for _ in 0..random.random_range(1..3) {
                let path = PathBuf::from(["f/a.yaml", "f/b.yaml", "c.yaml", "f"][random.random_range(0..4)]);
                let mut text = String::new();
                for _ in 0..random.random_range(0..4) {
                    let name = ["x", "y", "z"][random.random_range(0..3)];
                    text += &match random.random_range(0..6) {
                        0 => format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\nnonsense: 1\n---\n"),
                        1 => "{ broken\n---\n".to_owned(),
                        _ => map(name, random.random_range(0..3)),
                    };
                }
                match random.random_range(0..6) {
                    0 => drop(files.remove(&path)),
                    1 => drop(files.insert(path.clone(), Err("no".to_owned()))),
                    // A folder is only reported when it cannot be read.
                    _ if path.extension().is_none() => drop(files.remove(&path)),
                    _ => drop(files.insert(path.clone(), Ok(text.into()))),
                }
            }
            let unread = reference.update(&files);
            let told = told(&last, &files);
            last.clone_from(&files);
            for (change, old) in store.update(told).changes {
                let before = match &change {
                    Change::Applied(object) => followed.insert(object.key.clone(), object.clone()),
                    Change::Gone(key) => followed.remove(key),
                };
                assert_eq!(before.map(|o| Arc::as_ptr(&o)), old.map(|o| Arc::as_ptr(&o)), "seed {seed}, step {step}");
            }
            assert_eq!(shown(&store), reference.shown(), "seed {seed}, step {step}");
            assert_eq!(followed.len(), reference.0.len(), "seed {seed}, step {step}");
            assert_eq!(*store.unread(), unread, "seed {seed}, step {step}");
        }
    }
}

#[test]
fn only_what_differs_is_a_change() {
    let mut store = Store::default();
    let both = map("a", 1) + &map("b", 1);
    assert_eq!(store.update(vec![text("1.yaml", &both), text("2.yaml", &map("c", 1))]).changes.len(), 3);
    assert_eq!(store.update(vec![text("1.yaml", &both)]).changes.len(), 0);
    let edited = map("a", 1) + &map("b", 2);
    let parsed = store.parsed();
    let changes = store.update(vec![text("1.yaml", &edited)]).changes;
    assert_eq!(changes.iter().map(|(change, _)| change.key().name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(store.parsed(), parsed + 1, "other units are not parsed");
    let changes = store.update(vec![gone("2.yaml")]).changes;
    assert!(matches!(&changes[..], [(Change::Gone(key), Some(_))] if key.name == "c"));
}

#[test]
fn of_two_definitions_the_first_counts_and_the_others_are_told() {
    let mut store = Store::default();
    let told = |update: Update| update.faults.iter().filter(|fault| fault.message.contains("is defined twice")).count();
    let second = text("2.yaml", &(map("a", 2) + &map("a", 3)));
    assert_eq!(told(store.update(vec![text("1.yaml", &map("a", 1)), second])), 2);
    assert!(shown(&store)[0].contains("\"1\""), "{:?}", shown(&store));
    assert_eq!(told(store.update(vec![text("1.yaml", "")])), 1);
    assert!(shown(&store)[0].contains("\"2\""), "{:?}", shown(&store));
}

#[test]
fn a_unit_that_cannot_be_read_for_a_while_is_what_it_was_and_no_change() {
    let mut store = Store::default();
    let say = |what: What| vec![sources::Change { unit: "f/1.yaml".into(), what }];
    store.update(say(What::Text((map("a", 1) + "nonsense: 1\n").into())));
    let before = shown(&store);
    for why in [Some("no".to_owned()), None] {
        let folder = |what| sources::Change { unit: "f".into(), what };
        let mut changes = say(What::Unreadable(why.clone()));
        changes.extend(why.is_none().then(|| folder(What::Unreadable(Some("no".to_owned())))));
        let update = store.update(changes);
        assert_eq!((update.changes.len(), shown(&store)), (0, before.clone()));
        assert!(update.faults.iter().any(|fault| fault.message.ends_with(": no")), "{:?}", update.faults);
        assert!(!store.unread().is_empty());
        // If that is reported twice, the content from before is still known.
        store.update(say(What::Unreadable(why)));
        let mut changes = say(What::Again);
        changes.push(folder(What::Gone));
        let update = store.update(changes);
        assert_eq!((update.changes.len(), shown(&store)), (0, before.clone()));
        assert!(update.faults.iter().all(|fault| !fault.message.ends_with(": no")), "{:?}", update.faults);
    }
    assert_eq!(store.parsed(), 1);
    let held = store.update(say(What::Held(Some("it is open".to_owned())))).faults;
    assert!(held.iter().any(|fault| fault.message == "f/1.yaml: it is open"), "{held:?}");
    let changes = store.update(say(What::Gone)).changes;
    assert!(matches!(&changes[..], [(Change::Gone(_), Some(_))]), "{changes:?}");
}
