//! The contract is open to other languages: a balancer in C (`sdk/examples/c`) is built by its own Makefile with clang and the official generator of
//! bindings, and then treated like those in Rust.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::json;
use sluicegate_host::Loader;
use sluicegate_lab::certify::{Options, certify};
use sluicegate_lab::subject::Source;
use sluicegate_tests::plugin::balanced;
use sluicegate_tests::{Gateway, SERVICE, connect, echo, eventually, names, replace};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/examples/c");

static FIRST: LazyLock<Vec<u8>> = LazyLock::new(|| build("0.1.0"));

/// Runs the example's Makefile as an author would. Only the variables that the Makefile asks for are set.
fn make(folder: &Path, variables: &[&str]) -> Output {
    let mut make = Command::new("make");
    make.args(["-C", EXAMPLE, &format!("BUILD={}", folder.display()), concat!("WIT_BINDGEN=", env!("CARGO_BIN_EXE_wit-bindgen"))]);
    make.args(variables);
    // The variables that `make test` of this repository was given are not meant for this Makefile.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").output().expect("make runs")
}

fn build(version: &str) -> Vec<u8> {
    let folder: PathBuf = [env!("CARGO_TARGET_TMPDIR"), "c", version].iter().collect();
    // It starts from nothing: bindings left by a former run would hide that they cannot be made.
    let _ = std::fs::remove_dir_all(&folder);
    let made = make(&folder, &[&format!("VERSION={version}"), "WARNINGS=-Wall -Wextra -Werror"]);
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "the balancer in C could not be built; `make test-tools` installs what it needs:\n{errors}");
    std::fs::read(folder.join("d-choices.wasm")).expect("built")
}

/// A gateway with the balancer, and a TCP service with three pods, the last of which has twice the weight.
fn gateway(config: &str) -> Gateway {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last, weight) in [("a", 2, 1), ("b", 3, 1), ("c", 4, 2)] {
        echo(gateway.ip(last), name);
        let annotations = format!("annotations: {{sluicegate.dev/weight: '{weight}'}}, labels:");
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true).replace("labels:", &annotations));
    }
    std::fs::write(gateway.path("mine.wasm"), &*FIRST).expect("written");
    gateway.write("policy.yaml", &balanced(config, ""));
    eventually("it serves", || gateway.plugin("mine")["state"] == "active" && gateway.ready_endpoints() == 3);
    gateway
}

#[test]
fn a_balancer_in_c_says_what_it_is_and_asks_for_nothing_but_the_contract() {
    let seen = Loader::new().expect("an engine").inspect("mine", &FIRST).expect("a plugin");
    let about = &seen.description;
    assert_eq!((about.name.as_str(), about.version.as_str(), about.kind.to_string().as_str()), ("d-choices", "0.1.0", "balancer"));
    assert_eq!(seen.contract.to_string(), "0.2");
    assert_eq!(about.config_schema["properties"]["choices"]["maximum"], 16);
    // The C library is part of it, and nothing of that asks for the system.
    assert!(seen.imports.iter().all(|import| import.starts_with("sluicegate:plugin/")), "{:?}", seen.imports);
}

#[test]
fn a_balancer_in_c_is_certified_with_its_authors_cases() {
    let source = Source { name: "d-choices".to_owned(), bytes: FIRST.clone(), builtin: false };
    let loader = Loader::new().expect("an engine");
    for config in [json!({}), json!({"choices": 16})] {
        let options =
            Options { pools: 200, picks: 6_000, config, cases: Some(Path::new(EXAMPLE).join("cases.yaml")), ..Options::default() };
        let report = certify(&loader, &source, &options).expect("certified");
        assert!(report.passed(), "{:#?}", report.checks);
        assert!(report.checks.iter().any(|check| check.name == "case \"the least busy of all\""), "{:#?}", report.checks);
    }
}

#[test]
fn a_balancer_in_c_spreads_connections_by_weight_and_is_swapped_under_them() {
    let gateway = gateway("{choices: 3}");
    let mut held = Vec::new();
    // All three endpoints are compared, so the connections under way follow the weights exactly, whichever worker placed them.
    let mut hold = |connections: usize| {
        held.extend((0..connections).map(|_| connect(gateway.node_port()).expect("connected")));
        ["a", "b", "c"].map(|name| held.iter().filter(|(served, _)| served == name).count())
    };
    assert_eq!(hold(8), [2, 2, 4]);
    assert_eq!(hold(12), [5, 5, 10]);
    replace(&gateway.path("mine.wasm"), &build("0.2.0"));
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    assert_eq!(hold(20), [10, 10, 20]);
    let plugin = gateway.plugin("mine");
    assert_eq!((&plugin["state"], &plugin["generation"]["version"]), (&json!("active"), &json!("0.2.0")));
    eventually("counted", || gateway.plugin("mine")["generation"]["calls"].as_u64() >= Some(20));
    assert_eq!(gateway.plugin("mine")["generation"]["failures"], 0);
}

#[test]
fn a_faulty_configuration_of_a_balancer_in_c_is_refused_with_its_place() {
    let gateway = gateway("{choices: 2}");
    for (config, words, place) in [
        ("{choices: 17}", "config.choices: 17 is greater than the maximum of 16", "17}"),
        ("{choices: two}", "config.choices: \"two\" is not of type", "two}"),
        ("{choises: 2}", "'choises' was unexpected", "loadBalancer:"),
    ] {
        gateway.write("policy.yaml", &balanced(config, ""));
        eventually(config, || gateway.has_fault(&["plugin mine", words]));
        let at = &gateway.json("faults")[0]["place"];
        let (text, column) = (at["text"].as_str().expect("a line"), at["column"].as_u64().expect("a column"));
        assert!(text[column as usize - 1..].starts_with(place), "{config}: {at}");
    }
    // The version that served before goes on.
    assert_eq!(names(gateway.node_port(), 20).len(), 3);
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (variable, wanted) in [
        ("CC=no-such-clang", "missing: no-such-clang; "),
        ("WASI_SYSROOT=/no/such/folder", "missing: wasi-libc(in /no/such/folder); "),
        ("WIT_BINDGEN=no-such-generator", "missing: no-such-generator; "),
    ] {
        let made = make(folder.path(), &[variable]);
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(!made.status.success() && errors.contains(wanted), "{errors}");
    }
}
