use std::hash::RandomState;

use serde_json::json;

use super::super::kinds::Written;
use super::super::pace::{CONFLICTS, OFTEN, PAUSE};
use super::*;

/// An object as the server has it: its version counts its writes.
struct Server {
    seen: Seen,
    version: u64,
    status: Value,
}

impl Server {
    fn new() -> Self {
        let server = Self { seen: Seen::default(), version: 1, status: json!({}) };
        server.seen.applied(&server.object());
        server
    }

    fn object(&self) -> Value {
        let metadata =
            json!({"name": "edge", "namespace": "shop", "uid": "u", "generation": 1, "resourceVersion": self.version.to_string()});
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata, "status": self.status})
    }

    /// Somebody writes these fields, and the watch tells it.
    fn write(&mut self, change: &Value) -> Value {
        for (field, value) in change.as_object().expect("fields") {
            self.status[field.as_str()] = value.clone();
        }
        self.version += 1;
        self.object()
    }
}

fn wish(hasher: &RandomState, message: &str) -> Wish {
    let (_, written) = Written::named("Gateway").expect("it is written");
    let condition = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": message, "observedGeneration": 1});
    Wish::new(written, "shop", "edge", json!({"conditions": [condition]}), hasher)
}

fn due(ledger: &mut Ledger, wish: &Wish, seen: &Seen, now: Instant) -> (Vec<Due>, Option<Instant>) {
    let (due, again, pending) = ledger.due(std::slice::from_ref(wish), |_| true, seen, Times { now, written: "2026-11-28T12:00:00Z" }, 10);
    assert_eq!(pending, usize::from(!due.is_empty() || again.is_some()));
    (due, again)
}

#[test]
fn what_was_written_is_not_written_again_though_the_watch_is_late() {
    let (hasher, now, mut ledger, mut server) = (RandomState::new(), Instant::now(), Ledger::default(), Server::new());
    let wish = wish(&hasher, "");
    let (all, again) = due(&mut ledger, &wish, &server.seen, now);
    assert_eq!((all.len(), &*all[0].version, again), (1, "1", None));
    let object = server.write(&all[0].change);
    ledger.written(&wish, &object, now);
    // The watch still tells the version before.
    assert!(due(&mut ledger, &wish, &server.seen, now).0.is_empty());
    server.seen.applied(&object);
    assert!(due(&mut ledger, &wish, &server.seen, now).0.is_empty());
    // A field that the server has not stored, as it does not know it, is not written for ever.
    server.status = json!({});
    server.version += 1;
    ledger.written(&wish, &server.object(), now);
    server.seen.applied(&server.object());
    assert!(due(&mut ledger, &wish, &server.seen, now).0.is_empty());
    // A watch that does not catch up is believed after a while: data that was restored has older versions again.
    server.version = 9;
    ledger.written(&wish, &server.object(), now);
    assert!(due(&mut ledger, &wish, &server.seen, now).0.is_empty());
    assert_eq!(due(&mut ledger, &wish, &server.seen, now + OWN_WORD).0.len(), 1);
    // An object that is gone is not asked for, and one that is not known neither.
    server.seen.gone("Gateway", Some("shop"), "edge");
    assert!(due(&mut ledger, &wish, &server.seen, now + OWN_WORD).0.is_empty());
    assert!(ledger.objects.is_empty());
}

#[test]
fn whoever_writes_something_else_each_time_is_left_in_peace() {
    let (hasher, mut now, mut ledger, mut server) = (RandomState::new(), Instant::now(), Ledger::default(), Server::new());
    let wish = wish(&hasher, "");
    let mut written = 0;
    for _ in 0..600 {
        now += Duration::from_millis(100);
        for due in due(&mut ledger, &wish, &server.seen, now).0 {
            written += 1;
            let object = server.write(&due.change);
            ledger.written(&wish, &object, now);
            // The other one does so at once.
            let theirs = server.write(&json!({"conditions": [{"type": "Accepted", "status": "False", "reason": "Mine", "message": ""}]}));
            server.seen.applied(&theirs);
        }
    }
    assert!((OFTEN..OFTEN + 10).contains(&written), "{written} times in a minute");
}

#[test]
fn what_is_refused_waits_until_something_else_is_wished() {
    let (hasher, now, mut ledger, server) = (RandomState::new(), Instant::now(), Ledger::default(), Server::new());
    let first = wish(&hasher, "");
    ledger.refused(&first, now);
    let (all, again) = due(&mut ledger, &first, &server.seen, now);
    assert!(all.is_empty());
    assert_eq!(again, Some(now + PAUSE));
    assert_eq!(due(&mut ledger, &first, &server.seen, now + PAUSE).0.len(), 1, "it is tried again");
    ledger.refused(&first, now + PAUSE);
    assert_eq!(due(&mut ledger, &first, &server.seen, now + PAUSE).1, Some(now + PAUSE * 3), "after twice the pause");
    let second = wish(&hasher, "another");
    assert_eq!(due(&mut ledger, &second, &server.seen, now + PAUSE).0.len(), 1);
    // Conflicts are looked into at once, but not for ever.
    for i in 0..=CONFLICTS {
        assert!(due(&mut ledger, &second, &server.seen, now + PAUSE).1.is_none(), "{i}");
        ledger.read(&second, &server.object(), now + PAUSE);
    }
    assert!(due(&mut ledger, &second, &server.seen, now + PAUSE).1.is_some());
}
