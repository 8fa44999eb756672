//! The router as a whole: a configuration in, decisions out.

mod backends;
mod faults;

use serde_json::{Value, json};
use sluicegate_sdk::{
    Answer, Backend, Choice, Configured, Cors, Decision, Filter, Header, HeaderChanges, Listener, Mirror, PathRewrite, Redirect, Request,
    Retry, Rewrite, Router, ServiceRef, Transport, testing,
};

use crate::Rules;
use crate::config::Config;

fn configure(rules: Value, listener: &Listener) -> Result<(Rules, Configured), String> {
    let config: Config = serde_json::from_value(json!({"rules": rules})).map_err(|error| error.to_string())?;
    Rules::configure(config, listener)
}

fn rules(rules: Value) -> Rules {
    configure(rules, &Listener::default()).unwrap().0
}

fn request(host: &str, path: &str) -> Request {
    Request { host: host.into(), path: path.into(), ..Request::default() }
}

/// The rule that takes it.
fn rule(router: &mut Rules, request: &Request) -> Option<u32> {
    match router.route(request) {
        Decision::Matched(choice) => Some(choice.rule),
        Decision::NoMatch => None,
        Decision::Answer(answer) => panic!("{answer:?}"),
    }
}

fn by_path(router: &mut Rules, path: &str) -> Option<u32> {
    rule(router, &request("a.example.com", path))
}

/// A rule with one match.
fn when(one: Value) -> Value {
    json!({"matches": [one]})
}

fn path(kind: &str, value: &str) -> Value {
    when(json!({"path": {"type": kind, "value": value}}))
}

fn fault(rules: Value) -> String {
    configure(rules, &Listener::default()).unwrap_err()
}

#[test]
fn no_rules_match_nothing() {
    assert_eq!(by_path(&mut rules(json!([])), "/"), None);
}

#[test]
fn a_rule_without_matches_takes_every_path() {
    for rule in [json!({}), json!({"matches": []}), json!({"matches": [{}]}), json!({"matches": [{"path": {}}]})] {
        let mut router = rules(json!([rule]));
        for path in ["/", "/a", "*", ""] {
            assert_eq!(by_path(&mut router, path), Some(0), "{rule} {path}");
        }
    }
}

#[test]
fn prefixes_match_whole_elements() {
    for prefix in ["/foo", "/foo/"] {
        let mut router = rules(json!([path("PathPrefix", prefix)]));
        for (path, found) in [("/foo", true), ("/foo/", true), ("/foo/bar", true), ("/foobar", false), ("/fo", false), ("/Foo", false)] {
            assert_eq!(by_path(&mut router, path).is_some(), found, "{prefix} {path}");
        }
        assert_eq!(by_path(&mut router, "/foé"), None);
    }
}

#[test]
fn the_matched_prefix_is_told() {
    let mut router = rules(json!([path("PathPrefix", "/foo/"), path("Exact", "/foo/x"), path("PathPrefix", "/")]));
    for (path, matched) in [("/foo/bar", 4), ("/foo/x", 6), ("/bar", 0)] {
        let Decision::Matched(Choice { matched_prefix, .. }) = router.route(&request("", path)) else { panic!("{path}") };
        assert_eq!(matched_prefix, matched, "{path}");
    }
}

#[test]
fn exact_then_pattern_then_longest_prefix() {
    let mut router = rules(json!([
        path("PathPrefix", "/"),
        path("PathPrefix", "/a"),
        path("PathPrefix", "/a/b"),
        path("RegularExpression", "/a/x[0-9]+"),
        path("RegularExpression", "/a/x[0-9]+/longer"),
        path("Exact", "/a/x1"),
    ]));
    for (path, found) in [("/", 0), ("/z", 0), ("/a", 1), ("/a/c", 1), ("/a/b/c", 2), ("/a/x2", 3), ("/a/x2/longer", 4), ("/a/x1", 5)] {
        assert_eq!(by_path(&mut router, path), Some(found), "{path}");
    }
    // A pattern matches the whole path.
    assert_eq!(by_path(&mut router, "/a/x2/"), Some(1));
}

#[test]
fn a_less_specific_path_is_taken_when_other_conditions_fail() {
    let mut router = rules(json!([path("PathPrefix", "/"), when(json!({"path": {"type": "Exact", "value": "/a"}, "method": "POST"})),]));
    assert_eq!(by_path(&mut router, "/a"), Some(0));
    assert_eq!(rule(&mut router, &Request { method: "POST".into(), ..request("", "/a") }), Some(1));
}

