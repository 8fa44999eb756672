//! Against answers of a source that is not there.

use serde_json::{Value, json};
use sluicegate_sdk::http::{Error, Response};
use sluicegate_sdk::{Objects, testing};

use super::*;

const URL: &str = "http://sd/targets";

fn service() -> Service {
    Service { namespace: "shop".into(), name: "cart".into(), object: Value::Null }
}

fn open(config: Value) -> Result<Http, String> {
    Http::open(&service(), serde_json::from_value(config).map_err(|error| error.to_string())?)
}

fn answer(status: u16, ty: &str, body: &str) {
    testing::answer(URL, Response { status, headers: vec![("content-type".into(), ty.into())], body: body.into() });
}

fn ask(http: &mut Http) -> Result<Vec<PublishedEndpoint>, String> {
    testing::endpoints(http, &service(), &Objects::default())
}

fn found(config: Value, body: &Value) -> Result<Vec<PublishedEndpoint>, String> {
    answer(200, "application/json; charset=utf-8", &body.to_string());
    ask(&mut open(config)?)
}

#[test]
fn targets_become_endpoints_with_their_labels() {
    testing::resolves("web.sd", &["10.0.1.1".parse().unwrap(), "10.0.1.2".parse().unwrap()]);
    let body = json!([
        {"targets": ["10.0.0.2:9100", "10.0.0.1:9100", "[::1]:80"], "labels": {"zone": "a", "w": "3"}},
        {"targets": ["web.sd:81", "10.0.0.1:9100"]},
    ]);
    let found = found(json!({"url": URL, "portName": "web", "zoneLabel": "zone", "weightLabel": "w"}), &body).unwrap();
    let addresses: Vec<_> = found.iter().map(|e| format!("{} {} {} {:?}", e.address, e.port, e.weight, e.zone)).collect();
    let a = "Some(\"a\")";
    assert_eq!(
        addresses,
        [
            format!("10.0.0.1 9100 3 {a}"),
            format!("10.0.0.2 9100 3 {a}"),
            "10.0.1.1 81 1 None".into(),
            "10.0.1.2 81 1 None".into(),
            format!("::1 80 3 {a}")
        ]
    );
    assert!(found.iter().all(|e| e.port_name.as_deref() == Some("web") && e.ready));
    assert_eq!(found[0].labels, [("w".to_owned(), "3".to_owned()), ("zone".to_owned(), "a".to_owned())]);
}

#[test]
fn an_empty_list_is_an_answer() {
    assert_eq!(found(json!({"url": URL}), &json!([])), Ok(vec![]));
}

#[test]
fn faults_name_the_url_and_what_is_wrong() {
    let fault = |body: &Value| found(json!({"url": URL, "weightLabel": "w"}), body).unwrap_err();
    assert!(fault(&json!({})).starts_with("http://sd/targets: not a list of target groups: "));
    for target in ["10.0.0.1", "10.0.0.1:0", "0.0.0.0:1", "::1:80", ":80", "a:x", ""] {
        assert!(fault(&json!([{"targets": [target]}])).contains(&format!("target `{target}` must")), "{target:?}");
    }
    assert_eq!(fault(&json!([{"targets": ["no.sd:80"]}])), "http://sd/targets: target `no.sd:80`: the name no.sd does not resolve");
    assert!(
        fault(&json!([{"targets": ["10.0.0.1:1"], "labels": {"w": "much"}}])).contains("label w: `much` must be between 0 and 1000000")
    );
    let many: Vec<String> = (0..10_001).map(|i| format!("10.{}.{}.{}:80", i >> 16, (i >> 8) & 255, i & 255)).collect();
    assert!(fault(&json!([{"targets": many}])).ends_with("more than 10000 targets"));
    let mut http = open(json!({"url": URL})).unwrap();
    answer(503, "application/json", "");
    let mut ask = || ask(&mut http).unwrap_err();
    assert_eq!(ask(), "http://sd/targets: answered 503, and 200 is wanted");
    answer(200, "text/html", "<p>");
    assert_eq!(ask(), "http://sd/targets: answered text/html, and application/json is wanted");
    testing::fail(URL, Error::Timeout);
    assert_eq!(ask(), "http://sd/targets: the response did not come in time");
}

#[test]
fn it_is_asked_sooner_after_a_failure() {
    let mut http = open(json!({"url": URL, "refreshInterval": "1m"})).unwrap();
    testing::fail(URL, Error::Timeout);
    ask(&mut http).unwrap_err();
    assert_eq!(http.refresh(), Some(Duration::from_secs(5)));
    answer(200, "application/json", "[]");
    ask(&mut http).unwrap();
    assert_eq!(http.refresh(), Some(Duration::from_secs(60)));
}

#[test]
fn a_wrong_configuration_is_refused() {
    for (config, wanted) in [
        (json!({}), "missing field `url`"),
        (json!({"url": "ftp://x"}), "must begin with http://"),
        (json!({"url": URL, "refreshInterval": "10"}), "\"10\" is not a duration"),
        (json!({"url": URL, "refreshInterval": "10ms"}), "refreshInterval: must be at least 1s"),
        (json!({"url": URL, "refresh": "10s"}), "unknown field `refresh`"),
    ] {
        let error = open(config).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}
