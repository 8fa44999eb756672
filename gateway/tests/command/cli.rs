//! The binary as its users run it: its output, and its exit codes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{run, sluicegate};

const GATEWAY: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {type: NodePort, selector: {app: api}, ports: [{port: 80, appProtocol: http, nodePort: 30017}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p1, labels: {app: api}}
status: {podIP: 127.0.0.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p2, labels: {app: api}}
status: {podIP: 127.0.0.3, conditions: [{type: Ready, status: "False"}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: sluicegate, listeners: [{name: web, port: 8081, protocol: HTTP}]}
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: edge}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
  router:
    plugin: rules
    config:
      rules:
      - matches: [{path: {type: PathPrefix, value: /app}}]
        backendRefs: [{name: api, port: 80}]
      - matches: [{path: {type: Exact, value: /old}}]
        filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, statusCode: 301}}]
"#;

fn folder(yaml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), yaml).expect("written");
    folder
}

#[test]
fn explain_says_which_listener_rule_service_and_endpoint() {
    let folder = folder(GATEWAY);
    let explain = |port: &str, url: &str| run(folder.path(), &["explain", "all.yaml", "--port", port, "GET", url]);
    let (code, out, err) = explain("8081", "http://x.example/app/y");
    assert_eq!(code, Some(0), "{err}");
    for wanted in [
        "listener web of Gateway default/edge on 0.0.0.0:8081",
        "router rules, generation 1: rule 0 of 2",
        "written in all.yaml:31:9",
        "default/api:80",
        "127.0.0.2:80 in the pool: ready",
        "127.0.0.3:80 left out: not ready",
        "balancer least-request",
        "result     endpoint 127.0.0.2:80",
    ] {
        assert!(out.contains(wanted), "{wanted:?} is missing:\n{out}");
    }
    let (code, out, _) = explain("30017", "/any");
    assert_eq!((code, out.contains("node port of default/api:80 on 0.0.0.0:30017")), (Some(0), true), "{out}");
    assert!(explain("8081", "/old").1.contains("result     301 Moved Permanently, a redirect"));
    let (code, out, _) = explain("8081", "/application");
    assert_eq!((code, out.contains("result     404 no-route")), (Some(1), true), "{out}");
    let (code, out, _) = explain("9", "/");
    assert_eq!((code, out.contains("nothing listens on port 9") && out.contains("0.0.0.0:8081")), (Some(1), true), "{out}");
}

