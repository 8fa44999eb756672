//! Calls on a plugin's core module against wasmtime's calls on the same plugin as a component. The plugin does what the input says: pointers, lengths, discriminants,
//! handles, what it calls and when. Both ways give the same answers and the same errors.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sluicegate_host::Loaded;
use sluicegate_model::pool::{Endpoint, Pool, unique};

#[path = "../../src/both_ways.rs"]
mod both_ways;
#[path = "../../src/wat.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod wat;

use both_ways::{balanced, both, difference, routed};

static BALANCERS: LazyLock<[Loaded; 2]> = LazyLock::new(|| both(&wat::scripted_balancer().module()));
static ROUTERS: LazyLock<[Loaded; 2]> = LazyLock::new(|| both(&wat::scripted_router().module()));

fuzz_target!(|data: &[u8]| {
    let data = &data[..data.len().min(2048)];
    let script: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = unique();
    let pool = |size: u8| {
        let endpoints = (1..=size).map(|last| Endpoint::new(([127, 0, 1, last], 80).into())).collect();
        Arc::new(Pool { id, version: unique(), endpoints, draining: vec![], panic: false, empty: None })
    };
    let pools = [2, 0, 3].map(pool);
    let random = [1, 2, u64::MAX];
    assert_eq!(difference(BALANCERS.each_ref().map(|loaded| balanced(loaded, &script, &pools, &random))), None);
    let requests = [script, "/".to_owned(), "3".to_owned()].map(|path| ("OTHER".to_owned(), path, http::HeaderMap::new()));
    assert_eq!(difference(ROUTERS.each_ref().map(|loaded| routed(loaded, "{}", &requests))), None);
});
