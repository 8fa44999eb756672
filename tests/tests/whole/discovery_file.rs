//! Discovery by files: the built-in plugin `file`, and what the gateway permits a plugin to read.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use sluicegate_tests::{Gateway, SERVICE, echo, eventually, plugin};

/// A `Plugin` object for the built-in plugin, and a policy that uses it.
fn policy(allowed: &str, files: &str) -> String {
    plugin::discovered("file", &format!("allowedFiles: [{allowed}]"), &format!("files: [{files}]"))
}

#[test]
fn endpoints_follow_a_file_and_stay_while_it_is_faulty_or_missing() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    // The gateway does not read a file of this name as an object.
    let file = gateway.path("sd");
    std::fs::create_dir(&file).expect("made");
    let targets = |last: u8| format!("- targets: ['{}:80']\n  labels: {{rack: r1}}\n", gateway.ip(last));
    let write = |text: &str| {
        std::fs::write(file.join(".partial"), text).expect("written");
        std::fs::rename(file.join(".partial"), file.join("t.targets.yml")).expect("renamed");
    };
    write(&targets(2));
    // The folder of objects is read as a whole: the list of targets has no kind, which is a fault.
    gateway.write("policy.yaml", &policy("sd/*.yml", "sd/t.targets.yml"));
    eventually("the file's endpoint", || gateway.ready_endpoints() == 1);
    eventually("served", || gateway.serves("a"));
    write(&targets(3));
    let begun = Instant::now();
    eventually("the other", || gateway.serves("b"));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    write("- targets: ['10.0.0.1']\n");
    eventually("told", || gateway.has_fault(&["plugin sd", "sd/t.targets.yml: target `10.0.0.1` must be a host and a port"]));
    assert!(gateway.serves("b"), "the last good set stays");
    std::fs::remove_file(file.join("t.targets.yml")).expect("removed");
    eventually("told", || gateway.has_fault(&["plugin sd", "sd/t.targets.yml: it is not there"]));
    assert!(gateway.serves("b"));
    write(&targets(2));
    eventually("recovered", || gateway.serves("a") && !gateway.has_fault(&["plugin sd"]));
}

