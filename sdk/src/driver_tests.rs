//! The driver, event by event.

use super::*;
use crate::bindings::discovery::sluicegate::plugin::objects as wit;

#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    refresh_ms: Option<u64>,
    fail: bool,
}

/// Publishes one endpoint for each Pod of the service's namespace; its port counts how often it was asked, modulo what `refresh_ms` needs.
struct Pods {
    config: Config,
    asked: u16,
}

impl Discovery for Pods {
    type Config = Config;
    const WATCHES: &'static [&'static str] = &["Pod"];

    fn open(_: &Service, config: Config) -> Result<Self, String> {
        Ok(Self { config, asked: 0 })
    }
    fn concerns(&self, service: &Service, object: &Object) -> bool {
        object.namespace == service.namespace
    }
    fn refresh(&self) -> Option<Duration> {
        self.config.refresh_ms.map(Duration::from_millis)
    }
    fn endpoints(&mut self, service: &Service, objects: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
        self.asked += 1;
        if self.config.fail || objects.get("Pod", &service.namespace, "poison").is_some() {
            return Err("poisoned".to_owned());
        }
        let port = if self.config.refresh_ms.is_some() { self.asked } else { 80 };
        let pods = objects.of_kind("Pod").filter(|pod| pod.namespace == service.namespace);
        Ok(pods.map(|pod| PublishedEndpoint::new(pod.value["ip"].as_str().unwrap_or("?"), port)).collect())
    }
}

fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn target(namespace: &str, config: &str) -> Event {
    Event::TargetApplied(Target { key: key(namespace, "web"), service: "{}".to_owned(), config: config.to_owned() })
}

fn pod(namespace: &str, name: &str) -> Event {
    let json = format!(r#"{{"ip": "{name}"}}"#);
    Event::ObjectApplied(wit::Object { kind: "Pod".to_owned(), key: key(namespace, name), json })
}

fn gone(namespace: &str, name: &str) -> Event {
    Event::ObjectRemoved(wit::ObjectKey { kind: "Pod".to_owned(), key: key(namespace, name) })
}

fn published(namespace: &str, addresses: &[&str]) -> (Key, Finding) {
    (key(namespace, "web"), Finding::Endpoints(addresses.iter().map(|ip| PublishedEndpoint::new(*ip, 80)).collect()))
}

fn failed(namespace: &str, reason: &str) -> (Key, Finding) {
    (key(namespace, "web"), Finding::Failed(reason.to_owned()))
}

fn synced(targets: &[(&str, &str)]) -> Driver<Pods> {
    let mut driver = Driver::default();
    let mut events: Vec<_> = targets.iter().map(|(namespace, config)| target(namespace, config)).collect();
    events.push(Event::Synced);
    driver.take(Duration::ZERO, events);
    news(&mut driver);
    driver
}

/// What the host is told at the driver's time.
fn news(driver: &mut Driver<Pods>) -> Vec<(Key, Finding)> {
    let (now, mut told) = (driver.now, Vec::new());
    driver.resolve(|| now, |target, finding| told.extend(finding.map(|finding| (target.clone(), finding))));
    told
}

fn step(driver: &mut Driver<Pods>, event: Event) -> Vec<(Key, Finding)> {
    driver.take(driver.now, vec![event]);
    news(driver)
}

#[test]
fn nothing_is_published_before_everything_has_come() {
    let mut driver = Driver::<Pods>::default();
    assert_eq!(step(&mut driver, target("a", "")), []);
    assert_eq!(step(&mut driver, pod("a", "10.0.0.1")), []);
    assert_eq!(step(&mut driver, Event::Synced), [published("a", &["10.0.0.1"])]);
}

#[test]
fn a_change_is_asked_of_the_services_it_concerns_only() {
    let mut driver = synced(&[("a", ""), ("b", "")]);
    assert_eq!(step(&mut driver, pod("b", "10.0.0.1")), [published("b", &["10.0.0.1"])]);
    let asked: Vec<_> = driver.services.values().map(|entry| entry.plugin.as_ref().map_or(0, |plugin| plugin.asked)).collect();
    assert_eq!(asked, [1, 2]);
    assert_eq!(step(&mut driver, gone("b", "10.0.0.1")), [published("b", &[])]);
}

#[test]
fn what_has_not_changed_is_not_published_again() {
    let mut driver = synced(&[("a", "")]);
    step(&mut driver, pod("a", "10.0.0.1"));
    assert_eq!(step(&mut driver, pod("a", "10.0.0.1")), []);
    assert_eq!(step(&mut driver, target("a", "{}")), []);
}

#[test]
fn a_failure_is_told_once_and_its_end_too() {
    let mut driver = synced(&[("a", "")]);
    assert_eq!(step(&mut driver, pod("a", "poison")), [failed("a", "poisoned")]);
    assert_eq!(step(&mut driver, pod("a", "10.0.0.1")), []);
    assert_eq!(step(&mut driver, gone("a", "10.0.0.1")), []);
    assert_eq!(step(&mut driver, gone("a", "poison")), [published("a", &[])]);
}

#[test]
fn a_wrong_configuration_fails_its_service_and_no_other() {
    let mut driver = synced(&[("a", "")]);
    let found = step(&mut driver, target("b", r#"{"x": 1}"#));
    assert_eq!(found, [failed("b", "config: unknown field `x`, expected `refresh_ms` or `fail` at line 1 column 4")]);
    assert_eq!(step(&mut driver, pod("a", "10.0.0.1")), [published("a", &["10.0.0.1"])]);
    assert_eq!(step(&mut driver, target("b", "")), [published("b", &[])]);
}

#[test]
fn an_object_that_is_no_json_changes_nothing() {
    let mut driver = synced(&[("a", "")]);
    let event = Event::ObjectApplied(wit::Object { kind: "Pod".to_owned(), key: key("a", "x"), json: "{".to_owned() });
    assert_eq!(step(&mut driver, event), []);
}

#[test]
fn a_removed_service_is_asked_no_more() {
    let mut driver = synced(&[("a", r#"{"refresh_ms": 500}"#)]);
    assert_eq!(driver.timeout_ms(driver.now), Some(500));
    assert_eq!(step(&mut driver, Event::TargetRemoved(key("a", "web"))), []);
    assert_eq!(driver.timeout_ms(driver.now), None);
    assert_eq!(step(&mut driver, pod("a", "10.0.0.1")), []);
}

#[test]
fn a_refresh_comes_when_it_is_due() {
    let mut driver = synced(&[("a", r#"{"refresh_ms": 500}"#), ("b", r#"{"refresh_ms": 0}"#)]);
    step(&mut driver, pod("a", "10.0.0.1"));
    assert_eq!(driver.timeout_ms(driver.now), Some(100), "the shortest refresh is bounded");
    let mut refreshed = 0;
    for _ in 0..5 {
        let timeout = driver.timeout_ms(driver.now);
        driver.take(driver.now + Duration::from_millis(timeout.unwrap_or_default()), Vec::new());
        refreshed += news(&mut driver).iter().filter(|(target, _)| target.namespace == "a").count();
    }
    assert_eq!(refreshed, 1);
}
