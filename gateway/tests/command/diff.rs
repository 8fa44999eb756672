//! `diff` tells which requests another configuration would decide differently.

use serde_json::Value;

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: sluicegate
  addresses: [{value: 127.231.9.1}]
  listeners: [{name: web, protocol: HTTP, port: 18769}, {name: raw, protocol: TCP, port: 18770}]
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80, appProtocol: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: pay}
spec: {selector: {app: pay}, ports: [{port: 80, appProtocol: http}]}
";

fn http(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{name: edge, sectionName: web}}]\n{rest}\n"
    )
}

/// What differs between two configurations, as JSON, and the command's exit code.
fn diff(old: &[String], new: &[String]) -> (Option<i32>, Vec<Value>) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, routes) in [("old", old), ("new", new)] {
        std::fs::create_dir(folder.path().join(name)).expect("made");
        std::fs::write(folder.path().join(name).join("all.yaml"), format!("{GATEWAY}{}", routes.concat())).expect("written");
    }
    let (code, out, err) = crate::run(folder.path(), &["diff", "old", "new", "--state-dir", "state", "-o", "json"]);
    assert!(!err.contains("errors"), "{err}");
    (code, serde_json::from_str::<Value>(&out).expect("JSON").as_array().expect("a list").clone())
}

/// One difference: the requests, what was decided, and what is decided now.
fn told(row: &Value) -> (Vec<&str>, &str, &str) {
    let requests = row["requests"].as_array().expect("requests").iter().filter_map(Value::as_str).collect();
    (requests, row["old"]["decision"].as_str().expect("a text"), row["new"]["decision"].as_str().expect("a text"))
}

#[test]
fn a_route_that_steals_requests_of_another_is_told_with_the_requests() {
    let all = http("all", "  rules: [{backendRefs: [{name: shop, port: 80}]}]");
    let unlike = http("old", "  hostnames: [old.example]\n  rules: [{backendRefs: [{name: shop, port: 80}]}]");
    assert_eq!(
        diff(&[all.clone(), unlike.clone()], &[unlike.clone(), all.clone()]),
        (Some(0), Vec::new()),
        "the order of files decides nothing"
    );

    // It takes requests with a header, of any host except the one that has a route of its own.
    let thief = http("thief", "  rules: [{matches: [{headers: [{name: X-Canary, value: \"1\"}]}], backendRefs: [{name: pay, port: 80}]}]");
    let (code, rows) = diff(&[all.clone(), unlike.clone()], &[all.clone(), unlike.clone(), thief]);
    assert_eq!((code, rows.len()), (Some(1), 1), "{rows:#?}");
    let (requests, was, is) = told(&rows[0]);
    assert_eq!((was, is), ("default/shop:80", "default/pay:80"));
    assert!(requests.contains(&"GET any.example/ -H 'x-canary: 1'"), "{requests:?}");
    assert!(requests.iter().all(|request| !request.contains("old.example") && request.contains("x-canary")), "{requests:?}");
    assert_eq!(
        (rows[0]["old"]["by"].as_str(), rows[0]["new"]["by"].as_str()),
        (Some("HTTPRoute default/all rules[0]"), Some("HTTPRoute default/thief rules[0]"))
    );
}

#[test]
fn what_is_answered_and_what_fails_is_told() {
    let rule = |rest: &str| http("all", &format!("  rules: [{{matches: [{{path: {{value: /a}}}}], {rest}}}]"));
    let served = rule("backendRefs: [{name: shop, port: 80}, {name: pay, port: 80, weight: 3}]");
    for (other, decision) in [
        (rule("backendRefs: [{name: shop, port: 80}]"), "default/shop:80"),
        (rule("backendRefs: [{name: gone, port: 80}]"), "500 ("),
        (
            rule("filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, statusCode: 301}}]"),
            "301, a redirect to http://new.example",
        ),
        (String::new(), "404 no-route"),
    ] {
        let (code, rows) = diff(std::slice::from_ref(&served), &[other]);
        assert_eq!(code, Some(1), "{decision}");
        let row = rows.iter().find(|row| told(row).0.contains(&"GET any.example/a")).expect("told");
        let (_, was, is) = told(row);
        assert_eq!(was, "default/shop:80 with weight 1, default/pay:80 with weight 3");
        assert!(is.starts_with(decision), "{is}");
    }
    // The backends are the same, but something else is done with the request on its way.
    let rewritten = rule(
        "filters: [{type: URLRewrite, urlRewrite: {hostname: x.example}}], backendRefs: [{name: shop, port: 80}, {name: pay, port: 80, weight: 3}]",
    );
    let (code, rows) = diff(&[served], &[rewritten]);
    assert_eq!((code, rows.len()), (Some(1), 1));
    assert_eq!(rows[0]["new"]["rule"]["filters"][0]["type"], "URLRewrite");
}

#[test]
fn listeners_that_come_go_or_lead_elsewhere_are_told() {
    let tcp = |service: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {{name: raw}}\nspec:\n  \
             parentRefs: [{{name: edge, sectionName: raw}}]\n  rules: [{{backendRefs: [{{name: {service}, port: 80}}]}}]\n"
        )
    };
    let more = "---\napiVersion: v1\nkind: Service\nmetadata: {name: new}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 30771}]}\n"
        .to_owned();
    let (code, rows) = diff(&[tcp("shop")], &[tcp("pay"), more]);
    assert_eq!(code, Some(1));
    let raw = rows.iter().find(|row| row["listener"] == "listener raw of Gateway default/edge").expect("told");
    assert_eq!(told(raw).1, "default/shop:80");
    assert_eq!((told(raw).0, told(raw).2), (vec!["a connection"], "default/pay:80"));
    let (_, gone) = diff(&[tcp("shop")], &[tcp("gone")]);
    assert!(told(&gone[0]).2.starts_with("refused ("), "{gone:#?}");
    let come =
        rows.iter().find(|row| row["listener"].as_str().is_some_and(|name| name.starts_with("node port of default/new"))).expect("told");
    assert!(come["old"]["address"].is_null() && come["new"]["address"].as_str().is_some_and(|at| at.ends_with(":30771")), "{come}");
}

#[test]
fn what_cannot_be_compared_is_trouble_and_no_difference() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("old.yaml"), GATEWAY).expect("written");
    let (code, _, err) = crate::run(folder.path(), &["diff", "old.yaml", "new.yaml"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("new.yaml is not there"), "{err}");
    std::fs::write(folder.path().join("new.yaml"), format!("{GATEWAY}{}", http("bad", "  rules: 7"))).expect("written");
    let (code, out, err) = crate::run(folder.path(), &["diff", "old.yaml", "new.yaml", "--state-dir", "state"]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    assert!(err.contains("new.yaml has ") && err.contains("is left out") && err.contains("0 differences"), "{err}");
}
