//! Gateways: listeners, their status and their certificates.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::secure::Identity;
use super::world::{World, gateway, get, route_of};

const TO_IB1: &str = "  rules: [{backendRefs: [{name: ib1, port: 8080}]}]";

fn generation(manifest: &str, generation: u8) -> String {
    manifest.replacen("namespace: infra}", &format!("namespace: infra, generation: {generation}}}"), 1)
}

#[test]
fn GatewayObservedGenerationBump() {
    let one = "  - {name: bar, port: 80, protocol: HTTP, hostname: bar.com}";
    let world = World::new(&generation(&gateway("g", 4, one), 1));
    world.of_gateway("g", "Programmed", ("True", "Programmed"));
    let two = format!("{one}\n  - {{name: foo, port: 80, protocol: HTTP, hostname: foo.com}}");
    world.apply("test", &generation(&gateway("g", 4, &two), 2));
    world.attached("g", &[0, 0]);
    let status = world.object("gateways", "g")["status"].clone();
    let listeners = status["listeners"].as_array().expect("listeners");
    let of = |value: &serde_json::Value| value["conditions"].as_array().expect("conditions").clone();
    let all: Vec<serde_json::Value> = listeners.iter().flat_map(of).chain(of(&status)).collect();
    assert!(all.len() >= 8 && all.iter().all(|condition| condition["observedGeneration"] == 2), "{status}");
    world.of_gateway("g", "Accepted", ("True", "Accepted"));
    world.of_gateway("g", "Programmed", ("True", "Programmed"));
}

#[test]
fn GatewayModifyListeners() {
    let identity = Identity::new(&["secure.test.com"]);
    let https = "  - {name: https, port: 443, protocol: HTTPS, hostname: secure.test.com, tls: {certificateRefs: [{name: certificate}]}}";
    let http = "  - {name: http, port: 80, protocol: HTTP, hostname: data.test.com}";
    let both = format!("{https}\n{http}");
    let routes = route_of("infra", "added", "{name: add}", &format!("  hostnames: [secure.test.com, data.test.com]\n{TO_IB1}"))
        + &route_of("infra", "kept", "{name: remove}", &format!("  hostnames: [data.test.com]\n{TO_IB1}"));
    let world = World::new(&(identity.secret("infra", "certificate") + &routes));
    world.apply("gateways", &(gateway("add", 4, https) + &gateway("remove", 5, &both)));
    world.attached("add", &[1]);
    world.attached("remove", &[0, 1]);
    world.apply("gateways", &(gateway("add", 4, &both) + &gateway("remove", 5, http)));
    world.attached("add", &[1, 1]);
    world.attached("remove", &[1]);
    for listener in [0, 1] {
        world.of_listener("add", listener, "Accepted", ("True", "Accepted"));
        world.of_listener("add", listener, "ResolvedRefs", ("True", "ResolvedRefs"));
        assert!(world.kinds("add", listener).contains(&"HTTPRoute".to_owned()));
    }
    world.expect(4, &get("/").host("data.test.com"), "ib1");
    world.expect(5, &get("/").host("data.test.com"), "ib1");
    let answer = identity.ask(SocketAddr::new(world.address(4), 443), "secure.test.com", &get("/")).expect("an answer");
    assert_eq!(answer.backend, "ib1");
}

