//! The commands of plugin authors, as they run them.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use sluicegate_plugins::Kind;

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = crate::binary();
    let Output { status, stdout, stderr } = command.current_dir(folder).arg("plugin").args(arguments).output().expect("runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn test_certifies_a_plugin_and_runs_its_authors_cases() {
    let cases = "
fairness: weights
cases:
- name: the less busy one
  endpoints:
  - {address: '10.0.0.1:80', inFlight: 9}
  - {address: '[2001:db8::1]:80', inFlight: 1, latency: 5ms, zone: a, labels: {tier: gold}}
  picks:
  - {random: 7, expect: ['[2001:db8::1]:80']}
  - {key: anything, expect: ['[2001:db8::1]:80']}
- name: even when idle
  endpoints: [{address: 10.0.0.1:80}, {address: 10.0.0.2:80}]
  shares: {expect: {10.0.0.1:80: 0.5, 10.0.0.2:80: 0.5}}
";
    let folder = folder(&[("cases.yaml", cases), ("wrong.yaml", &cases.replace("expect: ['[2001:db8::1]:80']", "expect: []"))]);
    let few = ["--pools", "120", "--picks", "6000"];
    let (code, out, err) =
        run(folder.path(), &[&["test", "least-request", "--fairness", "equal", "--cases", "cases.yaml"][..], &few].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    for wanted in [
        "load",
        "trial",
        "pools",
        "determinism",
        "time",
        "memory",
        "fairness, equal weights, by hash",
        "case \"the less busy one\"",
        "2 picks as expected",
    ] {
        assert!(out.lines().any(|line| line.contains(wanted) && line.contains("passed")), "{wanted:?} is missing:\n{out}");
    }
    // The file of cases asks for shares in proportion to the weights, which two choices do not give.
    let (code, out, err) = run(folder.path(), &[&["test", "least-request", "--cases", "wrong.yaml", "-o", "json"][..], &few].concat());
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("least-request does not pass"), "{err}");
    let report = json(&out);
    let failed: Vec<&str> = report["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|c| c["verdict"] == "failed")
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert!(failed.contains(&"case \"the less busy one\"") && failed.contains(&"fairness, weights 1 to 5"), "{failed:?}");
    assert_eq!(failed.len(), 3, "by hash as well, and no other: {failed:?}");
}

#[test]
fn test_says_what_is_wrong_with_its_input() {
    let folder = folder(&[("bad.yaml", "cases:\n- name: a\n  endpoints: [{adress: 10.0.0.1:80}]\n"), ("text.wasm", "text")]);
    let (code, _, err) = run(folder.path(), &["test", "random", "--cases", "bad.yaml"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("bad.yaml:3:24: error: cases[0].endpoints[0].adress"), "{err}");
    let (code, out, _) = run(folder.path(), &["test", "text.wasm"]);
    assert_eq!((code, out.contains("FAILED") && out.contains("not WebAssembly")), (Some(1), true), "{out}");
    let (code, _, err) = run(folder.path(), &["test", "nowhere.wasm"]);
    assert_eq!((code, err.contains("no built-in plugin is called that")), (Some(1), true), "{err}");
    let (code, out, _) = run(folder.path(), &["test", "maglev", "--config", "{tableSize: 1}"]);
    assert_eq!((code, out.contains("config.tableSize")), (Some(1), true), "{out}");
}

#[test]
fn every_balancer_and_router_that_comes_with_the_gateway_passes() {
    let folder = folder(&[]);
    let balancers = sluicegate_plugins::builtins().iter().filter(|builtin| builtin.kind == Kind::Balancer);
    let names: Vec<&str> = balancers.map(|builtin| builtin.name).collect();
    std::thread::scope(|scope| {
        for half in names.chunks(names.len().div_ceil(2)) {
            let folder = &folder;
            scope.spawn(move || {
                for name in half {
                    // In a build that is not optimized, a policy that asks the host about each of 10,000 endpoints takes longer than its deadline.
                    let few = ["--pools", "60", "--picks", "6000", "--deadline-ms", "500"];
                    let (code, out, err) = run(folder.path(), &[&["test", *name][..], &few].concat());
                    assert_eq!(code, Some(0), "{name}:\n{out}{err}");
                }
            });
        }
    });
    let rules = "{rules: [{matches: [{path: {type: PathPrefix, value: /a}, headers: [{name: x, value: why}]}], backendRefs: [{name: a, port: 80}]}]}";
    let (code, out, err) = run(folder.path(), &["test", "rules", "--config", rules, "--pools", "60"]);
    assert_eq!((code, out.contains("1 of 1 rules were met")), (Some(0), true), "{out}{err}");
}

#[test]
fn simulate_compares_and_the_same_seed_gives_the_same_report() {
    let folder = folder(&[]);
    let arguments =
        ["simulate", "random", "least-request", "maglev", "--scenario", "one-slow,rolling-restart", "--seconds", "5", "--seed", "3"];
    let (code, out, err) = run(folder.path(), &arguments);
    assert_eq!(code, Some(0), "{err}");
    let row = |scenario: &str, plugin: &str| out.lines().find(|l| l.starts_with(scenario) && l.contains(plugin)).map(str::to_owned);
    assert!(row("one-slow", "least-request").is_some_and(|row| row.contains(" ms")), "{out}");
    assert!(row("rolling-restart", "maglev").is_some_and(|row| row.contains(" %  ")), "{out}");
    let page = |file: &str, more: &[&str]| {
        let (code, out, err) = run(folder.path(), &[&arguments[..], &["--html", file, "-o", "json"], more].concat());
        assert_eq!(code, Some(0), "{err}");
        (json(&out), std::fs::read_to_string(folder.path().join(file)).expect("written"))
    };
    let (first, html) = page("a.html", &[]);
    assert_eq!(first["scenarios"][0]["outcomes"][1]["plugin"], "least-request");
    for wanted in ["<svg", "p99 latency over time", "least-request", "</html>"] {
        assert!(html.contains(wanted), "{wanted}");
    }
    for network in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!html.contains(network), "{network}: the page needs no network");
    }
    assert!(page("b.html", &[]) == (first.clone(), html), "byte for byte");
    assert!(page("c.html", &["--load", "0.5"]).0 != first);
    for (wrong, said) in
        [(["--scenario", "quake"], "is none of steady"), (["--latency", "normal:1ms"], "lognormal"), (["--load", "0"], "load")]
    {
        let (code, _, err) = run(folder.path(), &[&["simulate", "random"][..], &wrong].concat());
        assert!(code != Some(0) && err.contains(said), "{err}");
    }
    let (code, _, err) = run(folder.path(), &["simulate", "rules", "--config", "rules={rules: []}"]);
    assert_eq!((code, err.contains("balancers are simulated")), (Some(1), true), "{err}");
}

