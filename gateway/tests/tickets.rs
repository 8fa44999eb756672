//! TLS session tickets over take-overs and restarts, with the binary as its users run it and `openssl s_client`, which shares no code with it.
//! Addresses are in 127.208.0.0/13, each test has its own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];
/// Enough connections to meet both workers.
const SOME: usize = 8;
const PERSIST: &[&str] = &["--persist-session-tickets", "true"];

/// A folder with certificates, a configuration, state and sessions.
struct Place {
    folder: tempfile::TempDir,
    ip: &'static str,
}

impl Place {
    /// Two listeners of one port with a host name each, and one of another port. None has a backend, as only the handshake matters.
    fn new(ip: &'static str) -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a folder"), ip };
        let mut all = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: sluicegate\n  \
             addresses: [{{value: {ip}}}]\n  listeners:\n"
        );
        for (name, port) in [("a", 8443), ("b", 8443), ("c", 9443)] {
            let tls = format!("{{certificateRefs: [{{name: {name}}}]}}");
            all += &format!("  - {{name: {name}, port: {port}, protocol: HTTPS, hostname: {name}.example, tls: {tls}}}\n");
        }
        all += "---\napiVersion: sluicegate.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: edge}\nspec:\n  \
                targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]\n  \
                router: {plugin: rules, config: {rules: [{backendRefs: [{name: web, port: 80}]}]}}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80, appProtocol: http}]}\n---\n";
        for name in ["a", "b", "c"] {
            let (chain, key) = place.certificate(name);
            all += &format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  \
                 tls.crt: |\n{chain}  tls.key: |\n{key}---\n"
            );
        }
        std::fs::write(place.file("all.yaml"), all).expect("written");
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// PEM of a new certificate for NAME.example and of its key, as a block of YAML.
    fn certificate(&self, name: &str) -> (String, String) {
        let (chain, key) = (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj"]);
        openssl.arg(format!("/CN={name}.example")).arg("-addext").arg(format!("subjectAltName=DNS:{name}.example"));
        let made = openssl.arg("-out").arg(&chain).arg("-keyout").arg(&key).stderr(Stdio::null()).status().expect("openssl runs");
        assert!(made.success());
        let block = |path: &Path| std::fs::read_to_string(path).expect("read").lines().map(|l| format!("    {l}\n")).collect::<String>();
        (block(&chain), block(&key))
    }

    fn secrets(&self) -> PathBuf {
        self.file("state/session-tickets.json")
    }

    /// Changes the file of ticket secrets, and leaves it without a checksum, like a file written by hand.
    fn change_secrets(&self, change: impl FnOnce(&mut Value)) {
        let text = std::fs::read_to_string(self.secrets()).expect("there");
        let mut content = serde_json::from_str::<Value>(&text).expect("JSON")["content"].take();
        change(&mut content);
        for path in [self.secrets(), self.secrets().with_extension("json.copy")] {
            std::fs::write(path, content.to_string()).expect("written");
        }
    }

    /// Makes all secrets older than they are.
    fn age_secrets(&self, hours: u64) {
        self.change_secrets(|content| {
            for secret in content["secrets"].as_array_mut().expect("a list") {
                secret["made"] = json!(secret["made"].as_u64().expect("seconds") - hours * 3600);
            }
        });
    }

    /// Begins a session with a host, and keeps it in a file of this name.
    fn meet(&self, name: &str, version: &str, session: &str) {
        let answer = self.shake(name, version, &[], &["-sess_out".as_ref(), self.file(session).as_os_str()]);
        assert!(answer.contains("New, TLSv1"), "{answer}");
    }

    /// How many of some connections that offer the session's ticket are resumptions.
    fn resumed(&self, name: &str, version: &str, session: &str, more: &[&str]) -> usize {
        let offer = || self.shake(name, version, more, &["-sess_in".as_ref(), self.file(session).as_os_str()]);
        let answers = (0..SOME).map(|_| offer());
        answers
            .filter(|answer| {
                let resumed = answer.contains("Reused, TLSv1");
                assert!(resumed || answer.contains("New, TLSv1"), "{answer}");
                resumed
            })
            .count()
    }

    /// What `s_client` prints about one exchange, which must be answered.
    fn shake(&self, name: &str, version: &str, more: &[&str], session: &[&std::ffi::OsStr]) -> String {
        let port = if name == "c" { 9443 } else { 8443 };
        let mut client = Command::new("openssl");
        client.args([
            "s_client",
            "-connect",
            &format!("{}:{port}", self.ip),
            "-servername",
            &format!("{name}.example"),
            version,
            "-ign_eof",
        ]);
        client.args(more).args(session).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().expect("openssl runs");
        let request = format!("GET / HTTP/1.1\r\nhost: {name}.example\r\nconnection: close\r\n\r\n");
        // Standard input is kept open to the end: s_client takes its end for the user's.
        let mut stdin = client.stdin.take().expect("piped");
        let _ = stdin.write_all(request.as_bytes());
        let answer = client.wait_with_output().expect("ended");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }

    fn start(&self, more: &[&str]) -> Gateway {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.args(["run", "all.yaml", "--admin-address"]).arg(format!("{}:9901", self.ip));
        command.args(["--state-dir", "state", "--workers", "2", "--grace-seconds", "5"]).args(more);
        command.current_dir(self.folder.path()).env_remove("SLUICEGATE_LOG").stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let (to, log) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        std::thread::spawn(move || lines.for_each(|line| drop(to.send(line))));
        let gateway = Gateway { child, log, said: Vec::new() };
        eventually("listening", || ["8443", "9443"].iter().all(|port| std::net::TcpStream::connect(format!("{}:{port}", self.ip)).is_ok()));
        gateway
    }
}

