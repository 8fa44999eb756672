//! The dashboard and the alerts ask for metrics and labels that a gateway shows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::{Gateway, eventually, fetch, http};

use super::{config, objects, of_kind, render};

/// Labels that Prometheus adds to what it scrapes.
const OF_TARGETS: [&str; 3] = ["job", "pod", "instance"];

/// Each metric of a page with its labels, and their values.
type Shown = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

const OBJECTS: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: nginx}, ports: [{name: http, port: 8080, targetPort: 80, appProtocol: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns}
spec: {type: NodePort, selector: {app: dns}, ports: [{name: dns, port: 53, protocol: UDP}]}
";

/// An HTTPS listener, whose certificate has an end.
fn gateway_with_certificate(gateway: &Gateway) -> String {
    let key = KeyPair::generate().expect("a key");
    let made = CertificateParams::new(vec!["a.example".to_owned()]).expect("parameters").self_signed(&key).expect("a certificate");
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}\
         ---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: sluicegate\n  \
         addresses: [{{value: {}}}]\n  listeners:\n  - {{name: a, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}}}\n",
        indented(&made.pem()),
        indented(&key.serialize_pem()),
        gateway.ip(1)
    )
}

/// The page of a gateway that has served something of each kind.
fn page() -> String {
    let gateway = Gateway::new(&[("objects.yaml", OBJECTS)]);
    http(gateway.ip(2), "a");
    gateway.write("gateway.yaml", &gateway_with_certificate(&gateway));
    let to = |name: &str| {
        let services = gateway.json("services");
        let port = services.as_array()?.iter().find(|service| service["name"] == name)?["ports"][0]["nodePort"].as_u64()?;
        Some(std::net::SocketAddr::new(gateway.ip(1), u16::try_from(port).ok()?))
    };
    eventually("node ports", || to("web").is_some() && to("dns").is_some());
    let (web, dns) = (to("web").expect("a port"), to("dns").expect("a port"));
    eventually("an answer of the gateway's own", || fetch(web).0 == 503);
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("served", || fetch(web).0 == 200);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(b"?", dns).expect("sent");
    let shown = || gateway.get("/metrics").expect("shown");
    eventually("all is counted", || {
        let page = shown();
        [
            "sluicegate_service_request_duration_seconds_count",
            "sluicegate_tls_certificate_not_after_seconds",
            "sluicegate_own_answers_total",
        ]
        .iter()
        .all(|name| page.contains(name))
    });
    shown()
}

/// The page of a gateway whose objects come from an API server.
fn page_in_a_cluster() -> String {
    let server = ApiServer::start();
    server.install_all();
    server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "ours"},
        "spec": {"controllerName": "sluicegate.dev/gateway-controller"}}));
    let mut gateway = Gateway::of_cluster(server.kubeconfig(), &[]);
    gateway.start();
    let shown = || gateway.get("/metrics").expect("shown");
    eventually("it writes", || shown().contains("sluicegate_source_writes_total"));
    shown()
}

fn read(pages: &[String]) -> Shown {
    let mut all = Shown::new();
    for line in pages.iter().flat_map(|page| page.lines()).filter(|line| !line.starts_with('#')) {
        let name_end = line.find(['{', ' ']).expect("a row");
        let labels = all.entry(line[..name_end].to_owned()).or_default();
        if let Some((given, _)) = line[name_end..].strip_prefix('{').and_then(|rest| rest.rsplit_once('}')) {
            for (name, value) in pairs(given) {
                labels.entry(name).or_default().insert(value);
            }
        }
    }
    all
}

/// `a="b",c=~"d"`: names and values.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut rest = text;
    let mut all = Vec::new();
    while let Some((name, after)) = rest.split_once(['=', '!']) {
        let (_, after) = after.split_once('"').expect("a value");
        let (value, after) = after.split_once('"').expect("its end");
        all.push((name.trim_matches([',', ' ']).to_owned(), value.to_owned()));
        rest = after;
    }
    all
}

