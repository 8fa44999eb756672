//! Logins to the admin API: by tokens and client certificates, from this machine and from others; asked by curl and by the commands.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sluicegate;

const VIEWER: &str = "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv";
const OPERATOR: &str = "oooooooooooooooooooooooooooooooo";
const NEXT: &str = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";
const PATIENCE: Duration = Duration::from_secs(20);

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {selector: {app: cart}, ports: [{port: 80, appProtocol: http}]}\n";

/// A gateway with its log, which is ended when it is dropped.
struct Gateway {
    folder: tempfile::TempDir,
    child: Child,
    log: Arc<Mutex<String>>,
    admin: String,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    /// Runs a gateway in a folder, with these settings of its admin API. Cluster IPs are those of 127.232.N.0/24.
    fn start(folder: tempfile::TempDir, n: u8, admin: &str) -> Self {
        let object = format!("apiVersion: sluicegate.dev/v1alpha1\nkind: SluicegateConfiguration\nadmin: {admin}\n");
        std::fs::write(folder.path().join("all.yaml"), format!("{SERVICE}---\n{object}")).expect("written");
        let mut child = sluicegate(folder.path())
            .args(["run", "all.yaml", "--admin-address", "127.0.0.1:0", "--log-format", "json", "--state-dir", "state"])
            .args(["--nodeport-addresses", &format!("127.232.{n}.1/32"), "--service-cluster-ip-range", &format!("127.232.{n}.128/25")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let log = Arc::new(Mutex::new(String::new()));
        let kept = log.clone();
        let keep = move |line: &str| *kept.lock().expect("a log") += &format!("{line}\n");
        let admin = lines.find_map(|line| {
            keep(&line);
            serde_json::from_str::<Value>(&line).ok()?["fields"]["admin"].as_str().map(str::to_owned)
        });
        std::thread::spawn(move || lines.for_each(|line| keep(&line)));
        Self { folder, child, log, admin: admin.expect("the admin API's address is logged") }
    }

    /// What curl is answered: the status, and the head with the content.
    fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String) {
        let url = if path.contains("://") { path.to_owned() } else { format!("http://{}{path}", self.admin) };
        let output = Command::new("curl")
            .args(["--silent", "--include", "--noproxy", "*", "--max-time", "20", "--write-out", "\n%{http_code}", &url])
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("curl; `make test-tools` brings it");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        let (content, status) = said.rsplit_once('\n').expect("a line with the status");
        (status.parse().expect("a status"), content.to_owned())
    }

    fn with(&self, token: &str, path: &str, more: &[&str]) -> (u16, String) {
        self.curl(path, &[&["--header", &format!("Authorization: Bearer {token}")][..], more].concat())
    }

    /// What a command says, and its exit code.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = sluicegate(self.folder.path()).args(arguments).env("SLUICEGATE_ADMIN", &self.admin).output().expect("runs");
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8"))
    }

