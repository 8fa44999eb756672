//! What is wrong with a configuration, and where.

use super::*;

#[test]
fn the_place_of_a_fault_is_told() {
    let nth = |one: Value| fault(json!([{}, {}, when(one)]));
    assert_eq!(nth(json!({"path": {"value": "foo"}})), "rules[2].matches[0].path.value: must start with /");
    for (one, start) in [
        (json!({"path": {"type": "RegularExpression", "value": "("}}), "rules[2].matches[0].path.value: `(` is not a regular expression"),
        (json!({"path": {"type": "Exact", "value": "/a?b"}}), "rules[2].matches[0].path.value: must not contain '?'"),
        (json!({"method": "get"}), "rules[2].matches[0].method: `get` must be"),
        (json!({"headers": [{"name": "a b", "value": ""}]}), "rules[2].matches[0].headers[0].name: `a b` is not a header name"),
        (json!({"queryParams": [{"name": "", "value": ""}]}), "rules[2].matches[0].queryParams[0].name: must be"),
        (
            json!({"queryParams": [{"name": "a", "type": "RegularExpression", "value": "["}]}),
            "rules[2].matches[0].queryParams[0].value: `[`",
        ),
    ] {
        let error = nth(one);
        assert!(error.starts_with(start), "{error}");
    }
    for (rule, start) in [
        (json!({"hostnames": ["a", "a..b"]}), "rules[0].hostnames[1]: `a..b` must be a DNS name"),
        (json!({"createdAt": "yesterday"}), "rules[0].createdAt: `yesterday` must be a time"),
        (json!({"timeouts": {"request": "10"}}), "rules[0].timeouts.request: `10` must be a duration"),
        (json!({"timeouts": {"request": "1s", "backendRequest": "2s"}}), "rules[0].timeouts.backendRequest: must be at most"),
        (json!({"retry": {"codes": [503, 200]}}), "rules[0].retry.codes[1]: 200 must be between 400 and 599"),
        (json!({"retry": {"attempts": 21}}), "rules[0].retry.attempts: 21 must be between 0 and 20"),
        (json!({"retry": {"backoff": "soon"}}), "rules[0].retry.backoff: `soon` must be a duration"),
        (json!({"sessionPersistence": {"sessionName": "a b"}}), "rules[0].sessionPersistence.sessionName: `a b` is not the name"),
        (json!({"sessionPersistence": {"idleTimeout": "1"}}), "rules[0].sessionPersistence.idleTimeout: `1` must be a duration"),
        (
            json!({"sessionPersistence": {"cookieConfig": {"lifetimeType": "Permanent"}}}),
            "rules[0].sessionPersistence.absoluteTimeout: must be set",
        ),
        (json!({"sessionPersistence": {"type": "Header", "cookieConfig": {}}}), "rules[0].sessionPersistence.cookieConfig: must be absent"),
        (json!({"backendRefs": [{"name": "A", "port": 1}]}), "rules[0].backendRefs[0].name: `A` must be"),
        (json!({"backendRefs": [{"name": "a", "port": 0}]}), "rules[0].backendRefs[0].port: must be between"),
        (json!({"backendRefs": [{"name": "a", "port": 1, "weight": 1_000_001}]}), "rules[0].backendRefs[0].weight: 1000001"),
        (json!({"backendRefs": [{"name": "a", "port": 1, "kind": "Bucket"}]}), "rules[0].backendRefs[0].kind: must be Service"),
    ] {
        let error = fault(json!([rule]));
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn the_place_of_a_fault_in_a_filter_is_told() {
    let redirect = |fields: Value| json!({"type": "RequestRedirect", "requestRedirect": fields});
    let headers = |fields: Value| json!({"type": "RequestHeaderModifier", "requestHeaderModifier": fields});
    let answer = |fields: Value| json!({"type": "DirectResponse", "directResponse": fields});
    let mirror = |fields: Value| {
        let mut fields = fields;
        fields["backendRef"] = json!({"name": "a", "port": 1});
        json!({"type": "RequestMirror", "requestMirror": fields})
    };
    for (filter, start) in [
        (redirect(json!({"statusCode": 200})), "requestRedirect.statusCode: 200 must be 301"),
        (redirect(json!({"scheme": "ftp"})), "requestRedirect.scheme: must be http or https"),
        (redirect(json!({"hostname": "*.a"})), "requestRedirect.hostname: `*.a` must be"),
        (redirect(json!({"port": 0})), "requestRedirect.port: must be between"),
        (redirect(json!({"path": {"type": "ReplaceFullPath"}})), "requestRedirect.path.replaceFullPath: must be set"),
        (
            redirect(json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "a"}})),
            "requestRedirect.path.replaceFullPath: must start",
        ),
        (headers(json!({"set": [{"name": "a:", "value": ""}]})), "requestHeaderModifier.set[0].name: `a:` is not"),
        (headers(json!({"add": [{"name": "a", "value": "\r\n"}]})), "requestHeaderModifier.add[0].value: must be visible"),
        (headers(json!({"remove": ["Content-Length"]})), "requestHeaderModifier.remove[0]: `content-length` belongs"),
        (answer(json!({"statusCode": 101})), "directResponse.statusCode: 101 must be"),
        (answer(json!({"statusCode": 204, "body": "x"})), "directResponse.body: must be empty"),
        (answer(json!({"statusCode": 200, "contentType": "\n"})), "directResponse.contentType: must be visible"),
        (mirror(json!({"percent": 101})), "requestMirror.percent: 101 must be"),
        (mirror(json!({"fraction": {"numerator": 1, "denominator": 0}})), "requestMirror.fraction.denominator: must be at least 1"),
        (mirror(json!({"fraction": {"numerator": 101}})), "requestMirror.fraction.numerator: must be at most"),
        (json!({"type": "CORS", "cors": {"allowOrigins": ["*", "http://a"]}}), "cors.allowOrigins[0]: `*` must stand alone"),
        (json!({"type": "CORS"}), "cors: must be set"),
        (json!({"type": "CORS", "cors": {}, "urlRewrite": {}}), "urlRewrite: must be absent"),
    ] {
        let error = fault(json!([{"filters": [filter]}]));
        assert!(error.starts_with(&format!("rules[0].filters[0].{start}")), "{error}");
    }
}

