//! The stream at a size that few have, and views that must stay small there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arc_swap::ArcSwap;
use serde_json::Value;
use sluicegate_model::explain::Explanation;
use sluicegate_model::pool::Endpoint;
use sluicegate_model::route::PortProtocol;
use sluicegate_model::shadow::Shadow;
use sluicegate_model::status::{PortStatus, ServiceStatus, Status};

use super::sampler::Sampler;
use super::views::{Asked, Memory};
use crate::View;

/// No configuration is in the shadow.
struct NoShadow;

impl Shadow for NoShadow {
    fn begin(&self, _asked: sluicegate_model::shadow::Asked) -> Result<String, String> {
        Err(String::new())
    }

    fn status(&self) -> Option<Value> {
        None
    }

    fn promote(&self) -> Result<String, String> {
        Err(String::new())
    }

    fn end(&self) -> Result<String, String> {
        Err(String::new())
    }
}

const SERVICES: u32 = 10_000;

fn service(number: u32) -> ServiceStatus {
    let endpoints = (0..10).map(|n| Endpoint::new(SocketAddr::from(((number * 10 + n).to_be_bytes(), 80)))).collect();
    let port = PortStatus {
        name: "http".to_owned(),
        port: 80,
        protocol: PortProtocol::Tcp,
        node_port: None,
        balancer: "least-request".to_owned(),
        endpoints,
        stats: Arc::default(),
    };
    let (namespace, name) = ("shop".to_owned(), format!("service-{number:05}"));
    ServiceStatus { namespace, name, type_: "ClusterIP".to_owned(), cluster_ips: Vec::new(), external_ips: Vec::new(), ports: vec![port] }
}

fn view() -> View {
    let mut status = Status::default();
    (0..SERVICES).for_each(|number| status.services.insert(Arc::new(service(number))));
    View {
        status: Arc::new(ArcSwap::from_pointee(status)),
        proxy: Arc::default(),
        snapshot: Arc::default(),
        readiness: Arc::default(),
        explain: Arc::new(|_| Ok(Explanation::default())),
        operate: Arc::new(|_, _| Box::pin(async { Err(String::new()) })),
        recorder: Arc::default(),
        requests: Arc::default(),
        configuration: Arc::default(),
        shadow: Arc::new(NoShadow),
        log: Arc::default(),
        process: Arc::from([]),
        login: Arc::default(),
        sources: Vec::new(),
        ports: Arc::new(crate::Ports::new(1_000)),
    }
}

/// The event that a query gives.
fn event(view: &View, sampler: &mut Sampler, query: &str) -> (Value, usize) {
    let uri = format!("/?{query}").parse().unwrap();
    let axum::extract::Query(asked) = axum::extract::Query::<Asked>::try_from_uri(&uri).unwrap();
    let bytes = Memory::default().event(view, &asked.check().unwrap(), &Arc::new(sampler.sample(view)));
    let json = bytes.strip_prefix(b"data: ").unwrap().strip_suffix(b"\n\n").unwrap();
    (serde_json::from_slice(json).unwrap(), bytes.len())
}

#[test]
fn with_ten_thousand_services_an_event_stays_small() {
    let view = view();
    let mut sampler = Sampler::default();
    let begun = Instant::now();
    let (first, size) = event(&view, &mut sampler, "view=services");
    println!("the first of {SERVICES} services: {size} bytes, {:?}", begun.elapsed());
    assert!(size < 64 << 10, "{size} bytes");
    assert_eq!((first["view"]["rows"].as_array().unwrap().len(), first["view"]["found"].as_u64()), (50, Some(10_000)));
    let (last, _) = event(&view, &mut sampler, "view=services&offset=9990");
    assert_eq!(last["view"]["rows"][9]["name"], "service-09999");
    let (beyond, _) = event(&view, &mut sampler, "view=services&offset=20000");
    assert_eq!((beyond["view"]["offset"].as_u64(), beyond["view"]["rows"].as_array().unwrap().len()), (Some(9_950), 50), "the last page");
    let (found, _) = event(&view, &mut sampler, "view=services&q=SERVICE-0123");
    assert_eq!((found["view"]["found"].as_u64(), found["view"]["all"].as_u64()), (Some(10), Some(10_000)));
    let (overview, size) = event(&view, &mut sampler, "view=overview");
    assert!(size < 64 << 10, "{size} bytes");
    assert_eq!(overview["totals"]["readyEndpoints"], 100_000);
}

#[test]
fn the_busiest_come_first_and_those_in_trouble_are_found() {
    let view = view();
    let mut sampler = Sampler::default();
    event(&view, &mut sampler, "view=none");
    let status = view.status.load();
    let busy = &status.services.get(("shop", "service-07000")).unwrap().ports[0];
    busy.stats.responses[1].fetch_add(900, Ordering::Relaxed);
    busy.stats.responses[4].fetch_add(100, Ordering::Relaxed);
    let (shown, _) = event(&view, &mut sampler, "view=services&sort=rate");
    let first = &shown["view"]["rows"][0];
    assert_eq!(first["name"], "service-07000");
    let of = |what: &str| first["figures"][what].as_f64().unwrap();
    assert!(of("rate") > 0.0 && (of("errors") / of("rate") - 0.1).abs() < 0.01, "{first}");
    let (shown, _) = event(&view, &mut sampler, "view=services&only=troubled");
    assert_eq!((shown["view"]["found"].as_u64(), &shown["view"]["rows"][0]["name"]), (Some(1), &Value::from("service-07000")));
}
