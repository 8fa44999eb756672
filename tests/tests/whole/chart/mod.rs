//! The Helm charts of `config/`: what they render is what an API server takes, the plain manifests are what they render, and values that do not fit
//! are refused.

mod metrics;
pub(crate) mod rights;
mod typed;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sluicegate_config::crd;
use sluicegate_config::manifest;

/// What each form can have.
const EVERYTHING: [&[&str]; 7] = [
    &[],
    &["form=Deployment"],
    &[
        "namespace.create=true",
        "admin.address=$(POD_IP)",
        "metricsService.enabled=true",
        "serviceMonitor.enabled=true",
        "serviceMonitor.labels.release=monitoring",
        "prometheusRule.enabled=true",
        "dashboard.enabled=true",
        "manageAddresses=true",
        "commonLabels.team=edge",
        "gatewayClass.parametersRef.name=defaults",
        "tolerations[0].operator=Exists",
    ],
    &[
        "form=Deployment",
        "namespace.create=true",
        "metricsService.enabled=true",
        "service.type=NodePort",
        "service.ports[0].name=dns",
        "service.ports[0].port=53",
        "service.ports[0].targetPort=5353",
        "service.ports[0].protocol=UDP",
        "service.ports[0].nodePort=30053",
        "service.loadBalancerSourceRanges[0]=192.0.2.0/24",
        "networkPolicy.clients[0].ipBlock.cidr=192.0.2.0/24",
        "replicas=null",
        "priorityClassName=edge",
        "image.digest=sha256:0123456789012345678901234567890123456789012345678901234567890123",
    ],
    &["clientAddress.keep=true", "clientAddress.except[0]=10.244.0.0/16"],
    &["takeOver=false", "maxUnavailable=10%", "serviceAccount.create=false", "serviceAccount.name=edge", "aggregateRoles=false"],
    &[
        "gatewayClass.create=false",
        "extraArgs[0]=--workers=4",
        "extraEnv[0].name=SSL_CERT_DIR",
        "extraEnv[0].value=/certificates",
        "extraVolumes[0].name=certificates",
        "extraVolumes[0].hostPath.path=/etc/ssl/certs",
        "extraVolumeMounts[0].name=certificates",
        "extraVolumeMounts[0].mountPath=/certificates",
        "imagePullSecrets[0].name=registry",
        "configuration.accessLog.format=Json",
        "podAnnotations.a=b",
        "podLabels.a=b",
        "stateDir.hostPath=/srv/sluicegate",
        "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=kubernetes.io/hostname",
    ],
];

fn config(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(path)
}

/// Helm: the one that `make test-tools` has put into `target`, which is beside the folder of this binary, or that of the machine.
fn helm(arguments: &[&str]) -> Result<String, String> {
    let products = std::env::current_exe().expect("a path").ancestors().nth(3).expect("target").to_owned();
    let own = products.join("tools/helm/helm");
    let home = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(if own.exists() { own } else { "helm".into() });
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, home.path());
    }
    let output = command.args(arguments).output().unwrap_or_else(|error| panic!("helm: {error}; `make test-tools` brings it"));
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr) + &text(output.stdout)) }
}

/// What the chart renders with these values.
fn render(values: &[&str]) -> Result<String, String> {
    let chart = config("chart");
    let mut arguments = vec!["template", "sluicegate", chart.to_str().expect("UTF-8"), "--namespace", "sluicegate"];
    values.iter().for_each(|value| arguments.extend(["--set", value]));
    helm(&arguments)
}

fn objects(text: &str) -> Vec<Value> {
    let parsed = manifest::parse(Path::new("rendered.yaml"), text);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    let readings: Vec<_> = parsed.documents.iter().flat_map(|document| &document.readings).collect();
    assert!(readings.is_empty(), "{readings:?}");
    parsed.documents.into_iter().map(|document| document.value).collect()
}

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The pods' template of the DaemonSet or Deployment among these.
fn pods(objects: &[Value]) -> &Value {
    let workload = objects.iter().find(|object| object["kind"] == "DaemonSet" || object["kind"] == "Deployment").expect("a workload");
    &workload["spec"]["template"]
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    for chart in ["chart", "chart-crds"] {
        let said = helm(&["lint", "--strict", config(chart).to_str().expect("UTF-8")]);
        assert!(said.is_ok(), "{said:?}");
    }
}

