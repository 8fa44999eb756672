//! TLS towards backends: BackendTLSPolicies, and what Gateways show to endpoints.

use serde_json::json;
use sluicegate_tests::eventually;

use super::secure::Identity;
use super::world::{World, gateway, get, route, route_of, service};

const HOST: &str = "abc.example.com";
const HTTPS: &str = "{name: https, port: 443, targetPort: 443}";

/// A policy of namespace `infra`; `metadata` follows its name.
fn policy(name: &str, metadata: &str, target: &str, validation: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {name}, namespace: infra{metadata}}}\nspec:\n  targetRefs: [{{group: \"\", kind: Service, name: {target}}}]\n  validation: {{{validation}}}\n---\n"
    )
}

/// Authorities of a ConfigMap, and a host name.
fn validation(authorities: &str, hostname: &str) -> String {
    format!("hostname: {hostname}, caCertificateRefs: [{{group: \"\", kind: ConfigMap, name: {authorities}}}]")
}

/// A route whose paths lead to the Services of these names and ports.
fn leading(to: &[(&str, &str, u16)]) -> String {
    let rule = |(path, name, port): &(&str, &str, u16)| {
        format!("  - {{matches: [{{path: {{type: Exact, value: {path}}}}}], backendRefs: [{{name: {name}, port: {port}}}]}}\n")
    };
    let rules: String = to.iter().map(rule).collect();
    route("tls", &format!("  hostnames: [{HOST}]\n  rules:\n{}", rules.trim_end()))
}

/// Services with one port, whose only pod is at `$9`.
fn services(names: &[&str]) -> String {
    names.iter().map(|name| service("infra", name, "$9", HTTPS)).collect()
}

/// Waits for a condition of a policy's first ancestor.
fn of_policy(world: &World, name: &str, kind: &str, wanted: (&str, &str)) {
    world.condition("backendtlspolicies", name, "/status/ancestors/0/conditions", kind, wanted);
}

fn accepted(world: &World, name: &str) {
    of_policy(world, name, "Accepted", ("True", "Accepted"));
    of_policy(world, name, "ResolvedRefs", ("True", "ResolvedRefs"));
}

fn without_authorities(world: &World, name: &str) {
    of_policy(world, name, "Accepted", ("False", "NoValidCACertificate"));
    of_policy(world, name, "ResolvedRefs", ("False", "InvalidCACertificateRef"));
}

/// Nothing is sent: nobody says how the endpoint is to be verified.
fn unverified(world: &World, path: &str) {
    let answer = || world.ask(1, &get(path).host(HOST)).ok();
    eventually(path, || answer().is_some_and(|answer| answer.status == 502 && answer.backend.starts_with("it is not settled")));
}

#[test]
fn BackendTLSPolicy() {
    let (identity, other) = (Identity::new(&[HOST]), Identity::new(&[HOST]));
    let listener =
        format!("  - {{name: https, port: 443, protocol: HTTPS, hostname: {HOST}, tls: {{certificateRefs: [{{name: certificate}}]}}}}");
    let to = leading(&[("/right", "right", 443), ("/host", "host", 443), ("/ca", "ca", 443)]);
    let manifests = identity.secret("infra", "certificate")
        + &gateway("secure", 4, &listener)
        + &to.replace("{name: same-namespace}", "{name: same-namespace}, {name: secure}")
        + &services(&["right", "host", "ca"])
        + &identity.authority("infra", "authorities")
        + &other.authority("infra", "others")
        + &policy("host", "", "host", &validation("authorities", "other.example.com"))
        + &policy("ca", "", "ca", &validation("others", HOST));
    let world = World::new(&manifests);
    identity.serve(world.address(9), "tls", None);
    let right = |authorities: &str| world.apply("right", &policy("right", "", "right", &validation(authorities, HOST)));
    right("authorities");
    for name in ["right", "host", "ca"] {
        accepted(&world, name);
    }
    let ancestors = world.object("backendtlspolicies", "right")["status"]["ancestors"].clone();
    for (i, gateway) in ["same-namespace", "secure"].into_iter().enumerate() {
        let reference = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra", "name": gateway});
        assert_eq!(ancestors[i]["ancestorRef"], reference);
        assert_eq!(ancestors[i]["controllerName"], "sluicegate.dev/gateway-controller");
    }
    let answer = world.expect(1, &get("/right").host(HOST), "tls");
    assert_eq!(answer.saw("x-sni").as_deref(), Some(HOST));
    let at = (world.address(4), 443).into();
    let encrypted = identity.ask(at, HOST, &get("/right").host(HOST)).expect("an answer");
    assert_eq!((&*encrypted.backend, encrypted.saw("x-sni").as_deref()), ("tls", Some(HOST)));
    for path in ["/host", "/ca"] {
        world.expect(1, &get(path).host(HOST), 502);
    }
    // What the policy refers to goes, comes, is emptied and is filled.
    right("later");
    without_authorities(&world, "right");
    unverified(&world, "/right");
    world.apply("later", &identity.authority("infra", "later"));
    accepted(&world, "right");
    world.expect(1, &get("/right").host(HOST), "tls");
    world.apply("later", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: later, namespace: infra}\ndata: {ca.crt: \"\"}\n");
    without_authorities(&world, "right");
    unverified(&world, "/right");
    world.apply("later", &identity.authority("infra", "later"));
    accepted(&world, "right");
    world.expect(1, &get("/right").host(HOST), "tls");
}

#[test]
fn BackendTLSPolicyInvalidCACertificateRef() {
    let manifests = leading(&[("/missing", "missing", 443), ("/malformed", "malformed", 443)])
        + &services(&["missing", "malformed"])
        + "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: malformed, namespace: infra}\ndata: {}\n---\n"
        + &policy("missing", "", "missing", &validation("missing", HOST))
        + &policy("malformed", "", "malformed", &validation("malformed", HOST));
    let world = World::new(&manifests);
    Identity::new(&[HOST]).serve(world.address(9), "tls", None);
    for name in ["missing", "malformed"] {
        without_authorities(&world, name);
        unverified(&world, &format!("/{name}"));
    }
}

#[test]
fn BackendTLSPolicyInvalidKind() {
    let unknown = validation("unknown", HOST).replace("group: \"\", kind: ConfigMap", "group: invalid.io, kind: InvalidKind");
    let manifests = leading(&[("/kind", "kind", 443)]) + &services(&["kind"]) + &policy("kind", "", "kind", &unknown);
    let world = World::new(&manifests);
    Identity::new(&[HOST]).serve(world.address(9), "tls", None);
    of_policy(&world, "kind", "Accepted", ("False", "NoValidCACertificate"));
    of_policy(&world, "kind", "ResolvedRefs", ("False", "InvalidKind"));
    unverified(&world, "/kind");
}

#[test]
fn BackendTLSPolicyConflictResolution() {
    const OTHER: &str = "other.example.com";
    let identity = Identity::new(&[HOST, OTHER]);
    let ports = "{name: https-1, port: 443, targetPort: 443}, {name: https-2, port: 8443, targetPort: 443}";
    let (own, others) = (validation("authorities", HOST), validation("authorities", OTHER));
    let manifests = identity.authority("infra", "authorities")
        + &["whole", "port", "both"].map(|name| service("infra", name, "$9", ports)).concat()
        + &leading(&[("/whole", "whole", 443), ("/port", "port", 443), ("/both/1", "both", 443), ("/both/2", "both", 8443)])
        + &policy("whole-1", "", "whole", &others)
        + &policy("whole-2", "", "whole", &own)
        + &policy("port-1", ", creationTimestamp: \"2026-02-01T00:00:00Z\"", "port, sectionName: https-1", &own)
        + &policy("port-2", ", creationTimestamp: \"2026-01-01T00:00:00Z\"", "port, sectionName: https-1", &others)
        + &policy("both-port", "", "both, sectionName: https-1", &others)
        + &policy("both-whole", "", "both", &own);
    let world = World::new(&manifests);
    identity.serve(world.address(9), "tls", None);
    for (winner, loser) in [("whole-1", "whole-2"), ("port-2", "port-1")] {
        accepted(&world, winner);
        of_policy(&world, loser, "Accepted", ("False", "Conflicted"));
        of_policy(&world, loser, "ResolvedRefs", ("True", "ResolvedRefs"));
    }
    accepted(&world, "both-port");
    accepted(&world, "both-whole");
    for (path, name) in [("/whole", OTHER), ("/port", OTHER), ("/both/1", OTHER), ("/both/2", HOST)] {
        let answer = world.expect(1, &get(path).host(HOST), "tls");
        assert_eq!(answer.saw("x-sni").as_deref(), Some(name), "{path}");
    }
}

#[test]
fn BackendTLSPolicyObservedGenerationBump() {
    let own = |generation: u8, host: &str| {
        policy("bump", &format!(", generation: {generation}"), "bump, sectionName: https", &validation("authorities", host))
    };
    let unserved = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: bump, namespace: infra}}\nspec: {{selector: {{app: nobody}}, ports: [{HTTPS}]}}\n---\n"
    );
    let to = route_of("infra", "bump", "{name: same-namespace}", "  rules: [{backendRefs: [{name: bump, port: 443}]}]");
    let world = World::new(&(Identity::new(&[HOST]).authority("infra", "authorities") + &unserved + &to));
    world.apply("policy", &own(1, HOST));
    accepted(&world, "bump");
    world.apply("policy", &own(2, "other.example.com"));
    let observed = || {
        let conditions = world.object("backendtlspolicies", "bump")["status"]["ancestors"][0]["conditions"].clone();
        conditions.as_array().is_some_and(|all| all.len() == 2 && all.iter().all(|condition| condition["observedGeneration"] == 2))
    };
    eventually("the new generation", observed);
    accepted(&world, "bump");
}

