//! Texts of a plugin that would forge lines of others, as the admin API shows them.

use sluicegate_model::escape::is_hidden;
use sluicegate_tests::plugin::{balanced, gateway, metric};
use sluicegate_tests::{PROBE, eventually, fetch};

/// Checks that nothing in a text is hidden.
fn visible(text: String) -> String {
    let hidden: Vec<char> = text.chars().filter(|c| is_hidden(*c) && *c != '\n').collect();
    assert!(hidden.is_empty(), "{hidden:?} in {text:?}");
    text
}

#[test]
fn a_plugin_adds_nothing_to_metrics_but_its_own() {
    let gateway = gateway(PROBE, &balanced("{mode: forge}", ""));
    assert_eq!(fetch(gateway.node_port()).0, 200);
    let forged = |row: &str| metric(&gateway, row);
    eventually("counted", || gateway.get("/metrics").is_some_and(|text| text.contains("sluicegate_custom_forged")));
    assert_eq!(forged("sluicegate_forged_total"), None);
    let text = visible(gateway.get("/metrics").expect("metrics"));
    assert_eq!(text.lines().filter(|line| *line == "# EOF").count(), 1, "the page ends once: {text}");
    let known =
        |line: &str| line.starts_with("sluicegate_") || line.starts_with("# HELP sluicegate_") || line.starts_with("# TYPE sluicegate_");
    assert!(text.lines().all(|line| known(line) || line == "# EOF"), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("sluicegate_custom_forged{")).collect();
    let apart: std::collections::BTreeSet<&str> = rows.iter().filter_map(|row| row.rsplit_once(' ')).map(|(series, _)| series).collect();
    assert!(rows.len() == 4 && apart.len() == 4, "{rows:?}");
    assert!(rows.iter().all(|row| row.ends_with("\"} 1") || row.ends_with("\"} 1.0")), "{rows:?}");
}

#[test]
fn why_a_plugin_was_refused_is_shown_as_text() {
    let gateway = gateway(PROBE, &balanced("{}", ""));
    gateway.write("policy.yaml", &balanced("{mode: forge-open}", ""));
    eventually("refused", || gateway.get("/api/v1/faults").is_some_and(|text| text.contains("forged refusal")));
    for path in ["/api/v1/faults", "/api/v1/plugins", "/api/v1/plugins/mine/history"] {
        visible(gateway.get(path).expect("answered"));
    }
}