#[test]
fn check_shows_every_fault_with_its_place_and_a_plugins_configuration_is_checked_field_by_field() {
    let folder = folder(
        &GATEWAY.replace("statusCode: 301", "statusCode: x").replace("targetRefs: [{group: g", "targetRefz: 1\n  targetRefs: [{group: g"),
    );
    let (code, out, _) = run(folder.path(), &["check", "all.yaml"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("unknown field \"spec.targetRefz\""), "{out}");
    assert!(out.contains("plugin rules: config.rules[1].filters[0].requestRedirect.statusCode:"), "in the same object:\n{out}");
    assert!(out.ends_with("2 errors, 0 warnings\n"), "{out}");
    let (_, out, _) = run(self::folder(&GATEWAY.replace("statusCode: 301", "statusCode: x")).path(), &["check", "all.yaml"]);
    let place = "all.yaml:34:96: error: ClientTrafficPolicy default/edge: ";
    assert!(out.contains(&format!("{place}plugin rules: config.rules[1].filters[0].requestRedirect.statusCode:")), "{out}");
    assert!(out.ends_with("1 error, 0 warnings\n"), "{out}");
    let folder = self::folder(GATEWAY);
    let (code, out, _) = run(folder.path(), &["check", "--format", "json", "all.yaml"]);
    assert_eq!((code, out.trim()), (Some(0), "[]"));
}

#[test]
fn run_serves_until_it_is_asked_to_stop_and_get_shows_what() {
    let folder = folder(&GATEWAY.split("---").take(3).collect::<Vec<_>>().join("---"));
    let mut child = sluicegate(folder.path())
        .args(["run", "all.yaml", "--admin-address", "127.0.0.1:0", "--nodeport-addresses", "127.211.7.1/32", "--log-format", "json"])
        .args(["--service-cluster-ip-range", "127.211.7.128/25", "--state-dir", "state"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let admin = lines.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
        line["fields"]["admin"].as_str().map(str::to_owned)
    });
    let admin = admin.expect("the admin API's address is logged");
    let drain = std::thread::spawn(move || lines.count());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, out, _) = run(folder.path(), &["get", "services", "--admin-address", &admin]);
        if out.contains("1/2") {
            assert!(out.contains("80:30017/TCP") && out.contains("NodePort") && out.contains("127.211.7.129"), "{out}");
            break;
        }
        assert!(Instant::now() < deadline, "{out}");
    }
    let (code, out, _) = run(folder.path(), &["get", "plugins", "-o", "json", "--admin-address", &admin]);
    assert_eq!(code, Some(0));
    assert!(out.contains("\"least-request\"") && out.contains("\"kubernetes\""), "{out}");
    assert!(run(folder.path(), &["get", "endpoints", "--admin-address", &admin]).1.contains("127.0.0.2:80"));
    assert!(run(folder.path(), &["plugin", "list", "--admin-address", &admin]).1.contains("least-request"));
    assert_eq!(run(folder.path(), &["get", "faults", "--admin-address", &admin]).1.trim(), "SEVERITY  PLACE  OBJECT  FAULT  EXPECTED");
    let mut watching = sluicegate(folder.path())
        .args(["get", "faults", "--watch", "--admin-address", &admin])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut watched = BufReader::new(watching.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert_eq!(watched.next().as_deref(), Some("SEVERITY  PLACE  OBJECT  FAULT  EXPECTED"));
    let all = std::fs::read_to_string(folder.path().join("all.yaml")).expect("read");
    let bad = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 0}]}\n";
    std::fs::write(folder.path().join("all.yaml"), all + bad).expect("written");
    loop {
        let (code, out, _) = run(folder.path(), &["get", "faults", "--admin-address", &admin]);
        let row = out.lines().find(|line| line.contains("Service default/bad"));
        if row.is_some_and(|row| {
            code == Some(0) && row.starts_with("error") && row.contains("all.yaml:") && row.contains("spec.ports[0].port")
        }) {
            break;
        }
        assert!(Instant::now() < deadline + Duration::from_secs(20), "{out}");
    }
    // A row that was there before is not shown again.
    let row = watched.next().expect("what is new is shown");
    assert!(row.starts_with("error") && row.contains("Service default/bad"), "{row}");
    watching.kill().expect("ended");
    watching.wait().expect("ended");
    let (code, out, _) = run(folder.path(), &["plugin", "history", "least-request", "--admin-address", &admin]);
    assert_eq!((code, out.lines().count(), out.contains("loaded  1           0.1.0")), (Some(0), 2, true), "{out}");
    let (code, _, err) = run(folder.path(), &["plugin", "rollback", "least-request", "--admin-address", &admin]);
    assert_eq!((code, err.as_str()), (Some(1), "sluicegate: plugin least-request has no generation before 1\n"));
    let (code, out, _) = run(folder.path(), &["plugin", "reload", "least-request", "--admin-address", &admin]);
    assert_eq!((code, out.as_str()), (Some(0), "plugin least-request: generation 2 serves\n"));
    let recorded = AtomicBool::new(false);
    let (code, out, err) = std::thread::scope(|scope| {
        // Nothing answers there, but an endpoint is picked for each request.
        scope.spawn(|| {
            while !recorded.load(Ordering::Relaxed) {
                let _ = ureq::get("http://127.211.7.1:30017/").call();
            }
        });
        let done = run(
            folder.path(),
            &["plugin", "record", "least-request", "--out", "trace.jsonl", "--seconds", "1", "--rate", "200", "--admin-address", &admin],
        );
        recorded.store(true, Ordering::Relaxed);
        done
    });
    assert_eq!((code, out.starts_with("trace.jsonl: ") && out.ends_with("time ended it\n")), (Some(0), true), "{out}{err}");
    let replay = |plugin: &str, more: &[&str]| run(folder.path(), &[&["plugin", "replay", plugin, "trace.jsonl"][..], more].concat());
    let (code, out, err) = replay("least-request", &["--same"]);
    assert_eq!((code, out.contains("  100.00 %  ")), (Some(0), true), "{out}{err}");
    let (code, out, _) = replay("maglev", &["-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!(code == Some(0) && report["picks"].as_u64() > Some(5) && report["recorded"]["plugin"] == "least-request", "{out}");
    let (code, _, err) = run(folder.path(), &["plugin", "record", "kubernetes", "--out", "none.jsonl", "--admin-address", &admin]);
    assert_eq!((code, err.as_str()), (Some(1), "sluicegate: kubernetes is a discovery; picks of balancers are recorded\n"));
    let (code, _, err) = run(folder.path(), &["plugin", "disable", "nobody", "--admin-address", &admin]);
    assert_eq!((code, err.as_str()), (Some(1), "sluicegate: there is no plugin \"nobody\" in use\n"));
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("sent");
    assert!(child.wait().expect("ends").success(), "a stop that was asked for is a success");
    drain.join().expect("read");
    assert_eq!(run(folder.path(), &["get", "services", "--admin-address", &admin]).0, Some(1));
}

#[test]
fn a_plugin_of_each_kind_goes_from_nothing_to_a_file_that_inspect_knows() {
    // The place is the same each time, so that cargo finds the dependencies compiled. They are the workspace's own, and are on this machine already.
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("authors");
    let (folder, target) = (&place.join("projects"), place.join("target"));
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).expect("a folder");
    // Tests and plugins have one profile, and nothing is optimized: what takes time here is rustc.
    let settings = [("CARGO_NET_OFFLINE", "true"), ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"), ("CARGO_PROFILE_RELEASE_LTO", "off")];
    let cargo = |arguments: &[&str], project: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        let ran = cargo.args(arguments).current_dir(folder.join(project)).envs(settings);
        let output = ran.env("CARGO_TARGET_DIR", &target).output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for kind in ["balancer", "router", "discovery"] {
        let name = format!("my-{kind}");
        assert_eq!(run(folder, &["plugin", "new", &name, "--kind", kind]).0, Some(0));
        let source = std::fs::read_to_string(folder.join(&name).join("src/lib.rs")).expect("laid down");
        assert!(source.lines().count() < 60, "{kind}: {} lines", source.lines().count());
        let tests = cargo(&["test", "--release", "--quiet"], &name);
        assert!(
            tests.contains("test result: ok.")
                && !tests.contains("ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\nrunning 0"),
            "{tests}"
        );
        let built = sluicegate(folder)
            .args(["plugin", "build", &name])
            .env("HOME", std::env::var_os("HOME").unwrap_or_default())
            .envs(settings)
            .env("CARGO_TARGET_DIR", &target)
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&built.stdout).into_owned();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        assert!(said.contains(&format!("{name}/{name}.wasm: {kind}")), "{said}");
        let (code, out, _) = run(folder, &["plugin", "inspect", &format!("{name}/{name}.wasm")]);
        assert_eq!(code, Some(0));
        assert!(out.contains(&format!("kind:     {kind}")) && out.contains(&format!("name:     {name}")), "{out}");
    }
    assert_eq!(run(folder, &["plugin", "new", "my-router", "--kind", "router"]).0, Some(1), "nothing is overwritten");
}

#[test]
fn the_demonstration_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, out, err) = run(folder.path(), &["demo", "--step-ms", "300"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("it is replaced by a broken one ... ") && out.contains("refused: plugin demo-balancer, stage compile"), "{out}");
    assert!(out.contains("\nNot one of "), "{out}");
}

#[test]
fn the_demonstration_in_a_cluster_names_what_there_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, out, err) = run(folder.path(), &["demo", "--cluster"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let commands: Vec<&str> = out.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(commands.len(), 4, "{out}");
    let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let named = commands.iter().flat_map(|command| command.split_whitespace()).filter(|word| word.starts_with("config/"));
    assert_eq!(named.inspect(|path| assert!(project.join(path).exists(), "{path}")).count(), 3, "{out}");
    let made = std::fs::read_to_string(project.join("Makefile")).expect("a Makefile");
    assert!(out.contains("target/dist/sluicegate.oci.tar") && made.contains("$(DIST)/sluicegate.oci.tar"), "{out}");
    let (code, _, err) = run(folder.path(), &["demo", "--cluster", "--serve"]);
    assert!(code == Some(2) && err.contains("--serve"), "{err}");
}