struct Gateway {
    child: Child,
    log: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Gateway {
    /// Waits until a line of the log contains this text.
    fn says(&mut self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.iter().any(|line| line.contains(what)) {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("{what:?} was not said: {:#?}", self.said),
            }
        }
    }

    /// Waits until the process ends; returns what it logged.
    fn ends(mut self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("waited for").is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.said.extend(self.log.iter());
        std::mem::take(&mut self.said)
    }

    fn stop(self) -> Vec<String> {
        Command::new("kill").arg(self.child.id().to_string()).status().expect("sent");
        self.ends()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn a_ticket_is_good_at_a_successor_and_at_its_successor_and_not_after_a_restart() {
    let place = Place::new("127.214.3.1");
    let mut old = place.start(&[]);
    old.says("the admin API listens");
    for version in VERSIONS {
        for name in ["a", "b", "c"] {
            place.meet(name, version, &format!("{name}{version}"));
            assert_eq!(place.resumed(name, version, &format!("{name}{version}"), &[]), SOME, "{name} {version}: on all workers");
        }
    }
    for round in ["the first", "the second"] {
        let mut new = place.start(&["--take-over"]);
        new.says("the place of the predecessor is taken");
        new.says("the admin API listens");
        assert!(old.ends().iter().all(|line| !line.contains("did not come to serve")), "it asks in one way only");
        old = new;
        for version in VERSIONS {
            for name in ["a", "b", "c"] {
                let resumed = place.resumed(name, version, &format!("{name}{version}"), &[]);
                assert_eq!(resumed, SOME, "{name} {version}, {round} successor");
            }
        }
    }
    old.stop();
    assert!(!place.secrets().exists(), "nobody asked for it");
    let restarted = place.start(&[]);
    for version in VERSIONS {
        assert_eq!(place.resumed("a", version, &format!("a{version}"), &[]), 0, "{version}: the keys are gone");
    }
    restarted.stop();
}

#[test]
fn a_ticket_is_good_after_a_restart_where_that_is_asked_for_until_its_secret_retires() {
    let place = Place::new("127.214.4.1");
    let met = place.start(PERSIST);
    for version in VERSIONS {
        place.meet("a", version, &format!("a{version}"));
    }
    eventually("written", || place.secrets().exists() && place.secrets().with_extension("json.copy").exists());
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&place.secrets()), mode(&place.secrets().with_extension("json.copy"))), (0o600, 0o600));
    met.stop();
    let secret = |at: usize| {
        let content: Value = serde_json::from_str(&std::fs::read_to_string(place.secrets()).expect("there")).expect("JSON");
        content["content"]["secrets"][at]["secret"].as_str().expect("base64").to_owned()
    };
    let first = secret(0);
    let resumed = |more: &[&str]| {
        let gateway = place.start(more);
        let resumed = VERSIONS.map(|version| place.resumed("a", version, &format!("a{version}"), &[]));
        (resumed, gateway.stop())
    };
    let (after, log) = resumed(PERSIST);
    assert_eq!(after, [SOME; 2]);
    assert!(log.iter().all(|line| !line.contains(&first)), "{log:?}");

    // After its time a secret makes no more tickets, but still opens those that it has made.
    place.age_secrets(7);
    assert_eq!(resumed(PERSIST).0, [SOME; 2]);
    assert_eq!((secret(1), secret(0) == first), (first, false), "rotated, and the one before is kept");
    place.age_secrets(6);
    assert_eq!(resumed(PERSIST).0, [0; 2], "the secret is 13 hours old");
    let content: Value = serde_json::from_str(&std::fs::read_to_string(place.secrets()).expect("there")).expect("JSON");
    let oldest = content["content"]["secrets"].as_array().expect("a list").iter().filter_map(|s| s["made"].as_u64()).min();
    assert!(oldest.expect("one") + 12 * 3600 > seconds(), "what has retired is not kept");

    // Without the setting there are no secrets on disk any more.
    assert_eq!(resumed(&[]).0, [0; 2]);
    let left: Vec<_> = std::fs::read_dir(place.file("state")).expect("read").flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("tickets")), "{left:?}");
}

