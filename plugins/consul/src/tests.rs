//! Against answers of a Consul that is not there.

use serde_json::{Value, json};
use sluicegate_sdk::http::Error;
use sluicegate_sdk::{Objects, testing};

use super::*;

const FIRST: &str = "http://consul:8500/v1/health/service/web?stale";

fn service() -> Service {
    Service { namespace: "shop".into(), name: "cart".into(), object: Value::Null }
}

fn open(config: Value) -> Result<Consul, String> {
    Consul::open(&service(), serde_json::from_value(config).map_err(|error| error.to_string())?)
}

fn consul() -> Consul {
    open(json!({"url": "http://consul:8500/", "service": "web"})).unwrap()
}

fn find(consul: &mut Consul) -> Result<Vec<PublishedEndpoint>, String> {
    testing::endpoints(consul, &service(), &Objects::default())
}

fn answer(url: &str, status: u16, index: &str, body: &str) {
    testing::answer(url, Response { status, headers: vec![("x-consul-index".into(), index.into())], body: body.into() });
}

fn instance(id: &str, address: &str, port: u32, status: &str) -> Value {
    json!({
        "Node": {"Node": format!("node-{id}"), "Address": "10.9.0.1", "Meta": {"rack": "r1"}},
        "Service": {"ID": id, "Address": address, "Port": port, "Meta": {"version": "2"}, "Weights": {"Passing": 10, "Warning": 2}},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}, {"CheckID": "web", "Status": status}],
    })
}

#[test]
fn instances_become_endpoints_with_health_weight_and_node() {
    let list = json!([
        instance("a", "10.0.0.1", 80, "passing"),
        instance("b", "10.0.0.2", 80, "warning"),
        instance("c", "10.0.0.3", 80, "critical"),
        instance("d", "", 81, "passing"),
    ]);
    let shown = |config: Value| {
        answer(FIRST, 200, "7", &list.to_string());
        let found = find(&mut open(config).unwrap()).unwrap();
        found.iter().map(|e| format!("{}:{} {} {}", e.address, e.port, e.ready, e.weight)).collect::<Vec<_>>()
    };
    let base = json!({"url": "http://consul:8500", "service": "web"});
    assert_eq!(shown(base.clone()), ["10.0.0.1:80 true 10", "10.0.0.2:80 true 2", "10.0.0.3:80 false 10", "10.9.0.1:81 true 10"]);
    let mut passing = base;
    passing["passingOnly"] = json!(true);
    assert_eq!(shown(passing)[1], "10.0.0.2:80 false 2");
    let mut zoned = open(json!({"url": "http://consul:8500", "service": "web", "zoneMeta": "rack", "portName": "http"})).unwrap();
    let first = find(&mut zoned).unwrap().remove(0);
    assert_eq!((first.zone.as_deref(), first.node.as_deref(), first.port_name.as_deref()), (Some("r1"), Some("node-a"), Some("http")));
    assert_eq!(first.labels, [("version".to_owned(), "2".to_owned())]);
}

#[test]
fn a_question_carries_the_index_of_the_last_answer_until_it_goes_backwards() {
    let mut consul = consul();
    answer(FIRST, 200, "7", "[]");
    find(&mut consul).unwrap();
    assert_eq!(consul.refresh(), Some(Duration::ZERO));
    let waits = |index: u64| format!("{FIRST}&index={index}&wait=25000ms");
    assert_eq!(consul.url(), waits(7));
    answer(&waits(7), 200, "9", "[]");
    find(&mut consul).unwrap();
    assert_eq!(consul.url(), waits(9));
    answer(&waits(9), 200, "3", "[]");
    find(&mut consul).unwrap();
    assert_eq!(consul.url(), FIRST, "the index was reset");
    answer(FIRST, 200, "0", "[]");
    find(&mut consul).unwrap();
    assert_eq!((consul.url().as_str(), consul.refresh()), (FIRST, Some(POLL)), "no index: it does not spin");
}

#[test]
fn failures_name_consul_and_pauses_double() {
    let mut consul = consul();
    answer(FIRST, 200, "7", "[]");
    find(&mut consul).unwrap();
    answer(&consul.url(), 500, "", "No cluster leader\nmore");
    let error = find(&mut consul).unwrap_err();
    assert_eq!(error, "http://consul:8500/: service `web`: answered 500: No cluster leader");
    assert_eq!(consul.url(), FIRST, "the next question does not wait");
    testing::fail(FIRST, Error::Timeout);
    let mut pauses = vec![consul.pause.as_secs()];
    for _ in 0..6 {
        find(&mut consul).unwrap_err();
        pauses.push(consul.pause.as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    answer(FIRST, 200, "8", "[]");
    find(&mut consul).unwrap();
    answer(&consul.url(), 200, "9", &json!([instance("a", "10.0.0.1", 0, "passing")]).to_string());
    assert!(find(&mut consul).unwrap_err().ends_with("instance `a`: port 0 must be between 1 and 65535, inclusive"));
    assert_eq!(consul.pause, FIRST_PAUSE, "the pauses began anew");
}

#[test]
fn names_and_filters_are_escaped() {
    let config = json!({"url": "http://c", "service": "a/b c", "filter": "\"v2\" in Service.Tags", "datacenter": "eu", "stale": false});
    let url = "http://c/v1/health/service/a%2Fb%20c?dc=eu&filter=%22v2%22%20in%20Service.Tags";
    assert_eq!(open(config).unwrap().url(), url);
}

#[test]
fn a_wrong_configuration_is_refused() {
    for (config, wanted) in [
        (json!({"url": "http://c"}), "missing field `service`"),
        (json!({"url": "c:8500", "service": "a"}), "must begin with http://"),
        (json!({"url": "http://c", "service": ""}), "must not be empty"),
        (json!({"url": "http://c", "service": "a", "wait": "5m"}), "must be from 1s to 26s"),
    ] {
        let error = open(config).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}
