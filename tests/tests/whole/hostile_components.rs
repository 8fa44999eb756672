//! Misbehaviour at the level of the component model and its canonical ABI, each in a few lines of WebAssembly text: traps, endless loops and recursion in
//! every function that the host calls, invalid values, calls back into the plugin, allocation without end. The host answers each in time with an error that
//! names the stage and the reason, and the next plugin loads and serves as if nothing had happened.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sluicegate_host::{Loaded, Loader};
use sluicegate_model::discovery::{DiscoveryGeneration, Publications, Publisher, Silent};
use sluicegate_model::plugin::{BalancerGeneration, Limits, PickContext, PluginError, PluginKind, RouterGeneration, Saved};
use sluicegate_model::pool::{Endpoint, Pool, unique};
use sluicegate_model::route::{ListenerInfo, Transport};
use sluicegate_tests::wat::{Text, balancer, discovery, router, with_nested};

use PluginKind::{Balancer, Discovery, Router};

fn limits() -> Limits {
    Limits { memory: 8 << 20, deadline: Duration::from_millis(50), configure_deadline: Duration::from_millis(100), ..Limits::default() }
}

fn pool() -> Arc<Pool> {
    let endpoints = (1..=2).map(|last| Endpoint::new(([127, 0, 0, last], 80).into())).collect();
    Arc::new(Pool { id: unique(), version: unique(), endpoints, draining: vec![], panic: false, empty: None })
}

/// Does with a plugin all that the gateway does: it is loaded and tried as when its file changes, then it serves, and its pool is dropped. Returns what
/// the operator is told at the first failure, or nothing if there is none.
///
/// A discovery plugin runs for `patience`: a loop ends when it has computed for its deadline, which may take longer on a busy machine.
fn told(loader: &Loader, kind: PluginKind, wasm: &[u8], patience: Duration) -> String {
    let life = || -> Result<(), PluginError> {
        match loader.load("mine", 1, wasm, kind, &limits())?.0 {
            Loaded::Balancer(balancer) => {
                balancer.trial("{}")?;
                let mut instance = balancer.instantiate()?;
                let pool = pool();
                instance.inherit(pool.id, Saved { version: 1, data: vec![1, 2, 3] });
                instance.pick(&pool, &"{}".into(), PickContext::default())?;
                instance.report(&pool, 0, true, Duration::from_millis(1))?;
                instance.save(pool.id);
                instance.retain(&|_| false);
                // Its failures here are not errors of a call: they are logged and counted.
                let stats = &balancer.generation().stats;
                let cold = |stage| PluginError { plugin: "mine".into(), stage, reason: "the state of a pool is lost".to_owned() };
                match stats.lost.load(Ordering::Relaxed) {
                    0 => Ok(()),
                    _ if stats.restored.load(Ordering::Relaxed) == 0 => Err(cold(sluicegate_model::plugin::Stage::Restore)),
                    _ => Err(cold(sluicegate_model::plugin::Stage::Save)),
                }
            }
            Loaded::Router(router) => {
                let hostname = Some("a.example".to_owned());
                let listener =
                    ListenerInfo { name: "web".to_owned(), port: 80, transport: Transport::Http, hostname, namespace: "n".to_owned() };
                router.configure(&"{}".into(), &listener).map(|_| ())
            }
            Loaded::Discovery(discovery) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let running = discovery.run(Box::new(Silent), Arc::new(Silent));
                runtime.block_on(async { tokio::time::timeout(patience, running).await.map_or(Ok(()), Err) })
            }
        }
    };
    life().err().map(|error| error.to_string()).unwrap_or_default()
}

/// A guest's message is cut at 4 KiB, and each of its bytes may be shown as two.
const MOST_SAID: usize = 9_000;
/// How long a discovery plugin that does no harm is observed.
const SHORT: Duration = Duration::from_millis(400);