#[test]
fn BackendTLSPolicySANValidation() {
    let uri = "spiffe://abc.example.com/test-identity";
    let identity = Identity::with_uri(&[HOST, "other.example.com"], Some(uri));
    let names = [
        ("dns", "{type: Hostname, hostname: other.example.com}".to_owned(), true),
        ("dns-mismatch", "{type: Hostname, hostname: mismatch.example.com}".to_owned(), false),
        ("uri", format!("{{type: URI, uri: \"{uri}\"}}"), true),
        ("uri-mismatch", "{type: URI, uri: \"spiffe://mismatch.example.com/test-identity\"}".to_owned(), false),
        ("some", format!("{{type: Hostname, hostname: mismatch.example.com}}, {{type: URI, uri: \"{uri}\"}}"), true),
        ("none", "{type: Hostname, hostname: mismatch.example.com}, {type: URI, uri: \"spiffe://mismatch\"}".to_owned(), false),
    ];
    // The host name that is sent is none of the certificate's: it is not what the certificate is judged by.
    let validation = |names: &str| format!("{}, subjectAltNames: [{names}]", validation("authorities", "sent.example.com"));
    let policies: String = names.iter().map(|(name, names, _)| policy(name, "", name, &validation(names))).collect();
    let all = names.each_ref().map(|(name, ..)| *name);
    let paths = all.map(|name| (format!("/{name}"), name));
    let to: Vec<(&str, &str, u16)> = paths.iter().map(|(path, name)| (&**path, *name, 443)).collect();
    let world = World::new(&(identity.authority("infra", "authorities") + &services(&all) + &leading(&to) + &policies));
    identity.serve(world.address(9), "tls", None);
    for (name, _, fits) in &names {
        accepted(&world, name);
        let asked = get(&format!("/{name}")).host(HOST);
        if *fits {
            assert_eq!(world.expect(1, &asked, "tls").saw("x-sni").as_deref(), Some("sent.example.com"));
        } else {
            world.expect(1, &asked, 502);
        }
    }
}