#[test]
fn what_is_not_allowed_is_not_read_and_no_link_leads_out() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let outside = tempfile::tempdir().expect("a folder");
    let secret = outside.path().join("secret.json");
    std::fs::write(&secret, format!(r#"[{{"targets": ["{}:80"]}}]"#, gateway.ip(9))).expect("written");
    let sd = tempfile::tempdir().expect("a folder");
    let at = |name: &str| sd.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(at("mine.json"), "[]").expect("written");
    std::fs::write(at("other.json"), "[]").expect("written");
    symlink(&secret, at("link.json")).expect("linked");
    symlink("../../../../../../../../../etc/hostname", at("up.json")).expect("linked");
    symlink("/proc/self/environ", at("magic.json")).expect("linked");
    rustix_fifo(&at("pipe.json"));
    let denied = "it is not among the plugin's capabilities.allowedFiles, or a link out of its folder";
    for (allowed, asked, wanted) in [
        (String::new(), at("mine.json"), denied),
        (at("mine.json"), at("other.json"), denied),
        (at("*.json"), secret.to_str().expect("UTF-8").to_owned(), denied),
        (at("*.json"), format!("{}/../{}/mine.json", sd.path().display(), sd.path().file_name().expect("a name").display()), denied),
        (at("*.json"), at("link.json"), denied),
        (at("*.json"), at("up.json"), denied),
        (at("*.json"), at("magic.json"), denied),
        (at("*.json"), at("pipe.json"), "it is no regular file"),
        (at("*.json"), at("missing.json"), "it is not there"),
    ] {
        let allowed = if allowed.is_empty() { allowed } else { format!("\"{allowed}\"") };
        gateway.write("policy.yaml", &policy(&allowed, &format!("\"{asked}\"")));
        eventually(&asked, || gateway.has_fault(&["plugin sd", &asked, wanted]));
    }
    assert!(gateway.json("endpoints").as_array().is_some_and(Vec::is_empty));
    gateway.write("policy.yaml", &policy(&format!("\"{}\"", at("*.json")), &format!("\"{}\"", at("mine.json"))));
    eventually("allowed", || gateway.has_no_fault());
    // The file is too large, whatever its content.
    std::fs::write(at("mine.json"), " ".repeat((4 << 20) + 1)).expect("written");
    eventually("too large", || gateway.has_fault(&["plugin sd", "mine.json: it is larger than 4194304 bytes"]));
}

/// A pipe that nobody writes to: opening it would wait.
fn rustix_fifo(path: &str) {
    let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
    assert!(made.success());
}

#[test]
fn a_configmap_volume_is_followed_by_its_links() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    // The kubelet does it like this: targets.json → ..data/targets.json, ..data → ..1, then a rename of a new ..data over the old one.
    let volume = tempfile::tempdir().expect("a folder");
    let fill = |version: &str, last: u8| {
        let folder = volume.path().join(version);
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("targets.json"), format!(r#"[{{"targets": ["{}:80"]}}]"#, gateway.ip(last))).expect("written");
        symlink(version, volume.path().join("..data_tmp")).expect("linked");
        std::fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).expect("renamed");
    };
    fill("..1", 2);
    symlink("..data/targets.json", volume.path().join("targets.json")).expect("linked");
    let pattern = format!("\"{}/*.json\"", volume.path().display());
    gateway.write("policy.yaml", &policy(&pattern, &pattern));
    eventually("the volume's endpoint", || gateway.ready_endpoints() == 1 && gateway.serves("a"));
    fill("..2", 3);
    eventually("the next version", || gateway.serves("b"));
    std::fs::remove_dir_all(volume.path().join("..1")).expect("removed");
    assert!(gateway.has_no_fault());
}

#[test]
fn a_list_that_is_being_written_or_was_emptied_takes_nothing_away_and_a_folder_that_is_flipped_is_followed() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    let volume = tempfile::tempdir().expect("a folder");
    let target = |last: u8| format!("- targets: ['{}:80']\n", gateway.ip(last));
    for (revision, last) in [("0", 2), ("1", 3)] {
        std::fs::create_dir(volume.path().join(revision)).expect("made");
        std::fs::write(volume.path().join(revision).join("t.yml"), target(last)).expect("written");
    }
    let current = volume.path().join("current");
    symlink("0", &current).expect("linked");
    let pattern = format!("\"{}/*.yml\"", current.display());
    gateway.write("policy.yaml", &policy(&pattern, &pattern));
    eventually("the file's endpoint", || gateway.ready_endpoints() == 1 && gateway.serves("a"));
    // A shell does it like this: the file is empty at once and is written later.
    let mut file = std::fs::File::create(current.join("t.yml")).expect("opened");
    (0..50).for_each(|_| assert!(gateway.serves("a")));
    file.write_all(target(2).as_bytes()).expect("written");
    (0..50).for_each(|_| assert!(gateway.serves("a")));
    file.write_all(target(3).as_bytes()).expect("written");
    drop(file);
    eventually("both", || gateway.ready_endpoints() == 2);
    std::fs::write(current.join("t.yml"), "").expect("emptied");
    eventually("told", || gateway.has_fault(&["plugin sd", "t.yml: it is empty"]));
    assert_eq!(gateway.ready_endpoints(), 2);
    for (revision, name) in [("1", "b"), ("0", "none"), ("1", "b")] {
        symlink(revision, volume.path().join("new")).expect("linked");
        std::fs::rename(volume.path().join("new"), &current).expect("renamed");
        eventually("followed", || {
            if name == "b" { gateway.ready_endpoints() == 1 && gateway.serves(name) } else { gateway.has_fault(&["it is empty"]) }
        });
    }
}