#[test]
fn GatewayWithAttachedRoutes() {
    let selected = "  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: infra}}}}}";
    let named = "  - {name: http, port: 80, protocol: HTTP, hostname: foo.example.com}";
    let unresolved = "  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: missing}]}}";
    let gateways = gateway("one", 4, selected) + &gateway("two", 5, named) + &gateway("unresolved", 6, unresolved);
    let routes = route_of("infra", "r1", "{name: one}", TO_IB1)
        + &route_of("infra", "r2", "{name: two}", TO_IB1)
        + &route_of("infra", "r3", "{name: two}", TO_IB1)
        + &route_of("infra", "not-accepted", "{name: two}", &format!("  hostnames: [not-accepted.test.com]\n{TO_IB1}"))
        + &route_of("infra", "r4", "{name: unresolved}", "  rules: [{backendRefs: [{name: missing, port: 8080}]}]")
        + &route_of("web", "elsewhere", "{name: one, namespace: infra}", "  rules: [{backendRefs: [{name: web, port: 8080}]}]");
    let world = World::new(&(gateways + &routes));
    world.attached("one", &[1]);
    world.attached("two", &[2]);
    world.attached("unresolved", &[1]);
    world.route("httproutes", "not-accepted", "Accepted", ("False", "NoMatchingListenerHostname"));
    world.of_listener("one", 0, "Programmed", ("True", "Programmed"));
    world.of_listener("unresolved", 0, "Programmed", ("False", "Invalid"));
    world.of_listener("unresolved", 0, "ResolvedRefs", ("False", "InvalidCertificateRef"));
    world.route("httproutes", "r4", "Accepted", ("True", "Accepted"));
    world.route("httproutes", "r4", "ResolvedRefs", ("False", "BackendNotFound"));
    world.route("httproutes", "elsewhere", "Accepted", ("False", "NotAllowedByListeners"));
}

#[test]
fn GatewayWithAttachedRoutesWithPort8080() {
    let listeners = "  - {name: http-unattached, port: 8080, protocol: HTTP}\n  - {name: http, port: 80, protocol: HTTP}";
    let world = World::new(&(gateway("g", 4, listeners) + &route_of("infra", "r", "{name: g, sectionName: http}", TO_IB1)));
    world.attached("g", &[0, 1]);
    for listener in [0, 1] {
        world.of_listener("g", listener, "Programmed", ("True", "Programmed"));
    }
}

#[test]
fn GatewayListenerUnsupportedProtocol() {
    let invalid = "  - {name: invalid, port: 1111, protocol: INVALID}";
    let mixed = format!("{invalid}\n  - {{name: http, port: 80, protocol: HTTP}}");
    let world = World::new(&(gateway("alone", 4, invalid) + &gateway("mixed", 5, &mixed)));
    world.of_gateway("alone", "Accepted", ("False", "ListenersNotValid"));
    world.of_gateway("mixed", "Accepted", ("True", "ListenersNotValid"));
    for name in ["alone", "mixed"] {
        world.of_listener(name, 0, "Accepted", ("False", "UnsupportedProtocol"));
        assert_eq!(world.kinds(name, 0), [""; 0]);
    }
    world.of_listener("mixed", 1, "Accepted", ("True", "Accepted"));
    assert!(world.kinds("mixed", 1).contains(&"HTTPRoute".to_owned()));
}

#[test]
fn GatewayInvalidParametersRef() {
    let parameters = "  infrastructure: {parametersRef: {group: invalid.example, kind: Unknown, name: x}}\n  listeners:";
    let world = World::new(&gateway("g", 4, "  - {name: http, port: 80, protocol: HTTP}").replace("  listeners:", parameters));
    world.of_gateway("g", "Accepted", ("False", "InvalidParameters"));
}

/// In a folder nobody makes objects: the Service that stands for a Gateway is among those that the admin API shows.
#[test]
fn GatewayInfrastructure() {
    let (of, class) = ("gateway.networking.k8s.io/gateway-name", "gateway.networking.k8s.io/gateway-class-name");
    let given = format!("  infrastructure: {{annotations: {{key1: value1}}, labels: {{key2: value2, {of}: other}}}}\n  listeners:");
    let listeners = "  - {name: http, port: 8080, protocol: HTTP}\n  - {name: https, port: 8080, protocol: HTTP, hostname: a.example}\n  - {name: udp, port: 53, protocol: UDP}";
    let world = World::new(&gateway("with-metadata", 4, listeners).replace("  listeners:", &given));
    world.of_gateway("with-metadata", "Programmed", ("True", "Programmed"));
    let all = world.gateway.json("objects/services");
    let of_gateway = |service: &&Value| service["metadata"]["labels"][of] == "with-metadata" && service["metadata"]["namespace"] == "infra";
    let found: Vec<&Value> = all.as_array().expect("a list").iter().filter(of_gateway).collect();
    let [service] = found[..] else { panic!("{found:?}") };
    assert_eq!(service["kind"], "Service");
    assert_eq!(service["metadata"]["labels"], json!({"key2": "value2", of: "with-metadata", class: "conformance"}));
    assert_eq!(service["metadata"]["annotations"], json!({"key1": "value1"}));
    let ports: Vec<String> =
        service["spec"]["ports"].as_array().expect("a list").iter().map(|port| format!("{}/{}", port["port"], port["protocol"])).collect();
    assert_eq!(ports, ["53/\"UDP\"", "8080/\"TCP\""]);
    assert_eq!(service["status"]["loadBalancer"]["ingress"], json!([{"ip": world.address(4)}]));
}