/// A Gateway at `$i` whose endpoints are shown the certificate that this refers to.
fn showing(name: &str, i: u8, reference: &str) -> String {
    let listener = "  - {name: http, port: 80, protocol: HTTP}";
    gateway(name, i, listener).replace("  listeners:", &format!("  tls: {{backend: {{clientCertificateRef: {reference}}}}}\n  listeners:"))
}

#[test]
fn GatewayTLSBackendClientCertificate() {
    let (identity, client, renewed) = (Identity::new(&[HOST]), Identity::new(&["client"]), Identity::new(&["client"]));
    let to = leading(&[("/", "web", 443)]).replace("{name: same-namespace}", "{name: same-namespace}, {name: shows}");
    let manifests = identity.authority("infra", "authorities")
        + &services(&["web"])
        + &to
        + &policy("web", "", "web", &validation("authorities", HOST))
        + &showing("shows", 4, "{group: \"\", kind: Secret, name: client}");
    let world = World::new(&manifests);
    identity.serve(world.address(9), "tls", Some(&client));
    world.apply("client", &client.secret("infra", "client"));
    world.of_gateway("shows", "ResolvedRefs", ("True", "ResolvedRefs"));
    accepted(&world, "web");
    let answer = world.expect(4, &get("/").host(HOST), "tls");
    assert_eq!(answer.saw("x-sni").as_deref(), Some(HOST));
    assert_eq!(answer.saw("x-client-certificate"), Some(client.hex()));
    // The certificate is that Gateway's: to another one's requests the same endpoint is not open.
    world.expect(1, &get("/").host(HOST), 502);
    assert_eq!(world.expect(4, &get("/").host(HOST), "tls").saw("x-client-certificate"), Some(client.hex()));
    // One that the endpoint does not believe, then none, then the right one again.
    world.apply("client", &renewed.secret("infra", "client"));
    world.expect(4, &get("/").host(HOST), 502);
    world.delete("client");
    world.of_gateway("shows", "ResolvedRefs", ("False", "InvalidClientCertificateRef"));
    let answer = || world.ask(4, &get("/").host(HOST)).ok();
    eventually("nothing is sent", || answer().is_some_and(|answer| answer.backend.starts_with("it is not settled")));
    world.apply("client", &client.secret("infra", "client"));
    world.expect(4, &get("/").host(HOST), "tls");
}

