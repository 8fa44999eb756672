//! Discovery plugins that break their contract, or ask for what they may not reach: what they published stays, and the traffic of others goes on.

use std::time::{Duration, Instant};

use sluicegate_tests::load::Load;
use sluicegate_tests::plugin::{discovered_by_sd, http_service, metric, object, reason_has};
use sluicegate_tests::{Gateway, HOSTILE_DISCOVERY, SERVICE, eventually, fetch, http, wat};

/// What a plugin needs to publish the addresses that tests have.
const LOOPBACK: &str = ", capabilities: {allowLoopbackEndpoints: true}";

/// A Service with Pods, beside the one that is tried and the gateway's first.
fn another_service() -> String {
    http_service().split("---").nth(1).expect("the Service").replace("nginx-svc", "an-svc")
}

#[test]
fn a_discovery_plugin_that_misbehaves_leaves_the_last_endpoints() {
    let policy = |mode: &str| {
        object("discovery", &format!("{LOOPBACK}, limits: {{memory: 8Mi, configureDeadline: 200ms}}"))
            + "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: '', kind: Service, name: nginx-svc}]\n  discovery: {plugin: mine, config: {mode: "
            + mode
            + "}}\n"
    };
    // Another Service, with Pods, has traffic all the time.
    let gateway = Gateway::new(&[("svc.yaml", SERVICE), ("other.yaml", &another_service())]);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    std::fs::write(gateway.path("mine.wasm"), HOSTILE_DISCOVERY).expect("written");
    gateway.write("policy.yaml", &policy("ok"));
    let published = || gateway.json("endpoints").as_array().is_some_and(|all| all.iter().any(|e| e["address"] == "127.0.0.1:9"));
    eventually("published", published);
    assert_eq!(gateway.json("services")[0]["name"], "an-svc");
    eventually("the other is served", || fetch(gateway.node_port()).0 == 200);
    let load = Load::on(gateway.node_port());
    let held = || metric(&gateway, "sluicegate_plugin_held_memory_bytes{plugin=\"mine\",kind=\"discovery\"}");
    for (mode, reason) in [("trap", "trapped"), ("loop", "deadline of 200ms"), ("memory", "memory limit of 8388608 bytes")] {
        gateway.write("policy.yaml", &policy(mode));
        eventually(mode, || reason_has(&gateway, &["plugin mine", "stage run", reason]));
        assert!(published(), "{mode}: the last endpoints stay");
    }
    load.goes_on(20);
    // The plugin runs on a thread of its own, so workers never wait for it. The bound is for a busy machine.
    let (p99, _) = load.lap();
    assert!(p99 < Duration::from_millis(300), "the 99th percentile is {p99:?}");
    eventually("its memory came back", || held() <= Some(4e6));
    // The pauses before it is started again double. An edit ends them: the next one would take seconds.
    gateway.write("policy.yaml", &policy("trap"));
    let failures = || gateway.plugin("mine")["generation"]["failures"].as_u64().expect("a number");
    let before = failures();
    eventually("it has trapped six times more", || failures() >= before + 6);
    gateway.write("policy.yaml", &policy("ok"));
    let begun = Instant::now();
    eventually("recovered", || gateway.plugin("mine")["state"] == "active");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    load.end();
}

#[test]
fn the_admin_api_and_metadata_addresses_must_be_named_themselves() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    std::fs::write(gateway.path("mine.wasm"), HOSTILE_DISCOVERY).expect("written");
    let ask = |host: &str, allowed: &str| {
        let policy = object("discovery", &format!(", capabilities: {{allowedHosts: [{allowed}]}}"))
            + &discovered_by_sd("nginx-svc", &format!("mode: post, url: \"http://{host}/api/v1/plugins\""))
                .replace("plugin: sd", "plugin: mine");
        gateway.write("policy.yaml", &policy);
    };
    let admin = gateway.admin();
    let port = admin.port();
    let (unnamed, leads) = ("is not among the plugin's capabilities.allowedHosts", "resolves to an address that must be named itself");
    for (host, allowed, said) in [
        // Nothing is allowed that is not named.
        (admin.to_string(), "", unnamed),
        ("169.254.169.254".to_owned(), "", unnamed),
        ("100.100.100.200".to_owned(), "'*.internal', '10.0.0.1'", unnamed),
        // An address is not allowed without its port, nor is a name or another address that leads there.
        (admin.to_string(), "'127.0.0.1'", leads),
        (format!("localhost:{port}"), "localhost", leads),
        (format!("0.0.0.0:{port}"), "'0.0.0.0'", leads),
        (format!("[::ffff:127.0.0.1]:{port}"), "'::ffff:127.0.0.1'", leads),
    ] {
        ask(&host, allowed);
        eventually(&format!("{host}, and {allowed} allowed"), || gateway.has_fault(&["plugin mine", &format!("{host} {said}")]));
    }
    // An address that is named with its port is reached, but what it answers is not a list of endpoints.
    ask(&admin.to_string(), &format!("\"{admin}\""));
    eventually("reached", || gateway.has_fault(&["plugin mine", "of default/nginx-svc:8080", "it is no IP address"]));
}