#[test]
fn hostnames_exact_then_longest_wildcard_then_none() {
    let host = |name: &str| json!({"hostnames": [name]});
    let mut router = rules(json!([{}, host("*.com"), host("*.example.com"), host("A.Example.com")]));
    for (name, found) in [
        ("a.example.com", 3),
        ("a.example.com.", 3),
        ("b.example.com", 2),
        ("a.b.example.com", 2),
        ("example.com", 1),
        (".com", 0),
        ("com", 0),
        ("example.org", 0),
        ("", 0),
    ] {
        assert_eq!(rule(&mut router, &request(name, "/")), Some(found), "{name}");
    }
    let long = format!("{}example.com", "a.".repeat(1000));
    assert_eq!(rule(&mut router, &request(&long, "/")), Some(0));
}

#[test]
fn the_hostname_comes_before_the_path() {
    let mut router = rules(json!([
        {"matches": [{"path": {"type": "Exact", "value": "/a"}}]},
        {"hostnames": ["*.example.com"], "matches": [{"path": {"value": "/a"}}]},
        {"hostnames": ["a.example.com"], "matches": [{"path": {"value": "/b"}}]},
    ]));
    assert_eq!(by_path(&mut router, "/a"), Some(1));
    assert_eq!(by_path(&mut router, "/b"), Some(2));
    assert_eq!(by_path(&mut router, "/c"), None);
}

#[test]
fn the_listener_limits_the_hosts() {
    let listener = |hostname: &str| Listener { hostname: Some(hostname.into()), ..Listener::default() };
    let (mut router, _) = configure(json!([{}]), &listener("*.example.com")).unwrap();
    assert_eq!(rule(&mut router, &request("a.example.com", "/")), Some(0));
    assert_eq!(rule(&mut router, &request("example.com", "/")), None);
    let (mut router, _) = configure(json!([{"hostnames": ["*.com"]}]), &listener("example.com")).unwrap();
    assert_eq!(rule(&mut router, &request("example.com", "/")), Some(0));
    assert_eq!(rule(&mut router, &request("other.com", "/")), None);
}

#[test]
fn methods_then_headers_then_query_parameters() {
    let conditions = |n: usize| (0..n).map(|i| json!({"name": format!("x{i}"), "value": "1"})).collect::<Vec<_>>();
    let mut router = rules(json!([
        when(json!({})),
        when(json!({"queryParams": conditions(1)})),
        when(json!({"queryParams": conditions(2)})),
        when(json!({"headers": conditions(1)})),
        when(json!({"headers": conditions(2)})),
        when(json!({"method": "POST"})),
    ]));
    let mut ask = |method: &'static str, headers: [Option<&str>; 2], query: &str| {
        let headers = headers.map(|value| value.map(str::to_owned)).to_vec();
        rule(&mut router, &Request { method: method.into(), headers, query: query.into(), ..request("", "/") })
    };
    let one = Some("1");
    assert_eq!(ask("GET", [None, None], ""), Some(0));
    assert_eq!(ask("GET", [None, None], "x0=1"), Some(1));
    assert_eq!(ask("GET", [None, None], "x1=1&x0=1"), Some(2));
    assert_eq!(ask("GET", [one, None], "x1=1&x0=1"), Some(3));
    assert_eq!(ask("GET", [one, one], "x1=1&x0=1"), Some(4));
    assert_eq!(ask("POST", [one, one], "x1=1&x0=1"), Some(5));
    assert_eq!(ask("GET", [Some("2"), None], "x0=2"), Some(0));
}

#[test]
fn age_then_source_then_order() {
    let made = |created_at: Option<&str>, source: &str| json!({"createdAt": created_at, "source": source});
    let old = Some("2026-01-01T00:00:00Z");
    let new = Some("2026-01-02T00:00:00Z");
    for (list, found) in [
        (json!([made(new, "a/a"), made(old, "b/b")]), 1),
        (json!([made(None, "a/a"), made(new, "b/b")]), 1),
        (json!([made(old, "a/b"), made(old, "a/a")]), 1),
        (json!([made(old, "a/a"), made(old, "a/a")]), 0),
        (json!([{}, {}]), 0),
    ] {
        assert_eq!(by_path(&mut rules(list.clone()), "/"), Some(found), "{list}");
    }
}

