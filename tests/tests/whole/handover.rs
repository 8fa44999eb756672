//! What balancers have learned about pools is handed over to a newer generation and to a later start. The probe stays with the endpoint that it chose
//! first.

use std::time::Duration;

use sluicegate_tests::load::Load;
use sluicegate_tests::plugin::{another, balanced, gateway, metric};
use sluicegate_tests::{Gateway, PROBE, eventually, fetch, replace};

fn chosen(gateway: &Gateway) -> Option<f64> {
    metric(gateway, "sluicegate_custom_chosen_total{plugin=\"mine\"}")
}

fn count(gateway: &Gateway, what: &str) -> Option<f64> {
    metric(gateway, &format!("sluicegate_plugin_state_{what}_total{{plugin=\"mine\",kind=\"balancer\"}}"))
}

/// Waits until both workers have picked.
fn both_have_chosen(gateway: &Gateway) {
    let address = gateway.node_port();
    eventually("both workers have chosen", || fetch(address).0 == 200 && chosen(gateway) == Some(2.0));
}

#[test]
fn a_pool_goes_on_with_what_it_knew_after_a_swap_under_load() {
    let gateway = gateway(PROBE, &balanced("{mode: stick}", ""));
    both_have_chosen(&gateway);
    let load = Load::on(gateway.node_port());
    let mut wasm = PROBE.to_vec();
    for generation in 2..6 {
        wasm = another(&wasm);
        replace(&gateway.path("mine.wasm"), &wasm);
        eventually("swapped", || gateway.plugin("mine")["generation"]["number"] == generation);
        load.goes_on(20);
        eventually("both pools are handed over", || {
            load.goes_on(1);
            count(&gateway, "restored") == Some(2.0 * f64::from(generation - 1))
        });
    }
    load.end();
    assert_eq!((chosen(&gateway), count(&gateway, "lost")), (Some(2.0), Some(0.0)), "nobody had to choose again");
}

#[test]
fn a_pool_goes_on_with_what_it_knew_after_a_restart_if_it_is_to() {
    let mut gateway = gateway(PROBE, &balanced("{mode: stick}", ", state: {persist: true}"));
    both_have_chosen(&gateway);
    for _ in 0..2 {
        gateway.stop();
        gateway.start();
        let address = gateway.node_port();
        eventually("both pools are restored", || fetch(address).0 == 200 && count(&gateway, "restored") == Some(2.0));
        assert_eq!(chosen(&gateway).unwrap_or(0.0), 0.0);
    }
    // If it is not asked to hand over, it begins with nothing.
    gateway.write("policy.yaml", &balanced("{mode: stick}", ""));
    gateway.stop();
    gateway.start();
    both_have_chosen(&gateway);
    assert_eq!(count(&gateway, "restored"), Some(0.0));
}

#[test]
fn a_hand_over_that_fails_leaves_cold_pools_and_no_request_fails() {
    for mode in ["save-trap", "save-loop", "save-gigabyte", "save-too-much", "restore-trap", "restore-loop", "restore-refuse"] {
        let gateway = gateway(PROBE, &balanced(&format!("{{mode: {mode}}}"), ", limits: {memory: 64Mi, deadline: 100ms}"));
        both_have_chosen(&gateway);
        let load = Load::on(gateway.node_port());
        replace(&gateway.path("mine.wasm"), &another(PROBE));
        eventually("swapped", || gateway.plugin("mine")["generation"]["number"] == 2);
        eventually(mode, || {
            load.goes_on(1);
            chosen(&gateway) == Some(4.0)
        });
        let worst = load.end();
        assert!(worst < Duration::from_secs(2), "{mode}: a request took {worst:?}");
        assert!(count(&gateway, "lost") > Some(0.0), "{mode}");
        assert_eq!(count(&gateway, "restored"), Some(0.0), "{mode}");
        let plugin = gateway.plugin("mine");
        assert_eq!((plugin["state"].as_str(), &plugin["generation"]["number"]), (Some("active"), &2.into()), "{mode}");
    }
}
