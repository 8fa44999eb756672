//! What a plugin's calls cost: `sluicegate plugin bench`. Balancers by the size of their pool, routers with the configuration they are given;
//! balancers that come with the gateway are measured in the same run, since only figures of one run on one machine can be compared.
//!
//! *Time* is that of the whole call, the host's part in it: the median of batches, and percentiles of calls timed one by one, less what reading
//! the clock costs. *Instructions* are WebAssembly's, counted on an engine of its own by wasmtime's fuel: they are the same in each run, however
//! busy the machine is, and tell of the guest alone. *Memory* is the guest's linear memory with that one pool.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use serde::Serialize;
use serde_json::Value;
use sluicegate_host::balancer::WasmBalancer;
use sluicegate_host::router::WasmRouter;
use sluicegate_host::{Loaded, Loader};
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{Balancer as _, Limits, PickContext, PluginKind, Router as _, RouterGeneration as _};
use sluicegate_model::pool::{Pool, unique};

use crate::Rows;
use crate::certify::listener;
use crate::generate::{self, Random, stream};
use crate::profile::Profiles;
use crate::requests::{Made, Words};
use crate::subject::{Source, Subject};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed of the hashes and requests.
    pub seed: u64,
    /// The sizes of the pools, in endpoints.
    pub sizes: Vec<usize>,
    /// How long is measured for each figure.
    pub time: Duration,
    /// The profiles that endpoints have, in turn.
    pub profiles: Profiles,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, sizes: vec![1, 10, 100, 1_000, 10_000], time: Duration::from_millis(100), profiles: Profiles::default() }
    }
}

/// The cost of one kind of call of one plugin.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// The plugin's name.
    pub plugin: String,
    /// Whether the plugin comes with the gateway.
    pub builtin: bool,
    /// `pick` or `route`.
    pub call: &'static str,
    /// The size: endpoints of the pool, or rules.
    pub size: usize,
    /// The time of a call: the median of batches.
    pub nanoseconds: f64,
    /// The median of the calls that were timed one by one.
    pub p50_nanoseconds: f64,
    /// The 99th percentile of these calls.
    pub p99_nanoseconds: f64,
    /// The number of instructions that the guest carries out for a call, on average.
    pub instructions: f64,
    /// The guest's linear memory, in bytes.
    pub memory_bytes: usize,
    /// The time of the first call after a change, in which the plugin is told of its endpoints, or is configured; the median.
    pub change_microseconds: f64,
    /// The number of calls that were timed one by one.
    pub calls: usize,
}

const BATCHES: usize = 101;

/// Measures each of these: routers with their configuration, balancers with pools of each size. The error names the plugin that failed.
pub fn measure(loader: &Loader, sources: &[(Source, Value)], limits: &Limits, options: &Options) -> Result<Vec<Measured>, String> {
    let metered = loader.metered().map_err(|e| format!("the counting engine: {e}"))?;
    let mut all = Vec::new();
    for (source, config) in sources {
        let plain = source.load(loader, limits, config)?;
        let kind = plain.description.kind;
        if kind == PluginKind::Discovery {
            return Err(format!("{}: a {kind} plugin is not asked on the way of a request, there is nothing to measure", source.name));
        }
        match (&plain.loaded, &source.load(&metered, limits, config)?.loaded) {
            (Loaded::Balancer(generation), Loaded::Balancer(counted)) => {
                for &size in &options.sizes {
                    all.push(balancer(source, &plain, generation, counted, size, options)?);
                }
            }
            (Loaded::Router(generation), Loaded::Router(counted)) => all.push(router(source, &plain, generation, counted, options)?),
            _ => return Err(format!("{}: the counting engine finds it to be of another kind", source.name)),
        }
    }
    Ok(all)
}

/// The cost of timing a call by itself: the median of nothing timed.
fn clock_nanos() -> f64 {
    median((0..1_001).map(|_| Instant::now().elapsed().as_nanos() as f64).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

struct Times {
    batch: f64,
    p50: f64,
    p99: f64,
    calls: usize,
}

/// Times a call for about `time`, half of it in batches. It ends if a call fails.
fn times(time: Duration, mut call: impl FnMut() -> Result<(), String>) -> Result<Times, String> {
    // The first calls warm up: the instance is made, the pool opened, pages touched.
    let begun = Instant::now();
    let mut warm = 0_u32;
    while warm < 8 || begun.elapsed() < time / 10 {
        call()?;
        warm += 1;
    }
    let one = begun.elapsed().as_nanos() as f64 / f64::from(warm);
    let half = time.as_nanos() as f64 / 2.0;
    let batch = ((half / one / BATCHES as f64) as usize).clamp(1, 10_000);
    let mut batches = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let begun = Instant::now();
        for _ in 0..batch {
            call()?;
        }
        batches.push(begun.elapsed().as_nanos() as f64 / batch as f64);
    }
    let clock = clock_nanos();
    let calls = ((half / (one + clock)) as usize).clamp(200, 1_000_000);
    let mut single = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begun = Instant::now();
        call()?;
        single.push((begun.elapsed().as_nanos() as f64 - clock).max(0.0));
    }
    single.sort_by(f64::total_cmp);
    Ok(Times { batch: median(batches), p50: single[calls / 2], p99: single[calls * 99 / 100], calls })
}

