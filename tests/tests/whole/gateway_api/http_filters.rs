//! HTTPRoute: filters, time-outs and protocols.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use sluicegate_tests::{PATIENCE, eventually};

use super::world::{Ask, World, get, route};

/// A rule with one filter, and the path that leads to it.
fn rule(path: &str, filters: &str, backend: &str) -> String {
    format!("  - matches: [{{path: {{value: {path}}}}}]\n    filters: [{filters}]\n    backendRefs: [{backend}]\n")
}

fn redirect(path: &str, what: &str) -> String {
    format!("  - matches: [{{path: {{value: {path}}}}}]\n    filters: [{{type: RequestRedirect, requestRedirect: {{{what}}}}}]\n")
}

const IB1: &str = "{name: ib1, port: 8080}";

/// What a header modifier has to do, be it a rule's or a backend's.
fn modifies_requests(world: &World) {
    let answer = world.expect(1, &get("/set").header("Some-Other-Header", "val"), "ib1");
    assert_eq!(
        (answer.saw("x-header-set"), answer.saw("some-other-header")),
        (Some("set-overwrites-values".to_owned()), Some("val".to_owned()))
    );
    let answer = world.expect(1, &get("/set").header("x-header-set", "some-other-value"), "ib1");
    assert_eq!(answer.saw("x-header-set").as_deref(), Some("set-overwrites-values"));
    let answer = world.expect(1, &get("/add").header("X-Header-Add", "some-other-value"), "ib1");
    assert_eq!(answer.saw("x-header-add").as_deref(), Some("some-other-value,add-appends-values"));
    let answer = world.expect(1, &get("/remove").header("X-Header-Remove", "val"), "ib1");
    assert_eq!(answer.saw("x-header-remove"), None);
    let many = get("/multiple").header("X-Header-Add-2", "add-val-2").header("X-Header-Remove-1", "r").header("Another-Header", "a");
    let answer = world.expect(1, &many, "ib1");
    let saw = |name: &str| answer.saw(name).unwrap_or_default();
    assert_eq!(
        ["x-header-set-1", "x-header-add-1", "x-header-add-2", "x-header-remove-1", "another-header"].map(saw),
        ["header-set-1", "header-add-1", "add-val-2,header-add-2", "", "a"]
    );
    let answer = world.expect(1, &get("/case").header("x-header-set", "a").header("X-HEADER-REMOVE", "b"), "ib1");
    assert_eq!((answer.saw("x-header-set").as_deref(), answer.saw("x-header-remove")), (Some("header-set"), None));
}

const MODIFIERS: [(&str, &str); 5] = [
    ("/set", "set: [{name: X-Header-Set, value: set-overwrites-values}]"),
    ("/add", "add: [{name: X-Header-Add, value: add-appends-values}]"),
    ("/remove", "remove: [X-Header-Remove]"),
    (
        "/multiple",
        "set: [{name: X-Header-Set-1, value: header-set-1}], add: [{name: X-Header-Add-1, value: header-add-1}, {name: X-Header-Add-2, value: header-add-2}], remove: [X-Header-Remove-1]",
    ),
    ("/case", "set: [{name: X-Header-Set, value: header-set}], remove: [x-header-remove]"),
];

#[test]
fn HTTPRouteRequestHeaderModifier() {
    let rules: String = MODIFIERS
        .iter()
        .map(|(path, what)| rule(path, &format!("{{type: RequestHeaderModifier, requestHeaderModifier: {{{what}}}}}"), IB1))
        .collect();
    modifies_requests(&World::new(&route("r", &format!("  rules:\n{rules}"))));
}

#[test]
fn HTTPRouteBackendRequestHeaderModifier() {
    let backend =
        |what: &str| format!("{{name: ib1, port: 8080, filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{{what}}}}}]}}");
    let rules: String = MODIFIERS.iter().map(|(path, what)| rule(path, "", &backend(what))).collect();
    modifies_requests(&World::new(&route("r", &format!("  rules:\n{rules}"))));
}

