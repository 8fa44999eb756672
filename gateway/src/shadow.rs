//! A configuration in the shadow of the one that is served: loaded beside it in this process, and asked what it would have decided about sampled requests that
//! workers have answered. Workers hand samples over and wait for nobody; a thread of its own decides and counts ([`judge`]). [`replace`] has the files of the new
//! configuration served.

mod judge;
mod replace;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate_control::allocate::Allocator;
use sluicegate_control::sources::{Change, folder};
use sluicegate_host::Loader;
use sluicegate_model::fault::Severity;
use sluicegate_model::requests::{Fields, Filter, Requests, Wanted, Watch};
use sluicegate_model::shadow::{self, Asked};

use crate::Settled;
use crate::compare::report::Report;
use crate::compare::tally::Tally;
use crate::loaded::{self, For};
use judge::Judge;

/// How often samples are collected, as workers wake nobody.
const LOOK: Duration = Duration::from_millis(20);
/// How long it lasts if nobody ends it.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How many faults are told.
const MOST_FAULTS: usize = 20;

/// What carries out orders about the shadow.
pub(crate) struct Shadow {
    requests: Arc<Requests>,
    loader: Loader,
    settled: Settled,
    running: Mutex<Option<Running>>,
}

/// A configuration in the shadow.
struct Running {
    asked: Asked,
    /// What was read of it.
    read: Vec<Change>,
    faults: Vec<String>,
    since: Instant,
    counted: Arc<Counted>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread that decides has counted so far.
#[derive(Default)]
struct Counted {
    stop: AtomicBool,
    tally: Mutex<Tally>,
    dropped: AtomicU64,
    /// Requests that were answered for reasons that no configuration decides by itself.
    skipped: AtomicU64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counted.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Only a panic would be an error, and it has been told.
            let _ = thread.join();
        }
    }
}

impl Shadow {
    pub(crate) fn new(requests: Arc<Requests>, loader: Loader, settled: Settled) -> Self {
        Self { requests, loader, settled, running: Mutex::new(None) }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NOTHING: &str = "no configuration is in the shadow";

impl shadow::Shadow for Shadow {
    fn begin(&self, asked: Asked) -> Result<String, String> {
        if !asked.path.exists() {
            return Err(format!("{} is not there", asked.path.display()));
        }
        let mut running = self.running();
        let read = folder::read(std::slice::from_ref(&asked.path));
        let settled = Settled { paths: vec![asked.path.clone()], ..self.settled.clone() };
        let allocator = Allocator::read_only(&settled.state_dir, settled.ranges.clone());
        let loaded = loaded::load_by(self.loader.clone(), read.clone(), &settled, allocator, For::Comparing)?;
        let errors = loaded.status.faults.iter().filter(|fault| fault.severity == Severity::Error);
        let faults: Vec<String> = errors.map(ToString::to_string).collect();
        let watch = self.requests.begin(Wanted {
            who: "the shadow of a configuration",
            every: asked.every,
            filter: Filter::default(),
            fields: Fields::All,
            connections: false,
            decision: true,
            time: LONGEST,
        })?;
        // Another one ends only now: if this one could not be loaded, it goes on.
        *running = None;
        let counted = Arc::new(Counted::default());
        let (rate, snapshot, to) = (asked.rate, loaded.snapshot.clone(), counted.clone());
        let work = move || watch_requests(&watch, rate, &mut Judge::new(snapshot), &to);
        let thread = std::thread::Builder::new().name("shadow".to_owned()).spawn(work).map_err(|error| error.to_string())?;
        let path = asked.path.display();
        let said = match faults.first() {
            None => format!("{path} is in the shadow"),
            Some(first) => format!("{path} is in the shadow, without what is wrong there: {} errors, the first is {first}", faults.len()),
        };
        *running = Some(Running { asked, read, faults, since: Instant::now(), counted, thread: Some(thread) });
        Ok(said)
    }

    fn status(&self) -> Option<Value> {
        let running = self.running();
        let running = running.as_ref()?;
        let counted = &running.counted;
        let tally = counted.tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(json!({
            "path": running.asked.path,
            "every": running.asked.every,
            "rate": running.asked.rate,
            "seconds": running.since.elapsed().as_secs(),
            "dropped": counted.dropped.load(Ordering::Relaxed),
            "skipped": counted.skipped.load(Ordering::Relaxed),
            "errors": running.faults.len(),
            "faults": running.faults.iter().take(MOST_FAULTS).collect::<Vec<_>>(),
            "report": serde_json::to_value(Report::new(&tally, Vec::new())).unwrap_or_default(),
        }))
    }

    fn promote(&self) -> Result<String, String> {
        let mut running = self.running();
        let one = running.as_ref().ok_or(NOTHING)?;
        let [served] = self.settled.paths.as_slice() else {
            return Err(
                "the objects are not of one file or folder, so nothing can be put in its place: apply them where they come from".to_owned()
            );
        };
        if self.settled.cluster.is_some() {
            return Err("the objects are a cluster's: apply the new ones there".to_owned());
        }
        let path: PathBuf = one.asked.path.clone();
        if folder::read(std::slice::from_ref(&path)) != one.read {
            return Err(format!("{} has changed since it was compared; take it into the shadow again", path.display()));
        }
        let kept = replace::replace(served, &path)?;
        *running = None;
        Ok(format!("{} has what {} has; what was there is kept in {}", served.display(), path.display(), kept.display()))
    }

    fn end(&self) -> Result<String, String> {
        let one = self.running().take().ok_or(NOTHING)?;
        Ok(format!("{} is not in the shadow any more", one.asked.path.display()))
    }
}

/// Takes samples, decides and counts, until it is told to stop.
fn watch_requests(watch: &Watch, rate: u64, judge: &mut Judge, counted: &Counted) {
    let (begun, mut granted, mut number) = (Instant::now(), 0, 0);
    while !counted.stop.load(Ordering::Relaxed) {
        let second = begun.elapsed().as_secs();
        if granted <= second {
            watch.grant(rate);
            granted = second + 1;
        }
        while let Some(seen) = watch.next() {
            number += 1;
            let Some((place, old, new)) = judge.judge(&seen) else {
                counted.skipped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let mut tally = counted.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.count(number, &seen.line, place, &old, &new);
            if counted.stop.load(Ordering::Relaxed) {
                return;
            }
        }
        counted.dropped.store(watch.dropped(), Ordering::Relaxed);
        std::thread::sleep(LOOK);
    }
}
