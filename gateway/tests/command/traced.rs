//! `diff --trace` plays recorded requests to two configurations.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use sluicegate_model::requests::{Begin, End, Line, RequestLine, VERSION};

const ADDRESS: &str = "127.231.9.2:18771";

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: sluicegate
  addresses: [{value: 127.231.9.2}]
  listeners: [{name: web, protocol: HTTP, port: 18771}, {name: raw, protocol: TCP, port: 18772}]
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
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: raw}
spec: {parentRefs: [{name: edge, sectionName: raw}], rules: [{backendRefs: [{name: shop, port: 80}]}]}
";

fn route(name: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{name: edge, sectionName: web}}]\n  rules:\n{rules}\n"
    )
}

fn request(target: &str) -> RequestLine {
    RequestLine {
        listener: "listener web of Gateway default/edge".to_owned(),
        address: Some(ADDRESS.parse().expect("an address")),
        protocol: "http".to_owned(),
        client: "192.0.2.1".to_owned(),
        method: "GET".to_owned(),
        host: "a.example".to_owned(),
        target: target.to_owned(),
        version: "HTTP/1.1".to_owned(),
        content_length: Some(0),
        ..RequestLine::default()
    }
}

fn write(folder: &Path, old: &str, new: &str, requests: &[RequestLine]) {
    for (name, routes) in [("old.yaml", old), ("new.yaml", new)] {
        std::fs::write(folder.join(name), format!("{GATEWAY}{routes}")).expect("written");
    }
    let begin = Begin {
        version: VERSION.to_owned(),
        every: 1,
        rate: 100,
        headers: vec!["accept".to_owned()],
        hashed: Vec::new(),
        client: "full".to_owned(),
        query: "full".to_owned(),
    };
    let mut lines = vec![Line::Begin(begin)];
    lines.extend(requests.iter().map(|request| Line::Request(Box::new(request.clone()))));
    lines.push(Line::End(End { requests: requests.len() as u64, dropped: 0, why: "time".to_owned() }));
    let mut text = String::new();
    lines.iter().for_each(|line| writeln!(text, "{}", serde_json::to_string(line).expect("JSON")).expect("written"));
    std::fs::write(folder.join("trace.jsonl"), text).expect("written");
}

fn diff(folder: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let all = ["diff", "old.yaml", "new.yaml", "--state-dir", "state", "--trace", "trace.jsonl"];
    crate::run(folder, &[&all[..], more].concat())
}

/// The group of requests of which this is one.
fn group<'r>(report: &'r Value, example: &str) -> &'r Value {
    let groups = report["groups"].as_array().expect("groups");
    let has = |group: &&Value| {
        group["examples"].as_array().is_some_and(|all| all.iter().any(|one| one.as_str().is_some_and(|one| one.starts_with(example))))
    };
    groups.iter().find(has).unwrap_or_else(|| panic!("{example}: {report:#}"))
}

#[test]
fn recorded_requests_are_counted_by_what_becomes_of_them() {
    let old = "  - {matches: [{path: {value: /same}}], backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /moved}}], backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /gone}}], backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /spread}}], backendRefs: [{name: shop, port: 80, weight: 1}, {name: pay, port: 80, weight: 1}]}
  - {matches: [{path: {value: /even}}], backendRefs: [{name: shop, port: 80, weight: 2}, {name: pay, port: 80, weight: 2}]}
  - {matches: [{path: {value: /slow}}], timeouts: {request: 10s}, backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /marked}}], backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /to}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: b.example}}]}
  - {matches: [{path: {value: /rewritten}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}], backendRefs: [{name: shop, port: 80}]}
";
    let new = "  - {matches: [{path: {value: /same}}], backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /moved}}], backendRefs: [{name: pay, port: 80}]}
  - {matches: [{path: {value: /spread}}], backendRefs: [{name: shop, port: 80, weight: 1}, {name: pay, port: 80, weight: 3}]}
  - {matches: [{path: {value: /even}}], backendRefs: [{name: shop, port: 80, weight: 50}, {name: pay, port: 80, weight: 50}]}
  - {matches: [{path: {value: /slow}}], timeouts: {request: 1s}, backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /marked}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Mark, value: '1'}]}}], backendRefs: [{name: shop, port: 80}]}
  - {matches: [{path: {value: /to}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: c.example}}]}
  - {matches: [{path: {value: /rewritten}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /y}}}], backendRefs: [{name: shop, port: 80}]}