#[test]
fn HTTPRouteRequestHeaderModifierBackendWeights() {
    let backend = |name: &str| {
        format!(
            "{{name: {name}, port: 8080, filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: Backend, value: {name}}}]}}}}]}}"
        )
    };
    let rules = format!("  rules: [{{backendRefs: [{}, {}]}}]", backend("ib1"), backend("ib2"));
    let world = World::new(&route("r", &rules));
    world.expect(1, &get("/"), 200);
    let mut both = [false; 2];
    for _ in 0..100 {
        let answer = world.ask(1, &get("/")).expect("an answer");
        assert_eq!(answer.saw("backend").as_deref(), Some(answer.backend.as_str()));
        both[usize::from(answer.backend == "ib2")] = true;
    }
    assert_eq!(both, [true; 2]);
}

#[test]
fn HTTPRouteResponseHeaderModifier() {
    let rules: String = MODIFIERS
        .iter()
        .map(|(path, what)| rule(path, &format!("{{type: ResponseHeaderModifier, responseHeaderModifier: {{{what}}}}}"), IB1))
        .collect();
    let both = rule(
        "/both",
        "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Response, value: a}]}}, {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Request, value: b}]}}",
        IB1,
    );
    let world = World::new(&route("r", &format!("  rules:\n{rules}{both}")));
    let asked = |path: &str, fields: &str| world.expect(1, &get(path).header("X-Echo-Set-Header", fields), "ib1");
    assert_eq!(asked("/set", "Other:val").header("x-header-set").as_deref(), Some("set-overwrites-values"));
    assert_eq!(asked("/set", "X-HEADER-SET:other").header("x-header-set").as_deref(), Some("set-overwrites-values"));
    assert_eq!(
        asked("/add", "X-Header-Add:some-other-value").header("x-header-add").as_deref(),
        Some("some-other-value,add-appends-values")
    );
    assert_eq!(asked("/remove", "X-Header-Remove:val").header("x-header-remove"), None);
    let answer = asked("/multiple", "X-Header-Add-2:add-val-2,X-Header-Remove-1:r,Another-Header:a");
    let shown = |name: &str| answer.header(name).unwrap_or_default();
    assert_eq!(
        ["x-header-set-1", "x-header-add-1", "x-header-add-2", "x-header-remove-1", "another-header"].map(shown),
        ["header-set-1", "header-add-1", "add-val-2,header-add-2", "", "a"]
    );
    let answer = asked("/both", "X-Response:old");
    assert_eq!((answer.header("x-response").as_deref(), answer.saw("x-request").as_deref()), (Some("a"), Some("b")));
}

#[test]
fn HTTPRouteRewriteHost() {
    let one = rule("/one", "{type: URLRewrite, urlRewrite: {hostname: one.example.org}}", IB1);
    let headers = rule(
        "/headers",
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: a}]}}, {type: URLRewrite, urlRewrite: {hostname: test.example.org}}",
        "{name: ib2, port: 8080}",
    );
    let all = "  - filters: [{type: URLRewrite, urlRewrite: {hostname: example.org}}]\n    backendRefs: [{name: ib1, port: 8080}]\n";
    let world = World::new(&route("r", &format!("  hostnames: [rewrite.example]\n  rules:\n{one}{headers}{all}")));
    let saw = |path: &str| world.expect(1, &get(path).host("rewrite.example"), 200).saw("host");
    assert_eq!(saw("/one").as_deref(), Some("one.example.org"));
    assert_eq!(saw("/").as_deref(), Some("example.org"));
    let answer = world.expect(1, &get("/headers").host("rewrite.example"), "ib2");
    assert_eq!((answer.saw("host").as_deref(), answer.saw("x-header-set").as_deref()), (Some("test.example.org"), Some("a")));
}

#[test]
fn HTTPRouteRewritePath() {
    let prefix = |to: &str| format!("{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: {to}}}}}}}");
    let full = "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /one}}}";
    let headers = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: a}]}}, ";
    let rules = [
        rule("/prefix/one", &prefix("/one"), IB1),
        rule("/strip-prefix", &prefix("/"), IB1),
        rule("/full/one", full, IB1),
        rule("/full/rewrite-path-and-modify-headers", &format!("{headers}{}", full.replace("/one", "/test")), IB1),
        rule("/prefix/rewrite-path-and-modify-headers", &format!("{headers}{}", prefix("/prefix")), IB1),
    ]
    .concat();
    let world = World::new(&route("r", &format!("  rules:\n{rules}")));
    for (path, wanted) in [
        ("/prefix/one/two", "/one/two"),
        ("/strip-prefix/three", "/three"),
        ("/strip-prefix", "/"),
        ("/full/one/two", "/one"),
        ("/full/rewrite-path-and-modify-headers/test", "/test"),
        ("/prefix/rewrite-path-and-modify-headers/one", "/prefix/one"),
    ] {
        let answer = world.expect(1, &get(path), "ib1");
        assert_eq!(answer.path(), wanted, "{path}");
        assert_eq!(answer.saw("x-header-set").is_some(), path.contains("headers"));
    }
}