/// Statistics of endpoints as a service under load has them.
fn busy(size: usize, profiles: &Profiles, random: &mut Random) -> Vec<sluicegate_model::pool::Endpoint> {
    let made = |i: usize| {
        let endpoint = profiles.of(i).on(generate::endpoint(generate::address(i), 1));
        let sight = sluicegate_model::stats::Sight {
            in_flight: (random.next_u64() % 8) as u32,
            latency_us: 1_000 + (random.next_u64() % 9_000) as u32,
            ..Default::default()
        };
        endpoint.stats.show(sight);
        endpoint
    };
    (0..size).map(made).collect()
}

fn balancer(
    source: &Source,
    subject: &Subject,
    generation: &WasmBalancer,
    counted: &WasmBalancer,
    size: usize,
    options: &Options,
) -> Result<Measured, String> {
    let mut random = stream(options.seed, 6);
    let endpoints = busy(size, &options.profiles, &mut random);
    let pool = generate::pool(unique(), endpoints.clone());
    let said = |error: sluicegate_model::plugin::PluginError| error.to_string();
    let mut instance = generation.seeded(options.seed);
    let mut hashes = stream(options.seed, 7);
    let mut context = move || PickContext { hash: Some(hashes.next_u64()), attempt: 0, random: None };
    let times = times(options.time, || black_box(instance.pick(&pool, &subject.config, context())).map(drop).map_err(said))?;
    let memory_bytes = instance.memory();
    let changes = (0..11).map(|_| {
        let changed: Arc<Pool> = generate::pool(pool.id, endpoints.clone());
        let begun = Instant::now();
        instance.pick(&changed, &subject.config, PickContext::default()).map_err(said)?;
        Ok(begun.elapsed().as_nanos() as f64 / 1e3)
    });
    let change_microseconds = median(changes.collect::<Result<_, String>>()?);
    let mut instance = counted.seeded(options.seed);
    let mut hashes = stream(options.seed, 7);
    let instructions = instructions(|| {
        instance.pick(&pool, &subject.config, PickContext { hash: Some(hashes.next_u64()), attempt: 0, random: None }).map_err(said)?;
        Ok(instance.fuel())
    })?;
    Ok(Measured {
        plugin: subject.name.clone(),
        builtin: source.builtin,
        call: "pick",
        size,
        nanoseconds: times.batch,
        p50_nanoseconds: times.p50,
        p99_nanoseconds: times.p99,
        instructions,
        memory_bytes,
        change_microseconds,
        calls: times.calls,
    })
}

fn router(
    source: &Source,
    subject: &Subject,
    generation: &WasmRouter,
    counted: &WasmRouter,
    options: &Options,
) -> Result<Measured, String> {
    let said = |error: sluicegate_model::plugin::PluginError| error.to_string();
    let configure =
        |generation: &WasmRouter| generation.configure(&ConfigText::from(&*subject.config), &listener()).map(Arc::new).map_err(said);
    let begun = Instant::now();
    let table = configure(generation)?;
    let change_microseconds = begun.elapsed().as_nanos() as f64 / 1e3;
    let words = Words::of(&serde_json::from_str(&subject.config).unwrap_or_default());
    let mut random = stream(options.seed, 8);
    let requests: Vec<Made> = (0..256).map(|_| words.plain(&table.interests, &mut random)).collect();
    let mut instance = generation.seeded(options.seed);
    let mut turn = requests.iter().cycle();
    let times = times(options.time, || {
        let Some(request) = turn.next() else { return Ok(()) };
        black_box(instance.route(&table, &request.view())).map(drop).map_err(said)
    })?;
    let memory_bytes = instance.memory();
    let (table, mut instance) = (configure(counted)?, counted.seeded(options.seed));
    let mut turn = requests.iter().cycle();
    let instructions = instructions(|| {
        if let Some(request) = turn.next() {
            instance.route(&table, &request.view()).map_err(said)?;
        }
        Ok(instance.fuel())
    })?;
    Ok(Measured {
        plugin: subject.name.clone(),
        builtin: source.builtin,
        call: "route",
        size: table.rules.len(),
        nanoseconds: times.batch,
        p50_nanoseconds: times.p50,
        p99_nanoseconds: times.p99,
        instructions,
        memory_bytes,
        change_microseconds,
        calls: times.calls,
    })
}