#[test]
fn simulate_and_bench_take_endpoints_that_are_not_alike() {
    let profiles =
        "endpoints:\n- {weight: 3, zone: a, labels: {tier: gold}, annotations: {cost: '1'}, speed: 2, concurrency: 8}\n- {node: one}\n";
    let folder = folder(&[("profiles.yaml", profiles), ("wrong.yaml", "endpoints: [{weight: 1, wieght: 2}]")]);
    let simulate = |file: &str| run(folder.path(), &["simulate", "random", "--seconds", "3", "--profiles", file, "-o", "json"]);
    let (code, out, err) = simulate("profiles.yaml");
    assert_eq!(code, Some(0), "{err}");
    let picks = |i: usize| json(&out)["scenarios"][0]["outcomes"][0]["endpoints"][i]["picks"].as_f64().expect("a number");
    assert!((2.0..4.5).contains(&(picks(0) / picks(1))), "{out}");
    let (code, _, err) = simulate("wrong.yaml");
    assert_eq!((code, err.contains("wrong.yaml:1:33: error: endpoints[0].wieght: there is no such field")), (Some(1), true), "{err}");
    let bench = ["bench", "random", "--alone", "--sizes", "3", "--time-ms", "2", "--profiles", "profiles.yaml"];
    let (code, out, err) = run(folder.path(), &bench);
    assert_eq!((code, out.lines().count()), (Some(0), 2), "{out}{err}");
}

#[test]
fn bench_measures_beside_the_built_in_balancers() {
    let folder = folder(&[]);
    let (code, out, err) = run(folder.path(), &["bench", "maglev", "--sizes", "1,10", "--time-ms", "2", "-o", "json"]);
    assert_eq!(code, Some(0), "{err}");
    let measured = json(&out);
    let measured = measured.as_array().expect("a list");
    assert_eq!(measured[1]["plugin"], "maglev");
    assert_eq!(measured.iter().filter(|m| m["plugin"] == "maglev").count(), 2, "not twice");
    assert!(measured.iter().any(|m| m["plugin"] == "round-robin" && m["size"] == 10));
    for figure in ["nanoseconds", "p50Nanoseconds", "p99Nanoseconds", "instructions", "memoryBytes"] {
        assert!(measured.iter().all(|m| m[figure].as_f64().is_some_and(|value| value > 0.0)), "{figure}: {out}");
    }
    let (code, out, _) = run(folder.path(), &["bench", "maglev", "--alone", "--sizes", "3", "--time-ms", "2"]);
    assert_eq!((code, out.lines().count(), out.contains("maglev (builtin)  pick  3 ")), (Some(0), 2, true), "{out}");
    let (code, _, err) = run(folder.path(), &["bench", "static"]);
    assert_eq!((code, err.contains("not asked on the way of a request")), (Some(1), true), "{err}");
    let (code, _, err) = run(folder.path(), &["bench", "maglev", "--config", "ghost={}"]);
    assert_eq!((code, err.contains("no such plugin is measured")), (Some(1), true), "{err}");
}