#[test]
fn GatewayInvalidRouteKind() {
    let only = "  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}]}}";
    let both = "  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}, {kind: HTTPRoute}]}}";
    let world = World::new(&(gateway("only", 4, only) + &gateway("both", 5, both)));
    for (name, kinds) in [("only", &[][..]), ("both", &["HTTPRoute"])] {
        world.of_listener(name, 0, "ResolvedRefs", ("False", "InvalidRouteKinds"));
        assert_eq!(world.kinds(name, 0), kinds);
        world.attached(name, &[0]);
    }
}

fn https(name: &str, i: u8, reference: &str) -> String {
    gateway(name, i, &format!("  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{reference}]}}}}"))
}

/// The listener cannot use its certificate.
fn unresolved(world: &World, name: &str, reason: &'static str) {
    world.of_listener(name, 0, "ResolvedRefs", ("False", reason));
    assert!(world.kinds(name, 0).contains(&"HTTPRoute".to_owned()));
    world.attached(name, &[0]);
}

#[test]
fn GatewayInvalidTLSConfiguration() {
    let broken = "apiVersion: v1\nkind: Secret\nmetadata: {name: broken, namespace: infra}\ntype: kubernetes.io/tls\nstringData: {tls.crt: no PEM, tls.key: no PEM}\n";
    let gateways = https("nonexistent", 4, "{name: nonexistent}")
        + &https("group", 5, "{group: wrong.group.company.io, name: certificate}")
        + &https("kind", 6, "{kind: WrongKind, name: certificate}")
        + &https("malformed", 7, "{name: broken}");
    let world = World::new(&(gateways + broken));
    for name in ["nonexistent", "group", "kind", "malformed"] {
        unresolved(&world, name, "InvalidCertificateRef");
    }
}

