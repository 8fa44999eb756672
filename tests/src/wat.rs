//! Plugins written in WebAssembly text, for misbehaviour that no compiler would emit: pointers out of bounds, discriminants that do not exist, handles
//! that were never given out. Each begins as a plugin that behaves; a test replaces the bodies of some of its functions. The functions' parameters and
//! results follow the component model's canonical ABI for `sdk/wit`.

use std::collections::BTreeMap;
use std::path::Path;

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A plugin that is being written.
#[derive(Clone)]
pub struct Text {
    world: &'static str,
    /// The functions by name: parameters and results, and the body.
    functions: BTreeMap<&'static str, (&'static str, String)>,
    /// The imports.
    imports: String,
    /// Everything else: tables, globals, `start`.
    fields: String,
    /// The memory, in pages of 64 KiB.
    pages: u32,
}

/// A balancer that picks the first endpoint, wants reports, and has state to save.
pub fn balancer() -> Text {
    let it = Text::new(
        "balancer",
        "(import \"[export]sluicegate:plugin/balancing@0.2.0\" \"[resource-new]pool\" (func $resource-new (param i32) (result i32)))\n",
    );
    it.function("describe", "(result i32)", "i32.const 32")
        .function(
            "[static]pool.open",
            "(param $config i32) (param $length i32) (result i32)",
            "i32.const 132 i32.const 7 call $resource-new i32.store i32.const 128",
        )
        .function("[method]pool.wants", "(param $pool i32) (result i32)", "i32.const 5")
        .function(
            "[method]pool.update",
            "(param $pool i32) (param $endpoints i32) (param $length i32)",
            "local.get $length global.set $size
            (if (local.get $length) (then (global.set $live (i32.eq (i32.load8_u offset=1 (i32.load (local.get $endpoints))) (i32.const 0x32)))))",
        )
        .function(
            "[method]pool.pick",
            "(param $pool i32) (param $hashed i32) (param $hash i64) (param $attempt i32) (param $random i64) (result i32)",
            "i32.const 144 global.get $size i32.const 0 i32.ne i32.store8 i32.const 148 i32.const 0 i32.store i32.const 144",
        )
        .function("[method]pool.report", "(param $pool i32) (param $endpoint i32) (param $success i32) (param $latency i32)", "")
        .function(
            "[method]pool.save",
            "(param $pool i32) (result i32)",
            "i32.const 160 i32.const 1 i32.store i32.const 164 i32.const 256 i32.store i32.const 168 i32.const 4 i32.store i32.const 160",
        )
        .function(
            "[method]pool.restore",
            "(param $pool i32) (param $version i32) (param $data i32) (param $length i32) (result i32)",
            "i32.const 176",
        )
        .function("[dtor]pool", "(param $pool i32)", "")
        .also("(global $size (mut i32) (i32.const 0)) (global $live (mut i32) (i32.const 0))")
}

/// A router with one rule, which answers each request with 204.
pub fn router() -> Text {
    let it = Text::new(
        "router",
        "(import \"[export]sluicegate:plugin/routing@0.2.0\" \"[resource-new]table\" (func $resource-new (param i32) (result i32)))\n",
    );
    // In `configured`, everything but one empty rule is zero; the rule's options, too. A rule takes 72 bytes, and an answer's status is at 4.
    it.function("describe", "(result i32)", "i32.const 64")
        .function(
            "[static]table.configure",
            "(param $config i32) (param $length i32) (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)",
            "i32.const 516 i32.const 7 call $resource-new i32.store i32.const 512",
        )
        .function(
            "[method]table.route",
            "(param $table i32) (param $method i32) (param i32 i32) (param i32 i32) (param i32 i32) (param i32 i32 i32) (result i32)",
            "i32.const 576 i32.const 1 i32.store8 i32.const 580 i32.const 204 i32.store16 i32.const 576",
        )
        .function("[dtor]table", "(param $table i32)", "")
}

/// A discovery plugin that waits for events and does nothing about them.
pub fn discovery() -> Text {
    let it = Text::new(
        "discovery",
        "(import \"sluicegate:plugin/objects@0.2.0\" \"next\" (func $next (param i32 i64 i32)))\n(import \"sluicegate:plugin/publishing@0.2.0\" \"publish\" (func $publish (param i32 i32 i32 i32 i32 i32)))\n(import \"sluicegate:plugin/publishing@0.2.0\" \"fail\" (func $fail (param i32 i32 i32 i32 i32 i32)))\n",
    );
    it.function("describe", "(result i32)", "i32.const 96").function(
        "run",
        "(result i32)",
        "(loop i32.const 0 i64.const 0 i32.const 640 call $next br 0) unreachable",
    )
}

