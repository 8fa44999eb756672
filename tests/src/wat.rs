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
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/wit");
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