    fn log(&self) -> String {
        self.log.lock().expect("a log").clone()
    }
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const ORDER: [&str; 4] = ["--request", "POST", "--header", "X-Sluicegate-Request: 1"];

#[test]
fn tokens_have_roles_and_are_read_again_when_they_change() {
    let folder = tempfile::tempdir().expect("a folder");
    // A Secret's volume: the name leads to a folder that is replaced as a whole.
    let write = |folder: &Path, version: &str, text: &str| {
        std::fs::create_dir(folder.join(version)).expect("made");
        std::fs::write(folder.join(version).join("tokens"), text).expect("written");
        std::os::unix::fs::symlink(version, folder.join("..next")).expect("linked");
        std::fs::rename(folder.join("..next"), folder.join("..data")).expect("renamed");
    };
    write(folder.path(), "..1", &format!("viewer:{VIEWER}\noperator:alice:{OPERATOR}\n"));
    std::os::unix::fs::symlink("..data/tokens", folder.path().join("tokens")).expect("linked");
    let gateway = Gateway::start(folder, 1, "{tokenFile: tokens}");
    let order = "/api/v1/plugins/nobody/disable";

    let (status, said) = gateway.curl("/api/v1/services", &[]);
    assert!(status == 401 && said.contains("www-authenticate: Bearer realm=\"sluicegate\""), "{said}");
    for open in ["/healthz", "/metrics"] {
        assert_eq!(gateway.curl(open, &[]).0, 200, "{open}");
    }
    assert_ne!(gateway.curl("/readyz", &[]).0, 401);
    let whoami = |token: &str| gateway.with(token, "/api/v1/whoami", &[]).1.lines().last().unwrap_or_default().to_owned();
    assert_eq!(whoami(VIEWER), r#"{"role":"viewer","name":"viewer","login":"token"}"#);
    assert_eq!(whoami(OPERATOR), r#"{"role":"operator","name":"alice","login":"token"}"#);
    let (status, said) = gateway.with(VIEWER, order, &ORDER);
    assert!(status == 403 && said.contains("a viewer gives no orders"), "{said}");
    assert_eq!(gateway.with(OPERATOR, order, &ORDER).0, 409, "there is no such plugin");
    assert_eq!(gateway.with(OPERATOR, order, &ORDER[..2]).0, 403, "a token alone is no order");
    assert_eq!(gateway.with(VIEWER, "/api/v1/services", &["--header", "Host: other.example"]).0, 421);
    assert!(gateway.log().contains("an order: POST /api/v1/plugins/nobody/disable") && gateway.log().contains("\"name\":\"alice\""));

    let (code, said) = gateway.run(&["get", "services"]);
    assert!(code == Some(1) && said.contains("log in by a token"), "{said}");
    std::fs::write(gateway.folder.path().join("mine"), format!("{VIEWER}\n")).expect("written");
    let (code, said) = gateway.run(&["get", "services", "--token-file", "mine"]);
    assert!(code == Some(0) && said.contains("cart"), "{said}");
    let (code, said) = gateway.run(&["plugin", "disable", "kubernetes", "--token-file", "mine"]);
    assert!(code == Some(1) && said.contains("a viewer gives no orders"), "{said}");

    // Nobody can log in any more by what is gone; what is faulty changes nothing.
    write(gateway.folder.path(), "..2", &format!("operator:{NEXT}\n"));
    // Asked by the old token, as each time by the new one would be a login that fails.
    eventually("the old token is gone", || gateway.with(OPERATOR, "/api/v1/whoami", &[]).0 == 401);
    assert_eq!(gateway.with(NEXT, "/api/v1/whoami", &[]).0, 200);
    write(gateway.folder.path(), "..3", "operator:short-and-secret\n");
    let faulty = |n| gateway.curl("/metrics", &[]).1.contains(&format!("sluicegate_admin_login_files_faulty {n}\n"));
    eventually("it is faulty", || faulty(1));
    assert_eq!(gateway.with(NEXT, "/api/v1/whoami", &[]).0, 200);
    write(gateway.folder.path(), "..4", &format!("operator:{NEXT}\nviewer:{VIEWER}\n"));
    eventually("it is not faulty any more", || faulty(0));

    // Too many that fail are not looked at, whatever they say.
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let (status, said) = gateway.with("wrong-and-secret-wrong-and-secret", "/api/v1/whoami", &[]);
        if status != 401 {
            break (status, said);
        }
        assert!(Instant::now() < deadline);
    };
    assert!(refused.0 == 429 && refused.1.contains("retry-after: "), "{}", refused.1);
    assert_eq!(gateway.with(NEXT, "/api/v1/whoami", &[]).0, 429);
    let metrics = gateway.curl("/metrics", &[]).1;
    let counted = |row: &str| metrics.lines().find_map(|line| line.strip_prefix(row)?.trim().parse::<u64>().ok()).unwrap_or_default();
    assert_eq!(counted("sluicegate_admin_logins_failed_total{reason=\"token\"}"), 10);
    assert_eq!(counted("sluicegate_admin_logins_failed_total{reason=\"refused\"}"), 2);
    let log = gateway.log();
    assert!(log.contains("a login to the admin API has failed") && log.contains("too many logins"), "{log}");
    for secret in [VIEWER, OPERATOR, NEXT, "and-secret"] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(log.contains("everybody on this machine may read tokens"), "{log}");
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl; `make test-tools` brings it");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn authority(folder: &Path, name: &str) {
    let (key, certificate, subject) = (format!("{name}.key"), format!("{name}.crt"), format!("/CN={name}"));
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    openssl(folder, &[&new[..], &["-keyout", &key, "-out", &certificate, "-subj", &subject]].concat());
}

/// A certificate with this common name and subjectAltName, in NAME.crt and NAME.key.
fn certificate(folder: &Path, authority: &str, name: &str, alternative: &str) {
    let file = |ending: &str| format!("{name}.{ending}");
    let subject = format!("/CN={name}");
    let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(folder, &[&new[..], &["-keyout", &file("key"), "-out", &file("csr"), "-subj", &subject]].concat());
    std::fs::write(folder.join(file("ext")), format!("subjectAltName={alternative}\n")).expect("written");
    let (by, key) = (format!("{authority}.crt"), format!("{authority}.key"));
    let sign = ["x509", "-req", "-days", "2", "-CAcreateserial", "-CA", &by, "-CAkey", &key];
    openssl(folder, &[&sign[..], &["-in", &file("csr"), "-out", &file("crt"), "-extfile", &file("ext")]].concat());
}

#[test]
fn client_certificates_have_roles_by_their_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    authority(at, "clients");
    authority(at, "servers");
    authority(at, "others");
    certificate(at, "servers", "server", "IP:127.0.0.1,DNS:localhost");
    certificate(at, "clients", "alice", "URI:spiffe://example/alice");
    certificate(at, "clients", "bob", "DNS:bob.example");
    certificate(at, "clients", "carol", "DNS:carol.example");
    certificate(at, "others", "mallory", "DNS:alice");
    let tls = "{certificateFile: server.crt, keyFile: server.key, clientCAFile: clients.crt, operators: ['spiffe://example/alice'], viewers: [bob]}";
    let gateway = Gateway::start(folder, 2, &format!("{{tls: {tls}}}"));
    let url = |path: &str| format!("https://{}{path}", gateway.admin);
    let by = |name: &str, path: &str, more: &[&str]| {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        gateway.curl(&url(path), &[&["--cacert", "servers.crt", "--cert", &certificate, "--key", &key][..], more].concat())
    };
    let whoami = |name: &str| by(name, "/api/v1/whoami", &[]).1.lines().last().unwrap_or_default().to_owned();
    assert_eq!(whoami("alice"), r#"{"role":"operator","name":"spiffe://example/alice","login":"certificate"}"#);
    assert_eq!(whoami("bob"), r#"{"role":"viewer","name":"bob","login":"certificate"}"#);
    let (status, said) = by("carol", "/api/v1/whoami", &[]);
    assert!(status == 403 && said.contains("neither among"), "{said}");
    assert_eq!(by("mallory", "/api/v1/whoami", &[]).0, 0, "the handshake fails");
    assert_eq!(by("bob", "/api/v1/plugins/nobody/disable", &ORDER).0, 403);
    assert_eq!(by("alice", "/api/v1/plugins/nobody/disable", &ORDER).0, 409);
    // A probe has no certificate.
    let trusting = ["--cacert", "servers.crt"];
    assert_eq!((gateway.curl(&url("/healthz"), &trusting).0, gateway.curl(&url("/api/v1/services"), &trusting).0), (200, 401));
    assert_ne!(gateway.curl("/healthz", &[]).0, 200, "there is no HTTP without TLS");

    let command = |name: &str, more: &[&str]| {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        gateway
            .run(&[&["get", "services", "--admin-ca", "servers.crt", "--admin-cert", &certificate, "--admin-key", &key][..], more].concat())
    };
    assert!(command("bob", &[]).1.contains("cart"));
    assert!(command("bob", &["--admin-address", &url("/")]).1.contains("cart"));
    assert_eq!(gateway.run(&["get", "services", "--admin-ca", "servers.crt"]).0, Some(1));
    let (code, said) = gateway.run(&["get", "services", "--admin-ca", "others.crt", "--admin-cert", "bob.crt", "--admin-key", "bob.key"]);
    assert!(code == Some(1) && said.to_lowercase().contains("certificate"), "{said}");

    // Another certificate is shown, and other authorities count, as soon as the files have changed.
    certificate(gateway.folder.path(), "others", "server", "IP:127.0.0.1");
    eventually("the new certificate is shown", || gateway.curl(&url("/healthz"), &["--cacert", "others.crt"]).0 == 200);
    std::fs::copy(gateway.folder.path().join("others.crt"), gateway.folder.path().join("clients.crt")).expect("copied");
    let again = |name: &str| {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        gateway.curl(&url("/api/v1/whoami"), &["--cacert", "others.crt", "--cert", &certificate, "--key", &key]).0
    };
    eventually("who was an operator is nobody", || again("alice") == 0);
}

/// Addresses that are not of the loopback, in a network namespace of its own.
const ELSEWHERE: &str = r#"
set -e
ip link set lo up; ip address add 192.0.2.1/32 dev lo
"$0" run all.yaml --admin-address 0.0.0.0:9901 --state-dir state 2>log & gateway=$!
ask() { curl --silent --noproxy '*' --max-time 20 --output answer --write-out "$1 %{http_code}\n" "$@"; }
for i in $(seq 200); do curl --silent --noproxy '*' --output /dev/null --fail http://192.0.2.1:9901/readyz && break; sleep 0.1; done
ask http://192.0.2.1:9901/healthz
ask http://192.0.2.1:9901/readyz
ask http://192.0.2.1:9901/metrics --header 'Host: any.example'
ask http://192.0.2.1:9901/api/v1/services
ask http://192.0.2.1:9901/api/v1/whoami --header "Authorization: Bearer $1"
ask http://127.0.0.1:9901/api/v1/whoami
SLUICEGATE_TOKEN_FILE=mine SLUICEGATE_ADMIN=192.0.2.1 "$0" get services || true
SLUICEGATE_TOKEN_FILE=mine SLUICEGATE_ADMIN=192.0.2.1 "$0" get services --token-without-tls || true
grep -o 'from other machines the admin API answers probes and metrics alone\|takes tokens without TLS' log
kill $gateway
"#;

/// What is said elsewhere than on the loopback, with these settings of the admin API.
fn elsewhere(admin: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let object = format!("apiVersion: sluicegate.dev/v1alpha1\nkind: SluicegateConfiguration\nadmin: {admin}\n");
    std::fs::write(folder.path().join("all.yaml"), format!("{SERVICE}---\n{object}")).expect("written");
    std::fs::write(folder.path().join("tokens"), format!("operator:{OPERATOR}\n")).expect("written");
    std::fs::write(folder.path().join("mine"), OPERATOR).expect("written");
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", ELSEWHERE, env!("CARGO_BIN_EXE_sluicegate"), OPERATOR]).current_dir(folder.path());
    command.env("SLUICEGATE_CODE_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled")).env_remove("SLUICEGATE_LOG");
    let output = command.output().expect("unshare, of util-linux");
    String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8")
}

#[test]
fn other_machines_are_answered_probes_and_metrics_alone_until_they_can_log_in() {
    let said = elsewhere("{}");
    let status = |url: &str, status: u16| assert!(said.contains(&format!("{url} {status}\n")), "{url}: {said}");
    for open in ["healthz", "readyz", "metrics"] {
        status(&format!("http://192.0.2.1:9901/{open}"), 200);
    }
    status("http://192.0.2.1:9901/api/v1/services", 403);
    status("http://192.0.2.1:9901/api/v1/whoami", 403);
    status("http://127.0.0.1:9901/api/v1/whoami", 200);
    assert!(said.contains("answers probes and metrics alone"), "{said}");

    let said = elsewhere("{tokenFile: tokens}");
    let status = |url: &str, status: u16| assert!(said.contains(&format!("{url} {status}\n")), "{url}: {said}");
    status("http://192.0.2.1:9901/metrics", 200);
    status("http://192.0.2.1:9901/api/v1/services", 401);
    status("http://192.0.2.1:9901/api/v1/whoami", 200);
    status("http://127.0.0.1:9901/api/v1/whoami", 401);
    assert!(said.contains("the token is not sent to http://192.0.2.1:9901"), "{said}");
    assert!(said.contains("default    cart"), "it is sent when that is wanted: {said}");
    assert!(said.contains("takes tokens without TLS"), "{said}");
}

#[test]
fn a_faulty_file_of_logins_stops_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("tokens"), "operator:short\n").expect("written");
    for (admin, wanted) in [("{tokenFile: tokens}", "tokens: line 1: a token has 32"), ("{tokenFile: nothing}", "nothing: No such file")] {
        let object = format!("apiVersion: sluicegate.dev/v1alpha1\nkind: SluicegateConfiguration\nadmin: {admin}\n");
        std::fs::write(folder.path().join("all.yaml"), object).expect("written");
        let (code, _, error) = crate::run(folder.path(), &["run", "all.yaml", "--admin-address", "127.0.0.1:0", "--state-dir", "state"]);
        assert!(code == Some(1) && error.contains(wanted), "{error}");
    }
}
