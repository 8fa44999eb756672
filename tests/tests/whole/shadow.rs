//! A configuration in the shadow of the one that is served: compared by requests that are answered, then promoted or dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use serde_json::{Value, json};
use sluicegate_tests::{Gateway, PATIENCE, eventually, http};

const PORT: u16 = 18_785;

/// A Gateway with these rules of one route.
fn objects(ip: IpAddr, rules: &str) -> String {
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: nginx}}, ports: [{{port: 80, appProtocol: http}}]}}\n---\n"
        )
    };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: sluicegate\n  \
         addresses: [{{value: {ip}}}]\n  listeners: [{{name: web, protocol: HTTP, port: {PORT}}}]\n---\n{}{}\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: all}}\nspec:\n  \
         parentRefs: [{{name: edge, sectionName: web}}]\n  rules:\n{rules}",
        service("shop"),
        service("pay")
    )
}

const OLD: &str = "  - {matches: [{path: {value: /shop}}], backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /same}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}], backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /to}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: b.example}}]}
";
const NEW: &str = "  - {matches: [{path: {value: /shop}}], backendRefs: [{name: pay, port: 80}]}
  - {matches: [{path: {value: /same}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}], backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /to}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: b.example}}]}
  - {matches: [{path: {value: /more}}], backendRefs: [{name: pay, port: 80}]}
";

fn gateway() -> (Gateway, SocketAddr) {
    let gateway = Gateway::new(&[]);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    let address = SocketAddr::new(gateway.ip(9), PORT);
    gateway.write("all.yaml", &objects(address.ip(), OLD));
    eventually("served", || TcpStream::connect(address).is_ok() && asked(address, "/shop") == 200);
    (gateway, address)
}

/// Sends one request, and returns the answer's status.
fn asked(address: SocketAddr, target: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").expect("sent");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// Gives an order, and returns the answer's status and text.
fn order(gateway: &Gateway, path: &str, asked: &Value) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
    let request = agent.post(format!("http://{}/api/v1/shadow{path}", gateway.admin())).header("x-sluicegate-request", "1");
    let mut answer = request.content_type("application/json").send(asked.to_string()).expect("answered");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
}

fn count(status: &Value, kind: &str) -> u64 {
    let kinds = status["report"]["kinds"].as_array().expect("kinds");
    kinds.iter().find(|one| one["kind"] == kind).and_then(|one| one["requests"].as_u64()).expect("a number")
}

#[test]
fn requests_that_are_answered_are_decided_by_both_and_the_new_files_are_promoted() {
    let (gateway, address) = gateway();
    let next = tempfile::tempdir().expect("a folder");
    std::fs::write(next.path().join("all.yaml"), objects(address.ip(), NEW)).expect("written");
    std::fs::write(next.path().join("a.yaml"), gateway.pod("a", 2, true)).expect("written");
    assert_eq!(order(&gateway, "/promote", &json!({})), (409, "no configuration is in the shadow\n".to_owned()));
    assert_eq!(gateway.get("/api/v1/shadow"), None);
    let (status, said) = order(&gateway, "", &json!({"path": next.path()}));
    assert!(status == 200 && said.ends_with("is in the shadow\n"), "{said}");
    let targets = ["/shop", "/shop/1", "/same/1", "/to", "/more", "/nothing"];
    targets.iter().for_each(|target| _ = asked(address, target));
    let compared = || gateway.json("shadow")["report"]["requests"].as_u64().unwrap_or_default();
    eventually("all are compared", || compared() == 6);
    let status = gateway.json("shadow");
    let kinds = ["service", "answered", "refused", "headers", "route"].map(|kind| count(&status, kind));
    assert_eq!((status["report"]["changed"]["requests"].as_u64(), kinds), (Some(3), [2, 1, 0, 0, 1]), "{status:#}");
    let group = &status["report"]["groups"][0];
    assert_eq!((group["old"]["decision"].as_str(), group["new"]["decision"].as_str()), (Some("default/shop:80"), Some("default/pay:80")));
    assert_eq!(
        (status["errors"].as_u64(), status["dropped"].as_u64(), asked(address, "/more")),
        (Some(0), Some(0), 404),
        "nothing of it is served"
    );

    // What was compared is what is promoted, or nothing is.
    std::fs::write(next.path().join("more.yaml"), "# more\n").expect("written");
    let (status, said) = order(&gateway, "/promote", &json!({}));
    assert!(status == 409 && said.contains("has changed since it was compared"), "{said}");
    std::fs::remove_file(next.path().join("more.yaml")).expect("removed");
    let (status, said) = order(&gateway, "/promote", &json!({}));
    assert_eq!(status, 200, "{said}");
    eventually("the new one is served", || asked(address, "/more") == 200);
    let kept = said.trim_end().rsplit(' ').next().expect("a path");
    assert!(std::fs::read_to_string(format!("{kept}/all.yaml")).expect("kept").contains("kind: HTTPRoute"));
    std::fs::remove_dir_all(kept).expect("removed");
    assert_eq!((order(&gateway, "/drop", &json!({})).0, gateway.get("/api/v1/shadow")), (409, None), "it is not in the shadow any more");
}

#[test]
fn what_cannot_be_loaded_harms_nothing_and_what_is_dropped_is_gone() {
    let (gateway, address) = gateway();
    let next = tempfile::tempdir().expect("a folder");
    for (asked, status, why) in [
        (json!({"path": "relative"}), 400, "a whole one"),
        (json!({"path": next.path().join("none")}), 409, "is not there"),
        (json!({"path": next.path(), "rate": 0}), 400, "rate from 1"),
    ] {
        let (got, said) = order(&gateway, "", &asked);
        assert!(got == status && said.contains(why), "{said}");
    }
    // Broken objects are told and left out: the listener has no route there.
    std::fs::write(next.path().join("all.yaml"), objects(address.ip(), "  7\n")).expect("written");
    let (status, said) = order(&gateway, "", &json!({"path": next.path()}));
    assert!(status == 200 && said.contains("errors, the first is"), "{said}");
    assert_eq!(asked(address, "/shop"), 200);
    eventually("it is compared", || count(&gateway.json("shadow"), "refused") == 1);
    assert!(gateway.json("shadow")["errors"].as_u64() > Some(0));
    let (status, said) = order(&gateway, "/drop", &json!({}));
    assert!(status == 200 && said.contains("not in the shadow any more"), "{said}");
    assert_eq!((asked(address, "/shop"), gateway.get("/api/v1/shadow")), (200, None));
    assert_eq!(order(&gateway, "/other", &json!({})).0, 404);
}
