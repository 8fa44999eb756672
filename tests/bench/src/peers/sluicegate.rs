//! Sluicegate itself: a Gateway with the `rules` router in front of an HTTP service, and node ports for the others; balanced by `least-request`.

use std::path::Path;

use serde_json::{Value, json};

use super::{BACKENDS, Door, PROXY_CORE, Peer, ROUTES, Setting, port, prefixes, text, write};
use crate::process::Running;

/// The configuration of the `rules` router.
pub(crate) fn rules(with_header: bool) -> Value {
    let rule = |i: usize| {
        let mut matched = json!({"path": {"type": "PathPrefix", "value": format!("/service-{i}")}});
        if with_header {
            matched["headers"] = json!([{"name": "x-version", "value": "2"}]);
        }
        json!({"matches": [matched], "backendRefs": [{"name": "bench", "port": 80}]})
    };
    json!({"rules": (0..10).map(rule).collect::<Vec<_>>()})
}

/// The configuration of the `rules` router with this many routes.
pub(crate) fn routes(routes: u16) -> Value {
    let rule = |prefix| json!({"matches": [{"path": {"value": prefix}}], "backendRefs": [{"name": "bench", "port": 80}]});
    json!({"rules": prefixes(routes).map(rule).collect::<Vec<_>>()})
}

fn gateway_object(name: &str, listeners: &Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name}, "spec": {
        "gatewayClassName": "sluicegate", "addresses": [{"type": "IPAddress", "value": "127.0.0.1"}], "listeners": listeners}})
}

fn policy(gateway: &str, config: &Value) -> Value {
    let target = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway}]);
    json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": {"name": gateway},
        "spec": {"targetRefs": target, "router": {"plugin": "rules", "config": config}}})
}

pub(super) fn start(setting: &Setting<'_>, gateway: &Path) -> Result<Peer, String> {
    let (http, https, l4, udp) = (port()?, port()?, port()?, port()?);
    let folder = setting.folder.join("sluicegate");
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    let mut objects = vec![
        service(
            "bench",
            json!({"selector": {"app": "bench"}, "ports": [{"port": 80, "targetPort": setting.backend, "appProtocol": "http"}]}),
        ),
        service(
            "raw",
            json!({"type": "NodePort", "selector": {"app": "bench"}, "ports": [{"port": 81, "targetPort": setting.backend, "nodePort": l4}]}),
        ),
        service(
            "echo",
            json!({"type": "NodePort", "selector": {"app": "bench"},
            "ports": [{"port": 82, "targetPort": setting.echo, "nodePort": udp, "protocol": "UDP"}]}),
        ),
        gateway_object(
            "bench",
            &json!([{"name": "web", "port": http, "protocol": "HTTP"},
                {"name": "secure", "port": https, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "bench"}]}}]),
        ),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bench"}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": read(&setting.certificate)?, "tls.key": read(&setting.key)?}}),
        policy("bench", &rules(false)),
    ];
    let mut doors = vec![(Door::Http, http), (Door::Https, https), (Door::H2, http), (Door::L4, l4), (Door::Udp, udp)];
    for number in ROUTES {
        let (name, port) = (format!("routes-{number}"), port()?);
        objects.push(gateway_object(&name, &json!([{"name": "web", "port": port, "protocol": "HTTP"}])));
        objects.push(policy(&name, &routes(number)));
        doors.push((Door::Routes(number), port));
    }
    objects.extend(BACKENDS.iter().map(|last| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{last}"), "labels": {"app": "bench"}},
            "status": {"podIP": format!("127.0.0.{last}"), "conditions": [{"type": "Ready", "status": "True"}]}})
    }));
    for (i, object) in objects.iter().enumerate() {
        write(&folder.join(format!("{i}.json")), object.to_string())?;
    }
    let state = setting.folder.join("state");
    let arguments = ["run", text(&folder)?, "--workers", "1", "--admin-address", "127.0.0.1:0", "--state-dir", text(&state)?];
    let network =
        ["--nodeport-addresses", "127.0.0.1/32", "--node-port-range", "1024-65535", "--service-cluster-ip-range", "127.215.0.0/24"];
    let log = setting.folder.join("sluicegate.log");
    let running = Running::start(PROXY_CORE, text(gateway)?, &[&arguments[..], &network[..]].concat(), &log)?;
    Peer::started("sluicegate", running, &doors)
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))
}