";
    let folder = tempfile::tempdir().expect("a folder");
    let paths = ["/same/<b>", "/moved/1", "/gone", "/spread", "/even", "/slow", "/marked", "/to", "/rewritten/1"];
    let mut requests: Vec<RequestLine> = paths.iter().flat_map(|path| (0..10).map(move |_| request(path))).collect();
    // An L4 connection, and one at a listener that nobody knows.
    requests.push(RequestLine {
        method: String::new(),
        protocol: "tcp".to_owned(),
        address: Some("127.231.9.2:18772".parse().expect("an address")),
        ..request("")
    });
    requests.push(RequestLine { listener: "nobody's".to_owned(), address: None, ..request("/same") });
    // By one route the rules have the same numbers, and one whose rule moves is another rule's.
    write(folder.path(), &route("all", old), &route("all", new), &requests);
    let (code, out, err) = diff(folder.path(), &["-o", "json", "--html", "page.html"]);
    assert_eq!(code, Some(1), "{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((report["requests"].as_u64(), report["changed"]["requests"].as_u64()), (Some(91), Some(70)), "{report:#}");
    let count = |kind: &str| {
        let kinds = report["kinds"].as_array().expect("kinds");
        kinds.iter().find(|one| one["kind"] == kind).expect("there").clone()["requests"].as_u64().expect("a number")
    };
    assert_eq!(
        ["service", "spread", "headers", "timeouts", "retries", "limits", "refused", "answered", "other"].map(count),
        [10, 10, 20, 10, 0, 0, 10, 10, 0],
        "{report:#}"
    );
    let moved = group(&report, "GET a.example/moved/1");
    assert_eq!((moved["old"]["decision"].as_str(), moved["new"]["decision"].as_str()), (Some("default/shop:80"), Some("default/pay:80")));
    assert_eq!((moved["requests"].as_u64(), moved["old"]["by"].as_str()), (Some(10), Some("HTTPRoute default/all rules[1]")));
    assert_eq!(moved["examples"].as_array().expect("examples").len(), 1, "equal requests are one example: they were decided once");
    assert_eq!(group(&report, "GET a.example/gone")["new"]["decision"], "404 no-route");
    let slow = &group(&report, "GET a.example/slow")["differences"][0];
    assert_eq!((slow["old"].as_str(), slow["new"].as_str()), (Some("request 10s"), Some("request 1s")));
    assert_eq!(group(&report, "GET a.example/marked")["differences"][0]["new"], "request: set x-mark=1");
    let to = group(&report, "GET a.example/to")["examples"][0].as_str().expect("text").to_owned();
    assert!(to.contains("to http://b.example") && to.contains("-> to http://c.example"), "{to}");
    let rewritten = group(&report, "GET a.example/rewritten/1")["examples"][0].as_str().expect("text").to_owned();
    assert!(rewritten.ends_with("(a.example/x/1 -> a.example/y/1)"), "{rewritten}");
    let even = group(&report, "GET a.example/even");
    assert_eq!(even["kinds"], serde_json::json!(["route"]), "the share is the same, only the rule is another");
    let notes = report["notes"].to_string();
    assert!(notes.contains("1 requests came at listeners that neither configuration has"), "{notes}");

    let page = std::fs::read_to_string(folder.path().join("page.html")).expect("written");
    assert!(page.starts_with("<!doctype html>") && page.contains("prefers-color-scheme:dark") && !page.contains("http-equiv"), "{page}");
    assert!(!page.contains("<script") && !page.contains("src=") && page.contains("default/pay:80"), "{page}");

    let (code, out, _) = diff(folder.path(), &["--threads", "3"]);
    assert_eq!(code, Some(1));
    assert!(out.starts_with("of 91 requests 70 (76.923 %) are decided otherwise\n"), "{out}");
    assert!(
        out.contains("  - default/shop:80 (HTTPRoute default/all rules[1])\n  + default/pay:80 (HTTPRoute default/all rules[1])\n"),
        "{out}"
    );
}

#[test]
fn conditions_decide_the_exit_code_and_wrong_ones_are_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let requests: Vec<RequestLine> = (0..1_000).map(|i| request(if i == 7 { "/moved" } else { "/same" })).collect();
    let old = "  - {matches: [{path: {value: /}}], backendRefs: [{name: shop, port: 80}]}\n";
    let new = format!("{old}  - {{matches: [{{path: {{value: /moved}}}}], backendRefs: [{{name: pay, port: 80}}]}}\n");
    write(folder.path(), &route("all", old), &route("all", &new), &requests);
    let code = |conditions: &[&str]| {
        let more: Vec<&str> = conditions.iter().flat_map(|condition| ["--fail-on", condition]).collect();
        diff(folder.path(), &more)
    };
    assert_eq!(code(&[]).0, Some(1));
    assert_eq!(code(&["changed>0.1%", "refused>0"]).0, Some(0));
    let (exit, _, err) = code(&["changed>0.05%", "refused>0"]);
    assert!(exit == Some(1) && err.contains("changed>0.05%: so are 1 requests, 0.100 %"), "{err}");
    let (exit, _, err) = code(&["changd>1"]);
    assert!(exit == Some(2) && err.contains("changed>0.1% or refused>0 is wanted"), "{err}");
    // The same two files decide the same.
    std::fs::copy(folder.path().join("old.yaml"), folder.path().join("new.yaml")).expect("copied");
    assert_eq!(code(&[]).0, Some(0));

    for (text, why) in [
        ("", "it is empty"),
        ("{\"pick\":1}\n", "it is no recording of requests"),
        (
            "{\"begin\":{\"version\":\"v9\",\"every\":1,\"rate\":1,\"headers\":[],\"client\":\"full\",\"query\":\"full\"}}\n",
            "of version \"v9\"",
        ),
    ] {
        std::fs::write(folder.path().join("trace.jsonl"), text).expect("written");
        let (exit, _, err) = code(&[]);
        assert!(exit == Some(2) && err.contains(why), "{err}");
    }
    write(folder.path(), &route("all", old), &route("all", &new), &requests);
    let text = std::fs::read_to_string(folder.path().join("trace.jsonl")).expect("read");
    let cut: String = text.lines().take(5).map(|line| line.to_owned() + "\n").collect();
    std::fs::write(folder.path().join("trace.jsonl"), &cut).expect("written");
    assert!(code(&[]).1.contains("note: the recording was cut off"));
    std::fs::write(folder.path().join("trace.jsonl"), cut + "{\"request\":7}\n").expect("written");
    let (exit, _, err) = code(&[]);
    assert!(exit == Some(2) && err.contains("trace.jsonl: line 6: "), "{err}");
}
