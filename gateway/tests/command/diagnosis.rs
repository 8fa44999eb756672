//! `check` and `explain` say why a request would fail, and who has an address.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = crate::binary();
    // A gateway that happens to run on this machine must not take part in these tests.
    command.current_dir(folder).env("HOME", folder).env_remove("XDG_STATE_HOME");
    let Output { status, stdout, stderr } = command.args(arguments).output().expect("runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8") + &String::from_utf8(stderr).expect("UTF-8"))
}

fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), text).expect("written");
    folder
}

fn service(name: &str, selector: &str, port: u16, target: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {selector}, ports: [{{port: {port}, targetPort: {target}}}]}}\n"
    )
}

fn pod(name: &str, labels: &str, status: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{{name}, labels: {labels}}}\nspec: {{containers: [{{name: c, image: i, ports: [{{name: http, containerPort: 8080}}, {{name: dns, protocol: UDP, containerPort: 53}}]}}]}}\nstatus: {{{status}}}\n"
    )
}

const GATEWAY: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: sluicegate
  addresses: [{value: 127.0.0.1}]
  listeners: [{name: web, protocol: HTTP, port: 18765}, {name: idle, protocol: TCP, port: PORT}]
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: edge}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: web}]
  router: {plugin: rules, config: {rules: [{backendRefs: [{name: near, port: 81}]}]}}
";

#[test]
fn check_and_explain_say_why_a_request_would_fail() {
    let other = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = other.local_addr().expect("an address").port();
    let text = [
        service("near", "{app: wbe, tier: front}", 8761, "8080"),
        service("elsewhere", "{app: shop}", 8762, "8080"),
        service("unready", "{app: unready}", 8763, "8080"),
        service("ended", "{app: ended}", 8764, "8080"),
        service("six", "{app: six}", 8766, "8080"),
        service("nobody", "{}", 8767, "8080"),
        service("misspelt", "{app: web}", 8768, "htpp"),
        service("udp", "{app: web}", 8769, "dns"),
        service("right", "{app: web}", 8770, "http"),
        pod("name: web-1", "{app: web, tier: front}", "podIP: 127.0.0.2"),
        pod("name: shop-1, namespace: shop", "{app: shop}", "podIP: 127.0.0.2"),
        pod("name: unready-1", "{app: unready}", "podIP: 127.0.0.2, conditions: [{type: Ready, status: \"False\"}]"),
        pod("name: ended-1", "{app: ended}", "phase: Failed, podIP: 127.0.0.2"),
        pod("name: six-1", "{app: six}", "podIP: \"::1\""),
        GATEWAY.replace("PORT", &port.to_string()),
    ];
    let folder = folder(&text.concat());
    let (code, out) = run(folder.path(), &["check", "all.yaml"]);
    assert_eq!(code, Some(0), "{out}");
    let held = format!("listener idle of Gateway default/edge: cannot listen on 127.0.0.1:{port}: Address already in use (os error 98): ");
    for wanted in [
        "Service default/near: spec.selector: no Pod of namespace \"default\" has app=wbe,tier=front: the Service has no endpoints",
        "= nearest is Pod \"web-1\" with app=web,tier=front",
        "= Pod \"shop-1\" has them, in namespace \"shop\"",
        "spec.selector: no Pod that it selects is ready: unready-1",
        "spec.selector: all Pods that it selects have ended: ended-1",
        "spec.selector: no Pod that it selects has an address of IPv4: six-1",
        "the Service has no selector, and no EndpointSlice names it",
        "Service default/misspelt: spec.ports[0].targetPort: no container of the Pods that are selected has a port named \"htpp\" of protocol TCP",
        "= there are: \"http\" (8080/TCP), \"dns\" (53/UDP)",
        "Service default/udp: spec.ports[0].targetPort: no container of the Pods that are selected has a port named \"dns\" of protocol TCP",
        "spec.listeners[1]: the listener \"idle\" has no routes: every connection is reset",
        "rule 0: service port default/near:81 does not exist: what it takes is answered 500",
        &held,
        &format!("(pid {}) has it", std::process::id()),
    ] {
        assert!(out.contains(wanted), "{wanted:?} is missing:\n{out}");
    }
    assert!(!out.contains("Service default/right"), "{out}");
    let (code, out) = run(folder.path(), &["explain", "all.yaml", "--port", "8761", "GET", "/"]);
    assert!(code == Some(1) && out.contains("why        spec.selector: no Pod of namespace \"default\" has app=wbe"), "{out}");
}

#[test]
fn a_port_without_privilege_is_told() {
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if start.trim().parse().is_ok_and(|start: u16| start <= 79) {
        return;
    }
    let folder = folder(&GATEWAY.replace("18765", "79").replace("PORT", "18764"));
    let check = format!("{} check all.yaml", env!("CARGO_BIN_EXE_sluicegate"));
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service", "sh", "-c", &check]).current_dir(folder.path());
    let Ok(output) = command.output() else { return };
    let out = String::from_utf8_lossy(&output.stdout);
    // A capability that is not in the bounding set is lost at exec, for root as well (capabilities(7)). Other users may not remove it, but have none.
    if output.stderr.is_empty() {
        assert!(out.contains("cannot listen on 127.0.0.1:79: Permission denied (os error 13): ports below"), "{out}");
        assert!(out.contains("need CAP_NET_BIND_SERVICE, or sysctl net.ipv4.ip_unprivileged_port_start=79"), "{out}");
    }
}
