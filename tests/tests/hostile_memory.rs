//! Plugins that allocate without end leave nothing behind in the process. This has a process of its own, since it measures that.

use std::sync::Arc;
use std::time::Duration;

use sluicegate_host::{Loaded, Loader};
use sluicegate_model::plugin::{BalancerGeneration, Limits, PickContext, PluginKind};
use sluicegate_model::pool::{Endpoint, Pool, unique};
use sluicegate_tests::wat::{Text, balancer};

/// The rounds after which everything is full that fills up once: the allocator's arenas, the pool of instances.
const WARM: usize = 10;
const ROUNDS: usize = 40;
/// The most that may be left; one allocation of each round would be a multiple of this.
const MOST: usize = 16 << 20;

/// The resident memory of the process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

#[test]
fn memory_comes_back_after_every_bomb() {
    let limits = Limits { memory: 16 << 20, deadline: Duration::from_millis(500), ..Limits::default() };
    let endpoints = vec![Endpoint::new(([127, 0, 0, 1], 80).into())];
    let pool = Arc::new(Pool { id: unique(), version: unique(), endpoints: endpoints.into(), draining: vec![], panic: false, empty: None });
    // It writes to each page, since a page that is not written to is not resident.
    let memory = "(local $at i32) (drop (memory.grow (i32.const 200)))
        (loop (i32.store (local.get $at) (i32.const 1)) (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const 13000000)))) unreachable";
    let table = "(loop (if (i32.ne (table.grow $bomb (ref.func $deep) (i32.const 1000)) (i32.const -1)) (then (br 1)))) unreachable";
    let error = "i32.const 128 i32.const 1 i32.store8 i32.const 132 i32.const 65536 i32.store i32.const 136 i32.const 14000000 i32.store i32.const 128";
    let handles = "(loop (drop (call $resource-new (i32.const 0))) (br 0)) unreachable";
    let log = "(call $log (i32.const 0) (i32.const 65536) (i32.const 14000000) (i32.const 0) (i32.const 0)) unreachable";
    let pick = |body: &str| balancer().with("pick", body);
    let bombs: [(&str, Text); 6] = [
        ("memory", pick(memory)),
        ("a table", pick(table).also("(table $bomb 1 funcref) (elem declare func $deep) (func $deep call $deep)")),
        ("an error text", balancer().pages(230).with("open", error)),
        ("handles", pick(handles)),
        ("a log line", balancer().pages(230).with("pick", log)),
        ("the stack", pick("call $deep unreachable").also("(func $deep call $deep)")),
    ];
    let loader = Loader::new().expect("an engine");
    for (name, text) in bombs {
        let loaded = loader.load("mine", 1, &text.module(), PluginKind::Balancer, &limits).expect("loaded");
        let Loaded::Balancer(balancer) = loaded.0 else { panic!("a balancer") };
        let mut warm = 0;
        for round in 0..ROUNDS {
            let mut instance = balancer.instantiate().expect("an instance");
            instance.pick(&pool, &"{}".into(), PickContext::default()).expect_err(name);
            let held = balancer.generation().shared.memory.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(held, 0, "{name}: an instance that failed is dropped at once");
            if round == WARM {
                warm = resident();
            }
        }
        let grown = resident().saturating_sub(warm);
        assert!(grown < MOST, "{name}: {grown} bytes more after {} rounds", ROUNDS - WARM);
    }
}