/// A case of misbehaviour: its name, the kind of plugin, the plugin, and what the operator is told.
type Deed = (&'static str, PluginKind, Vec<u8>, &'static [&'static str]);

/// A case of a balancer.
fn of(name: &'static str, text: Text, words: &'static [&'static str]) -> Deed {
    (name, Balancer, text.module(), words)
}

fn each_is_answered(deeds: impl IntoIterator<Item = Deed>) {
    let loader = Loader::new().expect("an engine");
    let mut wrong = Vec::new();
    for (name, kind, wasm, words) in deeds {
        let begun = Instant::now();
        let said = told(&loader, kind, &wasm, if words.is_empty() { SHORT } else { Duration::from_secs(8) });
        let took = begun.elapsed();
        if !words.iter().all(|word| said.contains(word)) || took > Duration::from_secs(10) || said.len() > MOST_SAID {
            wrong.push(format!("{kind} {name}: {took:?}, {} bytes: {}", said.len(), &said[..said.len().min(500)]));
        }
    }
    for (kind, text) in [(Balancer, balancer()), (Router, router()), (Discovery, discovery())] {
        assert_eq!(told(&loader, kind, &text.module(), SHORT), "", "a {kind} that behaves, after all of that");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each function that the host calls, and the stage at which it fails.
fn entries() -> Vec<(PluginKind, fn() -> Text, &'static str, &'static [&'static str])> {
    vec![
        (Balancer, balancer, "describe", &["stage describe"]),
        (Balancer, balancer, "open", &["stage configure"]),
        (Balancer, balancer, "wants", &["stage configure"]),
        (Balancer, balancer, "update", &["stage trial", "stage update"]),
        (Balancer, balancer, "pick", &["stage trial", "stage pick"]),
        (Balancer, balancer, "report", &["stage report"]),
        (Balancer, balancer, "save", &["stage save"]),
        (Balancer, balancer, "restore", &["stage restore"]),
        (Balancer, balancer, "cabi_realloc", &["stage configure"]),
        (Router, router, "describe", &["stage describe"]),
        (Router, router, "configure", &["stage configure"]),
        (Router, router, "route", &["stage trial"]),
        (Discovery, discovery, "describe", &["stage describe"]),
        (Discovery, discovery, "run", &["stage run"]),
    ]
}

/// Cases with the same body in every function. `reason` is told where the stage has one.
fn everywhere(name: &'static str, body: &str, fields: &str, reason: &'static str) -> Vec<Deed> {
    let deed = |(kind, text, function, stage): (PluginKind, fn() -> Text, &'static str, &'static [&'static str])| {
        let quiet = matches!(function, "save" | "restore");
        let words: Vec<&str> = stage.iter().copied().chain((!quiet).then_some(reason)).collect();
        let wasm = text().with(function, body).also(fields).module();
        (&*format!("{name} in {function}").leak(), kind, wasm, &*words.leak()) as Deed
    };
    entries().into_iter().map(deed).collect()
}

#[test]
fn a_trap_at_every_entry_point() {
    each_is_answered(everywhere("a trap", "unreachable", "", "trapped: unreachable code"));
}

#[test]
fn an_endless_loop_at_every_entry_point() {
    each_is_answered(everywhere("a loop", "(loop br 0) unreachable", "", "did not return within its deadline"));
}

#[test]
fn endless_recursion_at_every_entry_point() {
    // At each depth it calls the host, which needs the same stack.
    let deep = "(func $deep (call $log (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 0) (i32.const 0)) call $deep)";
    each_is_answered(everywhere(
        "recursion",
        "call $deep unreachable",
        &deep.replace("(call $log (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 0) (i32.const 0))", ""),
        "call stack exhausted",
    ));
    each_is_answered([(
        "through the host",
        Balancer,
        balancer().with("pick", "call $deep unreachable").also(deep).module(),
        &["stage pick", "trapped"] as &[_],
    )]);
}

#[test]
fn a_memory_bomb_at_every_entry_point() {
    let grow = "(loop (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then (br 1)))) unreachable";
    each_is_answered(everywhere("a memory bomb", grow, "", "more than its memory limit of 8388608 bytes"));
}

#[test]
fn a_table_bomb_at_every_entry_point() {
    let grow = "(loop (if (i32.ne (table.grow $bomb (ref.null func) (i32.const 1000)) (i32.const -1)) (then (br 1)))) unreachable";
    each_is_answered(everywhere("a table bomb", grow, "(table $bomb 1 funcref)", "table elements"));
}

#[test]
fn values_that_are_none_and_texts_without_end() {
    // The `description` is at 32: name, version, kind, schema. Everything written to 0xFFFFFFF0 and read from there is out of bounds.
    let describe = |body: &str| balancer().with("describe", &format!("{body} i32.const 32")).module();
    let giant = balancer().pages(120);
    each_is_answered([
        ("a name out of bounds", Balancer, describe("i32.const 32 i32.const -16 i32.store"), &["stage describe", "out of bounds"] as &[_]),
        ("a name of 2^31 bytes", Balancer, describe("i32.const 36 i32.const 0x80000000 i32.store"), &["stage describe"]),
        ("a name that is no UTF-8", Balancer, describe("i32.const 256 i32.const 0xff i32.store8"), &["stage describe", "utf-8"]),
        ("a kind that does not exist", Balancer, describe("i32.const 48 i32.const 7 i32.store8"), &["stage describe"]),
        of("a name of 7 MB", giant.clone().with("describe", "i32.const 36 i32.const 7000000 i32.store i32.const 32"), &["stage describe", "name has 7000000 bytes"]),
        of("a schema of 7 MB", giant.clone().with("describe", "i32.const 56 i32.const 7000000 i32.store i32.const 32"), &["stage describe", "schema has 7000000 bytes"]),
        ("a schema that is no JSON", Balancer, describe("i32.const 272 i32.const 0x20 i32.store8"), &["stage describe", "is not JSON"]),
        of("a result out of bounds", balancer().with("describe", "i32.const -16"), &["stage describe"]),
        of("a result that is not aligned", balancer().with("describe", "i32.const 33"), &["stage describe", "align"]),
        of("an option that is neither", balancer().with("pick", "i32.const 144 i32.const 2 i32.store8 i32.const 144"), &["stage pick", "discriminant"]),
        of("a result that is neither", balancer().with("open", "i32.const 128 i32.const 9 i32.store8 i32.const 128"), &["stage configure", "discriminant"]),
        of("a handle that was never given", balancer().with("open", "i32.const 132 i32.const 7777 i32.store i32.const 128"), &["stage configure", "unknown handle"]),
        of("a handle that was dropped", balancer().importing("(import \"[export]sluicegate:plugin/balancing@0.2.0\" \"[resource-drop]pool\" (func $resource-drop (param i32)))").with("open", "i32.const 132 (i32.store (i32.const 132) (call $resource-new (i32.const 7))) i32.load call $resource-drop i32.const 128"), &["stage configure", "unknown handle"]),
        of("an error of 7 MB", giant.clone().with("open", "i32.const 128 i32.const 1 i32.store8 i32.const 132 i32.const 256 i32.store i32.const 136 i32.const 7000000 i32.store i32.const 128"), &["stage configure", "…"]),
        of("a state of 2^31 bytes", balancer().with("save", "i32.const 164 i32.const 256 i32.store i32.const 168 i32.const 0x80000000 i32.store i32.const 160"), &["stage save"]),
        of("a state of 7 MB", giant.with("save", "i32.const 164 i32.const 256 i32.store i32.const 168 i32.const 7000000 i32.store i32.const 160"), &["stage save"]),
        of("an index out of range", balancer().with("pick", "i32.const 144 i32.const 1 i32.store8 i32.const 148 i32.const -1 i32.store i32.const 144"), &["stage pick", "out of range"]),
        of("memory for the host out of bounds", balancer().with("cabi_realloc", "i32.const -16"), &["stage configure", "beyond end of memory"]),
        of("memory for the host that is not aligned", balancer().with("cabi_realloc", "i32.const 1025"), &["stage trial", "align"]),
        ("a log line out of bounds", Balancer, balancer().with("pick", "(call $log (i32.const 0) (i32.const -16) (i32.const 99) (i32.const 0) (i32.const 0)) i32.const 144").module(), &["stage pick", "out of bounds"]),
        ("a level that does not exist", Balancer, balancer().with("pick", "(call $log (i32.const 9) (i32.const 256) (i32.const 4) (i32.const 0) (i32.const 0)) i32.const 144").module(), &["stage pick", "discriminant"]),
        // These are the same seven megabytes again and again: a list of 1,000 fields, all within the guest's eight megabytes.
        ("fields of 7 GB", Balancer, balancer().pages(120).with("pick", "(call $log (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 8192) (i32.const 1000)) i32.const 144").with("update", FIELDS).module(), &["stage pick", "fuel"]),
    ]);
}

/// 1,000 fields at 8,192, each of 32 bytes: the name, and a text.
const FIELDS: &str = "(local $at i32) (local.set $at (i32.const 8192)) (loop
    (i32.store (local.get $at) (i32.const 65536)) (i32.store offset=4 (local.get $at) (i32.const 7000000))
    (i32.store8 offset=8 (local.get $at) (i32.const 3))
    (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 24))) (i32.const 40000))))";

#[test]
fn decisions_and_rules_that_are_none() {
    let route = |body: &str| router().with("route", &format!("{body} i32.const 576")).module();
    let configure = |text: Text, body: &str| {
        text.with("configure", &format!("i32.const 516 i32.const 7 call $resource-new i32.store {body} i32.const 512")).module()
    };
    each_is_answered([
        ("a decision that does not exist", Router, route("i32.const 576 i32.const 3 i32.store8"), &["stage trial", "discriminant"] as &[_]),
        ("a rule out of range", Router, route("i32.const 580 i32.const 99 i32.store"), &["stage trial", "out of range"]),
        (
            "a status of 99",
            Router,
            route("i32.const 576 i32.const 1 i32.store8 i32.const 580 i32.const 99 i32.store16"),
            &["stage trial", "99 is not"],
        ),
        (
            "an answer out of bounds",
            Router,
            route(
                "i32.const 576 i32.const 1 i32.store8 i32.const 580 i32.const 200 i32.store16 i32.const 592 i32.const 256 i32.store i32.const 596 i32.const 0x7fffffff i32.store",
            ),
            &["stage trial"],
        ),
        ("2^31 rules", Router, configure(router(), "i32.const 524 i32.const 0x80000000 i32.store"), &["stage configure"]),
        (
            "100,000 rules",
            Router,
            configure(router().pages(120), "i32.const 520 i32.const 65536 i32.store i32.const 524 i32.const 100000 i32.store"),
            &["stage configure", "more than 65536"],
        ),
    ]);
}

#[test]
fn a_plugin_is_not_called_while_it_calls() {
    let log = "(call $log (i32.const 1) (i32.const 256) (i32.const 4) (i32.const 0) (i32.const 0))";
    // The functions by which the host hands something over or releases what it was given may not call the host.
    let realloc = balancer().with("cabi_realloc", &format!("{log} unreachable")).module();
    let post = |body: &str| {
        balancer().also(&format!("(func (export \"cabi_post_sluicegate:plugin/balancing@0.2.0#describe\") (param i32) {body})")).module()
    };
    // A function of the component, given to itself as an import, is the one way to come back into an instance that is being called.
    let own = r#"(component
        (core module $a (table (export "t") 1 funcref) (func (export "f") (call_indirect (i32.const 0))))
        (core instance $a (instantiate $a))
        (func $lifted (canon lift (core func $a "f")))
        (core func $lowered (canon lower (func $lifted)))
        (core module $b (import "a" "t" (table 1 funcref)) (import "a" "g" (func $g)) (elem (i32.const 0) func $g) (func $s call $g) (start $s))
        (core instance (instantiate $b (with "a" (instance (export "t" (table $a "t")) (export "g" (func $lowered)))))))"#;
    each_is_answered([
        ("realloc that calls the host", Balancer, realloc, &["stage configure", "cannot leave component instance"] as &[_]),
        ("post-return that calls the host", Balancer, post(log), &["stage describe", "cannot leave component instance"]),
        ("post-return that traps", Balancer, post("unreachable"), &["stage describe", "unreachable"]),
        ("post-return that loops", Balancer, post("(loop br 0)"), &["stage describe", "deadline"]),
        ("its own export as an import", Balancer, with_nested(&balancer(), own), &["stage instantiate", "component"]),
    ]);
}

#[test]
fn instances_that_are_none() {
    let start = |body: &str| balancer().also(&format!("(func $start {body}) (start $start)")).module();
    let memories = |count: usize, pages: u32| {
        with_nested(
            &balancer(),
            &format!("(component (core module $m (memory {pages})) {})", "(core instance (instantiate $m))".repeat(count)),
        )
    };
    let tables = |count: usize, elements: u32| {
        with_nested(
            &balancer(),
            &format!("(component (core module $m (table {elements} funcref)) {})", "(core instance (instantiate $m))".repeat(count)),
        )
    };
    each_is_answered([
        ("a start that traps", Balancer, start("unreachable"), &["stage instantiate", "unreachable"] as &[_]),
        ("a start that loops", Balancer, start("(loop br 0)"), &["stage instantiate", "deadline of 100ms"]),
        ("memory at once", Balancer, balancer().pages(200).module(), &["stage instantiate", "memory limit of 8388608 bytes"]),
        ("4 GiB at once", Balancer, balancer().pages(65536).module(), &["stage instantiate", "memory limit"]),
        ("memory in three parts", Balancer, memories(3, 60), &["stage instantiate", "memory limit of 8388608 bytes"]),
        ("memories without end", Balancer, memories(12, 0), &["memor"]),
        ("tables at once", Balancer, balancer().also("(table 1000000 funcref)").module(), &["table"]),
        ("tables in parts", Balancer, tables(3, 15_000), &["stage instantiate", "table elements"]),
        (
            "instances without end",
            Balancer,
            with_nested(&balancer(), &format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(2_000))),
            &["instance"],
        ),
        (
            "handles without end",
            Balancer,
            balancer().with("open", "(loop (drop (call $resource-new (i32.const 0))) (br 0)) unreachable").module(),
            &["stage configure", "handle"],
        ),
        ("a destructor that traps is no failure of a call", Balancer, balancer().with("[dtor]pool", "unreachable").module(), &[]),
    ]);
}