#[test]
fn only_what_rules_name_is_asked_for() {
    let (_, configured) = configure(
        json!([
            when(json!({"headers": [{"name": "X-One", "value": "1"}, {"name": "x-one", "value": "2"}]})),
            when(json!({"headers": [{"name": "Cookie", "value": "a=.*", "type": "RegularExpression"}, {"name": "X-ONE", "value": "1"}]})),
        ]),
        &Listener::default(),
    )
    .unwrap();
    assert_eq!(configured.interests.headers, ["x-one", "cookie"]);
    // HTTPRoute has no condition on single cookies or on the client.
    assert!(configured.interests.cookies.is_empty() && !configured.interests.query && !configured.interests.client);
    let query = when(json!({"queryParams": [{"name": "a", "value": "1"}]}));
    assert!(configure(json!([query]), &Listener::default()).unwrap().1.interests.query);
}

#[test]
fn of_conditions_on_the_same_header_the_first_counts() {
    let mut router = rules(json!([when(json!({"headers": [{"name": "a", "value": "1"}, {"name": "A", "value": "2"}]}))]));
    assert_eq!(rule(&mut router, &Request { headers: vec![Some("1".into())], ..request("", "/") }), Some(0));
    assert_eq!(rule(&mut router, &Request { headers: vec![None], ..request("", "/") }), None);
    assert_eq!(rule(&mut router, &request("", "/")), None);
}

#[test]
fn a_request_too_long_for_the_patterns_does_not_get_around_them() {
    let status = |one: Value, request: Request| match rules(json!([when(one), {}])).route(&request) {
        Decision::Answer(answer) => answer.status,
        other => panic!("{other:?}"),
    };
    let long = "a".repeat(200_000);
    // Patterns that a text's first bytes do not settle.
    let any = json!([{"name": "a", "value": "[b].*", "type": "RegularExpression"}]);
    let pattern = json!({"path": {"type": "RegularExpression", "value": "/[b].*"}});
    assert_eq!(status(pattern, request("", &format!("/{long}"))), 414);
    assert_eq!(status(json!({"queryParams": any}), Request { query: format!("a={long}"), ..request("", "/") }), 414);
    assert_eq!(status(json!({"headers": any}), Request { headers: vec![Some(long.clone())], ..request("", "/") }), 431);
}

#[test]
fn grpc_services_and_methods() {
    let call = |kind: &str, service: Option<&str>, method: Option<&str>| {
        when(json!({"grpc": {"type": kind, "service": service, "method": method}}))
    };
    let (exact, pattern) = ("Exact", "RegularExpression");
    let mut router = rules(json!([
        call(exact, None, Some("Get")),
        call(exact, Some("shop.Cart"), None),
        call(exact, Some("shop.Cart"), Some("Get")),
        call(pattern, Some("shop[.].*"), Some("G.*")),
        call(pattern, None, Some("[A-Z].*")),
        path("PathPrefix", "/"),
    ]));
    for (path, found) in [
        ("/shop.Cart/Get", 2),
        ("/shop.Cart/Put", 1),
        ("/shop.Order/Get", 3),
        ("/other/Get", 0),
        ("/other/Put", 4),
        ("/other/put", 5),
        ("/shop.Cart", 5),
        ("/shop.Cart/", 5),
        ("/shop.Cart/Get/more", 5),
        ("//Get", 5),
        ("/shop.cart/get", 5),
    ] {
        assert_eq!(by_path(&mut router, path), Some(found), "{path}");
    }
    for (one, start) in [
        (json!({}), "rules[0].matches[0].grpc: must have a service or a method"),
        (json!({"service": "a/b"}), "rules[0].matches[0].grpc.service: `a/b` must be the name of a gRPC service"),
        (json!({"service": "a..b"}), "rules[0].matches[0].grpc.service: `a..b` must be"),
        (json!({"method": "1"}), "rules[0].matches[0].grpc.method: `1` must be the name of a gRPC method"),
        (json!({"type": "RegularExpression", "method": "("}), "rules[0].matches[0].grpc.method: `(` is not a regular"),
    ] {
        let error = fault(json!([when(json!({"grpc": one}))]));
        assert!(error.starts_with(start), "{error}");
    }
    let both = json!({"grpc": {"service": "a"}, "path": {"value": "/"}});
    assert_eq!(fault(json!([when(both)])), "rules[0].matches[0].path: must be absent when grpc is set");
}

