//! The two ways in which workers call plugins, as a component and by its core module, answer alike: built-in plugins over many pools and requests, and plugins
//! that do everything wrong that can be done.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom as _;
use rand::{Rng, RngExt as _, SeedableRng as _};
use sluicegate_model::pool::{About, Endpoint, Pool, unique};
use sluicegate_tests::both_ways::{balanced, both, difference, routed};
use sluicegate_tests::wat;

fn pool(id: u64, rng: &mut impl Rng) -> Arc<Pool> {
    let size = [0, 1, 2, 5, 40].choose(rng).copied().unwrap_or(1);
    let mut endpoint = |last: u8| {
        let mut endpoint = Endpoint::new(([127, 0, 1, last], 80).into());
        endpoint.weight = [0, 1, 1, 7, u32::MAX].choose(rng).copied().unwrap_or(1);
        endpoint.terminating = rng.random_bool(0.1);
        let zone = rng.random_bool(0.5).then(|| format!("zone-{}", last % 3));
        let node = rng.random_bool(0.5).then(|| format!("node-ü{last}"));
        let labels = (0..rng.random_range(0..3)).map(|n| (format!("l{n}"), "x".repeat(n))).collect();
        endpoint.about =
            Arc::new(About { zone, node, labels, annotations: vec![("cost".to_owned(), last.to_string())], ..About::default() });
        endpoint
    };
    let endpoints: Vec<Endpoint> = (1..=size).map(&mut endpoint).collect();
    Arc::new(Pool { id, version: unique(), endpoints: endpoints.into(), draining: vec![], panic: false, empty: None })
}

/// Versions of a pool, and random bits.
fn life(rng: &mut impl Rng) -> (Vec<Arc<Pool>>, Vec<u64>) {
    let id = unique();
    ((0..5).map(|_| pool(id, rng)).collect(), (0..40).map(|_| rng.random()).collect())
}

#[test]
fn built_in_balancers_answer_alike_in_both_ways() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let balancers = sluicegate_plugins::builtins().iter().filter(|builtin| builtin.kind == sluicegate_plugins::Kind::Balancer);
    for builtin in balancers {
        let both = both(&builtin.wasm());
        for _ in 0..30 {
            let (pools, random) = life(&mut rng);
            assert_eq!(difference(both.each_ref().map(|loaded| balanced(loaded, "{}", &pools, &random))), None, "{}", builtin.name);
        }
    }
}

#[test]
fn the_rules_answer_alike_in_both_ways() {
    let config = r#"{"rules": [
        {"matches": [{"path": {"type": "Exact", "value": "/a"}, "method": "POST"}], "backendRefs": [{"name": "a", "port": 80}]},
        {"matches": [{"headers": [{"name": "x-a", "value": "1"}]}], "backendRefs": [{"name": "b", "port": 80, "weight": 3}, {"name": "c", "port": 80}]},
        {"matches": [{"queryParams": [{"name": "q", "value": "1"}], "path": {"type": "PathPrefix", "value": "/q"}}], "backendRefs": [{"name": "b", "port": 80}]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/b"}}], "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}]}]}"#;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let requests: Vec<_> = (0..400)
        .map(|_| {
            let mut headers = http::HeaderMap::new();
            for value in ["1", "2", "ü"].iter().take(rng.random_range(0..3)) {
                headers.append("x-a", http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
            }
            let choose = |from: &[&str], rng: &mut Xoshiro256PlusPlus| from.choose(rng).copied().unwrap_or_default().to_owned();
            (
                choose(&["GET", "POST", "PURGE", "OPTIONS"], &mut rng),
                choose(&["/", "/a", "/a/b", "/b/c", "/q", "/qq", ""], &mut rng),
                headers,
            )
        })
        .collect();
    let both = both(&sluicegate_plugins::builtin("rules").expect("built in").wasm());
    let told = both.each_ref().map(|loaded| routed(loaded, config, &requests));
    let all = ["rule: 0", "rule: 1", "rule: 2", "rule: 3", "NoMatch"];
    assert!(all.iter().all(|word| told[0].iter().any(|told| told.contains(word))), "{told:?}");
    assert_eq!(difference(told), None);
}

/// A script in hexadecimal digits: numbers that are small more often than not.
fn script(rng: &mut impl Rng) -> String {
    let number =
        |rng: &mut dyn Rng| if rng.random_bool(0.7) { rng.random_range(0..64) } else { rng.random::<u32>() >> rng.random_range(0..28) };
    let numbers: Vec<u32> = (0..rng.random_range(0..120)).map(|_| number(rng)).collect();
    numbers.into_iter().flat_map(u32::to_le_bytes).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn plugins_that_do_everything_wrong_fail_alike_in_both_ways() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let balancers = both(&wat::scripted_balancer().module());
    let routers = both(&wat::scripted_router().module());
    let (mut failed, mut differences) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..300 {
        let script = script(&mut rng);
        let (pools, random) = life(&mut rng);
        let of_balancers = balancers.each_ref().map(|loaded| balanced(loaded, &script, &pools, &random));
        let requests = [script, "/".to_owned(), "3".to_owned()].map(|path| ("OTHER".to_owned(), path, http::HeaderMap::new()));
        let of_routers = routers.each_ref().map(|loaded| routed(loaded, "{}", &requests));
        for told in [of_balancers, of_routers] {
            failed.extend(told[0].iter().filter_map(|told| told.split_once("reason: ")).map(|(_, reason)| reason.to_owned()));
            differences.extend(difference(told));
        }
    }
    assert!(differences.is_empty(), "by the core module, and as a component: {differences:#?}");
    // Much must have been tried.
    let found = |word: &str| failed.iter().any(|reason| reason.contains(word));
    for word in
        ["unreachable", "out of range", "pointer not aligned", "out of bounds", "discriminant", "utf-8", "unknown handle", "cannot leave"]
    {
        assert!(found(word), "{word}: {failed:#?}");
    }
}
