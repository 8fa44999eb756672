//! Events (`events.k8s.io/v1`) on objects of our own kinds, for what an operator must see: a plugin that is refused, quarantined or replaced by an older generation,
//! a policy that is in conflict or cannot be used. They are made of the transitions of conditions, as the leader writes them: so there is one for each
//! transition, whichever process leads. What goes back and forth becomes a series, and of too many at once the rest is dropped.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_config::object::ObjectKey;
use sluicegate_config::plan::CONTROLLER;
use tokio::time::Instant;

/// How long after the last one an event of the same object, reason and text is one of a series; client-go has the same.
const SERIES: Duration = Duration::from_secs(6 * 60);
/// So many events can be written at once.
const BURST: u32 = 25;
/// The pause after which one more can be.
const REFILL: Duration = Duration::from_secs(1);
/// The longest note, in bytes (`noteLengthLimit` of the API server).
const NOTE: usize = 1024;
/// The longest name of who reports, and the longest reason, in bytes.
const NAME: usize = 128;
/// Reasons that come and go while objects are created one after the other, or while nodes take a new generation.
const PASSING: [&str; 2] = ["TargetNotFound", "GenerationsDiffer"];

/// Something that an operator must see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Happened {
    /// Whether it is bad; else it is good again.
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// What has happened to an object of this kind if `change` is written to its status, which was `before`.
pub(crate) fn of(kind: &str, before: &Value, change: &Value) -> Vec<Happened> {
    match kind {
        "Plugin" => conditions(&before["conditions"], &change["conditions"]),
        "Backend" => conditions(&before["conditions"], &change["conditions"]),
        "BackendTrafficPolicy" | "ClientTrafficPolicy" => {
            let (old, new) = (before["ancestors"].as_array(), change["ancestors"].as_array());
            let ours = |entry: &&Value| entry["controllerName"] == CONTROLLER;
            let mut all: Vec<Happened> = Vec::new();
            for entry in new.into_iter().flatten().filter(ours) {
                let known = old.into_iter().flatten().filter(ours).find(|known| known["ancestorRef"] == entry["ancestorRef"]);
                let known = known.map_or(&Value::Null, |known| &known["conditions"]);
                // The same is often said of each target.
                all.extend(
                    conditions(known, &entry["conditions"]).into_iter().filter(|happened| !all.contains(happened)).collect::<Vec<_>>(),
                );
            }
            all
        }
        _ => Vec::new(),
    }
}

fn conditions(before: &Value, after: &Value) -> Vec<Happened> {
    let mut all = Vec::new();
    for condition in after.as_array().into_iter().flatten() {
        let old = before.as_array().into_iter().flatten().find(|old| old["type"] == condition["type"]);
        let (reason, bad) = (condition["reason"].as_str().unwrap_or_default(), is_bad(condition));
        let was_bad = old.is_some_and(|old| is_bad(old) && old["reason"] != "GenerationsDiffer");
        let same = old.is_some_and(|old| old["reason"] == condition["reason"] && old["status"] == condition["status"]);
        if same || PASSING.contains(&reason) || (!bad && !was_bad) {
            continue;
        }
        let message = condition["message"].as_str().filter(|message| !message.is_empty());
        let note = message.map_or_else(|| format!("{} is {}", text(&condition["type"]), text(&condition["status"])), str::to_owned);
        all.push(Happened { warning: bad, reason: shortened(reason, NAME), note: shortened(&note, NOTE) });
    }
    all
}

/// Whether a condition says that something is not as it should be.
fn is_bad(condition: &Value) -> bool {
    condition["status"] == "False" || condition["reason"] == "OlderGeneration"
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// At most so many bytes of a text.
fn shortened(text: &str, most: usize) -> String {
    const MORE: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most - MORE.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MORE}", &text[..end])
}

/// What is to be asked of the API server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    /// A new Event, and the path of Events of its namespace.
    Create(String, Value),
    /// The path of an Event that has happened again, and a merge patch.
    Again(String, Value),
}

