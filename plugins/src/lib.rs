//! The built-in plugins as `.wasm`, and what `sluicegate plugin new` writes: the SDK's folder and a template for each kind.
//!
//! `build.rs` builds and lists the plugins. They are core modules, of which the host makes components, as it does of any other plugin.

pub use sluicegate_builtins::Kind;

include!(concat!(env!("OUT_DIR"), "/generated.rs"));

/// A plugin that comes with the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// The name of the plugin in objects.
    pub name: &'static str,
    /// The kind of the plugin.
    pub kind: Kind,
    /// The `.wasm`, compressed with zstd, which takes two thirds off its size.
    packed: &'static [u8],
    /// The size of the `.wasm` in bytes.
    size: usize,
}

impl Builtin {
    /// The plugin's `.wasm`, a core module that carries its component type. It is decompressed at each call, which takes about a millisecond.
    pub fn wasm(&self) -> Vec<u8> {
        // A test makes sure that what is embedded can be decompressed. The host refuses an empty module, as it refuses any file that is no plugin.
        zstd::bulk::decompress(self.packed, self.size).unwrap_or_default()
    }
}

/// All built-in plugins.
pub fn builtins() -> &'static [Builtin] {
    BUILTINS
}

/// The built-in plugin of this name.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

/// The files of the SDK's folder, each with its relative path and its content.
pub fn sdk_files() -> &'static [(&'static str, &'static str)] {
    SDK_FILES
}

macro_rules! template {
    ($kind:literal) => {
        Some(&[
            ("Cargo.toml.tmpl", include_str!(concat!("../templates/", $kind, "/Cargo.toml.tmpl"))),
            ("src/lib.rs", include_str!(concat!("../templates/", $kind, "/src/lib.rs"))),
        ])
    };
}

/// The files of a new plugin of this kind, each with its relative path and its content. The ending `.tmpl` of a path is removed, and `{{name}}` in the content
/// becomes the plugin's name.
pub fn template(kind: &str) -> Option<&'static [(&'static str, &'static str)]> {
    match kind {
        "balancer" => template!("balancer"),
        "router" => template!("router"),
        "discovery" => template!("discovery"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_builtins::publishes_objects;
    use wit_component::{ComponentEncoder, DecodedWasm, decode};
    use wit_parser::WorldItem;

    /// The names of a component's imports and exports.
    fn world(wasm: &[u8]) -> (Vec<String>, Vec<String>) {
        let component = ComponentEncoder::default().validate(true).module(wasm).unwrap().encode().unwrap();
        let DecodedWasm::Component(resolve, world) = decode(&component).unwrap() else { panic!("not a component") };
        let names = |items: &mut dyn Iterator<Item = &WorldItem>| {
            let mut names: Vec<_> = items
                .map(|item| match item {
                    WorldItem::Interface { id, .. } => resolve.id_of(*id).unwrap(),
                    other => panic!("not an interface: {other:?}"),
                })
                .collect();
            names.sort();
            names
        };
        let world = &resolve.worlds[world];
        (names(&mut world.imports.values()), names(&mut world.exports.values()))
    }

    #[test]
    fn each_plugin_has_the_world_of_its_kind_and_nothing_of_the_others() {
        for builtin @ Builtin { name, kind, .. } in builtins() {
            let (allowed, export): (&[&str], _) = match kind {
                Kind::Balancer => (&["types", "host", "metrics", "shared", "statistics"], "balancing"),
                Kind::Router => (&["types", "host", "metrics", "shared"], "routing"),
                // A plugin that asks no server and reads no file must not import the means for that.
                Kind::Discovery if publishes_objects(name) => {
                    (&["types", "host", "metrics", "shared", "objects", "publishing"], "discovering")
                }
                Kind::Discovery => (&["types", "host", "metrics", "shared", "objects", "publishing", "names", "files"], "discovering"),
            };
            let wasi = ["clocks/monotonic-clock", "http/types", "http/outgoing-handler", "io/error", "io/poll", "io/streams"];
            let wasi = wasi.into_iter().chain(["sockets/network", "sockets/instance-network", "sockets/ip-name-lookup"]);
            let wasi = wasi.take(match kind {
                Kind::Discovery if publishes_objects(name) => 1,
                Kind::Discovery => usize::MAX,
                Kind::Balancer | Kind::Router => 0,
            });
            let wasm = builtin.wasm();
            assert_eq!(wasm.len(), builtin.size, "{name}");
            let (imports, exports) = world(&wasm);
            println!("{name}: {} bytes, imports {imports:?}, exports {exports:?}", wasm.len());
            let full = |interface: &str| format!("sluicegate:plugin/{interface}@0.2.0");
            // The built-in router can change its tables in place.
            let expected: Vec<_> = (*name == "rules").then_some("changing").into_iter().chain([export]).map(full).collect();
            assert_eq!(exports, expected, "{name}");
            let wasi = wasi.map(|interface| format!("wasi:{interface}@0.2.12"));
            let allowed: Vec<_> = allowed.iter().map(|interface| full(interface)).chain(wasi).collect();
            assert!(imports.iter().all(|import| allowed.contains(import)), "{name}: {imports:?}");
        }
    }

    #[test]
    fn builtins_are_found_by_name() {
        assert_eq!(builtin("maglev").map(|builtin| builtin.kind), Some(Kind::Balancer));
        assert!(builtin("missing").is_none());
    }

    #[test]
    fn the_sdk_is_whole_and_stands_alone() {
        let file = |path: &str| sdk_files().iter().find(|(name, _)| *name == path).unwrap().1;
        assert!(file("wit/plugin.wit").contains("package sluicegate:plugin@0.2.0;"));
        assert!(file("src/lib.rs").contains("export_balancer"));
        assert!(file("README.md").contains("cargo build"));
        assert!(file("CONTRACT.md").contains("| `pool.pick` |"));
        assert!(!file("Cargo.toml").contains("workspace = true"));
    }

    #[test]
    fn there_is_a_template_of_each_kind() {
        for kind in ["balancer", "router", "discovery"] {
            let files = template(kind).unwrap();
            assert!(files[0].1.contains("name = \"{{name}}\""));
            assert!(files[1].1.contains(&format!("export_{kind}!")));
            assert!(files[1].1.lines().count() < 60);
        }
        assert!(template("filter").is_none());
    }
}