/// Checks that each path leads to a status and a place.
fn redirects(rules: &str, cases: &[(&str, u16, &str)]) {
    let world = World::new(&route("r", &format!("  rules:\n{rules}")));
    for (path, status, wanted) in cases {
        let answer = world.expect(1, &get(path).host("a.example"), *status);
        assert_eq!(answer.header("location").as_deref(), Some(*wanted), "{path}");
    }
}

#[test]
fn HTTPRouteRedirectHostAndStatus() {
    let rules =
        redirect("/hostname-redirect", "hostname: example.org") + &redirect("/host-and-status", "hostname: example.org, statusCode: 301");
    let cases = [
        ("/hostname-redirect", 302, "http://example.org/hostname-redirect"),
        ("/host-and-status", 301, "http://example.org/host-and-status"),
    ];
    redirects(&rules, &cases);
}

#[test]
fn HTTPRouteRedirectPath() {
    let prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}";
    let full = "path: {type: ReplaceFullPath, replaceFullPath: /full/replacement}";
    let rules = [
        redirect("/original-prefix", prefix),
        redirect("/full/path/original", full),
        redirect("/path-and-host", &format!("hostname: example.org, {prefix}")),
        redirect("/path-and-status", &format!("statusCode: 301, {prefix}")),
        redirect("/full-path-and-host", &format!("hostname: example.org, {full}")),
        redirect("/full-path-and-status", &format!("statusCode: 301, {full}")),
    ]
    .concat();
    let cases = [
        ("/original-prefix/lemon", 302, "http://a.example/replacement-prefix/lemon"),
        ("/full/path/original", 302, "http://a.example/full/replacement"),
        ("/path-and-host/lemon", 302, "http://example.org/replacement-prefix/lemon"),
        ("/path-and-status/lemon", 301, "http://a.example/replacement-prefix/lemon"),
        ("/full-path-and-host", 302, "http://example.org/full/replacement"),
        ("/full-path-and-status", 301, "http://a.example/full/replacement"),
    ];
    redirects(&rules, &cases);
}

#[test]
fn HTTPRouteRedirectPort() {
    let rules = [
        redirect("/port", "port: 8083"),
        redirect("/port-and-host", "port: 8083, hostname: example.org"),
        redirect("/port-and-status", "port: 8083, statusCode: 301"),
        redirect("/port-and-host-and-status", "port: 8083, hostname: example.org, statusCode: 302"),
    ]
    .concat();
    let cases = [
        ("/port", 302, "http://a.example:8083/port"),
        ("/port-and-host", 302, "http://example.org:8083/port-and-host"),
        ("/port-and-status", 301, "http://a.example:8083/port-and-status"),
        ("/port-and-host-and-status", 302, "http://example.org:8083/port-and-host-and-status"),
    ];
    redirects(&rules, &cases);
}

#[test]
fn HTTPRouteRedirectScheme() {
    let rules = [
        redirect("/scheme", "scheme: https"),
        redirect("/scheme-and-host", "scheme: https, hostname: example.org"),
        redirect("/scheme-and-status", "scheme: https, statusCode: 301"),
        redirect("/scheme-and-host-and-status", "scheme: https, hostname: example.org, statusCode: 302"),
    ]
    .concat();
    let cases = [
        ("/scheme", 302, "https://a.example/scheme"),
        ("/scheme-and-host", 302, "https://example.org/scheme-and-host"),
        ("/scheme-and-status", 301, "https://a.example/scheme-and-status"),
        ("/scheme-and-host-and-status", 302, "https://example.org/scheme-and-host-and-status"),
    ];
    redirects(&rules, &cases);
}