#[test]
fn no_endpoint_leads_to_the_gateway_itself_or_to_what_is_meant_for_this_host_alone() {
    let gateway = Gateway::with(&[("svc.yaml", &http_service())], |settled, _| settled.admin_address = ([0, 0, 0, 0], 0).into());
    std::fs::write(gateway.path("mine.wasm"), HOSTILE_DISCOVERY).expect("written");
    http(gateway.ip(2), "a");
    let (admin, node, cluster) = (gateway.admin().port(), gateway.node_port(), gateway.cluster_ip());
    let good = format!("{} 80", gateway.ip(2));
    let all = [
        (format!("127.0.0.1 {admin}"), "this gateway's own: the admin API"),
        (format!("{} {admin}", gateway.ip(9)), "the admin API"),
        (format!("::ffff:127.0.0.1 {admin}"), "the admin API"),
        (format!("0.0.0.0 {admin}"), "the admin API"),
        (format!("{} {}", node.ip(), node.port()), "this gateway's own: node port"),
        (format!("{} {}", cluster.ip(), cluster.port()), "this gateway's own: cluster IP"),
        ("169.254.169.254 80".to_owned(), "a cloud's metadata address"),
        ("::ffff:169.254.169.254 80".to_owned(), "a cloud's metadata address"),
        ("169.254.7.7 80".to_owned(), "a link-local address"),
        ("fe80::7 80".to_owned(), "a link-local address"),
        ("0.0.0.0 80".to_owned(), "an unspecified address"),
        ("224.0.0.7 80".to_owned(), "a multicast address"),
        ("nowhere 80".to_owned(), "no IP address"),
    ];
    let publish = |addresses: &[&str], capabilities: &str| {
        let config = format!("mode: publish, addresses: [{}]", addresses.iter().map(|a| format!("'{a}'")).collect::<Vec<_>>().join(", "));
        let policy = discovered_by_sd("nginx-svc", &config).replace("plugin: sd", "plugin: mine");
        gateway.write("policy.yaml", &(object("discovery", capabilities) + &policy));
    };
    // An address on loopback is published by plugins that may.
    publish(&[&good], "");
    eventually("refused", || gateway.has_fault(&["plugin mine", "it is a loopback address"]) && gateway.addresses().is_empty());
    // Each of the other addresses is refused, whatever the plugin may do; the rest serve.
    for (address, reason) in &all {
        publish(&[address, &good], LOOPBACK);
        let refused = || gateway.has_fault(&["plugin mine: endpoint", reason]) && gateway.addresses() == [good.replace(' ', ":")];
        eventually(&format!("{address}: {reason}"), refused);
    }
    let addresses: Vec<&str> = all.iter().map(|(address, _)| address.as_str()).chain([good.as_str()]).collect();
    publish(&addresses, LOOPBACK);
    eventually("all at once", || gateway.has_fault(&["169.254.169.254:80 and 1 more"]) && gateway.addresses().len() == 1);
    for _ in 0..8 {
        let (status, body) = fetch(gateway.node_port());
        assert!(status == 200 && body.starts_with("a "), "{status} {body}");
    }
    // The same rule holds for other sources.
    let list = format!("endpoints: ['127.0.0.1:{admin}', '169.254.169.254:80', '{}']", good.replace(' ', ":"));
    let policy = discovered_by_sd("nginx-svc", &list).replace("plugin: sd", "plugin: static");
    gateway.write("policy.yaml", &policy);
    let both = || gateway.has_fault(&["plugin static", "the admin API"]) && gateway.has_fault(&["plugin static", "metadata"]);
    eventually("a static list", || both() && gateway.addresses() == [good.replace(' ', ":")]);
    std::fs::remove_file(gateway.path("policy.yaml")).expect("removed");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    gateway.write("b.yaml", &gateway.pod("b", 3, true).replace(&gateway.ip(3).to_string(), "169.254.7.7"));
    let slice = |ip: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, labels: {{kubernetes.io/service-name: an-svc}}}}\naddressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{{addresses: [{ip}]}}]\n"
        )
    };
    gateway.write("other.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: an-svc}\nspec: {ports: [{port: 8080, targetPort: 80}]}\n");
    gateway.write("slice.yaml", &slice("100.100.100.200"));
    let faults = || {
        gateway.has_fault(&["plugin kubernetes", "169.254.7.7:80", "link-local"]) && gateway.has_fault(&["100.100.100.200:80", "metadata"])
    };
    eventually("pods and slices", || faults() && gateway.addresses() == [good.replace(' ', ":")]);
}