#[test]
fn components_of_another_kind_and_imports_that_are_not_there() {
    // They are compiled and linked as `cargo build --target wasm32-wasip2` links them.
    let component = |imports: &str, export: &str| {
        let text = format!(
            r#"(component {imports}
            (core module $m (func (export "f") (result i32) unreachable) (memory (export "m") 1))
            (core instance $i (instantiate $m))
            (func $f (result string) (canon lift (core func $i "f") (memory $i "m")))
            (instance $e (export "describe" (func $f)))
            (export "{export}" (instance $e)))"#
        );
        ::wat::parse_str(text).expect("a component")
    };
    let files = r#"(import "wasi:filesystem/types@0.2.0" (instance (export "descriptor" (type (sub resource)))))"#;
    let sockets = r#"(import "wasi:sockets/tcp@0.2.0" (instance (export "tcp-socket" (type (sub resource)))))"#;
    let environment = r#"(import "wasi:cli/environment@0.2.0" (instance (export "get-arguments" (func (result (list string))))))"#;
    let ours = "sluicegate:plugin/balancing@0.2.0";
    each_is_answered([
        ("files", Balancer, component(files, ours), &["stage world", "wasi:filesystem/types@0.2.0"] as &[_]),
        ("files", Discovery, component(files, "sluicegate:plugin/discovering@0.2.0"), &["stage world", "wasi:filesystem/types@0.2.0"]),
        ("sockets", Discovery, component(sockets, "sluicegate:plugin/discovering@0.2.0"), &["stage world", "wasi:sockets/tcp@0.2.0"]),
        (
            "the environment",
            Router,
            component(environment, "sluicegate:plugin/routing@0.2.0"),
            &["stage world", "wasi:cli/environment@0.2.0"],
        ),
        (
            "somebody's own",
            Balancer,
            component(r#"(import "evil:things/here" (instance (export "f" (func))))"#, ours),
            &["stage world", "evil:things/here"],
        ),
        ("a core import", Balancer, balancer().importing("(import \"env\" \"abort\" (func))").module(), &["stage compile", "env"]),
        (
            "WASI preview 1",
            Balancer,
            balancer().importing("(import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32)))").module(),
            &["stage compile", "wasi_snapshot_preview1"],
        ),
        (
            "publishing, from a balancer",
            Balancer,
            balancer()
                .importing("(import \"sluicegate:plugin/publishing@0.2.0\" \"fail\" (func (param i32 i32 i32 i32 i32 i32)))")
                .module(),
            &["stage compile", "publishing"],
        ),
        ("exports that are missing", Balancer, component("", ours), &["stage world", "[static]pool.open"]),
        (
            "a function of another type",
            Balancer,
            balancer().typed("[method]pool.pick", "(param $pool i32) (result i64)", "i64.const 0").module(),
            &["stage compile", "pick"],
        ),
        ("a function that is missing", Balancer, balancer().without("[method]pool.pick").module(), &["stage compile", "pick"]),
        ("a router for a balancer", Balancer, router().module(), &["stage world", "it is a router"]),
        ("nothing", Balancer, b"\0asm\x0d\0\x01\0".to_vec(), &["stage world", "exports none"]),
    ]);
}