/// The metrics that an expression of PromQL names, each with its conditions, and the labels by which it groups.
fn names(expression: &str) -> (Vec<(String, Vec<(String, String)>)>, BTreeSet<String>) {
    let mut metrics = Vec::new();
    for (at, _) in expression.match_indices("sluicegate_") {
        let end = expression[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(expression.len(), |end| at + end);
        let conditions = expression[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(conditions, _)| conditions);
        metrics.push((expression[at..end].to_owned(), pairs(conditions)));
    }
    let groups = expression.split(" by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap_or_default().split(", "));
    (metrics, groups.map(str::to_owned).collect())
}

/// What is wrong with an expression, and with texts that show labels of its result.
fn wrong(expression: &str, texts: &[String], shown: &Shown) -> Vec<String> {
    let (metrics, groups) = names(expression);
    let mut wrong = Vec::new();
    if metrics.is_empty() {
        wrong.push("it asks for nothing".to_owned());
    }
    let mut of_all: BTreeSet<&str> = OF_TARGETS.into();
    for (metric, conditions) in &metrics {
        let Some(labels) = shown.get(metric) else {
            wrong.push(format!("there is no metric {metric}"));
            continue;
        };
        of_all.extend(labels.keys().map(String::as_str));
        for (label, value) in conditions {
            match labels.get(label) {
                // A variable stands for some of the values.
                Some(values) if value.starts_with('$') || values.contains(value) => {}
                None if OF_TARGETS.contains(&label.as_str()) => {}
                _ => wrong.push(format!("{metric} has no label {label} with the value {value}")),
            }
        }
        let missing = groups.iter().filter(|label| !labels.contains_key(*label) && !OF_TARGETS.contains(&label.as_str()));
        wrong.extend(missing.map(|label| format!("{metric} has no label {label}")));
    }
    for text in texts {
        for label in text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
            let label = label.trim().trim_start_matches("$labels.");
            let there = if groups.is_empty() { of_all.contains(label) } else { groups.contains(label) };
            if !there && !label.starts_with("$value") {
                wrong.push(format!("the result has no label {label}, which {text:?} shows"));
            }
        }
    }
    wrong
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_what_is_there() {
    let shown = read(&[page(), page_in_a_cluster()]);
    let text = std::fs::read_to_string(config("chart/dashboards/sluicegate.json")).expect("read");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut asked: Vec<(String, String, Vec<String>)> = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let legend = target["legendFormat"].as_str().unwrap_or_default().to_owned();
            let title = panel["title"].as_str().expect("a title").to_owned();
            asked.push((title, target["expr"].as_str().expect("an expression").to_owned(), vec![legend]));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        if let Some(inner) = variable["definition"].as_str().and_then(|query| query.strip_prefix("label_values(")?.strip_suffix(')')) {
            let (expression, label) = inner.rsplit_once(", ").expect("a label");
            asked.push((variable["name"].to_string(), expression.to_owned(), vec![format!("{{{{{label}}}}}")]));
        }
    }
    let all = objects(&render(&["prometheusRule.enabled=true"]).expect("rendered"));
    for rule in of_kind(&all, "PrometheusRule")[0]["spec"]["groups"][0]["rules"].as_array().expect("rules") {
        let summary = rule["annotations"]["summary"].as_str().expect("a summary").to_owned();
        let expression = rule["expr"].as_str().expect("an expression").to_owned();
        asked.push((rule["alert"].as_str().expect("a name").to_owned(), expression, vec![summary]));
    }
    assert!(asked.len() > 60, "{}", asked.len());
    let mut all_wrong = Vec::new();
    for (what, expression, texts) in &asked {
        all_wrong.extend(wrong(expression, texts, &shown).into_iter().map(|wrong| format!("{what}: {wrong}")));
    }
    assert!(all_wrong.is_empty(), "{all_wrong:#?}");
}

/// Panels neither overlap nor leave the grid, and each has a number of its own.
#[test]
fn the_panels_of_the_dashboard_have_places_of_their_own() {
    let text = std::fs::read_to_string(config("chart/dashboards/sluicegate.json")).expect("read");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let (mut taken, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(numbers.insert(panel["id"].as_u64().expect("a number")), "{panel}");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(x + width <= 24, "{panel}");
        for column in x..x + width {
            for row in y..y + height {
                assert!(taken.insert((column, row)), "{} lies over another panel", panel["title"]);
            }
        }
    }
}