#[test]
fn connections_match_by_hostname_only() {
    let list = json!([
        {"hostnames": ["a.example.com"], "matches": [{"method": "GET"}, {"path": {"value": "/x"}}]},
        {"hostnames": ["a.example.com"], "matches": [{"headers": [{"name": "a", "value": "b"}]}, {"path": {"value": "/"}}]},
        {"hostnames": ["*.example.com"]},
        {},
    ]);
    let connection = |host: &str| Request { method: "".into(), path: String::new(), ..request(host, "") };
    let on = |transport| Listener { transport, ..Listener::default() };
    let (mut tls, configured) = configure(list.clone(), &on(Transport::Tls)).unwrap();
    assert!(configured.interests.headers.is_empty() && !configured.interests.query);
    assert_eq!(rule(&mut tls, &connection("a.example.com")), Some(1));
    assert_eq!(rule(&mut tls, &connection("b.example.com")), Some(2));
    assert_eq!(rule(&mut tls, &connection("other")), Some(3));
    for transport in [Transport::Tcp, Transport::Udp] {
        let (mut router, _) = configure(list.clone(), &on(transport)).unwrap();
        assert_eq!(rule(&mut router, &connection("")), Some(3));
    }
}

#[test]
fn the_static_part_is_what_the_rule_says() {
    let (_, configured) = configure(
        json!([{
            "name": "checkout",
            "timeouts": {"request": "1m30s", "backendRequest": "500ms"},
            "retry": {"codes": [503, 500, 503], "attempts": 3, "backoff": "1s"},
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "set": [{"name": "X-A", "value": "1"}], "add": [{"name": "X-B", "value": "2"}], "remove": ["X-C"]}},
                {"type": "URLRewrite", "urlRewrite": {"hostname": "In.Example.com",
                    "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}},
                {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "copy", "port": 81}, "percent": 5}},
                {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "copy", "port": 82}}},
                {"type": "CORS", "cors": {"allowOrigins": ["https://*.example.com"], "allowMethods": ["GET"], "allowCredentials": true}},
            ],
            "backendRefs": [{"kind": "Service", "group": "", "name": "web", "namespace": "shop", "port": 80, "weight": 3, "filters": [
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["Server"]}},
            ]}],
        }]),
        &Listener::default(),
    )
    .unwrap();
    let rule = &configured.rules[0];
    assert_eq!((rule.name.as_deref(), rule.request_timeout, rule.backend_timeout), (Some("checkout"), Some(90_000), Some(500)));
    assert_eq!(rule.retry, Some(Retry { attempts: Some(3), statuses: vec![500, 503], back_off: Some(1_000) }));
    let mirror = |port, numerator, denominator| Filter::Mirror(Mirror { backend: ServiceRef::new("copy", port), numerator, denominator });
    assert_eq!(
        rule.filters,
        [
            Filter::RequestHeaders(HeaderChanges {
                set: vec![Header::new("x-a", "1")],
                add: vec![Header::new("x-b", "2")],
                remove: vec!["x-c".into()],
            }),
            Filter::Rewrite(Rewrite { hostname: Some("in.example.com".into()), path: Some(PathRewrite::Prefix("/v2".into())) }),
            mirror(81, 5, 100),
            mirror(82, 1, 1),
            Filter::Cors(Cors {
                allow_origins: vec!["https://*.example.com".into()],
                allow_methods: vec!["GET".into()],
                allow_credentials: true,
                max_age_seconds: 5,
                ..Cors::default()
            }),
        ]
    );
    let expected = Backend {
        service: ServiceRef { namespace: Some("shop".into()), ..ServiceRef::new("web", 80) },
        weight: 3,
        filters: vec![Filter::ResponseHeaders(HeaderChanges { remove: vec!["server".into()], ..HeaderChanges::default() })],
    };
    assert_eq!(rule.backends, [expected]);
}

#[test]
fn redirects_and_answers_need_no_backend() {
    let (mut router, configured) = configure(
        json!([
            {"source": "shop/web", "filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]},
            {"matches": [{"path": {"value": "/no"}}],
                "filters": [{"type": "DirectResponse", "directResponse": {"statusCode": 403, "body": "no\n"}}]},
        ]),
        &Listener::default(),
    )
    .unwrap();
    assert_eq!(configured.rules[0].name.as_deref(), Some("shop/web"));
    assert_eq!(configured.rules[0].filters, [Filter::Redirect(Redirect { scheme: Some("https".into()), ..Redirect::default() })]);
    let headers = vec![Header::new("content-type", "text/plain; charset=utf-8")];
    assert_eq!(configured.rules[1].filters, [Filter::Answer(Answer { status: 403, headers, body: "no\n".into() })]);
    assert_eq!(router.route(&request("", "/no")), Decision::Matched(Choice { rule: 1, backend: None, matched_prefix: 3 }));
}