#[test]
fn filters_must_go_together() {
    let redirect = || json!({"type": "RequestRedirect", "requestRedirect": {}});
    let answer = || json!({"type": "DirectResponse", "directResponse": {"statusCode": 200}});
    let rewrite = |kind: &str, field: &str| json!({"type": "URLRewrite", "urlRewrite": {"path": {"type": kind, field: "/b"}}});
    let full = || rewrite("ReplaceFullPath", "replaceFullPath");
    let prefix = || rewrite("ReplacePrefixMatch", "replacePrefixMatch");
    let backend = |filters: Value| json!([{"name": "a", "port": 1, "filters": filters}]);
    for (rule, start) in [
        (json!({"filters": [full(), full()]}), "rules[0].filters[1].type: stands here twice"),
        (json!({"filters": [redirect(), answer()]}), "rules[0].filters[1].type: rules[0].filters[0] answers already"),
        (json!({"filters": [full(), redirect()]}), "rules[0].filters[0].type: nothing is forwarded"),
        (json!({"filters": [redirect()], "backendRefs": backend(json!([]))}), "rules[0].backendRefs: must be empty"),
        (json!({"backendRefs": backend(json!([redirect()]))}), "rules[0].backendRefs[0].filters[0].type: is settled before"),
        (
            json!({"matches": [{"path": {"type": "Exact", "value": "/a"}}], "filters": [prefix()]}),
            "rules[0].filters[0].urlRewrite.path.replacePrefixMatch: can only be used",
        ),
        (
            json!({"matches": [{"path": {"type": "Exact", "value": "/a"}}], "backendRefs": backend(json!([prefix()]))}),
            "rules[0].backendRefs[0].filters[0].urlRewrite.path.replacePrefixMatch: can only be used",
        ),
    ] {
        let error = fault(json!([rule]));
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let error = fault(json!([path("Exact", "a"), path("Exact", "/a"), path("Exact", "b")]));
    assert_eq!(error, "rules[0].matches[0].path.value: must start with /\nrules[2].matches[0].path.value: must start with /");
}

#[test]
fn the_number_of_matches_is_bounded() {
    let many = |n: usize| Value::Array((0..n).map(|i| path("Exact", &format!("/{i}"))).collect());
    let mut router = rules(many(20_000));
    assert_eq!(by_path(&mut router, "/19999"), Some(19_999));
    let matches: Vec<Value> = (0..65_537).map(|_| json!({})).collect();
    assert_eq!(fault(json!([{"matches": matches}])), "rules: have 65537 matches; all rules together must have at most 65536");
    let hostnames: Vec<String> = (0..131_073).map(|i| format!("h{i}")).collect();
    assert!(fault(json!([{"hostnames": hostnames}])).starts_with("rules: have 131073 pairs"));
}

#[test]
fn unknown_fields_are_refused_and_the_schema_knows_them() {
    assert!(fault(json!([{"matchs": []}])).contains("unknown field `matchs`"));
    assert!(fault(json!([{"filters": [{"type": "ExtensionRef"}]}])).contains("unknown variant `ExtensionRef`"));
    let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
    let properties = &schema["$defs"]["Rule"]["properties"];
    for field in ["backendRefs", "createdAt", "matches", "filters", "timeouts", "hostnames", "source", "name"] {
        assert!(properties[field].is_object(), "{field}");
    }
}

#[test]
fn a_faulty_rule_answers_500_where_the_others_are_to_serve() {
    let lenient = |rules: Value| {
        let config: Config = serde_json::from_value(json!({"rules": rules, "faultyRules": "Fail"})).unwrap();
        Rules::configure(config, &Listener::default()).unwrap()
    };
    let web = json!([{"name": "web", "port": 80}]);
    let (mut router, configured) = lenient(json!([
        {"backendRefs": web},
        {"source": "shop/bad", "backendRefs": web, "matches": [
            {"path": {"value": "/bad"}},
            {"path": {"value": "/worse"}, "headers": [{"name": "a", "type": "RegularExpression", "value": "("}]},
        ], "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["connection"]}}]},
        {"matches": [{"path": {"value": "/good"}}], "backendRefs": web},
    ]));
    let chosen = |router: &mut Rules, path: &str| match router.route(&request("", path)) {
        Decision::Matched(choice) => (choice.rule, choice.backend),
        other => panic!("{other:?}"),
    };
    assert_eq!(chosen(&mut router, "/good"), (2, Some(0)));
    assert_eq!(chosen(&mut router, "/bad"), (1, None));
    // A match that is faulty itself takes nothing: with the one header gone it would take too much.
    assert_eq!(chosen(&mut router, "/worse"), (0, Some(0)));
    let rule = &configured.rules[1];
    assert_eq!((rule.name.as_deref(), rule.filters.len(), rule.backends.len()), (Some("shop/bad"), 0, 0));
    let lines = testing::log_lines();
    let line = lines.iter().map(|line| line.message.as_str()).find(|line| line.starts_with("a rule of shop/bad answers 500")).unwrap();
    assert!(
        line.contains("rules[1].filters[0].requestHeaderModifier.remove[0]") && line.contains("rules[1].matches[1].headers[0]"),
        "{line}"
    );
    // What all rules have in common is refused in any case.
    assert!(serde_json::from_value::<Config>(json!({"faultyRules": "Ignore"})).is_err());
}
