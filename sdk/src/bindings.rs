//! The code that `wit-bindgen` generates from `wit/plugin.wit`: one module for each world, and nothing else.
//!
//! With `pub_export_macro` the description of a world's exports goes into its `export!` macro, so a plugin carries only the world that its
//! author exported, although all three are compiled here.

#![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all)]

/// World `balancer`.
pub mod balancer {
    wit_bindgen::generate!({
        path: "wit",
        world: "balancer",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "sluicegate_sdk::__private::balancer",
        runtime_path: "::wit_bindgen::rt",
        additional_derives: [PartialEq],
    });
}

/// World `changing-router`, which is the world `router` with one more export.
pub mod router {
    wit_bindgen::generate!({
        path: "wit",
        world: "changing-router",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "sluicegate_sdk::__private::router",
        runtime_path: "::wit_bindgen::rt",
        additional_derives: [PartialEq],
    });
}

/// World `discovery`.
pub mod discovery {
    wit_bindgen::generate!({
        path: "wit",
        world: "discovery",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "sluicegate_sdk::__private::discovery",
        runtime_path: "::wit_bindgen::rt",
        generate_all,
        additional_derives: [PartialEq],
        // This type holds a resource, and resources cannot be compared.
        additional_derives_ignore: ["stream-error"],
    });
}
