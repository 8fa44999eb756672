//! What listeners and service ports look like.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sluicegate_model::plugin::Generation;
use sluicegate_model::pool::Endpoint;
use sluicegate_model::route::{RouteTable, Rule};
use sluicegate_model::snapshot::{
    BoundRule, EndpointTls, Front, Listener, RouterBinding, RouterRung, ServiceIndex, ServicePort, Side, Snapshot, Target, TlsHost, TlsMode,
};
use sluicegate_model::tls::{ServerTls, SubjectAltName, Trust, UpstreamTls, Verify};

use crate::tree::tree;

/// An address that is listened on, and where it leads.
pub(super) fn listener(listener: &Listener, snapshot: &Snapshot) -> Value {
    let host = |hostname: &Option<String>, tls: Option<Value>, to: &Target| {
        let mut host = json!({"hostname": hostname, "to": target(to, snapshot)});
        add(&mut host, "tls", tls);
        host
    };
    let (protocol, hosts): (&str, Vec<Value>) = match &listener.front {
        Front::Tcp(to) => ("TCP", vec![host(&None, None, to)]),
        Front::Udp(to) => ("UDP", vec![host(&None, None, to)]),
        Front::Http(hosts) => ("HTTP", hosts.iter().map(|h| host(&h.hostname, None, &h.target)).collect()),
        Front::Tls(hosts) => ("TLS", hosts.iter().map(|h| host(&h.hostname, Some(tls(h)), &h.target)).collect()),
    };
    json!({
        "address": listener.address, "name": listener.name, "protocol": protocol, "hosts": hosts, "settings": tree(&*listener.settings),
    })
}

fn add(to: &mut Value, name: &str, value: Option<Value>) {
    if let (Value::Object(fields), Some(value)) = (to, value) {
        fields.insert(name.to_owned(), value);
    }
}

/// How TLS is ended. Of certificates there is what every client sees, and nothing of keys.
fn tls(host: &TlsHost) -> Value {
    match &host.mode {
        TlsMode::Passthrough => json!({"mode": "Passthrough"}),
        TlsMode::Tcp(tls) => server(tls, "Terminate"),
        TlsMode::Http(tls) => server(tls, "HTTPS"),
    }
}

fn server(tls: &Arc<ServerTls>, mode: &str) -> Value {
    let settings = &tls.settings;
    let certificates =
        settings.certificates.iter().map(|c| json!({"secretRef": &**c.from(), "names": c.names(), "notAfter": c.not_after()}));
    json!({
        "mode": mode, "certificates": certificates.collect::<Vec<_>>(), "versions": tree(&settings.versions), "ciphers": tree(&settings.ciphers),
        "alpn": settings.alpn, "clients": settings.client.as_ref().map(|client| tree(&client.demand)),
        "handshakeTimeout": tree(&settings.handshake_timeout),
    })
}

fn target(target: &Target, snapshot: &Snapshot) -> Value {
    match target {
        Target::Service(side) => {
            let external = matches!(side.side, Side::External);
            json!({"service": service_name(side.service, snapshot), "side": if external { "external" } else { "internal" }})
        }
        Target::Router(binding) => json!({"router": router(binding, snapshot)}),
        Target::Nothing => Value::Null,
    }
}

fn service_name(index: ServiceIndex, snapshot: &Snapshot) -> Option<String> {
    snapshot.services.get(&index).map(|service| service.id.to_string())
}

/// The router that decides, with its rules, and the generations behind it that would if it failed.
fn router(binding: &Arc<RouterBinding>, snapshot: &Snapshot) -> Value {
    let Some((live, behind)) = binding.ladder.split_first() else { return Value::Null };
    let mut router = generation(live.generation.generation());
    add(&mut router, "rules", Some(rules(live, snapshot)));
    add(&mut router, "interests", Some(tree(&live.table.interests)));
    let behind: Vec<Value> = behind.iter().map(|rung| generation(rung.generation.generation())).collect();
    add(&mut router, "behind", (!behind.is_empty()).then(|| behind.into()));
    router
}

fn generation(generation: &Generation) -> Value {
    json!({"plugin": &*generation.plugin, "generation": generation.number, "version": generation.version, "sha256": generation.sha256})
}

fn rules(rung: &RouterRung, snapshot: &Snapshot) -> Value {
    let (written, all) = written(&rung.table);
    let bound = |i: usize| rung.rules.get(i);
    let rules = rung.table.rules.iter().enumerate().map(|(i, made)| rule(made, bound(i), written.get(i), snapshot));
    let rules: Value = rules.collect();
    match all {
        // Another router's configuration is shown as it is.
        Some(config) => json!({"config": config, "made": rules}),
        None => rules,
    }
}