#[test]
fn GatewayInvalidTLSBackendConfiguration() {
    let malformed = "apiVersion: v1\nkind: Secret\nmetadata: {name: malformed, namespace: infra}\ntype: Opaque\ndata: {}\n---\n";
    let certificate = Identity::new(&["client"]);
    let manifests = certificate.secret("infra", "certificate")
        + &certificate.secret("web", "certificate")
        + malformed
        + &showing("missing", 4, "{name: missing}")
        + &showing("group", 5, "{group: wrong.group.example, kind: Secret, name: certificate}")
        + &showing("kind", 6, "{group: \"\", kind: WrongKind, name: certificate}")
        + &showing("malformed", 7, "{name: malformed}")
        + &showing("grant", 8, "{name: certificate, namespace: web}");
    let world = World::new(&manifests);
    for name in ["missing", "group", "kind", "malformed", "grant"] {
        let reason = if name == "grant" { "RefNotPermitted" } else { "InvalidClientCertificateRef" };
        world.of_gateway(name, "ResolvedRefs", ("False", reason));
        world.of_gateway(name, "Accepted", ("True", "Accepted"));
    }
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: grant, namespace: web}\nspec:\n  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}]\n  to: [{group: \"\", kind: Secret}]\n";
    world.apply("grant", grant);
    world.of_gateway("grant", "ResolvedRefs", ("True", "ResolvedRefs"));
}
