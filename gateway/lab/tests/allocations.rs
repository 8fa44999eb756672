//! Code of the project allocates nothing for a pick: the one allocation is wasmtime's, for the borrowed `pool` handle (gateway/README.md, "Measured").

use std::sync::Arc;

use sluicegate_host::{Loaded, Loader};
use sluicegate_lab::generate;
use sluicegate_model::plugin::{BalancerGeneration as _, Limits, PickContext, PluginKind};

const PICKS: u64 = 1_000;

#[test]
fn a_pick_makes_one_allocation_which_is_wasmtimes() {
    let loader = Loader::new().expect("an engine");
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
        assert_eq!(allocation_counter::measure(&mut picks).count_total, PICKS, "{name}");
    }
}
