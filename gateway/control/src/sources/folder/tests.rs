use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::sources::{Sources, What};

const PATIENCE: Duration = Duration::from_secs(30);

/// The files as they were reported, and the folder around those that are read.
struct Watched {
    folder: tempfile::TempDir,
    sources: Sources,
    counts: Arc<Counts>,
    followed: Followed,
    files: BTreeMap<PathBuf, File>,
}

/// What was reported about a file.
#[derive(Clone, Debug)]
struct File {
    text: Result<Arc<str>, String>,
    before: Option<Arc<str>>,
    held: Option<String>,
}

impl Watched {
    /// Watches `conf` in a folder that `prepare` has filled.
    async fn new(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path());
        Self::of(folder, "conf").await
    }

    async fn of(folder: tempfile::TempDir, conf: &str) -> Self {
        let (files, followed) = Folder::new(vec![folder.path().join(conf)]);
        let counts = files.counts();
        let sources = Sources::start(vec![Box::new(files)]).expect("starts");
        assert!(sources.synced(PATIENCE).await.is_empty(), "read once");
        let mut watched = Self { folder, sources, counts, followed, files: BTreeMap::new() };
        watched.take();
        watched
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes the changes as the store does.
    fn take(&mut self) -> Vec<Change> {
        let changes = self.sources.take().changes;
        for Change { unit, what } in changes.clone() {
            let known = self.files.get(&unit);
            let before = known.and_then(|file| file.before.clone().or_else(|| file.text.clone().ok()));
            let file = match what {
                What::Text(text) => File { text: Ok(text), before: None, held: None },
                What::Unreadable(why) => File { text: Err(why.unwrap_or_default()), before, held: None },
                What::Again => File { text: Ok(before.expect("it was read before")), before: None, held: None },
                What::Held(held) => match known {
                    Some(known) => File { held, ..known.clone() },
                    None => File { text: Ok("".into()), before: None, held },
                },
                What::Gone => {
                    self.files.remove(&unit);
                    continue;
                }
                What::Object(_) | What::Json(_) => unreachable!("a file is a text"),
            };
            self.files.insert(unit, file);
        }
        changes
    }

    fn now(&mut self, name: &str) -> Option<File> {
        self.take();
        self.files.get(&self.path(name)).cloned()
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.now(name).and_then(|file| file.text.ok()).map(|text| text.to_string())
    }

    async fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let wait = async {
            while !done(self) {
                self.sources.changed().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("not in time: {what}: {:#?}", self.files);
        }
    }

    async fn becomes(&mut self, name: &str, text: &str) {
        self.until(&format!("{name}: {text}"), |w| w.text(name).as_deref() == Some(text)).await;
    }

    /// Waits until a change that is made now has been taken in, and with it every earlier one.
    async fn settles(&mut self) {
        let marker = format!("conf/marker-{:?}.yaml", std::time::Instant::now()).replace([' ', '{', '}', ':'], "");
        fs::write(self.path(&marker), "marker").expect("written");
        self.becomes(&marker, "marker").await;
        fs::remove_file(self.path(&marker)).expect("removed");
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
    fs::write(path, text).expect("written");
}

/// Replaces a link by another, as `ln -s` and `mv -T` do.
fn flip(link: &Path, to: &str) {
    let new = link.with_extension("new");
    symlink(to, &new).expect("linked");
    fs::rename(new, link).expect("renamed");
}

#[tokio::test]
async fn a_file_counts_when_it_is_closed_and_not_before() {
    let mut watched = Watched::new(|root| write(&root.join("conf/a.yaml"), "one")).await;
    assert_eq!(watched.text("conf/a.yaml").as_deref(), Some("one"));
    for round in 0..3 {
        let before = watched.text("conf/a.yaml");
        // A shell does it like this: the file is empty at once and is written later.
        let mut file = fs::File::create(watched.path("conf/a.yaml")).expect("opened");
        watched.settles().await;
        assert_eq!(watched.text("conf/a.yaml"), before, "empty");
        file.write_all(b"half").expect("written");
        watched.settles().await;
        assert_eq!(watched.text("conf/a.yaml"), before, "half");
        file.write_all(format!(" and half {round}").as_bytes()).expect("written");
        drop(file);
        watched.becomes("conf/a.yaml", &format!("half and half {round}")).await;
    }
    // A new file does not count before it is complete.
    let mut file = fs::File::create(watched.path("conf/b.yaml")).expect("opened");
    file.write_all(b"new").expect("written");
    watched.settles().await;
    assert_eq!(watched.text("conf/b.yaml"), None);
    drop(file);
    watched.becomes("conf/b.yaml", "new").await;
}

#[tokio::test]
async fn a_file_that_stays_open_is_told_and_one_that_was_emptied_keeps_its_last_version() {
    let mut watched = Watched::new(|root| write(&root.join("conf/a.yaml"), "one")).await;
    let open = fs::File::create(watched.path("conf/a.yaml")).expect("opened");
    watched.until("told", |w| w.now("conf/a.yaml").and_then(|f| f.held).is_some_and(|held| held.contains("open for writing"))).await;
    drop(open);
    watched.until("told", |w| w.now("conf/a.yaml").and_then(|f| f.held).is_some_and(|held| held.contains("it is empty"))).await;
    for blank in ["\n", ""] {
        fs::write(watched.path("conf/a.yaml"), blank).expect("written");
        watched.settles().await;
        assert_eq!(watched.text("conf/a.yaml").as_deref(), Some("one"));
        assert!(watched.now("conf/a.yaml").and_then(|f| f.held).is_some());
    }
    fs::write(watched.path("conf/a.yaml"), "# nothing").expect("written");
    watched.becomes("conf/a.yaml", "# nothing").await;
    assert_eq!(watched.now("conf/a.yaml").and_then(|f| f.held), None);
    fs::remove_file(watched.path("conf/a.yaml")).expect("removed");
    watched.until("gone", |w| w.now("conf/a.yaml").is_none()).await;
}

#[tokio::test]
async fn a_folder_that_is_a_link_is_followed_whenever_it_is_flipped() {
    let mut watched = Watched::new(|root| {
        for revision in 0..4 {
            write(&root.join(format!("revisions/{revision}/a.yaml")), &format!("revision {revision}"));
        }
        symlink("revisions/0", root.join("conf")).expect("linked");
    })
    .await;
    for revision in [1, 2, 3, 0, 1] {
        flip(&watched.path("conf"), &format!("revisions/{revision}"));
        watched.becomes("conf/a.yaml", &format!("revision {revision}")).await;
    }
    // The same holds for what happens in it afterwards.
    fs::write(watched.path("revisions/1/a.yaml"), "changed").expect("written");
    watched.becomes("conf/a.yaml", "changed").await;
    fs::write(watched.path("revisions/1/b.yaml"), "new").expect("written");
    watched.becomes("conf/b.yaml", "new").await;
}

#[tokio::test]
async fn so_is_one_whose_parent_is_a_link_or_is_renamed_away_and_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    for revision in 0..3 {
        write(&root.join(format!("{revision}/inner/conf/a.yaml")), &format!("revision {revision}"));
    }
    symlink("0", root.join("current")).expect("linked");
    let mut watched = Watched::of(folder, "current/inner/conf").await;
    watched.becomes("current/inner/conf/a.yaml", "revision 0").await;
    for revision in [1, 0, 2] {
        flip(&watched.path("current"), &revision.to_string());
        watched.becomes("current/inner/conf/a.yaml", &format!("revision {revision}")).await;
    }
    for (revision, at) in [(0, "2"), (1, "2/inner"), (2, "2/inner/conf"), (3, "2/inner/conf"), (4, "2")] {
        let below = Path::new("2/inner/conf").strip_prefix(at).expect("below");
        write(&watched.path("new").join(below).join("a.yaml"), &format!("replaced {revision}"));
        fs::rename(watched.path(at), watched.path(&format!("old-{revision}"))).expect("renamed");
        fs::rename(watched.path("new"), watched.path(at)).expect("renamed");
        watched.becomes("current/inner/conf/a.yaml", &format!("replaced {revision}")).await;
        fs::write(watched.path("current/inner/conf/a.yaml"), format!("written {revision}")).expect("written");
        watched.becomes("current/inner/conf/a.yaml", &format!("written {revision}")).await;
    }
}