/// The rules as they are written, if each that was made is one of them; else all that is written.
fn written(table: &RouteTable) -> (Vec<Value>, Option<Value>) {
    let config: Value = serde_json::from_str(&table.config.whole()).unwrap_or_default();
    match config.get("rules").and_then(Value::as_array) {
        Some(rules) if rules.len() == table.rules.len() => (rules.clone(), None),
        _ => (Vec::new(), Some(config)),
    }
}

fn rule(made: &Rule, bound: Option<&Arc<BoundRule>>, written: Option<&Value>, snapshot: &Snapshot) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
        if !empty {
            fields.insert(name.to_owned(), value);
        }
    };
    put("name", json!(made.name));
    for part in ["hostnames", "matches"] {
        put(part, written.and_then(|rule| rule.get(part)).cloned().unwrap_or_default());
    }
    put("actions", without_empty(tree(&made.actions)));
    let backends = made.backends.iter().enumerate().map(|(i, backend)| {
        let mut shown = json!({"service": backend.service.to_string(), "weight": backend.weight});
        let actions = without_empty(tree(&backend.actions));
        add(&mut shown, "actions", (actions != json!({})).then_some(actions));
        // Where it leads nowhere, requests are answered 500.
        let broken = bound.and_then(|bound| bound.backends.get(i)).and_then(|found| found.as_ref().err());
        add(&mut shown, "broken", broken.map(|why| Value::from(&**why)));
        shown
    });
    put("backends", backends.collect());
    put("requestTimeout", tree(&made.request_timeout));
    put("backendTimeout", tree(&made.backend_timeout));
    put("retry", tree(&made.retry));
    put("session", tree(&made.session));
    let next = bound.and_then(|bound| bound.next.as_ref());
    put("router", next.map(|next| router(next, snapshot)).unwrap_or_default());
    Value::Object(fields)
}

/// Without what says that nothing is done.
fn without_empty(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let fields = fields.into_iter().map(|(name, value)| (name, without_empty(value)));
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    Value::Object(fields.filter(|(_, value)| !empty(value)).collect())
}

/// A service port, with how its endpoints are treated.
pub(super) fn service(service: &ServicePort) -> Value {
    let config: Value = serde_json::from_str(&service.balancer_config).unwrap_or_default();
    let balancers: Vec<Value> = service.balancers.iter().map(|balancer| generation(balancer.generation())).collect();
    let endpoint = |e: &Endpoint| json!({"address": e.address, "weight": e.weight, "state": e.state().0, "zone": e.zone, "node": e.node});
    let endpoints = |all: &[Endpoint]| all.iter().map(endpoint).collect::<Value>();
    let mut shown = json!({
        "service": service.id.to_string(), "portName": service.port_name, "family": tree(&service.family), "protocol": service.protocol,
        "balancers": balancers, "balancerConfig": config, "failClosed": service.fail_closed, "local": service.local,
        "hash": tree(&service.hash), "affinity": service.affinity.is_some(), "tls": upstream(&service.tls),
        "settings": tree(&*service.settings), "endpoints": endpoints(&service.internal.endpoints), "panic": service.internal.panic,
    });
    let apart = !Arc::ptr_eq(&service.internal, &service.external);
    add(&mut shown, "externalEndpoints", apart.then(|| endpoints(&service.external.endpoints)));
    add(&mut shown, "trial", service.trial.as_ref().map(|trial| generation(trial.generation.generation())));
    shown
}

/// Whether endpoints speak TLS, and what is asked of their certificates.
fn upstream(tls: &EndpointTls<Arc<UpstreamTls>>) -> Value {
    let EndpointTls::On(tls) = tls else {
        return match tls {
            EndpointTls::Untold => json!("untold"),
            EndpointTls::Broken => json!("broken"),
            _ => Value::Null,
        };
    };
    let settings = &tls.settings;
    let name = |name: &SubjectAltName| match name {
        SubjectAltName::Hostname(name) => name.as_ref().to_owned(),
        SubjectAltName::Uri(uri) => uri.clone(),
    };
    let verify = match &settings.verify {
        Verify::Nothing => json!("nothing"),
        Verify::Signed { trust, names } => {
            let authorities = if matches!(trust, Trust::System) { "the system's" } else { "those of the policy" };
            json!({"authorities": authorities, "names": names.iter().map(name).collect::<Vec<_>>()})
        }
    };
    let certificate =
        settings.certificate.as_ref().map(|c| json!({"secretRef": &**c.from(), "names": c.names(), "notAfter": c.not_after()}));
    json!({"verify": verify, "serverName": settings.sni.as_ref().map(|name| name.as_ref().to_owned()), "certificate": certificate})
}