/// Checks that a POST to a rule with this status is redirected with it.
fn redirects_with(status: u16) {
    let rules = redirect("/redirect", &format!("hostname: example.org, statusCode: {status}"));
    let world = World::new(&route("r", &format!("  rules:\n{rules}")));
    let answer = world.expect(1, &get("/redirect").method("POST").header("Content-Length", "0"), status);
    assert_eq!(answer.header("location").as_deref(), Some("http://example.org/redirect"));
}

#[test]
fn HTTPRoute303Redirect() {
    redirects_with(303);
}

#[test]
fn HTTPRoute307Redirect() {
    redirects_with(307);
}

#[test]
fn HTTPRoute308Redirect() {
    redirects_with(308);
}

/// The backends that got a copy of the request with this marker.
fn copies(world: &World, marker: &str) -> Vec<String> {
    let seen = world.seen.lock().expect("not poisoned");
    let mut names: Vec<String> = seen.iter().filter(|(_, head)| head.contains(marker)).map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

fn mirror(backend: &str, more: &str) -> String {
    format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: {backend}, port: 8080}}{more}}}}}")
}

#[test]
fn HTTPRouteRequestMirror() {
    let modified = format!(
        "{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: X-Header-Set, value: a}}]}}}}, {}",
        mirror("ib2", "")
    );
    let rules = rule("/mirror", &mirror("ib2", ""), IB1) + &rule("/modified", &modified, IB1);
    let world = World::new(&route("r", &format!("  rules:\n{rules}")));
    world.expect(1, &get("/mirror"), "ib1");
    world.expect(1, &get("/mirror").header("x-marker", "plain"), "ib1");
    eventually("a copy", || copies(&world, "plain") == ["ib1", "ib2"]);
    let answer = world.expect(1, &get("/modified").header("x-marker", "changed"), "ib1");
    assert_eq!(answer.saw("x-header-set").as_deref(), Some("a"));
    eventually("a copy", || copies(&world, "changed") == ["ib1", "ib2"]);
}

#[test]
fn HTTPRouteRequestMultipleMirrors() {
    let rules = rule("/mirrors", &format!("{}, {}", mirror("ib2", ""), mirror("ib3", "")), IB1);
    let world = World::new(&route("r", &format!("  rules:\n{rules}")));
    world.expect(1, &get("/mirrors"), "ib1");
    world.expect(1, &get("/mirrors").header("x-marker", "both"), "ib1");
    eventually("two copies", || copies(&world, "both") == ["ib1", "ib2", "ib3"]);
}

#[test]
fn HTTPRouteRequestPercentageMirror() {
    let rules = rule("/percent-mirror", &mirror("ib2", ", percent: 20"), IB1)
        + &rule("/fraction", &mirror("ib2", ", fraction: {numerator: 25, denominator: 50}"), IB1);
    let world = World::new(&route("r", &format!("  rules:\n{rules}")));
    world.expect(1, &get("/fraction"), "ib1");
    // Three standard deviations of 500 draws, and as many again: 27 and 34 each.
    for (path, marker, least, most) in [("/percent-mirror", "some", 46, 154), ("/fraction", "half", 182, 318)] {
        for _ in 0..500 {
            world.ask(1, &get(path).header("x-marker", marker)).expect("an answer");
        }
        let copied = || copies(&world, marker).iter().filter(|name| *name == "ib2").count();
        eventually("enough copies", || copied() >= least);
        assert!(copied() <= most, "{path}: {}", copied());
    }
}

#[test]
fn HTTPRouteTimeoutRequest() {
    timeouts("request");
}

#[test]
fn HTTPRouteTimeoutBackendRequest() {
    timeouts("backendRequest");
}

fn timeouts(which: &str) {
    let of = |path: &str, time: &str| {
        format!(
            "  - matches: [{{path: {{value: {path}}}}}]\n    timeouts: {{{which}: {time}}}\n    backendRefs: [{{name: ib1, port: 8080}}]\n"
        )
    };
    let rules = of("/limited", "500ms") + &of("/unlimited", "0s");
    let world = World::new(&route("r", &format!("  rules:\n{rules}")));
    world.expect(1, &get("/limited"), "ib1");
    world.expect(1, &get("/limited?delay=1000"), 504);
    world.expect(1, &get("/unlimited?delay=1000"), "ib1");
}

