//! Against records of servers that are not there.

use serde_json::{Value, json};
use sluicegate_sdk::names::{Data, Location};
use sluicegate_sdk::{Objects, testing};

use super::*;

fn service() -> Service {
    Service { namespace: "shop".into(), name: "cart".into(), object: Value::Null }
}

fn open(config: Value) -> Result<Dns, String> {
    Dns::open(&service(), serde_json::from_value(config).map_err(|error| error.to_string())?)
}

fn find(dns: &mut Dns) -> Result<Vec<String>, String> {
    let found = testing::endpoints(dns, &service(), &Objects::default())?;
    Ok(found.iter().map(|e| format!("{} {} {} {}", e.address, e.port, e.weight, e.labels.first().map_or("-", |l| &l.1))).collect())
}

fn addresses(name: &str, ty: RecordType, ttl: u32, all: &[&str]) {
    testing::records(name, ty, Ok(all.iter().map(|ip| Record { data: Data::Address((*ip).into()), ttl }).collect()));
}

fn locations(ttl: u32, all: &[(u16, u16, u16, &str)]) {
    let location = |(priority, weight, port, target): &(u16, u16, u16, &str)| Record {
        data: Data::Location(Location { priority: *priority, weight: *weight, port: *port, target: (*target).into() }),
        ttl,
    };
    testing::records("_web._tcp.shop", RecordType::Srv, Ok(all.iter().map(location).collect()));
}

#[test]
fn addresses_of_both_kinds_and_the_smallest_time_to_live() {
    addresses("web.shop", RecordType::A, 60, &["10.0.0.2", "10.0.0.1", "10.0.0.2"]);
    addresses("web.shop", RecordType::Aaaa, 20, &["2001:db8::1"]);
    let mut dns = open(json!({"name": "web.shop", "port": 80})).unwrap();
    assert_eq!(find(&mut dns).unwrap(), ["10.0.0.1 80 1 -", "10.0.0.2 80 1 -", "2001:db8::1 80 1 -"]);
    assert_eq!(dns.refresh(), Some(Duration::from_secs(20)));
    let mut dns = open(json!({"name": "web.shop", "port": 80, "type": "A"})).unwrap();
    assert_eq!(find(&mut dns).unwrap().len(), 2);
    assert_eq!(dns.refresh(), Some(Duration::from_secs(60)));
    let mut dns = open(json!({"name": "web.shop", "port": 80, "minInterval": "2m"})).unwrap();
    find(&mut dns).unwrap();
    assert_eq!(dns.refresh(), Some(Duration::from_secs(120)));
    addresses("web.shop", RecordType::A, 0, &["10.0.0.2"]);
    let mut dns = open(json!({"name": "web.shop", "port": 80})).unwrap();
    find(&mut dns).unwrap();
    assert_eq!(dns.refresh(), Some(Duration::from_secs(1)), "a time to live of 0 does not spin");
}

#[test]
fn a_name_that_is_missing_has_no_endpoints_and_one_that_fails_keeps_them() {
    let mut dns = open(json!({"name": "gone.shop", "port": 80})).unwrap();
    testing::records("gone.shop", RecordType::A, Err(Failure::Missing(Some(15))));
    assert_eq!(find(&mut dns), Ok(vec![]));
    assert_eq!(dns.refresh(), Some(Duration::from_secs(15)));
    addresses("gone.shop", RecordType::A, 60, &["10.0.0.1"]);
    testing::records("gone.shop", RecordType::Aaaa, Err(Failure::Timeout));
    assert_eq!(find(&mut dns), Err("gone.shop: no server answered in time".to_owned()), "half of the answer is none");
    assert_eq!(dns.refresh(), Some(Duration::from_secs(5)));
}

#[test]
fn srv_records_say_port_weight_and_priority() {
    addresses("a.shop", RecordType::A, 300, &["10.0.0.1"]);
    addresses("b.shop", RecordType::A, 300, &["10.0.0.2", "10.0.0.3"]);
    addresses("c.shop", RecordType::A, 7, &["10.0.0.4"]);
    locations(90, &[(10, 60, 8080, "a.shop"), (10, 40, 8081, "B.shop"), (10, 0, 8082, "a.shop"), (20, 5, 80, "c.shop")]);
    let mut dns = open(json!({"name": "_web._tcp.shop", "type": "SRV"})).unwrap();
    let lowest = ["10.0.0.1 8080 6000 -", "10.0.0.1 8082 1 -", "10.0.0.2 8081 2000 -", "10.0.0.3 8081 2000 -"];
    assert_eq!(find(&mut dns).unwrap(), lowest);
    // Without an answer of AAAA nothing holds longer than that.
    assert_eq!(dns.refresh(), Some(Duration::from_secs(30)));
    let mut dns = open(json!({"name": "_web._tcp.shop", "type": "SRV", "priorities": "All"})).unwrap();
    let all = find(&mut dns).unwrap();
    assert!(all.contains(&"10.0.0.4 80 500 1".to_owned()) && all.contains(&"10.0.0.1 8080 6000 0".to_owned()), "{all:?}");
    assert_eq!(dns.refresh(), Some(Duration::from_secs(7)));
    locations(90, &[(0, 0, 0, ".")]);
    assert_eq!(find(&mut dns), Ok(vec![]), "decidedly not available");
    locations(90, &[(1, 0, 1, "a.shop"), (1, 0, 2, "a.shop")]);
    assert_eq!(find(&mut dns).unwrap(), ["10.0.0.1 1 1 0", "10.0.0.1 2 1 0"]);
    let many: Vec<String> = (0..33).map(|i| format!("t{i}.shop")).collect();
    locations(90, &many.iter().map(|name| (1, 1, 1, name.as_str())).collect::<Vec<_>>());
    assert_eq!(find(&mut dns), Err("_web._tcp.shop: more than 32 targets".to_owned()));
}

#[test]
fn a_wrong_configuration_is_refused() {
    for (config, wanted) in [
        (json!({"port": 1}), "missing field `name`"),
        (json!({"name": "a"}), "port: must be between 1 and 65535"),
        (json!({"name": "a", "port": 0}), "port: must be between"),
        (json!({"name": "a", "port": 1, "type": "SRV"}), "SRV records have their own"),
        (json!({"name": "a", "port": 1, "servers": ["dns"]}), "`dns` must be an address and a port"),
        (json!({"name": "a", "port": 1, "minInterval": "0s"}), "must be at least 1s"),
        (json!({"name": "a", "port": 1, "type": "MX"}), "unknown variant"),
    ] {
        let error = open(config).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}
