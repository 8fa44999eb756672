//! Tests of the driver, event by event.

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

/// Returns what the host is told at the driver's time.
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

/// Asks for a list of addresses, the last of which may name another list.
struct Asking {
    url: String,
}

impl Discovery for Asking {
    type Config = Option<String>;
    const ASKS: bool = true;

    fn open(_: &Service, config: Self::Config) -> Result<Self, String> {
        Ok(Self { url: config.unwrap_or_default() })
    }
    fn concerns(&self, _: &Service, _: &Object) -> bool {
        false
    }
    fn refresh(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }
    fn ask(&mut self, _: &Service) -> Option<Ask> {
        Some(Ask::Http(crate::http::Request::new("GET", &self.url)))
    }
    fn answered(&mut self, _: &Service, reply: Reply) -> Result<Next, String> {
        let Reply::Http(response) = reply else { return Err("not asked for".to_owned()) };
        let text = response.map_err(|error| error.to_string())?.text()?.to_owned();
        Ok(match text.strip_prefix("more: ") {
            Some(url) => Next::Ask(Ask::Http(crate::http::Request::new("GET", url))),
            None => Next::Endpoints(text.split(' ').map(|ip| PublishedEndpoint::new(ip, 80)).collect()),
        })
    }
}

fn body(text: &str) -> Reply {
    Reply::Http(Ok(crate::http::Response { status: 200, headers: Vec::new(), body: text.into() }))
}

#[test]
fn services_that_ask_do_not_wait_for_each_other_and_what_is_not_wanted_any_more_is_passed_over() {
    let mut driver = Driver::<Asking>::default();
    let time = |seconds: u64| move || Duration::from_secs(seconds);
    driver.take(Duration::ZERO, vec![target("a", "\"http://a/\""), target("b", "\"http://b/\""), Event::Synced]);
    driver.resolve(time(0), |_, finding| assert_eq!(finding, None));
    let asks = driver.asks();
    let [(first, _), (second, _)] = asks.as_slice() else { panic!("{asks:?}") };
    assert_eq!(driver.timeout_ms(Duration::ZERO), None, "nothing is due while they wait");
    // The second question is answered first, and another question follows from the answer.
    assert_eq!(driver.answered(*second, body("more: http://c/"), time(3)), None);
    let (third, ask) = driver.asks().remove(0);
    assert!(matches!(ask, Ask::Http(_)) && !driver.waits(*second) && driver.waits(third));
    assert_eq!(driver.answered(third, body("10.0.0.2"), time(4)).map(|(_, found)| found), Some(Some(published("b", &["10.0.0.2"]).1)));
    assert_eq!(driver.timeout_ms(Duration::from_secs(4)), Some(1000), "it counts from the answer");
    // The first service gets another configuration meanwhile, so its answer is no longer wanted.
    driver.take(Duration::from_secs(4), vec![target("a", "\"http://d/\"")]);
    assert!(!driver.waits(*first));
    assert_eq!(driver.answered(*first, body("10.0.0.9"), time(4)), None);
    driver.resolve(time(4), |_, finding| assert_eq!(finding, None));
    let (fourth, _) = driver.asks().remove(0);
    let failed = driver.answered(fourth, Reply::Http(Err(crate::http::Error::Timeout)), time(5));
    assert_eq!(failed.map(|(_, found)| found), Some(Some(Finding::Failed("the response did not come in time".to_owned()))));
    driver.take(Duration::from_secs(6), vec![]);
    driver.resolve(time(6), |_, _| {});
    assert_eq!(driver.asks().len(), 2, "both are due again");
}
