//! A pick of a plugin that is called by its core module allocates nothing. As a component it costs one allocation, wasmtime's for the borrowed `pool` handle.

use std::sync::Arc;

use sluicegate_host::{Loaded, Loader};
use sluicegate_lab::generate;
use sluicegate_model::plugin::{BalancerGeneration as _, Limits, PickContext, PluginKind};

const PICKS: u64 = 1_000;

#[test]
fn a_pick_allocates_nothing() {
    let loader = Loader::new().expect("an engine");
    for (loader, allocations) in [(loader.clone(), 0), (loader.as_components(), PICKS)] {
        picks_allocate(&loader, allocations);
    }
}

fn picks_allocate(loader: &Loader, allocations: u64) {
    for name in ["least-request", "round-robin", "random", "maglev"] {
        let wasm = sluicegate_plugins::builtin(name).expect("it is built in").wasm();
        let (loaded, _) = loader.load(name, 1, &wasm, PluginKind::Balancer, &Limits::default()).expect("it loads");
        let Loaded::Balancer(generation) = loaded else { panic!("{name} is no balancer") };
        let mut balancer = generation.instantiate().expect("an instance");
        let (pool, config): (_, Arc<str>) = (generate::plain(100, |_| 1), "{}".into());
        let mut picks = || {
            for hash in 0..PICKS {
                let context = PickContext { hash: Some(hash), ..PickContext::default() };
                assert!(balancer.pick(&pool, &config, context).expect("a pick").is_some());
            }
        };
        // The first pick opens the pool.
        picks();
        assert_eq!(allocation_counter::measure(&mut picks).count_total, allocations, "{name}");
    }
}
