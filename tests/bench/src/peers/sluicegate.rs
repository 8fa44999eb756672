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

/// A router's configuration that leads to another Service.
fn to(service: &str, mut config: Value) -> Value {
    for rule in config["rules"].as_array_mut().into_iter().flatten() {
        rule["backendRefs"][0]["name"] = json!(service);
    }
    config
}

/// A Gateway with one listener, and its router.
fn front(name: &str, port: u16, config: &Value) -> [Value; 2] {
    [gateway_object(name, &json!([{"name": "web", "port": port, "protocol": "HTTP"}])), policy(name, config)]
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

/// Starts it as it is compared with others, and once more with an access log.
pub(super) fn start(setting: &Setting<'_>, gateway: &Path) -> Result<[Peer; 2], String> {
    let (plain, doors) = run(setting, gateway, "sluicegate", &[])?;
    let log = setting.folder.join("access.log");
    let (logging, of_logging) = run(setting, gateway, "sluicegate+log", &["--access-log", "json", "--access-log-path", text(&log)?])?;
    let http = |doors: &[(Door, u16)]| doors.iter().find(|(door, _)| *door == Door::Http).map(|(_, port)| (Door::Logged, *port));
    let doors: Vec<_> = http(&doors).into_iter().chain(doors).collect();
    Ok([Peer::started("sluicegate", plain, &doors)?, Peer::started("sluicegate+log", logging, http(&of_logging).as_slice())?])
}

/// Runs one under a name of its own.
fn run(setting: &Setting<'_>, gateway: &Path, name: &str, more: &[&str]) -> Result<(Running, Vec<(Door, u16)>), String> {
    let (http, https, l4, udp, grpc, websocket) = (port()?, port()?, port()?, port()?, port()?, port()?);
    let folder = setting.folder.join(name);
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
        service("calls", json!({"selector": {"app": "bench"}, "ports": [{"port": 80, "targetPort": setting.grpc, "appProtocol": "grpc"}]})),
        service(
            "websocket",
            json!({"selector": {"app": "bench"}, "ports": [{"port": 80, "targetPort": setting.websocket, "appProtocol": "kubernetes.io/ws"}]}),
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
    let mut doors = vec![
        (Door::Http, http),
        (Door::Https, https),
        (Door::H2, http),
        (Door::L4, l4),
        (Door::Udp, udp),
        (Door::Grpc, grpc),
        (Door::WebSocket, websocket),
    ];
    objects.extend(front("calls", grpc, &to("calls", rules(false))));
    objects.extend(front("websocket", websocket, &to("websocket", rules(false))));
    for number in ROUTES {
        let port = port()?;
        objects.extend(front(&format!("routes-{number}"), port, &routes(number)));
        doors.push((Door::Routes(number), port));
    }
    objects.extend(BACKENDS.iter().map(|last| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{last}"), "labels": {"app": "bench"}},
            "status": {"podIP": format!("127.0.0.{last}"), "conditions": [{"type": "Ready", "status": "True"}]}})
    }));
    for (i, object) in objects.iter().enumerate() {
        write(&folder.join(format!("{i}.json")), object.to_string())?;
    }
    let state = setting.folder.join(format!("{name}-state"));
    let arguments = ["run", text(&folder)?, "--workers", "1", "--admin-address", "127.0.0.1:0", "--state-dir", text(&state)?];
    // Both have node ports of their own, and cluster IPs of their own.
    let cluster_ips = if more.is_empty() { "127.215.0.0/24" } else { "127.215.1.0/24" };
    let network = ["--nodeport-addresses", "127.0.0.1/32", "--node-port-range", "1024-65535", "--service-cluster-ip-range", cluster_ips];
    let log = setting.folder.join(format!("{name}.log"));
    let running = Running::start(PROXY_CORE, text(gateway)?, &[&arguments[..], &network[..], more].concat(), &log)?;
    Ok((running, doors))
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))
}