#[tokio::test]
async fn files_and_folders_that_are_links_are_followed_to_their_targets() {
    let mut watched = Watched::new(|root| {
        write(&root.join("far/one.txt"), "one");
        write(&root.join("far/two.txt"), "two");
        write(&root.join("far/sub/c.yaml"), "c");
        fs::create_dir(root.join("conf")).expect("made");
        symlink("one.txt", root.join("far/link")).expect("linked");
        symlink("../far/link", root.join("conf/a.yaml")).expect("linked");
        symlink(root.join("far/sub"), root.join("conf/sub")).expect("linked");
    })
    .await;
    assert_eq!((watched.text("conf/a.yaml").as_deref(), watched.text("conf/sub/c.yaml").as_deref()), (Some("one"), Some("c")));
    fs::write(watched.path("far/one.txt"), "changed").expect("written");
    watched.becomes("conf/a.yaml", "changed").await;
    flip(&watched.path("far/link"), "two.txt");
    watched.becomes("conf/a.yaml", "two").await;
    fs::write(watched.path("far/two.txt"), "changed again").expect("written");
    watched.becomes("conf/a.yaml", "changed again").await;
    fs::write(watched.path("far/sub/d.yaml"), "d").expect("written");
    watched.becomes("conf/sub/d.yaml", "d").await;
}

