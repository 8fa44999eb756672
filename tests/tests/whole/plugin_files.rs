//! Where a plugin's bytes come from: a file that is replaced in various ways, one whose SHA-256 is pinned, and a ConfigMap.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluicegate_tests::load::Load;
use sluicegate_tests::plugin::{balanced, reason_has, serving};
use sluicegate_tests::{Gateway, eventually, fetch, http, replace};

#[test]
fn a_plugin_behind_a_configmap_volume_is_swapped_by_its_symlink() {
    let gateway = Gateway::new(&[("svc.yaml", &sluicegate_tests::plugin::http_service())]);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    // The kubelet does it like this: ..data → ..1, mine.wasm → ..data/mine.wasm, then a rename of a new ..data over the old one.
    let volume = tempfile::tempdir().expect("a folder");
    let fill = |name: &str, plugin: &str| {
        std::fs::create_dir(volume.path().join(name)).expect("made");
        let wasm = sluicegate_plugins::builtin(plugin).expect("built in").wasm();
        std::fs::write(volume.path().join(name).join("mine.wasm"), wasm).expect("written");
        std::os::unix::fs::symlink(name, volume.path().join("..data_tmp")).expect("linked");
        std::fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).expect("renamed");
    };
    fill("..1", "random");
    std::os::unix::fs::symlink(Path::new("..data/mine.wasm"), volume.path().join("mine.wasm")).expect("linked");
    let file = volume.path().join("mine.wasm");
    gateway.write("policy.yaml", &balanced("{}", "").replace("mine.wasm", file.to_str().expect("UTF-8")));
    eventually("generation 1", || gateway.plugin("mine")["generation"]["number"] == 1);
    eventually("served", || fetch(gateway.node_port()).0 == 200);
    let load = Load::on(gateway.node_port());
    fill("..2", "round-robin");
    let begun = Instant::now();
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    load.goes_on(5);
    load.end();
}

#[test]
fn a_pinned_file_is_loaded_only_as_it_was_pinned() {
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm();
    let pinned = |wasm: &[u8]| {
        let sum = sluicegate_host::load::sha256(wasm);
        balanced("{}", "").replace("{file: mine.wasm}", &format!("{{file: mine.wasm, sha256: {sum}}}"))
    };
    let gateway = serving(&wasm("random"), &pinned(&wasm("random")));
    let load = Load::on(gateway.node_port());
    // One file has a byte more, and one is another plugin altogether. Neither is run, and the pinned one goes on serving.
    for other in [sluicegate_tests::plugin::another(&wasm("random")), wasm("round-robin")] {
        replace(&gateway.path("mine.wasm"), &other);
        let sum = sluicegate_host::load::sha256(&other);
        eventually("refused", || reason_has(&gateway, &["stage read", &format!("its SHA-256 is {sum}"), "is wanted"]));
        assert_eq!(gateway.plugin("mine")["generation"]["number"], 1);
        load.goes_on(5);
    }
    gateway.write("policy.yaml", &pinned(&wasm("round-robin")));
    eventually("the new pin", || gateway.plugin("mine")["generation"]["number"] == 2 && gateway.plugin("mine")["state"] == "active");
    load.goes_on(5);
    load.end();
}

#[test]
fn a_plugin_in_a_configmap_is_swapped_with_it() {
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm();
    let map = |key: &str, bytes: &[u8]| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: code}}\nbinaryData:\n  {key}: {}\n", STANDARD.encode(bytes))
    };
    let gateway = Gateway::new(&[("svc.yaml", &sluicegate_tests::plugin::http_service())]);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    gateway.write("policy.yaml", &balanced("{}", "").replace("{file: mine.wasm}", "{configMap: {name: code, key: mine.wasm}}"));
    eventually("refused", || reason_has(&gateway, &["stage read", "ConfigMap default/code, mine.wasm: there is no such ConfigMap"]));
    gateway.write("code.yaml", &map("mine.wasm", &wasm("random")));
    eventually("generation 1", || gateway.plugin("mine")["generation"]["number"] == 1 && gateway.plugin("mine")["state"] == "active");
    assert_eq!(gateway.plugin("mine")["source"], "ConfigMap default/code, mine.wasm");
    eventually("served", || fetch(gateway.node_port()).0 == 200);
    let load = Load::on(gateway.node_port());
    gateway.write("code.yaml", &map("mine.wasm", &wasm("round-robin")));
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    load.goes_on(5);
    // The key is gone, then the ConfigMap: what was loaded serves on.
    gateway.write("code.yaml", &map("other.wasm", &wasm("round-robin")));
    eventually("no key", || reason_has(&gateway, &["it has no \"mine.wasm\" in its binaryData"]));
    std::fs::remove_file(gateway.path("code.yaml")).expect("removed");
    eventually("no ConfigMap", || reason_has(&gateway, &["there is no such ConfigMap"]));
    assert_eq!(gateway.plugin("mine")["generation"]["number"], 2);
    load.goes_on(5);
    // What is no plugin is refused, too.
    gateway.write("code.yaml", &map("mine.wasm", b"nothing"));
    eventually("no plugin", || reason_has(&gateway, &["stage compile"]));
    gateway.write("code.yaml", &map("mine.wasm", &wasm("random")));
    eventually("generation 3", || {
        gateway.plugin("mine")["generation"]["version"].is_string() && gateway.plugin("mine")["state"] == "active"
    });
    load.goes_on(5);
    load.end();
}