/// The instructions of a call, on average over 256 calls after the first.
fn instructions(mut left: impl FnMut() -> Result<Option<u64>, String>) -> Result<f64, String> {
    const CALLS: u32 = 256;
    let begun = left()?;
    let mut end = begun;
    for _ in 0..CALLS {
        end = left()?;
    }
    let (Some(begun), Some(end)) = (begun, end) else { return Err("the counting engine does not count".to_owned()) };
    Ok(begun.saturating_sub(end) as f64 / f64::from(CALLS))
}

/// The rows of a table for a terminal.
pub fn rows(measured: &[Measured]) -> Rows {
    let head = crate::row(["PLUGIN", "CALL", "SIZE", "NS", "P50", "P99", "INSTRUCTIONS", "MEMORY", "CHANGE"]);
    let cells = |m: &Measured| {
        vec![
            if m.builtin { format!("{} (builtin)", m.plugin) } else { m.plugin.clone() },
            m.call.to_owned(),
            m.size.to_string(),
            format!("{:.0}", m.nanoseconds),
            format!("{:.0}", m.p50_nanoseconds),
            format!("{:.0}", m.p99_nanoseconds),
            format!("{:.0}", m.instructions),
            format!("{} KiB", m.memory_bytes >> 10),
            format!("{:.0} µs", m.change_microseconds),
        ]
    };
    std::iter::once(head).chain(measured.iter().map(cells)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use http::HeaderMap;
    use sluicegate_model::route::{Decision, RouteTable, RouteView};

    use super::*;

    fn bench(name: &str, config: Value, sizes: &[usize]) -> Vec<Measured> {
        let loader = Loader::new().unwrap();
        let options = Options { sizes: sizes.to_vec(), time: Duration::from_millis(5), ..Options::default() };
        measure(&loader, &[(Source::find(name).unwrap(), config)], &Limits::default(), &options).unwrap()
    }

    #[test]
    fn instructions_tell_what_a_pick_does_and_are_the_same_each_time() {
        let empty = || serde_json::json!({});
        let round_robin = bench("round-robin", empty(), &[10, 1_000]);
        // Its pick looks at every endpoint.
        assert!(round_robin[1].instructions > 50.0 * round_robin[0].instructions, "{round_robin:?}");
        let maglev = bench("maglev", empty(), &[10, 1_000]);
        // Its pick reads one slot of a table.
        assert!((maglev[1].instructions - maglev[0].instructions).abs() < 20.0 && maglev[0].instructions > 10.0, "{maglev:?}");
        assert_eq!(bench("maglev", empty(), &[10])[0].instructions, maglev[0].instructions);
        assert!(maglev[1].memory_bytes >= 64 << 10 && maglev[1].change_microseconds > 0.0);
    }

    #[test]
    fn a_router_is_measured_with_its_configuration() {
        let config = serde_json::json!({"rules": [
            {"matches": [{"path": {"type": "PathPrefix", "value": "/a"}}], "backendRefs": [{"name": "a", "port": 80}]},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/b"}}], "backendRefs": [{"name": "b", "port": 80}]},
        ]});
        let measured = bench("rules", config, &[]);
        assert_eq!((measured.len(), measured[0].call, measured[0].size), (1, "route", 2));
        assert!(measured[0].instructions > 10.0 && measured[0].nanoseconds > 10.0, "{measured:?}");
    }

    /// Routes under one host name or under as many as there are routes, by prefix or by exact path.
    fn routes(n: usize, shape: &str) -> Value {
        let rule = |i: usize| {
            let (hostname, kind, path) = match shape {
                "hostnames" => (format!("shop-{i:05}.example.com"), "PathPrefix", "/".to_owned()),
                "exact" => ("shop.example.com".to_owned(), "Exact", format!("/service-{i:05}/items")),
                _ => ("shop.example.com".to_owned(), "PathPrefix", format!("/service-{i:05}")),
            };
            serde_json::json!({"hostnames": [hostname], "matches": [{"path": {"type": kind, "value": path}}],
                "source": format!("shop/route-{i}"), "backendRefs": [{"name": "web", "port": 80}]})
        };
        serde_json::json!({"rules": (0..n).map(rule).collect::<Vec<_>>()})
    }

    #[test]
    fn a_request_costs_the_same_with_a_hundred_routes_and_with_thousands() {
        let metered = Loader::new().unwrap().metered().unwrap();
        let subject = Source::find("rules").unwrap().load(&metered, &Limits::default(), &routes(1, "exact")).unwrap();
        let Loaded::Router(router) = &subject.loaded else { panic!("a router") };
        let configured = |n: usize, shape: &str| Arc::new(router.configure(&routes(n, shape).into(), &listener()).unwrap());
        let cost = |n: usize, shape: &str| {
            let (table, mut instance) = (configured(n, shape), router.seeded(1));
            let words = Words::of(&routes(n, shape));
            let requests: Vec<Made> = (0..256).map(|i| words.plain(&table.interests, &mut stream(i, 8))).collect();
            let mut turn = requests.iter().cycle();
            let cost = instructions(|| {
                instance.route(&table, &turn.next().unwrap().view()).map_err(|e| e.to_string())?;
                Ok(instance.fuel())
            });
            (cost.unwrap(), instance.memory())
        };
        for shape in ["prefixes", "exact", "hostnames"] {
            let [(few, _), (many, _)] = [100, 5_000].map(|n| cost(n, shape));
            println!("{shape}: {:.0} instructions with a route, {few:.0} with 100, {many:.0} with 5,000", cost(1, shape).0);
            assert!(many < 1.1 * few && few > 100.0, "{shape}: {few} instructions with 100 routes, {many} with 5,000");
        }
        // This is within the memory and the time that a plugin has.
        let (_, memory) = cost(10_000, "hostnames");
        println!("10,000 routes of as many host names: {memory} bytes");
        assert!(memory < Limits::default().memory / 2, "{memory} bytes");
    }
    #[test]
    fn a_rule_of_ten_thousand_that_changes_costs_what_one_rule_costs() {
        let metered = Loader::new().unwrap().metered().unwrap();
        let subject = Source::find("rules").unwrap().load(&metered, &Limits::default(), &routes(1, "exact")).unwrap();
        let Loaded::Router(router) = &subject.loaded else { panic!("a router") };
        let mut written = routes(10_000, "prefixes");
        let first = Arc::new(router.configure(&written.clone().into(), &listener()).unwrap());
        let room = first.rules.iter().map(|rule| rule.backends.capacity()).sum::<usize>();
        assert_eq!((first.rules.len(), first.rules.capacity(), room), (10_000, 10_000, 10_000), "no memory is kept for more than there is");
        // Leads elsewhere; is gone; is new.
        written["rules"][5_000]["backendRefs"][0]["name"] = "other".into();
        let second = Arc::new(router.reconfigure(&first, &written.clone().into()).unwrap());
        let rules = written["rules"].as_array_mut().unwrap();
        let gone = rules.remove(10);
        rules.push(gone);
        let third = Arc::new(router.reconfigure(&second, &written.clone().into()).unwrap());
        let shared =
            |a: &RouteTable, b: &RouteTable| a.rules.iter().filter(|rule| b.rules.iter().any(|other| Arc::ptr_eq(rule, other))).count();
        assert_eq!((shared(&first, &second), shared(&second, &third)), (9_999, 9_999), "the rest is shared");
        assert_eq!((first.id, second.id), (second.id, third.id));

        let mut instance = router.seeded(1);
        let mut left = u64::MAX;
        let mut asked = |table: &Arc<RouteTable>, i: usize| {
            let (headers, path) = (HeaderMap::new(), format!("/service-{i:05}/x"));
            let client = [127, 0, 0, 1].into();
            let view = RouteView { method: "GET", host: "shop.example.com", path: &path, query: "", headers: &headers, client };
            let Decision::Matched(choice) = instance.route(table, &view).unwrap() else { panic!("{path} is taken") };
            let cost = left - instance.fuel().unwrap();
            left = instance.fuel().unwrap();
            (choice.rule, table.rules[choice.rule].backends[0].service.name.clone(), cost)
        };
        let (rule, led, all) = asked(&first, 5_000);
        assert_eq!((rule, &*led), (5_000, "web"));
        let (_, _, nothing) = asked(&first, 5_000);
        let (rule, led, one) = asked(&second, 5_000);
        assert_eq!((rule, &*led), (5_000, "other"));
        let (rule, led, moved) = asked(&third, 5_000);
        assert_eq!((rule, &*led), (4_999, "other"), "one before it is gone");
        assert_eq!(asked(&third, 10).0, 9_999);
        // Who began with an earlier one still decides by it, and what is in between is made up for.
        assert_eq!((asked(&first, 5_000).1, asked(&first, 10).0), ("web".to_owned(), 10));
        println!("{all} instructions for all rules, {one} for one that changes, {moved} for one that moves, {nothing} for a request");
        assert!(one < all / 400 && moved < all / 50, "{all} {one} {moved}");
    }
}