const GRANT: &str = "apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: web}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}]
  to: [{group: \"\", kind: Secret, name: certificate}]
";

fn in_web() -> (World, Identity) {
    let identity = Identity::new(&["a.example"]);
    let world = World::new(&(https("g", 4, "{name: certificate, namespace: web}") + &identity.secret("web", "certificate")));
    unresolved(&world, "g", "RefNotPermitted");
    (world, identity)
}

#[test]
fn GatewaySecretMissingReferenceGrant() {
    in_web();
}

#[test]
fn GatewaySecretInvalidReferenceGrant() {
    let (world, _) = in_web();
    for (i, (from, to)) in [
        ("namespace: web}", "namespace: app}"),
        ("group: gateway.networking.k8s.io", "group: not-the-group.example"),
        ("kind: Gateway", "kind: HTTPRoute"),
        ("namespace: infra}", "namespace: web}"),
        ("group: \"\"", "group: other.example"),
        ("kind: Secret", "kind: Service"),
        ("name: certificate", "name: other"),
    ]
    .into_iter()
    .enumerate()
    {
        let wrong = GRANT.replace(from, to);
        assert_ne!(wrong, GRANT);
        let marker = format!("marker{i}");
        world.apply("grant", &format!("{wrong}---\n{}", gateway(&marker, 5, "  - {name: http, port: 80, protocol: HTTP}")));
        world.of_gateway(&marker, "Programmed", ("True", "Programmed"));
        unresolved(&world, "g", "RefNotPermitted");
    }
}

fn granted(grant: &str) {
    let (world, identity) = in_web();
    world.apply("grant", grant);
    world.of_listener("g", 0, "ResolvedRefs", ("True", "ResolvedRefs"));
    world.of_listener("g", 0, "Programmed", ("True", "Programmed"));
    let at = SocketAddr::new(world.address(4), 443);
    sluicegate_tests::eventually("a handshake", || identity.ask(at, "a.example", &get("/")).is_ok_and(|answer| answer.status == 404));
}

#[test]
fn GatewaySecretReferenceGrantSpecific() {
    granted(GRANT);
}

#[test]
fn GatewaySecretReferenceGrantAllInNamespace() {
    granted(&GRANT.replace(", name: certificate", ""));
}

#[test]
fn GatewayHTTPListenerIsolation() {
    let listeners = "  - {name: empty, port: 80, protocol: HTTP}
  - {name: wildcard, port: 80, protocol: HTTP, hostname: '*.example.com'}
  - {name: wildcard-foo, port: 80, protocol: HTTP, hostname: '*.foo.example.com'}
  - {name: abc-foo, port: 80, protocol: HTTP, hostname: abc.foo.example.com}";
    let names = ["empty", "wildcard", "wildcard-foo", "abc-foo"];
    let mut manifests = gateway("g4", 4, listeners) + &gateway("g5", 5, listeners);
    for i in [4, 5] {
        let hosts = if i == 4 { "" } else { "  hostnames: [bar.com, '*.example.com', '*.foo.example.com', abc.foo.example.com]\n" };
        for name in names {
            let spec = format!("{hosts}  rules: [{{matches: [{{path: {{value: /{name}}}}}], backendRefs: [{{name: ib1, port: 8080}}]}}]");
            manifests.push_str(&route_of("infra", &format!("{name}-{i}"), &format!("{{name: g{i}, sectionName: {name}}}"), &spec));
        }
    }
    let world = World::new(&manifests);
    let hosts = ["bar.com", "bar.example.com", "bar.foo.example.com", "abc.foo.example.com"];
    for i in [4, 5] {
        for (host, its) in hosts.iter().zip(names) {
            for name in names {
                let ask = get(&format!("/{name}")).host(host);
                if name == its {
                    world.expect(i, &ask, "ib1")
                } else {
                    world.expect(i, &ask, 404)
                };
            }
        }
    }
}

fn four_https(namespaces: &str) -> String {
    let listener = |name: &str, host: &str| {
        let host = if host.is_empty() { String::new() } else { format!(", hostname: '{host}'") };
        format!("  - {{name: {name}, port: 443, protocol: HTTPS{host}, tls: {{certificateRefs: [{{name: certificate}}]}}{namespaces}}}\n")
    };
    let all = [
        listener("https", ""),
        listener("named", "second-example.org"),
        listener("wildcard", "*.wildcard.org"),
        listener("under-wildcard", "fourth-example.wildcard.org"),
    ];
    gateway("secure", 4, all.concat().trim_end())
}

const SECURE_NAMES: [&str; 6] = [
    "example.org",
    "second-example.org",
    "third-example.wildcard.org",
    "fourth-example.wildcard.org",
    "unknown-example.org",
    "fifth-example.wildcard.org",
];

#[test]
fn HTTPRouteHTTPSListener() {
    let identity = Identity::new(&SECURE_NAMES);
    let to = |host: &str, name: &str| format!("  hostnames: [{host}]\n  rules: [{{backendRefs: [{{name: {name}, port: 8080}}]}}]");
    let routes = route_of("infra", "r1", "{name: secure, sectionName: https}", &to("example.org", "ib1"))
        + &route_of("infra", "r2", "{name: secure, sectionName: named}", &to("second-example.org", "ib2"));
    let world = World::new(&(identity.secret("infra", "certificate") + &four_https("") + &routes));
    let at = SocketAddr::new(world.address(4), 443);
    for (host, status, backend) in [("example.org", 200, "ib1"), ("second-example.org", 200, "ib2"), ("unknown-example.org", 404, "")] {
        let mut last = None;
        sluicegate_tests::eventually(host, || {
            last = identity.ask(at, host, &get("/")).ok();
            last.as_ref().is_some_and(|answer| answer.status == status && (status != 200 || answer.backend == backend))
        });
    }
}

#[test]
fn HTTPRouteRedirectPortAndScheme() {
    let listeners = "  - {name: http, port: 80, protocol: HTTP}
  - {name: other, port: 8080, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: certificate}]}}";
    let redirect = |path: &str, what: &str| {
        format!(
            "  - matches: [{{path: {{value: {path}}}}}]\n    filters: [{{type: RequestRedirect, requestRedirect: {{hostname: example.org{what}}}}}]\n"
        )
    };
    let rules = [
        redirect("/scheme-nil-and-port-nil", ""),
        redirect("/scheme-nil-and-port-80", ", port: 80"),
        redirect("/scheme-nil-and-port-443", ", port: 443"),
        redirect("/scheme-nil-and-port-8080", ", port: 8080"),
        redirect("/scheme-http-and-port-nil", ", scheme: http"),
        redirect("/scheme-http-and-port-8080", ", scheme: http, port: 8080"),
        redirect("/scheme-https-and-port-nil", ", scheme: https"),
        redirect("/scheme-https-and-port-443", ", scheme: https, port: 443"),
        redirect("/scheme-https-and-port-8443", ", scheme: https, port: 8443"),
    ]
    .concat();
    let identity = Identity::new(&["a.example"]);
    let route = route_of("infra", "r", "{name: ports}", &format!("  rules:\n{rules}"));
    let world = World::new(&(identity.secret("infra", "certificate") + &gateway("ports", 4, listeners) + &route));
    world.expect(4, &get("/scheme-nil-and-port-nil"), 302);
    for (port, path, wanted) in [
        (80, "/scheme-nil-and-port-nil", "http://example.org"),
        (80, "/scheme-nil-and-port-80", "http://example.org"),
        (80, "/scheme-nil-and-port-8080", "http://example.org:8080"),
        (80, "/scheme-https-and-port-nil", "https://example.org"),
        (80, "/scheme-https-and-port-443", "https://example.org"),
        (80, "/scheme-https-and-port-8443", "https://example.org:8443"),
        (8080, "/scheme-nil-and-port-nil", "http://example.org:8080"),
        (8080, "/scheme-nil-and-port-80", "http://example.org"),
        (8080, "/scheme-https-and-port-nil", "https://example.org"),
        (443, "/scheme-nil-and-port-nil", "https://example.org"),
        (443, "/scheme-nil-and-port-443", "https://example.org"),
        (443, "/scheme-nil-and-port-8080", "https://example.org:8080"),
        (443, "/scheme-http-and-port-nil", "http://example.org"),
        (443, "/scheme-http-and-port-8080", "http://example.org:8080"),
    ] {
        let at = SocketAddr::new(world.address(4), port);
        let ask = get(path).host("a.example");
        let answer = if port == 443 { identity.ask(at, "a.example", &ask) } else { world.ask_at(at, &ask) }.expect("an answer");
        assert_eq!((answer.status, answer.header("location")), (302, Some(format!("{wanted}{path}"))), "{port}");
    }
}

#[test]
fn GatewayClassObservedGenerationBump() {
    let class = |generation: u8, description: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: bump, generation: {generation}}}\nspec: {{controllerName: sluicegate.dev/gateway-controller, description: {description}}}\n"
        )
    };
    let world = World::new(&class(1, "old"));
    world.condition("gatewayclasses", "bump", "/status/conditions", "Accepted", ("True", "Accepted"));
    world.apply("test", &class(2, "new"));
    let conditions = || world.object("gatewayclasses", "bump")["status"]["conditions"].as_array().cloned().unwrap_or_default();
    sluicegate_tests::eventually("the new generation", || {
        let conditions = conditions();
        !conditions.is_empty() && conditions.iter().all(|condition| condition["observedGeneration"] == 2)
    });
}