/// `UPDATE_GOLDEN=1` writes the manifests anew.
#[test]
fn the_plain_manifests_are_what_the_chart_renders() {
    for form in ["DaemonSet", "Deployment"] {
        let rendered = render(&[&format!("form={form}"), "namespace.create=true"]).expect("rendered");
        let mut wanted =
            format!("# Rendered from config/chart, with `form: {form}`. Put your image's name in place of `sluicegate:{}`.\n", version());
        let ours = |line: &&str| !["# Source: ", "helm.sh/chart: ", "app.kubernetes.io/managed-by: "].iter().any(|no| line.contains(no));
        let lines: Vec<&str> = rendered.lines().filter(ours).collect();
        for (line, next) in lines.iter().zip(lines.iter().skip(1).chain([&"---"])) {
            if !(line.is_empty() && *next == "---") {
                wanted += &format!("{line}\n");
            }
        }
        let file = config("manifests").join(form.to_lowercase()).with_extension("yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &wanted).expect("written");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == wanted, "{} is not what the chart renders: run this test with UPDATE_GOLDEN=1", file.display());
    }
}

/// The version of the gateway, which is that of the charts too.
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[test]
fn the_charts_are_of_the_gateway_s_version() {
    for chart in ["chart", "chart-crds"] {
        let text = std::fs::read_to_string(config(chart).join("Chart.yaml")).expect("read");
        let chart = objects(&text).remove(0);
        assert_eq!((&chart["version"], &chart["appVersion"]), (&version().into(), &version().into()));
    }
}

#[test]
fn the_definitions_of_our_kinds_are_those_of_the_types() {
    let chart = config("chart-crds");
    let rendered = |keep| helm(&["template", "crds", chart.to_str().expect("UTF-8"), "--set", keep]).expect("rendered");
    assert_eq!(objects(&rendered("keep=false")), crd::all());
    let kept = objects(&rendered("keep=true"));
    assert_eq!(kept.len(), crd::all().len());
    assert!(kept.iter().all(|crd| crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"));
}

#[test]
fn values_that_do_not_fit_are_refused() {
    for (value, wanted) in [
        ("form=StatefulSet", "form"),
        ("forms=Deployment", "forms"),
        ("replicas=-1", "replicas"),
        ("image.digest=abc", "digest"),
        ("service.ports[0].port=70000", "port"),
        ("service.ports[0].nmae=http", "nmae"),
        ("maxUnavailable=0", "maxUnavailable"),
        ("maxUnavailable=150%", "maxUnavailable"),
        ("configuration.adminAddress=0.0.0.0:9901", "adminAddress"),
        ("objects.sluicegate\\.yaml=a", "sluicegate.yaml"),
        ("stateDir.hostPath=state", "hostPath"),
        ("admin.address=example.com", "address"),
        ("shutdown.delaySeconds=10s", "delaySeconds"),
        ("extraArgs[0]=workers", "extraArgs"),
        ("networkPolicy.admin=all", "admin"),
        // What fits by itself, and not together.
        ("metricsService.enabled=true", "admin.address"),
        ("serviceAccount.create=false", "serviceAccount.name"),
    ] {
        let refused = render(&[value]).expect_err(value);
        assert!(refused.contains(wanted), "{value}: {refused}");
    }
    for (values, wanted) in [
        (["form=Deployment", "admin.address=127.0.0.1"], "admin.address"),
        (["form=Deployment", "manageAddresses=true"], "manageAddresses"),
        (["form=Deployment", "clientAddress.keep=true"], "clientAddress.keep"),
        (["serviceMonitor.enabled=true", "admin.address=$(POD_IP)"], "metricsService.enabled"),
    ] {
        let refused = render(&values).expect_err(wanted);
        assert!(refused.contains(wanted), "{values:?}: {refused}");
    }
}

/// A value without a default, or a default that no schema knows.
#[test]
fn each_value_has_a_default_and_a_schema() {
    for chart in ["chart", "chart-crds"] {
        let read = |name: &str| std::fs::read_to_string(config(chart).join(name)).expect("read");
        let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
        assert_eq!(without_default(&schema, &objects(&read("values.yaml"))[0], ""), Vec::<String>::new(), "{chart}");
    }
}

fn without_default(schema: &Value, defaults: &Value, at: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let field = format!("{at}.{name}");
        match defaults.get(name) {
            // What Helm itself hands on, what differs between forms, and a reference that is whole or not there.
            None if [".global", ".resources.claims"].contains(&field.as_str()) || at == ".gatewayClass.parametersRef" => {}
            None => missing.push(field),
            Some(default) => missing.extend(without_default(inner, default, &field)),
        }
    }
    missing
}

/// Probes and Prometheus ask as the admin API answers.
#[test]
fn an_admin_api_that_speaks_tls_is_asked_so() {
    let tls = ["configuration.admin.tls.certificateFile=/tls/tls.crt", "configuration.admin.tls.keyFile=/tls/tls.key"];
    let monitored = [
        "form=Deployment",
        "metricsService.enabled=true",
        "serviceMonitor.enabled=true",
        "serviceMonitor.tlsConfig.insecureSkipVerify=true",
    ];
    for values in [&monitored[..], &[&monitored[..], &tls[..]].concat()] {
        let all = objects(&render(values).expect("rendered"));
        let (probe, scrape) = if values.len() > monitored.len() { ("HTTPS".into(), "https".into()) } else { (Value::Null, Value::Null) };
        let container = &pods(&all)["spec"]["containers"][0];
        assert_eq!((&container["readinessProbe"]["httpGet"]["scheme"], &container["livenessProbe"]["httpGet"]["scheme"]), (&probe, &probe));
        let endpoint = &of_kind(&all, "ServiceMonitor")[0]["spec"]["endpoints"][0];
        assert_eq!((&endpoint["scheme"], endpoint["tlsConfig"].is_object()), (&scrape, scrape.is_string()));
    }
}

#[test]
fn pods_have_no_more_rights_than_they_need() {
    for values in EVERYTHING {
        let all = objects(&render(values).expect("rendered"));
        let (pods, node) = (pods(&all), of_kind(&all, "DaemonSet").len() == 1);
        let container = &pods["spec"]["containers"][0];
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert_eq!(pods["spec"]["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let added: Vec<&str> = security["capabilities"]["add"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let wanted: &[&str] = match (node, ["manageAddresses=true", "clientAddress.keep=true"].iter().any(|value| values.contains(value))) {
            (true, true) => &["NET_BIND_SERVICE", "NET_ADMIN"],
            (true, false) => &["NET_BIND_SERVICE"],
            (false, _) => &[],
        };
        assert_eq!(added, wanted, "{values:?}");
        if !node {
            assert_eq!(pods["spec"]["securityContext"]["runAsNonRoot"], true);
        }
    }
}

/// Two pods share a node's ports while the one takes over from the other, so the scheduler must not know of these ports.
#[test]
fn a_successor_may_run_beside_the_pod_that_it_replaces() {
    let all = objects(&render(&[]).expect("rendered"));
    let daemon_set = of_kind(&all, "DaemonSet")[0];
    assert_eq!(daemon_set["spec"]["updateStrategy"]["rollingUpdate"], serde_json::json!({"maxSurge": 1, "maxUnavailable": 0}));
    let container = &pods(&all)["spec"]["containers"][0];
    assert!(container.get("ports").is_none(), "{container}");
    let arguments = container["args"].as_array().expect("a list");
    for flag in ["--take-over", "--stay-when-replaced"] {
        assert!(arguments.contains(&flag.into()), "{arguments:?}");
    }
    let without = objects(&render(&["takeOver=false", "maxUnavailable=2"]).expect("rendered"));
    let daemon_set = of_kind(&without, "DaemonSet")[0];
    assert_eq!(daemon_set["spec"]["updateStrategy"]["rollingUpdate"], serde_json::json!({"maxSurge": 0, "maxUnavailable": 2}));
}

/// The kubelet waits longer than the process may take, by `shutdown.delay`, the grace period and ten seconds.
#[test]
fn a_stop_has_the_time_that_it_takes() {
    let all = objects(&render(&["shutdown.delaySeconds=7", "shutdown.graceSeconds=100"]).expect("rendered"));
    let pods = pods(&all);
    assert_eq!(pods["spec"]["terminationGracePeriodSeconds"], 122);
    let arguments = pods["spec"]["containers"][0]["args"].as_array().expect("a list");
    for flag in ["--shutdown-delay-seconds=7", "--grace-seconds=100"] {
        assert!(arguments.contains(&flag.into()), "{arguments:?}");
    }
}

/// Selectors cannot be changed, and select their pods only.
#[test]
fn selectors_fit_the_pods_and_have_nothing_that_changes() {
    for values in EVERYTHING {
        let all = objects(&render(values).expect("rendered"));
        let labels = pods(&all)["metadata"]["labels"].as_object().expect("labels").clone();
        let of = |kind: &str, path: &str| -> Vec<Value> {
            of_kind(&all, kind).iter().filter_map(|object| object.pointer(path)).cloned().collect()
        };
        let mut selectors = of("DaemonSet", "/spec/selector/matchLabels");
        selectors.extend(of("Deployment", "/spec/selector/matchLabels"));
        selectors.extend(of("Service", "/spec/selector"));
        selectors.extend(of("PodDisruptionBudget", "/spec/selector/matchLabels"));
        selectors.extend(of("NetworkPolicy", "/spec/podSelector/matchLabels"));
        for selector in &selectors {
            let selector = selector.as_object().expect("labels");
            assert_eq!(selector.len(), 2, "{selector:?}");
            assert!(selector.iter().all(|(name, value)| labels.get(name) == Some(value)), "{selector:?} of {labels:?}");
        }
    }
}
