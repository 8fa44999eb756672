//! Files of objects and plugins that are written, replaced, switched by links and emptied under traffic, of which nothing may fail.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use sluicegate_tests::load::Load;
use sluicegate_tests::plugin::{balanced, http_service};
use sluicegate_tests::{Gateway, eventually, http};

/// Another Service, without endpoints of its own.
fn other() -> String {
    let text = http_service();
    let (_, service) = text.split_once("---").expect("a Deployment before it");
    service.replace("nginx-svc", "other")
}

/// A gateway that serves a backend, with everything in one file.
fn serving() -> (Gateway, String) {
    let gateway = Gateway::new(&[]);
    http(gateway.ip(2), "a");
    let text = format!("{}---\n{}", http_service().trim_end().to_owned() + "\n", gateway.pod("a", 2, true));
    gateway.write("all.yaml", &text);
    eventually("served", || gateway.ready_endpoints() == 1);
    (gateway, text)
}

#[test]
fn a_file_that_is_being_written_takes_nothing_away() {
    let (gateway, text) = serving();
    let load = Load::on(gateway.node_port());
    for round in 0..3 {
        let label = format!("labels: {{round: r{round}, ");
        let new = text.replace("labels: {", &label);
        // A shell does it like this for `helm template > all.yaml`: the file is empty at once and is written later.
        let mut file = File::create(gateway.path("all.yaml")).expect("opened");
        load.goes_on(20);
        let (first, second) = new.split_at(new.find("---").expect("two objects"));
        file.write_all(first.as_bytes()).expect("written");
        load.goes_on(20);
        file.write_all(second.as_bytes()).expect("written");
        drop(file);
        load.goes_on(20);
    }
    // A full disk leaves an empty file behind.
    drop(File::create(gateway.path("all.yaml")).expect("emptied"));
    eventually("told", || gateway.has_fault(&["all.yaml", "it is empty"]));
    load.goes_on(20);
    gateway.write("all.yaml", &text);
    eventually("mended", || gateway.has_no_fault());
    load.end();
}

#[test]
fn a_folder_that_cannot_be_read_keeps_its_objects() {
    let (gateway, text) = serving();
    let port = gateway.node_port();
    let volume = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(volume.path().join("sub")).expect("made");
    std::fs::write(volume.path().join("sub/all.yaml"), &text).expect("written");
    symlink(volume.path().join("sub"), gateway.path("sub")).expect("linked");
    eventually("twice", || gateway.has_fault(&["defined twice"]));
    std::fs::remove_file(gateway.path("all.yaml")).expect("removed");
    eventually("once", || gateway.has_no_fault());
    assert_eq!(gateway.node_port(), port);
    let load = Load::on(port);
    std::fs::rename(volume.path().join("sub"), volume.path().join("away")).expect("renamed");
    eventually("told", || gateway.has_fault(&["/sub: "]));
    load.goes_on(50);
    // Other changes are taken in meanwhile.
    gateway.write("other.yaml", &other());
    eventually("another", || gateway.json("services").as_array().is_some_and(|all| all.len() == 2));
    load.goes_on(50);
    std::fs::rename(volume.path().join("away"), volume.path().join("sub")).expect("renamed");
    eventually("mended", || gateway.has_no_fault());
    load.end();
}

#[test]
fn a_plugins_file_that_is_being_written_or_empty_leaves_what_was_loaded_and_a_pipe_stops_nothing() {
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm();
    let gateway = sluicegate_tests::plugin::serving(&wasm("random"), &balanced("{}", ""));
    let load = Load::on(gateway.node_port());
    let new = wasm("round-robin");
    let mut file = File::create(gateway.path("mine.wasm")).expect("opened");
    load.goes_on(20);
    file.write_all(&new[..new.len() / 2]).expect("written");
    load.goes_on(20);
    assert_eq!((&gateway.plugin("mine")["state"], &gateway.plugin("mine")["generation"]["number"]), (&"active".into(), &1.into()));
    file.write_all(&new[new.len() / 2..]).expect("written");
    drop(file);
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    drop(File::create(gateway.path("mine.wasm")).expect("emptied"));
    gateway.write("other.yaml", &other());
    eventually("another", || gateway.json("services").as_array().is_some_and(|all| all.len() == 2));
    assert_eq!(gateway.plugin("mine")["state"], "active");
    eventually("told that it is empty", || gateway.has_fault(&["mine.wasm: it is empty"]));
    std::fs::remove_file(gateway.path("mine.wasm")).expect("removed");
    assert!(std::process::Command::new("mkfifo").arg(gateway.path("mine.wasm")).status().expect("runs").success());
    eventually("told", || sluicegate_tests::plugin::reason_has(&gateway, &["named pipe"]));
    load.goes_on(20);
    load.end();
}

#[test]
fn a_state_folder_that_cannot_be_written_is_a_warning() {
    // Nobody may write there, not even root.
    let gateway = Gateway::with(&[("svc.yaml", &http_service())], |settled, _| settled.state_dir = "/sys/sluicegate".into());
    eventually("told", || gateway.has_fault(&["the allocations could not be saved"]));
    let port = gateway.node_port();
    gateway.write("other.yaml", &other());
    eventually("another", || gateway.json("services").as_array().is_some_and(|all| all.len() == 2));
    assert_eq!(gateway.node_port(), port);
}
