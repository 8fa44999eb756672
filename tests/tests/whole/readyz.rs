//! `/readyz` says what is not served, but its status stays 200: that something is missing is no reason to send the rest of the traffic elsewhere.

use std::net::TcpListener;

use sluicegate_tests::{Gateway, eventually};

fn service(name: &str, port: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{port}]}}\n")
}

/// The lines after the first one of an answer of 200.
fn unserved(gateway: &Gateway) -> Vec<String> {
    let text = gateway.get("/readyz").expect("200");
    let mut lines = text.lines().map(str::to_owned);
    assert_eq!(lines.next().as_deref(), Some("ok"), "{text}");
    lines.collect()
}

#[test]
fn readyz_names_what_is_not_served_and_forgets_it_when_it_is() {
    let gateway = Gateway::new(&[
        ("tcp.yaml", &service("tcp", "{port: 80}")),
        ("udp.yaml", &service("udp", "{port: 53, protocol: UDP}")),
        ("sctp.yaml", &service("sctp", "{port: 38412, protocol: SCTP}")),
        (
            "elsewhere.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: elsewhere}\nspec: {type: ExternalName, externalName: example.com}\n",
        ),
    ]);
    // An endpoint of one protocol is not an endpoint of the other, and where nothing is forwarded nothing is missing.
    eventually("two are idle", || unserved(&gateway) == ["no ready endpoint: default/tcp:80", "no ready endpoint: default/udp:53/UDP"]);

    gateway.write("broken.yaml", &service("broken", "{port: 0}"));
    let broken = |lines: &[String]| {
        lines
            .first()
            .is_some_and(|line| line.starts_with("not as configured: ") && line.contains("broken") && line.ends_with("broken.yaml:4)"))
    };
    eventually("the fault with its place", || broken(&unserved(&gateway)) && unserved(&gateway).len() == 3);

    let held = TcpListener::bind((gateway.ip(9), 0)).expect("bound");
    let port = held.local_addr().expect("an address").port();
    gateway.write("edge.yaml", &format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: sluicegate\n  addresses: [{{value: {}}}]\n  listeners: [{{name: web, protocol: HTTP, port: {port}}}]\n",
        gateway.ip(9)
    ));
    let listener = format!("{}:{port}", gateway.ip(9));
    eventually("the address that another holds", || {
        unserved(&gateway).iter().any(|line| line.contains(&listener) && line.contains("Address already in use"))
    });

    drop(held);
    gateway.write("broken.yaml", "");
    std::fs::remove_file(gateway.path("broken.yaml")).expect("removed");
    std::fs::remove_file(gateway.path("udp.yaml")).expect("removed");
    gateway.write("pod.yaml", &format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: one, labels: {{app: tcp}}}}\nstatus: {{podIP: {}, conditions: [{{type: Ready, status: \"True\"}}]}}\n",
        gateway.ip(2)
    ));
    eventually("nothing is missing", || {
        unserved(&gateway)
            .iter()
            .all(|line| !line.contains("tcp") && !line.contains("udp") && !line.contains("broken") && !line.contains(&listener))
    });
}

#[test]
fn readyz_names_the_first_of_many_and_counts_the_others() {
    let many: String =
        (0..60).map(|n| format!("---\n{}", service(&format!("s{n:03}"), "{name: a, port: 80}, {name: b, port: 81}"))).collect();
    let gateway = Gateway::new(&[("many.yaml", &many)]);
    eventually("the count", || unserved(&gateway).last().is_some_and(|line| line == "and 20 more"));
    assert_eq!(unserved(&gateway).first().map(String::as_str), Some("no ready endpoint: default/s000:80"));
    assert_eq!(unserved(&gateway).len(), 101);
}