#[tokio::test]
async fn what_is_no_file_stops_nothing_and_is_told() {
    let mut watched = Watched::new(|root| {
        write(&root.join("conf/a.yaml"), "a");
        let conf = root.join("conf");
        rustix::fs::mkfifoat(rustix::fs::CWD, conf.join("fifo.yaml"), rustix::fs::Mode::RUSR).expect("made");
        let _ = std::os::unix::net::UnixListener::bind(conf.join("socket.yaml")).expect("bound");
        symlink("/dev/zero", conf.join("device.yaml")).expect("linked");
        symlink("nowhere", conf.join("nowhere.yaml")).expect("linked");
        symlink(".", conf.join("again")).expect("linked");
        write(&conf.join("folder.yaml/b.yaml"), "b");
    })
    .await;
    let mut wrong: Vec<(String, String)> = Vec::new();
    for (path, file) in watched.files.clone() {
        wrong.extend(file.text.err().map(|error| (path.file_name().expect("a name").display().to_string(), error)));
    }
    let names: Vec<&str> = wrong.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["again", "device.yaml", "fifo.yaml", "nowhere.yaml", "socket.yaml"], "{wrong:?}");
    assert_eq!((watched.text("conf/a.yaml").as_deref(), watched.text("conf/folder.yaml/b.yaml").as_deref()), (Some("a"), Some("b")));
    watched.settles().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_read_when_it_can_be() {
    let mut watched = Watched::new(|root| {
        write(&root.join("conf/a.yaml"), "a");
        write(&root.join("sub/b.yaml"), "b");
        symlink("../sub", root.join("conf/sub")).expect("linked");
    })
    .await;
    assert_eq!(watched.text("conf/sub/b.yaml").as_deref(), Some("b"));
    for path in ["sub", "conf"] {
        fs::rename(watched.path(path), watched.path("away")).expect("renamed");
        let folder = if path == "sub" { "conf/sub" } else { "conf" };
        watched.until("told", |w| w.now(folder).is_some_and(|file| file.text.is_err())).await;
        fs::rename(watched.path("away"), watched.path(path)).expect("renamed");
        watched.until("read", |w| w.now(folder).is_none() && w.text("conf/sub/b.yaml").as_deref() == Some("b")).await;
    }
}

#[tokio::test]
async fn what_the_watcher_does_not_see_is_found_by_the_next_look() {
    let mut watched = Watched::new(|root| {
        write(&root.join("conf/a.yaml"), "one");
        // The file is written by another name, in a folder that is not watched: inotify reports names, not files.
        fs::create_dir(root.join("other")).expect("made");
        fs::hard_link(root.join("conf/a.yaml"), root.join("other/a")).expect("linked");
    })
    .await;
    fs::write(watched.path("other/a"), "other").expect("written");
    watched.becomes("conf/a.yaml", "other").await;
}

#[tokio::test]
async fn a_file_that_does_not_answer_stops_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("conf/a.yaml"), "a");
    write(&folder.path().join("conf/hung.yaml"), "hung");
    let mut watched = Watched::of(folder, "conf").await;
    watched.becomes("conf/hung.yaml", "hung").await;
    let stalled = disk::stall(&watched.path("conf/hung.yaml"));
    watched.until("told", |w| w.now("conf/hung.yaml").is_some_and(|f| f.text.is_err_and(|e| e.contains("does not answer")))).await;
    fs::write(watched.path("conf/a.yaml"), "changed meanwhile").expect("written");
    watched.becomes("conf/a.yaml", "changed meanwhile").await;
    drop(stalled);
    watched.becomes("conf/hung.yaml", "hung").await;
}

/// The cost of a change does not grow with the number of files.
#[tokio::test]
async fn a_file_that_changes_is_read_and_no_other_is_looked_at() {
    let mut asked = Vec::new();
    for files in [10, 1000] {
        let mut watched = Watched::new(|root| {
            for file in 0..files {
                write(&root.join(format!("conf/{}/{file}.yaml", file % 3)), &file.to_string());
            }
        })
        .await;
        // A file that was just written is read once more, as its times may not show another change.
        watched.until("read again", |w| w.counts.asked.load(Ordering::Relaxed) > 0).await;
        let count = |w: &Watched| (w.counts.asked.load(Ordering::Relaxed), w.counts.full.load(Ordering::Relaxed));
        let (mut least, mut told) = (u64::MAX, Vec::new());
        for round in 0..5 {
            let before = count(&watched);
            fs::write(watched.path("conf/1/4.yaml"), format!("changed {round}")).expect("written");
            watched
                .until("changed", |w| {
                    let changes = w.take();
                    told.extend(changes.iter().map(|change| change.unit.clone()));
                    !changes.is_empty()
                })
                .await;
            let after = count(&watched);
            // A look at everything may come in between; one of four rounds is without one.
            if after.1 == before.1 {
                least = least.min(after.0 - before.0);
            }
        }
        assert!(told.iter().all(|unit| *unit == watched.path("conf/1/4.yaml")), "{told:?}");
        asked.push(least);
    }
    assert!(asked[0] == asked[1] && asked[0] <= 4, "questions to the disk for a change among 10 and 1,000 files: {asked:?}");
}

