//! HTTPRoute: which requests a rule takes.

use super::world::{World, get, route};

#[test]
fn HTTPRouteSimpleSameNamespace() {
    let world = World::new(&route("r", "  rules: [{backendRefs: [{name: ib1, port: 8080}]}]"));
    world.expect(1, &get("/"), "ib1");
    world.accepted("httproutes", "r");
    world.attached("same-namespace", &[1]);
}

#[test]
fn HTTPRouteExactPathMatching() {
    let world = World::new(&route(
        "r",
        "  rules:
  - {matches: [{path: {type: Exact, value: /one}}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{path: {type: Exact, value: /two}}], backendRefs: [{name: ib2, port: 8080}]}",
    ));
    world.expect(1, &get("/one"), "ib1");
    world.expect(1, &get("/two"), "ib2");
    for path in ["/", "/one/example", "/two/", "/Two"] {
        world.expect(1, &get(path), 404);
    }
}

#[test]
fn HTTPRoutePathMatchOrder() {
    let world = World::new(&route(
        "r",
        "  rules:
  - {matches: [{path: {type: PathPrefix, value: /match}}], backendRefs: [{name: ib3, port: 8080}]}
  - {matches: [{path: {type: PathPrefix, value: /match/prefix/one/}}], backendRefs: [{name: ib2, port: 8080}]}
  - {matches: [{path: {type: PathPrefix, value: /match/prefix}}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{path: {type: Exact, value: /match/exact}}], backendRefs: [{name: ib2, port: 8080}]}",
    ));
    world.expect(1, &get("/match/exact"), "ib2");
    world.expect(1, &get("/match/exact/more"), "ib3");
    world.expect(1, &get("/match/prefix/one/any"), "ib2");
    world.expect(1, &get("/match/prefix/one"), "ib2");
    world.expect(1, &get("/match/prefix/any"), "ib1");
    world.expect(1, &get("/match/any"), "ib3");
}

const VERSIONS: &str = "  rules:
  - matches: [{path: {type: PathPrefix, value: /}}, {headers: [{name: version, value: one}]}]
    backendRefs: [{name: ib1, port: 8080}]";

#[test]
fn HTTPRouteMatching() {
    let world = World::new(&route(
        "r",
        &format!(
            "{VERSIONS}
  - matches: [{{path: {{type: PathPrefix, value: /v2}}}}, {{headers: [{{name: version, value: two}}]}}]
    backendRefs: [{{name: ib2, port: 8080}}]"
        ),
    ));
    for (ask, backend) in [
        (get("/"), "ib1"),
        (get("/example"), "ib1"),
        (get("/").header("Version", "one"), "ib1"),
        (get("/v2"), "ib2"),
        (get("/v2/"), "ib2"),
        (get("/v2/example"), "ib2"),
        (get("/v2example"), "ib1"),
        (get("/foo/v2/example"), "ib1"),
        (get("/").header("Version", "two"), "ib2"),
    ] {
        world.expect(1, &ask, backend);
    }
}

#[test]
fn HTTPRouteMatchingAcrossRoutes() {
    let first = route("first", &format!("  hostnames: [example.com, example.net]\n{VERSIONS}"));
    let second = route(
        "second",
        "  hostnames: [example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /v2}}, {headers: [{name: version, value: two}]}]
    backendRefs: [{name: ib2, port: 8080}]",
    );
    let world = World::new(&(first + &second));
    for (host, ask, backend) in [
        ("example.com", get("/"), "ib1"),
        ("example.com", get("/example"), "ib1"),
        ("example.net", get("/example"), "ib1"),
        ("example.com", get("/example").header("Version", "one"), "ib1"),
        ("example.com", get("/v2"), "ib2"),
        ("example.net", get("/v2"), "ib1"),
        ("example.com", get("/v2/example"), "ib2"),
        ("example.com", get("/").header("Version", "two"), "ib2"),
    ] {
        world.expect(1, &ask.host(host), backend);
    }
}

#[test]
fn HTTPRouteHeaderMatching() {
    let world = World::new(&route(
        "r",
        "  rules:
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{headers: [{name: version, value: two}]}], backendRefs: [{name: ib2, port: 8080}]}
  - {matches: [{headers: [{name: version, value: two}, {name: color, value: orange}]}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{headers: [{name: color, value: blue}]}, {headers: [{name: color, value: green}]}], backendRefs: [{name: ib1, port: 8080}]}",
    ));
    world.expect(1, &get("/").header("Version", "one"), "ib1");
    world.expect(1, &get("/").header("VERSION", "two"), "ib2");
    world.expect(1, &get("/").header("version", "two").header("Color", "orange"), "ib1");
    world.expect(1, &get("/").header("color", "blue"), "ib1");
    world.expect(1, &get("/").header("color", "green"), "ib1");
    for (name, value) in [("color", "orange"), ("version", "one,two"), ("color", "Blue"), ("other", "one")] {
        world.expect(1, &get("/").header(name, value), 404);
    }
}