impl Text {
    fn new(world: &'static str, imports: &str) -> Self {
        let log = "(import \"sluicegate:plugin/host@0.2.0\" \"log\" (func $log (param i32 i32 i32 i32 i32)))\n";
        Self { world, functions: BTreeMap::new(), imports: format!("{imports}{log}"), fields: String::new(), pages: 2 }
            // The allocator never frees, and grows the memory when needed.
            .function(
                "cabi_realloc",
                "(param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)",
                "(local $at i32)
                (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
                (global.set $top (i32.add (local.get $at) (local.get $new)))
                (loop $more (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
                    (then (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (br $more))))
                local.get $at",
            )
    }

    fn function(mut self, name: &'static str, signature: &'static str, body: &str) -> Self {
        self.functions.insert(name, (signature, body.to_owned()));
        self
    }

    /// Gives the function of this name another body.
    #[must_use]
    pub fn with(mut self, name: &str, body: &str) -> Self {
        let function = self.functions.iter_mut().find(|(known, _)| known.rsplit_once('.').map_or(**known, |(_, method)| method) == name);
        let (_, (_, old)) = function.unwrap_or_else(|| panic!("a {} has no function {name}", self.world));
        body.clone_into(old);
        self
    }

    /// Makes a balancer's or router's function do this first, but not on trial. A balancer is on trial with pools of 192.0.0.0/16; tests have 127.0.0.0/8.
    #[must_use]
    pub fn in_service(self, name: &str, body: &str) -> Self {
        let known = self.functions.iter().find(|(known, _)| known.ends_with(&format!(".{name}")));
        let (_, (_, old)) = known.unwrap_or_else(|| panic!("a {} has no function {name}", self.world));
        let live = match self.world {
            // The request's host is `trial.invalid` on trial; otherwise it begins with a digit.
            "router" => "(i32.eq (i32.load8_u (local.get 4)) (i32.const 0x31))",
            // A balancer finds out in `update`.
            _ => "(global.get $live)",
        };
        let deed = format!("(if {live} (then {body}))");
        let body = if name == "update" { format!("{old} {deed}") } else { format!("{deed} {old}") };
        self.with(name, &body)
    }

    /// Gives the function of this name other parameters and results, and another body.
    #[must_use]
    pub fn typed(mut self, name: &'static str, signature: &'static str, body: &str) -> Self {
        assert!(self.functions.contains_key(name), "a {} has no function {name}", self.world);
        self.functions.insert(name, (signature, body.to_owned()));
        self
    }

    /// Removes the function of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        assert!(self.functions.remove(name).is_some(), "a {} has no function {name}", self.world);
        self
    }

    /// Adds functions, tables, globals or data.
    #[must_use]
    pub fn also(mut self, fields: &str) -> Self {
        self.fields.push_str(fields);
        self.fields.push('\n');
        self
    }

    /// Adds an import.
    #[must_use]
    pub fn importing(mut self, import: &str) -> Self {
        self.imports.push_str(import);
        self.imports.push('\n');
        self
    }

    /// Sets the initial memory, in pages of 64 KiB.
    #[must_use]
    pub fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// The core module with the name of its world, which is what `cargo build` makes of a plugin in Rust.
    pub fn module(&self) -> Vec<u8> {
        let interface = match self.world {
            "balancer" => "balancing",
            "router" => "routing",
            _ => "discovering",
        };
        let functions = self.functions.iter().map(|(name, (signature, body))| {
            let export = if *name == "cabi_realloc" { (*name).to_owned() } else { format!("sluicegate:plugin/{interface}@0.2.0#{name}") };
            format!("(func ${} (export \"{export}\") {signature} {body})\n", name.replace(['[', ']', '.'], "-"))
        });
        let text = format!(
            "(module {}{}{}\n(memory (export \"memory\") {})\n(global $top (mut i32) (i32.const 4096))\n{DESCRIPTIONS})",
            self.imports,
            functions.collect::<String>(),
            self.fields,
            self.pages
        );
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (resolve, package) = contract();
        let world = resolve.select_world(&[package], Some(self.world)).expect("a world of the contract");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("embedded");
        module
    }
}

fn contract() -> (Resolve, wit_parser::PackageId) {
    let mut resolve = Resolve::default();
    // The fuzz targets have this file, too, in a folder further down.
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let wit = folders.find_map(|folder| Some(folder.join("sdk/wit")).filter(|wit| wit.is_dir())).expect("the contract's folder");
    let (package, _) = resolve.push_path(wit).expect("the contract");
    (resolve, package)
}

/// The `description`s of the three kinds, at 32, 64 and 96: name, version, kind, schema; the texts begin at 256. What `configure` returns is at 512.
const DESCRIPTIONS: &str = r#"
    (data (i32.const 32) "\00\01\00\00\04\00\00\00" "\08\01\00\00\01\00\00\00" "\00\00\00\00" "\10\01\00\00\02\00\00\00")
    (data (i32.const 64) "\00\01\00\00\04\00\00\00" "\08\01\00\00\01\00\00\00" "\01\00\00\00" "\10\01\00\00\02\00\00\00")
    (data (i32.const 96) "\00\01\00\00\04\00\00\00" "\08\01\00\00\01\00\00\00" "\02\00\00\00" "\10\01\00\00\02\00\00\00")
    (data (i32.const 256) "text\00\00\00\001\00\00\00\00\00\00\00{}")
    (data (i32.const 520) "\00\04\00\00\01\00\00\00")
"#;

/// A plugin as a component that contains and instantiates another component, given as text. It serves for what a core module cannot do.
pub fn with_nested(plugin: &Text, nested: &str) -> Vec<u8> {
    let componentized = wit_component::ComponentEncoder::default().module(&plugin.module()).and_then(|mut encoder| encoder.encode());
    let mut component = componentized.expect("a component");
    let nested = wat::parse_str(nested).unwrap_or_else(|error| panic!("{error}"));
    // Section 4 holds a component, section 5 instances: one, of the last component, without arguments.
    let index = u8::try_from(sections(&component).filter(|id| *id == 4).count()).expect("few");
    component.push(4);
    component.extend(leb128(nested.len()));
    component.extend(nested);
    component.extend([5, 4, 1, 0, index, 0]);
    component
}

/// The ids of a component's own sections.
fn sections(component: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = &component[8..];
    std::iter::from_fn(move || {
        let (id, mut tail) = rest.split_first()?;
        let (mut size, mut shift) = (0, 0);
        loop {
            let (byte, after) = tail.split_first()?;
            size |= usize::from(byte & 0x7f) << shift;
            (tail, shift) = (after, shift + 7);
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = &tail[size..];
        Some(*id)
    })
}

/// A number as a section's size is encoded.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// What plugins of a script are made of. The script is in the configuration, two hexadecimal digits a byte, and ends up at 1024 in memory, where 2048 bytes
/// have a place. `$next` is the next number of the script, 0 after its end; `$place` one that is more often within the memory. What is returned is well formed,
/// or a place that the script names, so that the script says everything: pointers, lengths, discriminants, handles, and what is called in which order.
const SCRIPTED: &str = "
    (import \"sluicegate:plugin/host@0.2.0\" \"random\" (func $random (result i64)))
    (import \"sluicegate:plugin/shared@0.2.0\" \"get\" (func $get (param i32 i32 i32)))
    (import \"sluicegate:plugin/shared@0.2.0\" \"set\" (func $set (param i32 i32 i32 i32 i32 i64 i32)))
    (import \"sluicegate:plugin/shared@0.2.0\" \"compare-and-set\" (func $exchange (param i32 i32 i32 i64 i32 i32 i32 i64 i32)))
    (import \"sluicegate:plugin/shared@0.2.0\" \"add\" (func $add (param i32 i32 i64 i32 i64 i32)))
    (import \"sluicegate:plugin/shared@0.2.0\" \"remove\" (func $remove (param i32 i32) (result i32)))
    (import \"sluicegate:plugin/metrics@0.2.0\" \"define\" (func $define (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import \"sluicegate:plugin/metrics@0.2.0\" \"series\" (func $series (param i32 i32 i32 i32)))
    (import \"sluicegate:plugin/metrics@0.2.0\" \"observe\" (func $observe (param i32 f64)))
";

/// The functions of plugins of a script.
const SCRIPT_FUNCTIONS: &str = "
    (global $at (mut i32) (i32.const 1024)) (global $end (mut i32) (i32.const 1024))
    (func $digit (param $byte i32) (result i32)
        (i32.and (i32.add (local.get $byte) (i32.mul (i32.shr_u (local.get $byte) (i32.const 6)) (i32.const 9))) (i32.const 15)))
    (func $learn (param $config i32) (param $length i32)
        (global.set $at (i32.const 1024)) (global.set $end (i32.const 1024))
        (loop $more
            (if (i32.and (i32.gt_u (local.get $length) (i32.const 1)) (i32.lt_u (global.get $end) (i32.const 3072)))
                (then
                    (i32.store8 (global.get $end) (i32.or
                        (i32.shl (call $digit (i32.load8_u (local.get $config))) (i32.const 4))
                        (call $digit (i32.load8_u offset=1 (local.get $config)))))
                    (global.set $end (i32.add (global.get $end) (i32.const 1)))
                    (local.set $config (i32.add (local.get $config) (i32.const 2)))
                    (local.set $length (i32.sub (local.get $length) (i32.const 2)))
                    (br $more)))))
    (func $next (result i32)
        (if (i32.ge_u (global.get $at) (global.get $end)) (then (return (i32.const 0))))
        (global.set $at (i32.add (global.get $at) (i32.const 4)))
        (i32.load (i32.sub (global.get $at) (i32.const 4))))
    (func $place (result i32) (local $v i32)
        (local.set $v (call $next))
        (if (i32.and (local.get $v) (i32.const 7)) (then (return (i32.and (i32.shr_u (local.get $v) (i32.const 3)) (i32.const 4092)))))
        (local.get $v))
    (func $few (result i32) (local $v i32)
        (local.set $v (call $next))
        (if (i32.and (local.get $v) (i32.const 15)) (then (return (i32.and (i32.shr_u (local.get $v) (i32.const 4)) (i32.const 7)))))
        (local.get $v))
    (func $wide (result i64) (i64.or (i64.extend_i32_u (call $next)) (i64.shl (i64.extend_i32_u (call $next)) (i64.const 32))))
    (func $act (local $v i32)
        (local.set $v (i32.and (call $next) (i32.const 31)))
        (if (i32.eq (local.get $v) (i32.const 1)) (then (call $get (call $place) (call $few) (call $place))))
        (if (i32.eq (local.get $v) (i32.const 2)) (then (call $set (call $place) (call $few) (call $place) (call $few) (call $few) (call $wide) (call $place))))
        (if (i32.eq (local.get $v) (i32.const 3)) (then
            (call $exchange (call $place) (call $few) (call $few) (call $wide) (call $place) (call $few) (call $few) (call $wide) (call $place))))
        (if (i32.eq (local.get $v) (i32.const 4)) (then (call $add (call $place) (call $few) (call $wide) (call $few) (call $wide) (call $place))))
        (if (i32.eq (local.get $v) (i32.const 5)) (then (i32.store (i32.const 512) (call $remove (call $place) (call $few)))))
        (if (i32.eq (local.get $v) (i32.const 6)) (then (call $define (call $place) (call $few) (call $place) (call $few) (call $few) (call $place) (call $few) (call $place) (call $few) (call $place))))
        (if (i32.eq (local.get $v) (i32.const 7)) (then (call $series (call $few) (call $place) (call $few) (call $place))))
        (if (i32.eq (local.get $v) (i32.const 8)) (then (call $observe (call $few) (f64.reinterpret_i64 (call $wide)))))
        (if (i32.eq (local.get $v) (i32.const 9)) (then (call $log (call $few) (call $place) (call $few) (call $place) (call $few))))
        (if (i32.eq (local.get $v) (i32.const 10)) (then (i64.store (i32.const 520) (call $random))))
        (if (i32.eq (local.get $v) (i32.const 11)) (then (i32.store (i32.const 528) (call $resource-new (call $next)))))
        (if (i32.eq (local.get $v) (i32.const 12)) (then (i32.store (i32.const 532) (call $resource-rep (call $few)))))
        (if (i32.eq (local.get $v) (i32.const 13)) (then (call $resource-drop (call $few))))
        (if (i32.eq (local.get $v) (i32.const 14)) (then unreachable)))
    ;; What is given at an address, or an address of the script's.
    (func $given (param $well i32) (result i32)
        (if (i32.and (call $next) (i32.const 3)) (then (return (local.get $well))))
        (call $place))
";

/// What allocates for the host: mostly well, and else as the script says.
const SCRIPTED_ALLOCATOR: &str = "(local $at i32) (local $v i32)
    (if (i32.lt_u (global.get $at) (global.get $end)) (then
        (local.set $v (i32.and (call $next) (i32.const 63)))
        (if (i32.eq (local.get $v) (i32.const 1)) (then (return (call $place))))
        (if (i32.eq (local.get $v) (i32.const 2)) (then (return (call $next))))
        (if (i32.eq (local.get $v) (i32.const 3)) (then (drop (call $random))))))
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $at) (local.get $new)))
    (if (i32.gt_u (global.get $top) (i32.const 65536)) (then (global.set $top (i32.const 4096)) (return (i32.const 4096))))
    local.get $at";

/// A balancer that does what its configuration says ([`SCRIPTED`]).
pub fn scripted_balancer() -> Text {
    let post =
        |name: &str| format!("(func (export \"cabi_post_sluicegate:plugin/balancing@0.2.0#[method]pool.{name}\") (param i32) (call $act))");
    balancer()
        .importing(SCRIPTED)
        .importing("(import \"[export]sluicegate:plugin/balancing@0.2.0\" \"[resource-rep]pool\" (func $resource-rep (param i32) (result i32)))")
        .importing("(import \"[export]sluicegate:plugin/balancing@0.2.0\" \"[resource-drop]pool\" (func $resource-drop (param i32)))")
        .importing("(import \"sluicegate:plugin/statistics@0.2.0\" \"condition-of\" (func $condition (param i32) (result i32)))")
        .importing("(import \"sluicegate:plugin/statistics@0.2.0\" \"success\" (func $success (param i32) (result f32)))")
        .also(SCRIPT_FUNCTIONS)
        .also(&post("pick"))
        .also(&post("save"))
        .with("cabi_realloc", SCRIPTED_ALLOCATOR)
        .with(
            "open",
            "(call $learn (local.get $config) (local.get $length)) (call $act)
            (i32.store (i32.const 128) (i32.const 0)) (i32.store (i32.const 132) (call $resource-new (call $next)))
            (call $given (i32.const 128))",
        )
        .with("wants", "(call $act) (call $next)")
        .with("update", "(call $act) (i32.store (i32.const 536) (call $condition (call $few))) (f32.store (i32.const 540) (call $success (call $few)))")
        .with(
            "pick",
            "(call $act) (i32.store (i32.const 144) (i32.const 1)) (i32.store (i32.const 148) (call $few)) (call $given (i32.const 144))",
        )
        .with("report", "(call $act)")
        .with(
            "save",
            "(call $act) (i32.store (i32.const 160) (call $next)) (i32.store (i32.const 164) (call $place)) (i32.store (i32.const 168) (call $few))
            (call $given (i32.const 160))",
        )
        .with("restore", "(call $act) (i32.store (i32.const 176) (i32.const 0)) (call $given (i32.const 176))")
        .with("[dtor]pool", "(call $act)")
}

/// A router that does what its configuration says ([`SCRIPTED`]). It begins when it is asked for the first decision: what control makes of a table and what
/// workers make of it is read in different ways.
pub fn scripted_router() -> Text {
    router()
        .importing(SCRIPTED)
        .importing("(import \"[export]sluicegate:plugin/routing@0.2.0\" \"[resource-rep]table\" (func $resource-rep (param i32) (result i32)))")
        .importing("(import \"[export]sluicegate:plugin/routing@0.2.0\" \"[resource-drop]table\" (func $resource-drop (param i32)))")
        .also(SCRIPT_FUNCTIONS)
        .also("(global $learned (mut i32) (i32.const 0))")
        .also("(func (export \"cabi_post_sluicegate:plugin/routing@0.2.0#[method]table.route\") (param i32) (if (global.get $learned) (then (call $act))))")
        .with("cabi_realloc", SCRIPTED_ALLOCATOR)
        .with(
            "route",
            // The path is the script, but on trial.
            "(if (i32.eq (i32.load8_u (local.get 6)) (i32.const 0x2f)) (then (return (i32.const 600))))
            (if (i32.eqz (global.get $learned)) (then (global.set $learned (i32.const 1)) (call $learn (local.get 6) (local.get 7))))
            (call $act)
            (i32.store (i32.const 576) (call $few)) (i32.store (i32.const 580) (call $few)) (i32.store (i32.const 584) (call $few))
            (i32.store (i32.const 588) (call $place)) (i32.store (i32.const 592) (call $place)) (i32.store (i32.const 596) (call $few))
            (call $given (i32.const 576))",
        )
        .also("(data (i32.const 600) \"\\02\")")
}