#[test]
fn secrets_that_others_may_have_read_or_that_are_damaged_are_not_used_and_stop_nothing() {
    let place = Place::new("127.214.5.1");
    let (main, copy) = (place.secrets(), place.secrets().with_extension("json.copy"));
    let fresh = || {
        let gateway = place.start(PERSIST);
        VERSIONS.iter().for_each(|version| place.meet("a", version, &format!("a{version}")));
        eventually("written", || main.exists() && copy.exists());
        gateway.stop();
    };
    let after = || {
        let mut gateway = place.start(PERSIST);
        gateway.says("the admin API listens");
        let resumed = VERSIONS.map(|version| place.resumed("a", version, &format!("a{version}"), &[]));
        (resumed, gateway.stop())
    };
    fresh();
    std::fs::write(&main, "damaged").expect("written");
    let (resumed, log) = after();
    assert_eq!(resumed, [SOME; 2], "the copy serves");
    assert!(log.iter().any(|line| line.contains("session-tickets.json: ")), "{log:?}");
    for harm in [
        (|path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).expect("set")) as fn(&Path),
        |path| std::fs::write(path, "").expect("written"),
        |path| std::fs::write(path, r#"{"form":1,"secrets":[{"made":1,"secret":"AAAA"}]}"#).expect("written"),
    ] {
        fresh();
        [&main, &copy].into_iter().for_each(|path| harm(path));
        let (resumed, log) = after();
        assert_eq!(resumed, [0; 2]);
        assert!(log.iter().any(|line| line.contains("session-tickets.json")), "{log:?}");
        let left: Vec<_> = std::fs::read_dir(place.file("state")).expect("read").flatten().map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains("corrupt")), "secrets are not put aside: {left:?}");
    }
}

#[test]
fn a_ticket_is_worth_nothing_at_another_host_or_once_clients_are_verified_otherwise() {
    let place = Place::new("127.214.6.1");
    let old = place.start(PERSIST);
    for version in VERSIONS {
        place.meet("a", version, &format!("a{version}"));
        for other in ["b", "c"] {
            assert_eq!(place.resumed(other, version, &format!("a{version}"), &[]), 0, "{version}, at {other}");
        }
    }
    let (authority, _) = place.certificate("ca");
    let all = std::fs::read_to_string(place.file("all.yaml")).expect("read");
    let validation = "gatewayClassName: sluicegate\n  tls: {frontend: {default: {validation: \
                      {caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}], mode: AllowInsecureFallback}}}}\n";
    let all = all.replace("gatewayClassName: sluicegate\n", validation);
    let all = format!("{all}apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  ca.crt: |\n{authority}");
    std::fs::write(place.file("all.yaml"), all).expect("written");
    let checked = || VERSIONS.map(|version| place.resumed("a", version, &format!("a{version}"), &[]));
    eventually("clients are asked for certificates", || checked() == [0; 2]);
    old.stop();
    let restarted = place.start(PERSIST);
    assert_eq!(checked(), [0; 2], "nor after a restart");
    // Sessions of the new rules are resumed by the new rules.
    for version in VERSIONS {
        place.meet("a", version, &format!("a{version}"));
    }
    assert_eq!(checked(), [SOME; 2]);
    restarted.stop();
}
