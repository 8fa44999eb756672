//! A new generation that takes over step by step: first as the shadow of the live one, then as a canary.

use sluicegate_tests::load::Load;
use sluicegate_tests::plugin::{another, balanced, gateway, metric, order};
use sluicegate_tests::{Gateway, HOSTILE_BALANCER, eventually, fetch, replace};

const SHADOW: &str = ", rollout: {shadow: {duration: 1s}}";

fn events(gateway: &Gateway) -> Vec<(String, u64)> {
    let history = gateway.json("plugins/mine/history");
    let event =
        |event: &serde_json::Value| (event["what"].as_str().expect("a word").to_owned(), event["generation"].as_u64().unwrap_or_default());
    history.as_array().expect("a list").iter().map(event).collect()
}

fn has(gateway: &Gateway, what: &str, generation: u64) -> bool {
    events(gateway).contains(&(what.to_owned(), generation))
}

/// The hostile balancer with another default mode, which it does not show to the pools of a trial.
fn patched(how: &[u8; 12]) -> Vec<u8> {
    let mut wasm = HOSTILE_BALANCER.to_vec();
    let marks: Vec<usize> = (0..wasm.len() - 12).filter(|at| &wasm[*at..at + 12] == b"default-good").collect();
    assert!(!marks.is_empty());
    marks.iter().for_each(|at| wasm[*at..at + 12].copy_from_slice(how));
    wasm
}

fn count(gateway: &Gateway, family: &str, labels: &str) -> f64 {
    metric(gateway, &format!("sluicegate_plugin_{family}_total{{plugin=\"mine\",kind=\"balancer\",{labels}}}")).unwrap_or_default()
}

#[test]
fn a_shadow_sees_the_same_picks_never_influences_them_and_is_promoted() {
    let gateway = gateway(HOSTILE_BALANCER, &balanced("{mode: ok}", ", rollout: {shadow: {duration: 4s}}"));
    let address = gateway.node_port();
    eventually("served", || fetch(address).0 == 200);
    // It always picks the first endpoint, while the live generation takes turns.
    replace(&gateway.path("mine.wasm"), &patched(b"default-lead"));
    eventually("in shadow", || has(&gateway, "shadow", 2));
    assert_eq!(gateway.plugin("mine")["generation"]["number"], 1);
    let before = gateway.plugin("mine")["generation"]["calls"].as_u64().expect("a number");
    let names: Vec<String> = (0..40).map(|_| fetch(address)).map(|(status, body)| format!("{status} {}", &body[..1])).collect();
    let to_a = names.iter().filter(|name| *name == "200 a").count();
    assert!((19..=21).contains(&to_a), "each worker takes turns: {names:?}");
    let rollout = &gateway.plugin("mine")["rollout"];
    assert_eq!((rollout["phase"].as_str(), rollout["generation"].as_u64()), (Some("shadow"), Some(2)), "{rollout}");
    let compared = rollout["compared"].as_u64().expect("a number");
    assert!(compared >= 40 && rollout["differed"].as_u64() > Some(10), "{rollout}");
    let live = gateway.plugin("mine")["generation"]["calls"].as_u64().expect("a number") - before;
    assert_eq!(live, 40, "each exchange is one pick of the live one");
    assert!(count(&gateway, "shadow_picks", "result=\"different\"") > 10.0);
    assert!(count(&gateway, "shadow_seconds", "generation=\"candidate\"") > 0.0);
    eventually("promoted", || has(&gateway, "promoted", 2));
    assert_eq!(gateway.plugin("mine")["generation"]["number"], 2);
    assert!(gateway.plugin("mine")["rollout"].is_null());
    eventually("it leads", || (0..10).all(|_| fetch(address).1.starts_with('a')));
}

