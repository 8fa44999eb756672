use super::super::kinds::Written;
use super::*;

const BEFORE: &str = "2026-11-28T12:00:00Z";
const NOW: &str = "2026-11-28T13:00:00Z";

fn condition(kind: &str, status: &str, reason: &str, generation: i64) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": generation})
}

fn at(condition: Value, time: &str) -> Value {
    timed(&condition, time)
}

fn accepted(generation: i64) -> Value {
    condition("Accepted", "True", "Accepted", generation)
}

fn parent(name: &str, controller: &str, conditions: &[Value]) -> Value {
    let reference = json!({"group": GROUP, "kind": "Gateway", "name": name});
    json!({"parentRef": reference, "controllerName": controller, "conditions": conditions})
}

const OTHER: &str = "other.example/controller";

struct Case {
    what: &'static str,
    kind: &'static str,
    present: Value,
    wished: Value,
    change: Option<Value>,
}

fn cases() -> Vec<Case> {
    let case = |what, kind, present, wished, change| Case { what, kind, present, wished, change };
    // What the CRD of Gateway fills in.
    let pending = |kind: &str| json!({"type": kind, "status": "Unknown", "reason": "Pending", "message": "Waiting for controller", "lastTransitionTime": "1970-01-01T00:00:00Z"});
    let old = at(accepted(1), BEFORE);
    let theirs = parent("theirs", OTHER, std::slice::from_ref(&old));
    let refused = condition("Accepted", "False", "NoMatchingParent", 2);
    let unresolved = condition("ResolvedRefs", "False", "RefNotPermitted", 2);
    let listener = |conditions: Value| json!({"name": "http", "attachedRoutes": 1, "supportedKinds": [], "conditions": conditions});
    let many: Vec<Value> = (0..31).map(|i| parent(&format!("g{i}"), OTHER, std::slice::from_ref(&old))).collect();
    let mut full = many.clone();
    full.push(parent("a", CONTROLLER, &[at(accepted(1), NOW)]));
    vec![
        case(
            "a new Gateway's conditions are replaced where they stand",
            "Gateway",
            json!({"conditions": [pending("Accepted"), pending("Programmed")]}),
            json!({"addresses": [], "conditions": [accepted(1)], "listeners": []}),
            Some(json!({"conditions": [at(accepted(1), NOW)]})),
        ),
        case(
            "a condition whose status stays keeps its time",
            "Gateway",
            json!({"conditions": [at(accepted(1), BEFORE)]}),
            json!({"conditions": [accepted(2)]}),
            Some(json!({"conditions": [at(accepted(2), BEFORE)]})),
        ),
        case(
            "a condition whose status changes has the new time",
            "Gateway",
            json!({"conditions": [at(accepted(1), BEFORE)]}),
            json!({"conditions": [refused]}),
            Some(json!({"conditions": [at(refused.clone(), NOW)]})),
        ),
        case(
            "nothing is written where nothing but a time would differ",
            "Gateway",
            json!({"conditions": [old], "listeners": [listener(json!([old]))]}),
            json!({"conditions": [accepted(1)], "listeners": [listener(json!([accepted(1)]))], "addresses": []}),
            None,
        ),
        case(
            "conditions of types that are not ours stay, ours that no longer apply go",
            "Gateway",
            json!({"conditions": [{"type": "Paid", "status": "True"}, old, at(condition("ResolvedRefs", "False", "X", 1), BEFORE)]}),
            json!({"conditions": [accepted(1)]}),
            Some(json!({"conditions": [{"type": "Paid", "status": "True"}, old]})),
        ),
        case(
            "of a listener that stays only what differs is new, one that is gone is gone",
            "ListenerSet",
            json!({"listeners": [{"name": "old", "conditions": []}, listener(json!([old]))]}),
            json!({"listeners": [listener(json!([accepted(2), unresolved]))]}),
            Some(json!({"listeners": [listener(json!([at(accepted(2), BEFORE), at(unresolved.clone(), NOW)]))]})),
        ),
        case(
            "what was judged of an older version is not written",
            "Gateway",
            json!({"conditions": [at(accepted(3), BEFORE)]}),
            json!({"conditions": [refused], "addresses": [{"value": "203.0.113.1"}]}),
            None,
        ),
        case(
            "the entry of another controller stays where it is",
            "HTTPRoute",
            json!({"parents": [theirs]}),
            json!({"parents": [parent("edge", CONTROLLER, &[accepted(1)])]}),
            Some(json!({"parents": [theirs, parent("edge", CONTROLLER, &[at(accepted(1), NOW)])]})),
        ),
        case(
            "our entries that no longer apply go, and theirs stays",
            "HTTPRoute",
            json!({"parents": [parent("edge", CONTROLLER, std::slice::from_ref(&old)), theirs]}),
            json!({"parents": []}),
            Some(json!({"parents": [theirs]})),
        ),
        case("no entry of ours and none wished", "HTTPRoute", Value::Null, json!({"parents": []}), None),
        case("only theirs and none wished", "HTTPRoute", json!({"parents": [theirs]}), json!({"parents": []}), None),
        case(
            "a reference without its defaults is the same",
            "HTTPRoute",
            json!({"parents": [{"parentRef": {"name": "edge"}, "controllerName": CONTROLLER, "conditions": [old]}]}),
            json!({"parents": [parent("edge", CONTROLLER, &[accepted(2)])]}),
            Some(json!({"parents": [parent("edge", CONTROLLER, &[at(accepted(2), BEFORE)])]})),
        ),
        case(
            "another section of the same parent is another entry",
            "TCPRoute",
            json!({"parents": [{"parentRef": {"name": "edge", "sectionName": "a"}, "controllerName": CONTROLLER, "conditions": [old]}]}),
            json!({"parents": [{"parentRef": {"name": "edge", "sectionName": "b"}, "controllerName": CONTROLLER, "conditions": [accepted(1)]}]}),
            Some(json!({"parents": [
                {"parentRef": {"name": "edge", "sectionName": "b"}, "controllerName": CONTROLLER, "conditions": [at(accepted(1), NOW)]},
            ]})),
        ),
        case(
            "the list has room for one of two, and nobody's entry is taken away",
            "HTTPRoute",
            json!({"parents": many}),
            json!({"parents": [parent("a", CONTROLLER, &[accepted(1)]), parent("b", CONTROLLER, &[accepted(1)])]}),
            Some(json!({"parents": full})),
        ),
        case(
            "an entry of a newer version is not turned back",
            "HTTPRoute",
            json!({"parents": [parent("edge", CONTROLLER, &[at(accepted(4), BEFORE)])]}),
            json!({"parents": [parent("edge", CONTROLLER, &[refused])]}),
            None,
        ),
        case(
            "policies have ancestors",
            "BackendTLSPolicy",
            json!({"ancestors": [{"ancestorRef": {"name": "x"}, "controllerName": OTHER, "conditions": []}]}),
            json!({"ancestors": [{"ancestorRef": {"name": "edge"}, "controllerName": CONTROLLER, "conditions": [accepted(1)]}]}),
            Some(json!({"ancestors": [
                {"ancestorRef": {"name": "x"}, "controllerName": OTHER, "conditions": []},
                {"ancestorRef": {"name": "edge"}, "controllerName": CONTROLLER, "conditions": [at(accepted(1), NOW)]},
            ]})),
        ),
        case(
            "a load balancer's address",
            "Service",
            json!({"loadBalancer": {}}),
            json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "Proxy"}]}}),
            Some(json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "Proxy"}]}})),
        ),
        case(
            "the same address again",
            "Service",
            json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "Proxy"}]}}),
            json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "Proxy"}]}}),
            None,
        ),
        case(
            "no address was there and none is wished",
            "Service",
            json!({"loadBalancer": {}}),
            json!({"loadBalancer": {"ingress": []}}),
            None,
        ),
        case("nonsense is replaced", "HTTPRoute", json!({"parents": 7}), json!({"parents": []}), Some(json!({"parents": []}))),
    ]
}

#[test]
fn a_message_is_as_long_as_the_server_takes() {
    let long = json!({"conditions": [{"type": "Accepted", "status": "True", "reason": "A", "message": "ä".repeat(40_000)}]});
    let written = change(Form::Whole, &Value::Null, &long, NOW).expect("it differs");
    let message = written["conditions"][0]["message"].as_str().expect("a message");
    assert_eq!(message.chars().count(), 32_768);
    assert_eq!(change(Form::Whole, &written, &long, NOW), None, "it is the same then");
}

#[test]
fn what_is_written_is_what_differs() {
    for Case { what, kind, present, wished, change: expected } in cases() {
        let form = Written::named(kind).expect("it is written").1.form;
        assert_eq!(change(form, &present, &wished, NOW), expected, "{what}");
        // What was written is what is wished, so nothing is to be written then.
        let Some(expected) = expected else { continue };
        let mut then = if present.is_object() { present } else { json!({}) };
        for (field, value) in expected.as_object().expect("fields") {
            then[field.as_str()] = value.clone();
        }
        assert_eq!(change(form, &then, &wished, "2027-01-01T00:00:00Z"), None, "{what}, the second time");
    }
}