#[test]
fn HTTPRouteMethodMatching() {
    let world = World::new(&route(
        "r",
        "  rules:
  - {matches: [{method: POST}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{method: GET}], backendRefs: [{name: ib2, port: 8080}]}
  - {matches: [{path: {value: /path1}, method: GET}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{headers: [{name: version, value: one}], method: PUT}], backendRefs: [{name: ib2, port: 8080}]}
  - {matches: [{path: {value: /path2}, method: POST}, {path: {value: /path3}, method: PATCH}], backendRefs: [{name: ib3, port: 8080}]}
  - {matches: [{path: {value: /path5}}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{method: PATCH}], backendRefs: [{name: ib2, port: 8080}]}
  - {matches: [{headers: [{name: version, value: four}]}], backendRefs: [{name: ib1, port: 8080}]}",
    ));
    world.expect(1, &get("/").method("POST"), "ib1");
    world.expect(1, &get("/"), "ib2");
    world.expect(1, &get("/").method("HEAD"), 404);
    world.expect(1, &get("/path1"), "ib1");
    world.expect(1, &get("/").method("PUT").header("version", "one"), "ib2");
    world.expect(1, &get("/").method("PUT"), 404);
    world.expect(1, &get("/path2").method("POST"), "ib3");
    world.expect(1, &get("/path3").method("PATCH"), "ib3");
    world.expect(1, &get("/path5").method("PATCH"), "ib1");
    world.expect(1, &get("/").method("PATCH").header("version", "four"), "ib2");
}

#[test]
fn HTTPRouteQueryParamMatching() {
    let world = World::new(&route(
        "r",
        "  rules:
  - {matches: [{queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{queryParams: [{name: animal, value: dolphin}]}], backendRefs: [{name: ib2, port: 8080}]}
  - {matches: [{queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]}], backendRefs: [{name: ib3, port: 8080}]}
  - {matches: [{queryParams: [{name: ANIMAL, value: Whale}]}], backendRefs: [{name: ib3, port: 8080}]}
  - {matches: [{path: {value: /path1}}], backendRefs: [{name: ib2, port: 8080}]}
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: ib3, port: 8080}]}",
    ));
    world.expect(1, &get("/?animal=whale"), "ib1");
    world.expect(1, &get("/?animal=dolphin"), "ib2");
    world.expect(1, &get("/?animal=dolphin&color=blue"), "ib3");
    world.expect(1, &get("/?ANIMAL=Whale"), "ib3");
    world.expect(1, &get("/?animal=whale&otherparam=irrelevant"), "ib1");
    world.expect(1, &get("/path1?animal=whale"), "ib2");
    world.expect(1, &get("/?animal=whale").header("version", "one"), "ib3");
    for path in ["/", "/?animal=shark", "/?color=blue", "/?animal=Whale"] {
        world.expect(1, &get(path), 404);
    }
}

#[test]
fn HTTPRouteNamedRule() {
    let world = World::new(&route(
        "r",
        "  rules:
  - {name: named, matches: [{path: {value: /named}}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{path: {value: /unnamed}}], backendRefs: [{name: ib2, port: 8080}]}",
    ));
    world.expect(1, &get("/named"), "ib1");
    world.expect(1, &get("/unnamed"), "ib2");
}

#[test]
fn HTTPRouteWeight() {
    let world = World::new(&route(
        "r",
        "  rules: [{backendRefs: [{name: ib1, port: 8080, weight: 70}, {name: ib2, port: 8080, weight: 30}, {name: ib3, port: 8080, weight: 0}]}]",
    ));
    world.expect(1, &get("/"), "ib1");
    let answers: Vec<String> = (0..500).map(|_| world.ask(1, &get("/")).expect("an answer").backend).collect();
    let share = |name: &str| answers.iter().filter(|backend| *backend == name).count();
    assert_eq!(share("ib1") + share("ib2"), 500);
    // Six standard deviations of 500 draws are 61.
    assert!((289..=411).contains(&share("ib1")), "{}", share("ib1"));
}
