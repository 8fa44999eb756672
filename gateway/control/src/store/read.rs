//! Units are parsed before they are joined with the present objects. For the thousands that a start or `check` brings this is most of the work, so
//! all processors share it.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use sluicegate_config::manifest;

use super::{Parsed, Unit, Units};
use crate::sources::{Change, What};

/// How many units a thread takes at a time.
const CHUNK: usize = 64;
/// The highest number of threads.
const MOST_THREADS: usize = 8;

/// What has become of a unit, parsed; see [`What`].
pub(super) enum Read {
    Parsed(Parsed),
    Unreadable(Option<String>),
    Again,
    Held(Option<String>),
    Gone,
}

fn read(Change { unit, what }: Change, judging: bool, before: &Units) -> (PathBuf, Read) {
    let read = match what {
        What::Text(text) => {
            let rules: Vec<_> = before.get(&*unit).into_iter().flat_map(Unit::rules).collect();
            Read::Parsed(Parsed::of(manifest::parse_after(&unit, &text, &rules), judging))
        }
        What::Object(value) => Read::Parsed(Parsed::of(manifest::given(&unit, *value), judging)),
        What::Json(text) => match serde_json::from_str(&text) {
            Ok(value) => Read::Parsed(Parsed::of(manifest::given(&unit, value), true)),
            Err(error) => Read::Unreadable(Some(error.to_string())),
        },
        What::Unreadable(why) => Read::Unreadable(why),
        What::Again => Read::Again,
        What::Held(held) => Read::Held(held),
        What::Gone => Read::Gone,
    };
    (unit, read)
}

/// Parses what was reported, in its order; if `together`, on all processors. `before`: the units as they were.
pub(super) fn all(told: Vec<Change>, judging: bool, together: bool, before: &Units) -> Vec<(PathBuf, Read)> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_THREADS).min(told.len() / CHUNK);
    if !together || threads < 2 {
        return told.into_iter().map(|change| read(change, judging, before)).collect();
    }
    let mut chunks: VecDeque<(usize, Vec<Change>)> = VecDeque::new();
    let mut told = told.into_iter().peekable();
    while told.peek().is_some() {
        chunks.push_back((chunks.len(), told.by_ref().take(CHUNK).collect()));
    }
    let (chunks, done) = (Mutex::new(chunks), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let next = chunks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((number, chunk)) = next else { return };
            let read: Vec<_> = chunk.into_iter().map(|change| read(change, judging, before)).collect();
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, read));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // If the thread cannot be started, this one does all the work.
            let _ = std::thread::Builder::new().name("read".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().flat_map(|(_, read)| read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_all_processors_it_comes_to_the_same_in_the_same_order() {
        let text = |n: usize| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{n}}}\n");
        let told = || -> Vec<Change> {
            let what = |n: usize| if n % 10 == 3 { What::Gone } else { What::Text(text(n).into()) };
            (0..1000).map(|n| Change { unit: format!("{n}.yaml").into(), what: what(n) }).collect()
        };
        let names = |read: Vec<(PathBuf, Read)>| -> Vec<(PathBuf, Option<String>)> {
            let name = |read: Read| match read {
                Read::Parsed(parsed) => parsed.good.first().map(|object| object.key.name.clone()),
                _ => None,
            };
            read.into_iter().map(|(unit, read)| (unit, name(read))).collect()
        };
        let one_by_one = names(all(told(), false, false, &Units::new()));
        assert_eq!((one_by_one.len(), one_by_one[7].1.as_deref(), &one_by_one[13].1), (1000, Some("m7"), &None));
        assert_eq!(names(all(told(), false, true, &Units::new())), one_by_one);
    }
}