/// Whose events they are, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regarding<'r> {
    pub(crate) key: &'r ObjectKey,
    pub(crate) api_version: &'r str,
    pub(crate) uid: &'r str,
}

/// Makes Events, and series of them.
pub(crate) struct Recorder {
    /// Who reports.
    instance: String,
    known: HashMap<(String, Happened), Series>,
    /// How many may be written now, and since when that is so.
    left: u32,
    since: Instant,
    /// Tells events of one moment apart.
    made: u64,
}

struct Series {
    path: String,
    count: u64,
    last: Instant,
}

impl Recorder {
    /// One that reports as this process.
    pub(crate) fn new(instance: &str, now: Instant) -> Self {
        Self { instance: shortened(instance, NAME), known: HashMap::new(), left: BURST, since: now, made: 0 }
    }

    /// What has happened to an object. None: there were too many of late.
    pub(crate) fn record(&mut self, of: Regarding<'_>, happened: Happened, now: Instant, wall: jiff::Timestamp) -> Option<Ask> {
        self.known.retain(|_, series| now < series.last + SERIES);
        let time = format!("{wall:.6}");
        let id = (of.uid.to_owned(), happened);
        if let Some(series) = self.known.get_mut(&id) {
            (series.count, series.last) = (series.count + 1, now);
            let (path, patch) = (series.path.clone(), json!({"series": {"count": series.count, "lastObservedTime": time}}));
            return self.may(now).then_some(Ask::Again(path, patch));
        }
        if !self.may(now) {
            return None;
        }
        self.made += 1;
        let (kind, namespace, name) = (&of.key.kind, &of.key.namespace, &of.key.name);
        let list = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        // A name has at most 253 characters, of which the object's may be as many.
        let short: String = name.chars().take(200).collect();
        let event = format!("{}.{:x}{:04x}", short.trim_end_matches('.'), wall.as_microsecond(), self.made & 0xffff);
        let object = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"namespace": namespace, "name": event},
            "eventTime": time, "reportingController": CONTROLLER, "reportingInstance": self.instance,
            "action": if kind == "Plugin" { "LoadPlugin" } else { "Judge" }, "reason": id.1.reason, "note": id.1.note,
            "type": if id.1.warning { "Warning" } else { "Normal" },
            "regarding": {"apiVersion": of.api_version, "kind": kind, "namespace": namespace, "name": name, "uid": of.uid},
        });
        self.known.insert(id, Series { path: format!("{list}/{event}"), count: 1, last: now });
        Some(Ask::Create(list, object))
    }

    /// Whether one more may be written now.
    fn may(&mut self, now: Instant) -> bool {
        let more = u32::try_from(now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            (self.left, self.since) = (self.left.saturating_add(more).min(BURST), now);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": message})
    }

    #[test]
    fn an_event_is_a_transition_to_what_is_bad_or_back() {
        let good = condition("Accepted", "True", "Accepted", "");
        let refused = condition("Accepted", "False", "Refused", "stage compile: no module");
        let conflict = condition("Accepted", "False", "Conflicted", "policy a counts");
        let older = condition("Serving", "True", "OlderGeneration", "the last good generation serves");
        let serving = condition("Serving", "True", "Serving", "");
        let missing = condition("Accepted", "False", "TargetNotFound", "");
        let differ = condition("Consistent", "False", "GenerationsDiffer", "2 generations serve");
        let elsewhere = condition("Consistent", "False", "RefusedOnNodes", "refused on 1 of 3 nodes; on b: no module");
        let alike = condition("Consistent", "True", "SameGeneration", "");
        let plugin = |all: &[&Value]| json!({"conditions": all});
        let policy = |condition: &Value| {
            let entry = |name: &str, controller: &str| json!({"ancestorRef": {"name": name}, "controllerName": controller, "conditions": [condition]});
            json!({"ancestors": [entry("x", "other.example/c"), entry("a", CONTROLLER), entry("b", CONTROLLER)]})
        };
        let cases = [
            ("Plugin", json!({}), plugin(&[&good, &serving]), vec![]),
            ("Plugin", json!({}), plugin(&[&refused]), vec![(true, "Refused", "stage compile: no module")]),
            (
                "Plugin",
                plugin(&[&good]),
                plugin(&[&refused, &older]),
                vec![(true, "Refused", "stage compile: no module"), (true, "OlderGeneration", "the last good generation serves")],
            ),
            ("Plugin", plugin(&[&refused]), plugin(&[&refused]), vec![]),
            ("Plugin", plugin(&[&refused]), plugin(&[&good]), vec![(false, "Accepted", "Accepted is True")]),
            ("Plugin", plugin(&[&good]), json!({"serving": {}}), vec![]),
            // Nodes take a new generation one after the other; that one of them refuses it is told.
            ("Plugin", plugin(&[&good]), plugin(&[&good, &differ]), vec![]),
            ("Plugin", plugin(&[&differ]), plugin(&[&alike]), vec![]),
            (
                "Plugin",
                plugin(&[&differ]),
                plugin(&[&elsewhere]),
                vec![(true, "RefusedOnNodes", "refused on 1 of 3 nodes; on b: no module")],
            ),
            ("Plugin", plugin(&[&elsewhere]), plugin(&[&alike]), vec![(false, "SameGeneration", "Consistent is True")]),
            ("BackendTrafficPolicy", json!({}), policy(&conflict), vec![(true, "Conflicted", "policy a counts")]),
            ("ClientTrafficPolicy", policy(&conflict), policy(&conflict), vec![]),
            ("ClientTrafficPolicy", json!({}), policy(&missing), vec![]),
            // Others' kinds have events of others.
            ("Gateway", json!({}), plugin(&[&refused]), vec![]),
        ];
        for (kind, before, change, expected) in cases {
            let told = of(kind, &before, &change);
            let told: Vec<_> = told.iter().map(|it| (it.warning, it.reason.as_str(), it.note.as_str())).collect();
            assert_eq!(told, expected, "{kind} {before} {change}");
        }
    }

    #[test]
    fn what_repeats_is_a_series_and_too_many_are_dropped() {
        let start = Instant::now();
        let mut recorder = Recorder::new(&"n".repeat(300), start);
        let wall: jiff::Timestamp = "2026-11-28T12:00:00.5Z".parse().expect("a time");
        let key = ObjectKey::new("Plugin", "shop", "mine");
        let of = Regarding { key: &key, api_version: "sluicegate.dev/v1alpha1", uid: "u" };
        let happened = |note: &str| Happened { warning: true, reason: "Refused".to_owned(), note: note.to_owned() };
        let Some(Ask::Create(path, event)) = recorder.record(of, happened("x"), start, wall) else { panic!("it is new") };
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/shop/events");
        assert_eq!(event["eventTime"], "2026-11-28T12:00:00.500000Z");
        assert_eq!(event["reportingInstance"].as_str().map(str::len), Some(NAME));
        assert_eq!(event["regarding"]["uid"], "u");
        let name = event["metadata"]["name"].as_str().expect("a name").to_owned();
        let Some(Ask::Again(path, patch)) = recorder.record(of, happened("x"), start, wall) else { panic!("it is known") };
        assert_eq!(path, format!("/apis/events.k8s.io/v1/namespaces/shop/events/{name}"));
        assert_eq!(patch["series"]["count"], 2);
        // Something else of the same object is another event.
        assert!(matches!(recorder.record(of, happened("y"), start, wall), Some(Ask::Create(..))));
        let mut written = 0;
        for i in 0..100 {
            written += u32::from(recorder.record(of, happened(&i.to_string()), start, wall).is_some());
        }
        assert_eq!(written, BURST - 3);
        let later = start + SERIES + Duration::from_secs(1);
        assert!(matches!(recorder.record(of, happened("x"), later, wall), Some(Ask::Create(..))), "that was long ago");
        assert_eq!(recorder.known.len(), 1, "what was long ago is forgotten");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened(&"ä".repeat(600), NOTE).len(), NOTE - 1);
        assert_eq!(shortened("short", NOTE), "short");
    }
}
