//! Watches: what there is, if that is asked for, and then what changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use super::answers::{bad_request, failure, status, stream as streamed};
use super::list::{metadata, only_metadata};
use super::request::{Query, Target};
use super::select::Selector;
use super::world::Change;

/// An event comes in pieces of so many bytes: they are no events by themselves.
const PIECE: usize = 700;
/// How long a watch goes on that does not say.
const LONGEST: Duration = Duration::from_secs(1800);

struct Watch {
    shared: Arc<Shared>,
    target: Target,
    selector: Selector,
    partial: bool,
    bookmarks: bool,
    /// What was told last.
    version: u64,
    /// What the client knows to have seen.
    told: u64,
    pieces: VecDeque<Bytes>,
    ends: Instant,
    bookmark: Instant,
    ended: bool,
}

/// What a watch begins with.
enum Begin {
    /// What there is, and whether its end is marked.
    All(bool),
    From(u64),
    Now,
}

pub(super) fn watch(shared: &Arc<Shared>, target: Target, query: &Query, accept: &str) -> Response {
    let selector = match Selector::read(query.text("labelSelector"), query.text("fieldSelector")) {
        Ok(selector) => selector,
        Err(message) => return bad_request(&message),
    };
    let seconds = match query.text("timeoutSeconds") {
        "" => LONGEST,
        text => match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => return bad_request(&format!("strconv.ParseInt: parsing \"{text}\": invalid syntax")),
        },
    };
    let given = query.text("resourceVersion");
    let Ok(from) = (if given.is_empty() { Ok(0) } else { given.parse::<u64>() }) else {
        let message = format!("resourceVersion: Invalid value: \"{given}\": strconv.ParseUint: parsing \"{given}\": invalid syntax");
        return failure(500, "", &message, None);
    };
    let bookmarks = query.is("allowWatchBookmarks");
    let begin = if query.has("sendInitialEvents") {
        if query.text("resourceVersionMatch") != "NotOlderThan" || !shared.lock().streaming_lists {
            let why = if shared.lock().streaming_lists {
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            } else {
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            };
            let message = format!("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: {why}");
            let cause = json!({"reason": "FieldValueForbidden", "message": format!("Forbidden: {why}"), "field": "resourceVersionMatch"});
            let details = json!({"group": "meta.k8s.io", "kind": "ListOptions", "causes": [cause]});
            return failure(422, "Invalid", &message, Some(details));
        }
        if query.is("sendInitialEvents") { Begin::All(bookmarks) } else { Begin::Now }
    } else if from == 0 {
        Begin::All(false)
    } else {
        Begin::From(from)
    };
    let now = Instant::now();
    let state = shared.lock();
    let every = state.bookmark_every;
    let mut watch = Watch {
        shared: shared.clone(),
        target,
        selector,
        partial: only_metadata(accept),
        bookmarks,
        version: state.world.version,
        told: state.world.version,
        pieces: VecDeque::new(),
        ends: now + seconds,
        bookmark: now + every,
        ended: false,
    };
    match begin {
        Begin::Now => {}
        Begin::From(version) if version < state.world.oldest => {
            let message = format!("too old resource version: {version} ({})", state.world.oldest);
            watch.push("ERROR", &status(410, "Expired", &message, None));
            watch.ended = true;
        }
        Begin::From(version) => (watch.version, watch.told) = (version, version),
        Begin::All(marked) => {
            let all = state.world.at(state.world.version, &watch.target.kind.resource());
            let objects: Vec<Value> = all.values().filter(|object| watch.takes(object)).map(|object| watch.shown(object)).collect();
            for object in &objects {
                watch.push("ADDED", object);
            }
            if marked {
                watch.bookmark(true);
            }
        }
    }
    drop(state);
    let body = stream::unfold(watch, |mut watch| async move {
        let piece = watch.next().await?;
        Some((Ok::<_, std::io::Error>(piece), watch))
    });
    streamed(Body::from_stream(body))
}

impl Watch {
    fn takes(&self, object: &Value) -> bool {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        (self.target.namespace.is_empty() || namespace == self.target.namespace) && self.selector.takes(object)
    }

    fn shown(&self, object: &Value) -> Value {
        if self.partial { metadata(object) } else { object.clone() }
    }

    fn push(&mut self, kind: &str, object: &Value) {
        let text = format!("{}\n", json!({"type": kind, "object": object}));
        self.pieces.extend(text.as_bytes().chunks(PIECE).map(Bytes::copy_from_slice));
    }

    fn bookmark(&mut self, marked: bool) {
        let mut object = if self.partial { metadata(&Value::Null) } else { self.target.kind.empty() };
        object["metadata"] = json!({"resourceVersion": self.version.to_string()});
        if marked {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.told = self.version;
        self.push("BOOKMARK", &object);
    }

    /// What has changed since.
    fn take(&mut self) {
        let shared = self.shared.clone();
        let state = shared.lock();
        if state.silent {
            return;
        }
        let resource = self.target.kind.resource();
        let at = state.world.log.partition_point(|change| change.version <= self.version);
        for change in &state.world.log[at..] {
            if change.key.0 == resource {
                self.tell(change);
            }
        }
        self.version = self.version.max(state.world.version);
    }

    fn tell(&mut self, change: &Change) {
        let before = change.before.as_ref().is_some_and(|before| self.takes(before));
        let now = !change.gone && self.takes(&change.object);
        let kind = match (before, now) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let object = self.shown(&change.object);
        self.told = change.version;
        self.push(kind, &object);
    }

    async fn next(&mut self) -> Option<Bytes> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(piece);
            }
            if self.ended {
                return None;
            }
            changed.borrow_and_update();
            self.take();
            if !self.pieces.is_empty() {
                continue;
            }
            let until = if self.bookmarks { self.bookmark.min(self.ends) } else { self.ends };
            if tokio::time::timeout_at(until, changed.changed()).await.is_ok() {
                continue;
            }
            let now = Instant::now();
            if self.bookmarks && self.version > self.told {
                self.bookmark(false);
            }
            self.bookmark = now + self.shared.lock().bookmark_every;
            self.ended = now >= self.ends;
        }
    }
}