/// Notifies when something is published.
#[derive(Default)]
struct Published(tokio::sync::Notify);

impl Publisher for Published {
    fn publish(&self, _publications: Publications) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.0.notify_one();
        Box::pin(std::future::ready(()))
    }
}

#[test]
fn publications_without_end() {
    let publish = "(call $publish (i32.const 256) (i32.const 4) (i32.const 256) (i32.const 4) (i32.const 65536) (i32.const 80000))";
    // For the same target the newest message counts; a new target each time fills the host until it is too much.
    let same = discovery().pages(125).with("run", &format!("(local $i i32) (loop {publish} (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3)))) (loop (call $next (i32.const 0) (i64.const 0) (i32.const 640)) (br 0)) unreachable"));
    let other = discovery().pages(125).with("run", &format!("(i32.store8 (i32.const 256) (i32.const 65)) (loop {publish} (i32.store8 (i32.const 256) (i32.add (i32.load8_u (i32.const 256)) (i32.const 1))) (br_if 0 (i32.lt_u (i32.load8_u (i32.const 256)) (i32.const 0x7f)))) unreachable"));
    let limits = Limits { configure_deadline: Duration::from_secs(30), ..limits() };
    let loader = Loader::new().expect("an engine");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (text, word) in [(same, ""), (other, "more than 134217728 bytes between two waits")] {
        let Loaded::Discovery(discovery) = loader.load("mine", 1, &text.module(), Discovery, &limits).expect("loaded").0 else {
            panic!("a discovery plugin")
        };
        let published = Arc::new(Published::default());
        let running = discovery.run(Box::new(Silent), published.clone());
        let said = runtime.block_on(async {
            tokio::select! {
                error = running => error.to_string(),
                () = published.0.notified() => String::new(),
            }
        });
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn schemas_of_plugins_that_behave_are_borne_with_any_configuration() {
    let loader = Loader::new().expect("an engine");
    // This is nested more deeply than any configuration that a plugin knows.
    let mut deep = serde_json::json!({});
    (0..16).for_each(|_| deep = serde_json::json!([{"a": deep.clone()}]));
    for builtin in sluicegate_plugins::builtins() {
        let (_, description) = loader.load_any(builtin.name, &builtin.wasm(), &limits()).expect(builtin.name);
        let violations = sluicegate_config::schema::violations(&description.config_schema, &deep);
        assert!(violations.is_ok(), "{}: {violations:?}", builtin.name);
    }
}