#[test]
fn a_shadow_that_fails_is_rolled_back_and_traffic_never_knew() {
    for how in [b"default-evil", b"default-loop"] {
        let gateway =
            gateway(HOSTILE_BALANCER, &balanced("{mode: ok}", &format!("{SHADOW}, failurePolicy: Fail, limits: {{deadline: 100ms}}")));
        let address = gateway.node_port();
        eventually("served", || fetch(address).0 == 200);
        let load = Load::on(address);
        replace(&gateway.path("mine.wasm"), &patched(how));
        eventually("rolled back", || has(&gateway, "rolled back", 2));
        load.goes_on(10);
        // With `Fail`, a failure that reached traffic would have failed an exchange.
        load.end();
        let plugin = gateway.plugin("mine");
        assert_eq!((&plugin["generation"]["number"], &plugin["generation"]["failures"]), (&1.into(), &0.into()));
        let reason = plugin["reason"].as_str().expect("a reason");
        assert!(reason.contains("generation 2 is rolled back, shadow: a call failed, stage pick"), "{reason}");
        assert!(!has(&gateway, "promoted", 2));
    }
}

/// A rollout that serves a share of 50 % until it is promoted or rolled back; `more` ends the canary.
fn canary(more: &str) -> String {
    balanced("{mode: ok}", &format!(", rollout: {{canary: {{weight: 50, minRequests: 20, {more}}}}}"))
}

#[test]
fn a_good_canary_serves_its_share_and_is_promoted() {
    let gateway = gateway(HOSTILE_BALANCER, &canary("duration: 2s"));
    let address = gateway.node_port();
    eventually("served", || fetch(address).0 == 200);
    let load = Load::on(address);
    replace(&gateway.path("mine.wasm"), &another(HOSTILE_BALANCER));
    eventually("a canary", || has(&gateway, "canary", 2));
    assert_eq!(gateway.plugin("mine")["generation"]["number"], 1);
    eventually("promoted", || has(&gateway, "promoted", 2));
    load.goes_on(5);
    load.end();
    let served = |side: &str| count(&gateway, "canary_exchanges", &format!("generation=\"{side}\",result=\"success\""));
    let (live, candidate) = (served("live"), served("candidate"));
    assert!(candidate >= 20.0 && (live - candidate).abs() <= 4.0, "half of the exchanges each: {live} {candidate}");
    assert_eq!((&gateway.plugin("mine")["generation"]["number"], gateway.plugin("mine")["state"].as_str()), (&2.into(), Some("active")));
}

#[test]
fn a_canary_whose_exchanges_fail_is_rolled_back() {
    let gateway = gateway(HOSTILE_BALANCER, &canary("duration: 1h"));
    let address = gateway.node_port();
    eventually("served", || fetch(address).0 == 200);
    // It picks no endpoint at all, which is an error of its own; the live generation serves these exchanges.
    let load = Load::on(address);
    replace(&gateway.path("mine.wasm"), &patched(b"default-none"));
    eventually("rolled back", || has(&gateway, "rolled back", 2));
    load.goes_on(10);
    load.end();
    let plugin = gateway.plugin("mine");
    assert_eq!((&plugin["generation"]["number"], plugin["state"].as_str()), (&1.into(), Some("degraded")));
    let reason = plugin["reason"].as_str().expect("a reason");
    assert!(reason.contains("generation 2 is rolled back, canary: 100.00 % of its exchanges failed"), "{reason}");
    assert!(count(&gateway, "canary_exchanges", "generation=\"candidate\",result=\"error\"") >= 20.0);
    // What was rolled back is not tried again; a new file is.
    replace(&gateway.path("mine.wasm"), &another(HOSTILE_BALANCER));
    eventually("the next one", || has(&gateway, "canary", 3));
}

#[test]
fn an_operator_ends_a_trial_either_way() {
    let gateway = gateway(HOSTILE_BALANCER, &canary("duration: 1h"));
    eventually("served", || fetch(gateway.node_port()).0 == 200);
    replace(&gateway.path("mine.wasm"), &another(HOSTILE_BALANCER));
    eventually("a canary", || has(&gateway, "canary", 2));
    assert_eq!(order(&gateway, "rollback").0, 200);
    assert_eq!(
        (&gateway.plugin("mine")["generation"]["number"], &gateway.plugin("mine")["rollout"]),
        (&1.into(), &serde_json::Value::Null)
    );
    assert_eq!(order(&gateway, "promote").0, 409, "there is none");
    replace(&gateway.path("mine.wasm"), &another(&another(HOSTILE_BALANCER)));
    eventually("a canary", || has(&gateway, "canary", 3));
    assert_eq!(order(&gateway, "promote"), (200, "plugin mine: generation 3 serves".to_owned()));
    assert_eq!(gateway.plugin("mine")["generation"]["number"], 3);
}