#[tokio::test]
async fn new_and_removed_files_and_folders_are_seen_whatever_was_there() {
    let mut watched = Watched::new(|root| write(&root.join("conf/a.yaml"), "a")).await;
    for round in 0..3 {
        fs::write(watched.path("conf/new.yaml"), "new").expect("written");
        watched.becomes("conf/new.yaml", "new").await;
        fs::rename(watched.path("conf/new.yaml"), watched.path("conf/other.yaml")).expect("renamed");
        watched.until("renamed", |w| w.now("conf/new.yaml").is_none() && w.text("conf/other.yaml").as_deref() == Some("new")).await;
        write(&watched.path("conf/sub/b.yaml"), "b");
        watched.becomes("conf/sub/b.yaml", "b").await;
        fs::write(watched.path("conf/sub/b.yaml"), "changed").expect("written");
        watched.becomes("conf/sub/b.yaml", "changed").await;
        fs::remove_dir_all(watched.path("conf/sub")).expect("removed");
        fs::remove_file(watched.path("conf/other.yaml")).expect("removed");
        watched.until("gone", |w| w.now("conf/sub/b.yaml").is_none() && w.now("conf/other.yaml").is_none()).await;
        assert_eq!(watched.text("conf/a.yaml").as_deref(), Some("a"), "round {round}");
    }
}

#[tokio::test]
async fn other_files_wake_though_no_unit_has_changed() {
    let watched = Watched::new(|root| {
        write(&root.join("conf/a.yaml"), "a");
        write(&root.join("plugin.wasm"), "one");
    })
    .await;
    watched.followed.follow([watched.path("plugin.wasm")].into_iter());
    let nudged = |what: &'static str| {
        let sources = &watched.sources;
        async move {
            let wait = async {
                loop {
                    sources.changed().await;
                    if sources.take().other {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.expect(what);
        }
    };
    nudged("it is followed").await;
    fs::write(watched.path("plugin.wasm"), "two").expect("written");
    nudged("it has changed").await;
    fs::write(watched.path("plugin.wasm"), "").expect("written");
    nudged("it is empty").await;
    assert!(watched.followed.waiting().contains_key(&watched.path("plugin.wasm")));
}

/// Nor does that of a plugin's file.
#[tokio::test]
async fn another_file_that_changes_is_told_and_only_it_is_looked_at() {
    let mut asked = Vec::new();
    for files in [10, 1000] {
        let mut watched = Watched::new(|root| {
            (0..files).for_each(|file| write(&root.join(format!("conf/{file}.yaml")), &file.to_string()));
            write(&root.join("a.wasm"), "a");
            write(&root.join("b.wasm"), "b");
        })
        .await;
        watched.followed.follow(["a.wasm", "b.wasm"].map(|name| watched.path(name)).into_iter());
        let followed = watched.followed.clone();
        let mut first = BTreeSet::new();
        watched
            .until("followed", |w| {
                w.take();
                first.append(&mut followed.take_changed());
                first.len() == 2
            })
            .await;
        let count = |w: &Watched| (w.counts.asked.load(Ordering::Relaxed), w.counts.full.load(Ordering::Relaxed));
        let (mut least, partial) = (u64::MAX, watched.path(".a.wasm"));
        for round in 0..6 {
            let (before, path) = (count(&watched), watched.path("a.wasm"));
            if round % 2 == 0 {
                fs::write(&path, format!("changed {round}")).expect("written");
            } else {
                fs::write(&partial, format!("changed {round}")).expect("written");
                fs::rename(&partial, &path).expect("renamed");
            }
            let mut changed = BTreeSet::new();
            watched
                .until("told", |w| {
                    w.take();
                    changed.append(&mut followed.take_changed());
                    !changed.is_empty()
                })
                .await;
            assert_eq!(changed, BTreeSet::from([path]), "round {round}");
            let after = count(&watched);
            // A look at everything may come in between.
            if after.1 == before.1 {
                least = least.min(after.0 - before.0);
            }
        }
        asked.push(least);
    }
    assert!(asked[0] == asked[1] && asked[0] <= 2, "questions to the disk for a change beside 10 and 1,000 files: {asked:?}");
}