#[test]
fn a_loop_by_the_way_of_another_gateway_ends() {
    let (one, other) = (Gateway::new(&[("svc.yaml", &http_service())]), Gateway::new(&[("svc.yaml", &http_service())]));
    for (from, to) in [(&one, &other), (&other, &one)] {
        let to = to.node_port();
        let list = format!("endpoints: ['{to}']");
        from.write("policy.yaml", &discovered_by_sd("nginx-svc", &list).replace("plugin: sd", "plugin: static"));
        eventually("an endpoint", || from.addresses() == [to.to_string()]);
    }
    let (status, body) = fetch(one.node_port());
    assert_eq!((status, body.as_str()), (508, "the request has come by here before\n"));
}

/// Publishes 40,000 endpoints, each time with other weights, and waits 10 ms.
fn flood() -> Vec<u8> {
    let endpoint = "(local.get $at)";
    let fill = format!(
        "(i32.store {endpoint} (i32.add (i32.const 300) (i32.mul (i32.const 8) (i32.div_u (local.get $i) (i32.const 20000)))))
         (i32.store offset=4 {endpoint} (i32.const 8))
         (i32.store16 offset=8 {endpoint} (i32.add (i32.const 1) (i32.rem_u (local.get $i) (i32.const 20000))))
         (i32.store16 offset=24 {endpoint} (i32.const 0x0101))
         (i32.store offset=28 {endpoint} (local.get $round))"
    );
    let run = format!(
        "(local $i i32) (local $at i32) (local $round i32)
         (loop $again
           (local.set $round (i32.add (local.get $round) (i32.const 1)))
           (local.set $i (i32.const 0)) (local.set $at (i32.const 65536))
           (loop $next {fill}
             (local.set $at (i32.add (local.get $at) (i32.const 88)))
             (local.set $i (i32.add (local.get $i) (i32.const 1)))
             (br_if $next (i32.lt_u (local.get $i) (i32.const 40000))))
           (call $publish (i32.const 320) (i32.const 7) (i32.const 327) (i32.const 9) (i32.const 65536) (i32.const 40000))
           (call $next (i32.const 1) (i64.const 10) (i32.const 640))
           (br $again))
         unreachable"
    );
    let texts = "(data (i32.const 300) \"10.0.0.110.0.0.2\") (data (i32.const 320) \"defaultnginx-svc\")";
    wat::discovery().pages(60).with("run", &run).also(texts).module()
}

#[test]
fn a_flood_of_endpoints_starves_nobody() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE), ("other.yaml", &another_service())]);
    http(gateway.ip(2), "a");
    http(gateway.ip(3), "b");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("the other is served", || fetch(gateway.node_port()).0 == 200);
    let load = Load::on(gateway.node_port());
    std::fs::write(gateway.path("mine.wasm"), flood()).expect("written");
    let policy = discovered_by_sd("nginx-svc", "").replace("plugin: sd", "plugin: mine");
    gateway.write("policy.yaml", &(object("discovery", "") + &policy));
    let state = || {
        metric(
            &gateway,
            "sluicegate_service_endpoints{namespace=\"default\",service=\"nginx-svc\",port=\"8080\",protocol=\"TCP\",state=\"ready\"}",
        )
    };
    eventually("it floods", || state() == Some(4e4));
    let (mut health, until) = (Duration::ZERO, Instant::now() + Duration::from_secs(2));
    while Instant::now() < until {
        for path in ["/healthz", "/readyz"] {
            let begun = Instant::now();
            assert!(gateway.get(path).is_some(), "{path}");
            health = health.max(begun.elapsed());
        }
    }
    // Half of that is what one publication takes in an unoptimized build.
    assert!(health < Duration::from_secs(1), "the gateway's health took {health:?} to tell");
    // The control plane goes on: another Service's endpoint is served, and an order is carried out.
    gateway.write("b.yaml", &gateway.pod("b", 3, true));
    eventually("b serves", || fetch(gateway.node_port()).1.starts_with("b "));
    let begun = Instant::now();
    let order = sluicegate_tests::plugin::order(&gateway, "disable");
    assert!(order.0 == 200 && begun.elapsed() < Duration::from_secs(10), "{order:?}, {:?}", begun.elapsed());
    load.goes_on(20);
    load.end();
}

#[test]
fn a_discovery_that_fails_is_seen_among_the_plugins() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    std::fs::write(gateway.path("mine.wasm"), HOSTILE_DISCOVERY).expect("written");
    let ask = |config: &str| {
        let policy = discovered_by_sd("nginx-svc", config).replace("plugin: sd", "plugin: mine");
        gateway.write("policy.yaml", &(object("discovery", LOOPBACK) + &policy));
    };
    ask("mode: post, url: 'http://nowhere.example/'");
    let words = ["no endpoints for 1 of 1 services", "default/nginx-svc", "nowhere.example", "is not among"];
    eventually("degraded", || gateway.plugin("mine")["state"] == "degraded" && reason_has(&gateway, &words));
    ask("mode: ok");
    eventually("active", || gateway.plugin("mine")["state"] == "active");
}
