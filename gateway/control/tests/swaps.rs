//! A thousand swaps of one plugin leave no memory behind: code, instances, pools and what is kept of old generations. This has a process of its own,
//! since it measures that.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use sluicegate_config::object::ours::FailurePolicy;
use sluicegate_config::plan::{LoopbackEndpoints, PlannedPlugin, PluginSource};
use sluicegate_control::plugins::{Files, Registry, Use};
use sluicegate_host::{Loaded, Loader};
use sluicegate_model::plugin::{BalancerGeneration, Limits, PickContext, PluginKind};
use sluicegate_model::pool::{Endpoint, Pool, unique};
use sluicegate_model::rollout::Rollout;

const SWAPS: usize = 1_000;
/// The swaps after which everything is full that fills up once: the allocator's arenas, the pools of instances, the history of the plugin.
const WARM: usize = 200;

/// The process's memory in use, in bytes, and its number of mappings.
fn used() -> (usize, usize) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (pages * 4096, std::fs::read_to_string("/proc/self/maps").unwrap().lines().count())
}

fn pool() -> Arc<Pool> {
    let endpoints = (1..=50).map(|last| Endpoint::new(([127, 0, 0, last], 80).into())).collect();
    Arc::new(Pool { id: unique(), version: unique(), endpoints, draining: vec![], panic: false, empty: None })
}

#[test]
fn memory_stays_flat_over_a_thousand_swaps() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.wasm");
    let wasm = sluicegate_plugins::builtin("maglev").unwrap().wasm();
    // The same code with one more custom section is another version. There are few of them, so that nearly all are found compiled.
    let version = |n: usize| [&wasm[..], &[0, 2, 1, b'a' + u8::try_from(n % 4).unwrap()]].concat();
    let planned = [PlannedPlugin {
        name: "mine".to_owned(),
        kind: PluginKind::Balancer,
        source: PluginSource::File { path: file.clone(), sha256: None },
        limits: Limits::default(),
        failure_policy: FailurePolicy::default(),
        persists: false,
        rollout: Rollout::default(),
        loopback_endpoints: LoopbackEndpoints::Refused,
        place: None,
        object: None,
    }];
    let uses = [Use { plugin: "mine".to_owned(), config: "{}".into(), listener: None }];
    let mut registry = Registry::new(Loader::keeping(&folder.path().join("compiled")).unwrap(), |_| None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (pool, config) = (pool(), Arc::from("{}"));
    let mut instances = Vec::new();
    let mut at_warm = (0, 0);
    for swap in 0..SWAPS {
        std::fs::write(&file, version(swap)).unwrap();
        let others: Vec<String> = runtime.block_on(registry.sync(&planned, &uses, &Files::All)).into_iter().collect();
        assert_eq!(others, ["mine"], "who uses it is assembled anew");
        let Some(Loaded::Balancer(live)) = registry.live("mine") else { panic!("swap {swap}: it is not loaded") };
        assert_eq!(live.generation().number, swap as u64 + 1);
        // There are two workers, each with an instance of its own until the next swap.
        instances = (0..2).map(|_| live.instantiate().unwrap()).collect();
        for instance in &mut instances {
            let context = PickContext { hash: Some(swap as u64), ..PickContext::default() };
            assert!(instance.pick(&pool, &config, context).unwrap().is_some());
        }
        if swap == WARM {
            at_warm = used();
        }
    }
    drop(instances);
    assert!(runtime.block_on(registry.sync(&planned, &uses, &Files::All)).is_empty(), "and nobody when it is the same");
    let (memory, mappings) = used();
    let grown = memory.saturating_sub(at_warm.0);
    assert!(grown < 8 << 20, "{grown} bytes more after {} swaps, from {}", SWAPS - WARM, at_warm.0);
    assert!(mappings < at_warm.1 + 50, "{mappings} mappings, and {} before", at_warm.1);
    let compiled = registry.compiled();
    assert_eq!((compiled.anew, compiled.found), (4, SWAPS as u64 - 4));
}
