//! What the calls into plugins cost alone, in the very host code of the gateway.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use sluicegate_host::{Loaded, Loader};
use sluicegate_model::plugin::{BalancerGeneration as _, Limits, PickContext, PluginKind, RouterGeneration as _, hash_bytes};
use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::route::{ListenerInfo, RouteView, Transport};
use sluicegate_model::stats::EndpointStats;

/// One kind of call.
#[derive(Serialize)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The median of the batches, a call.
    pub(crate) nanos: f64,
    /// A call.
    pub(crate) allocations: f64,
    /// Made for each request of the L7 row.
    pub(crate) in_path: bool,
}

const BATCHES: usize = 101;
const BATCH: usize = 2_000;

fn time(name: &str, in_path: bool, mut call: impl FnMut()) -> Call {
    (0..BATCH).for_each(|_| call());
    let mut nanos: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let begun = Instant::now();
            (0..BATCH).for_each(|_| call());
            begun.elapsed().as_nanos() as f64 / BATCH as f64
        })
        .collect();
    nanos.sort_by(f64::total_cmp);
    let counted = allocation_counter::measure(|| (0..BATCH).for_each(|_| call()));
    Call { name: name.to_owned(), nanos: nanos[BATCHES / 2], allocations: counted.count_total as f64 / BATCH as f64, in_path }
}

fn pool(size: usize) -> Arc<Pool> {
    let all: Vec<Endpoint> = (0..size)
        .map(|i| Endpoint {
            address: ([127, 0, 0, 2], u16::try_from(1000 + i).unwrap_or(u16::MAX)).into(),
            ready: true,
            serving: true,
            terminating: false,
            weight: 1,
            zone: None,
            node: None,
            hint_zones: Vec::new(),
            hint_nodes: Vec::new(),
            labels: Vec::new(),
            annotations: Vec::new(),
            stats: Arc::new(EndpointStats::default()),
        })
        .collect();
    Arc::new(Pool::select(unique(), &all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50))
}

pub(crate) fn measure() -> Result<Vec<Call>, String> {
    let loader = Loader::new().map_err(|e| format!("{e:#}"))?;
    let load = |name: &str, kind| {
        let wasm = sluicegate_plugins::builtin(name).ok_or_else(|| format!("no plugin {name}"))?.wasm;
        loader.load(name, 1, wasm, kind, &Limits::default()).map(|(loaded, _)| loaded).map_err(|e| e.to_string())
    };
    let mut calls = Vec::new();
    for (name, size) in [("least-request", 4), ("least-request", 100), ("round-robin", 100), ("random", 100), ("maglev", 100)] {
        let Loaded::Balancer(generation) = load(name, PluginKind::Balancer)? else { return Err(format!("{name} is no balancer")) };
        let mut balancer = generation.instantiate().map_err(|e| e.to_string())?;
        let (pool, config): (_, Arc<str>) = (pool(size), "{}".into());
        let mut turn = 0_u64;
        let mut failed = None;
        let call = time(&format!("pick: {name}, {size} endpoints"), name == "least-request" && size == 4, || {
            turn += 1;
            let context = PickContext { hash: Some(hash_bytes(&turn.to_le_bytes())), ..PickContext::default() };
            if let Err(error) = black_box(balancer.pick(&pool, &config, context)) {
                failed = Some(error);
            }
        });
        if let Some(error) = failed {
            return Err(error.to_string());
        }
        calls.push(call);
    }
    let Loaded::Router(generation) = load("rules", PluginKind::Router)? else { return Err("rules is no router".to_owned()) };
    let listener =
        ListenerInfo { name: "bench".to_owned(), port: 80, transport: Transport::Http, hostname: None, namespace: "default".to_owned() };
    for (name, config, in_path) in [
        ("route: rules, 10 prefixes", crate::peers::rules(false), true),
        ("route: rules, 10 prefixes, 1 header", crate::peers::rules(true), false),
    ] {
        let table = Arc::new(generation.configure(&config.to_string(), &listener).map_err(|e| e.to_string())?);
        let mut router = generation.instantiate().map_err(|e| e.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("bench.example"));
        headers.insert("x-version", HeaderValue::from_static("2"));
        let view = RouteView {
            method: "GET",
            host: "bench.example",
            path: "/service-9/items",
            query: "",
            headers: &headers,
            client: [127, 0, 0, 1].into(),
        };
        let mut failed = None;
        let call = time(name, in_path, || {
            if let Err(error) = black_box(router.route(&table, &view)) {
                failed = Some(error);
            }
        });
        if let Some(error) = failed {
            return Err(error.to_string());
        }
        calls.push(call);
    }
    Ok(calls)
}