fn preflight(origin: &str) -> Ask {
    get("/")
        .method("OPTIONS")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "x-header-1, x-header-2")
}

#[test]
fn HTTPRouteCORS() {
    let cors = |host: &str, what: &str| {
        route(
            &host.replace('.', "-"),
            &format!(
                "  hostnames: [{host}]\n  rules: [{{filters: [{{type: CORS, cors: {{{what}}}}}], backendRefs: [{{name: ib1, port: 8080}}]}}]"
            ),
        )
    };
    let exact = "allowOrigins: ['https://www.foo.com', 'https://*.bar.com'], allowMethods: [GET, OPTIONS], allowHeaders: [x-header-1, x-header-2], exposeHeaders: [x-header-3, x-header-4], maxAge: 3600, allowCredentials: true";
    let routes = cors("exact.example", exact)
        + &cors("any.example", "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']")
        + &cors("credentials.example", "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], allowCredentials: true");
    let world = World::new(&routes);
    let asked = |host: &str, origin: &str| {
        let answer = world.expect(1, &get("/").host(host), 200);
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let answer = world.ask(1, &preflight(origin).host(host)).expect("an answer");
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        answer
    };
    for origin in ["https://www.foo.com", "https://a.bar.com", "https://a.b.bar.com"] {
        let answer = asked("exact.example", origin);
        assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some(origin));
        assert_eq!(answer.header("access-control-allow-credentials").as_deref(), Some("true"));
        assert_eq!(answer.header("access-control-max-age").as_deref(), Some("3600"));
        let listed = |name: &str| answer.header(name).unwrap_or_default().to_lowercase().replace(' ', "");
        assert_eq!(listed("access-control-allow-methods"), "get,options");
        assert_eq!(listed("access-control-allow-headers"), "x-header-1,x-header-2");
        assert_eq!(listed("access-control-expose-headers"), "x-header-3,x-header-4");
    }
    assert_eq!(asked("exact.example", "https://foo.com").header("access-control-allow-origin"), None);
    let answer = asked("any.example", "https://other.com:12345");
    assert!(matches!(answer.header("access-control-allow-origin").as_deref(), Some("*" | "https://other.com:12345")), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let answer = asked("credentials.example", "https://other.com");
    assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("https://other.com"));
    assert_eq!(answer.header("access-control-allow-methods").as_deref(), Some("GET"));
    assert_eq!(answer.header("access-control-allow-headers").unwrap_or_default().replace(' ', ""), "x-header-1,x-header-2");
    let simple = world.ask(1, &get("/").host("exact.example").header("Origin", "https://a.bar.com")).expect("an answer");
    assert_eq!((simple.status, simple.header("access-control-allow-origin").as_deref()), (200, Some("https://a.bar.com")));
    assert_eq!(simple.header("access-control-expose-headers").as_deref(), Some("x-header-3, x-header-4"));
}

#[test]
fn HTTPRouteBackendProtocolH2C() {
    let world = World::new(&route("r", "  rules: [{backendRefs: [{name: g1, port: 8080}]}]"));
    let at = SocketAddr::new(world.address(1), 80);
    let asked = || super::grpc::call(at, "a.example", "/any", None);
    eventually("HTTP/2 on both sides", || asked() == Some(("g1".to_owned(), "0".to_owned())));
}

#[test]
fn HTTPRouteBackendProtocolWebSocket() {
    let world = World::new(&route("r", "  rules: [{backendRefs: [{name: ib1, port: 8082}]}]"));
    world.expect(1, &get("/"), "ib1");
    let mut stream = TcpStream::connect((world.address(1), 80)).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let request = "GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    // A text frame and a binary one, masked with zeros (RFC 6455 §5.2); the backend sends back what comes.
    for frame in [b"\x81\x85\0\0\0\0hello", b"\x82\x85\0\0\0\0\x01\x02\x03\x04\x05"] {
        stream.write_all(frame).expect("sent");
        let mut back = [0; 11];
        stream.read_exact(&mut back).expect("a frame");
        assert_eq!(&back, frame);
    }
}
