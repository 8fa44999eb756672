//! What wasmtime generates from the plugin contract, one module a world; [`v0_1`] is the contract's older version, which loads to this day.
#![allow(missing_docs, unreachable_pub, reason = "generated code")]

pub(crate) mod balancer {
    wasmtime::component::bindgen!({ path: "../../sdk/wit", world: "balancer" });
}

pub(crate) mod router {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        world: "router",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "sluicegate:plugin/types": crate::bindings::balancer::sluicegate::plugin::types,
            "sluicegate:plugin/host": crate::bindings::balancer::sluicegate::plugin::host,
            "sluicegate:plugin/metrics": crate::bindings::balancer::sluicegate::plugin::metrics,
            "sluicegate:plugin/shared": crate::bindings::balancer::sluicegate::plugin::shared,
        },
    });
}

pub(crate) mod discovery {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        world: "discovery",
        with: {
            "sluicegate:plugin/types": crate::bindings::balancer::sluicegate::plugin::types,
            "sluicegate:plugin/host": crate::bindings::balancer::sluicegate::plugin::host,
            "sluicegate:plugin/metrics": crate::bindings::balancer::sluicegate::plugin::metrics,
            "sluicegate:plugin/shared": crate::bindings::balancer::sluicegate::plugin::shared,
            "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
            "wasi:http/types.fields": crate::wasi::fields::Fields,
            "wasi:http/types.outgoing-request": crate::wasi::request::Request,
            "wasi:http/types.outgoing-body": crate::wasi::request::OutgoingBody,
            "wasi:http/types.request-options": crate::wasi::request::Options,
            "wasi:http/types.future-incoming-response": crate::wasi::response::Answer,
            "wasi:http/types.incoming-response": crate::wasi::response::Response,
            "wasi:http/types.incoming-body": crate::wasi::body::IncomingBody,
            "wasi:http/types.future-trailers": crate::wasi::response::Trailers,
            "sluicegate:plugin/names.look-up": crate::wasi::names::LookUp,
            "wasi:sockets/network.network": crate::wasi::lookup::Network,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::wasi::lookup::Addresses,
        },
        imports: {
            "sluicegate:plugin/objects.next": async | trappable,
            "sluicegate:plugin/files.matching": async | trappable,
            "sluicegate:plugin/files.read": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// `wit/plugin-0.1.0.wit`, with the WASI interfaces of the current version, which are the same.
pub(crate) mod v0_1 {
    macro_rules! bindgen {
        ($($options:tt)*) => {
            wasmtime::component::bindgen!({
                path: [
                    "../../sdk/wit/deps/io.wit",
                    "../../sdk/wit/deps/clocks.wit",
                    "../../sdk/wit/deps/random.wit",
                    "../../sdk/wit/deps/sockets.wit",
                    "../../sdk/wit/deps/http.wit",
                    "wit/plugin-0.1.0.wit",
                ],
                $($options)*
            });
        };
    }

    pub(crate) mod balancer {
        bindgen!(world: "sluicegate:plugin/balancer");
    }

    pub(crate) mod router {
        bindgen! {
            world: "sluicegate:plugin/router",
            ownership: Borrowing { duplicate_if_necessary: true },
            with: {
                "sluicegate:plugin/types": crate::bindings::v0_1::balancer::sluicegate::plugin::types,
                "sluicegate:plugin/host": crate::bindings::v0_1::balancer::sluicegate::plugin::host,
            },
        }
    }

    pub(crate) mod discovery {
        bindgen! {
            world: "sluicegate:plugin/discovery",
            with: {
                "sluicegate:plugin/types": crate::bindings::v0_1::balancer::sluicegate::plugin::types,
                "sluicegate:plugin/host": crate::bindings::v0_1::balancer::sluicegate::plugin::host,
                "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
                "wasi:clocks": crate::bindings::discovery::wasi::clocks,
                "wasi:random": crate::bindings::discovery::wasi::random,
                "wasi:sockets": crate::bindings::discovery::wasi::sockets,
                "wasi:http": crate::bindings::discovery::wasi::http,
            },
            imports: { "sluicegate:plugin/objects.next": async | trappable, default: trappable },
            exports: { default: async },
            require_store_data_send: true,
        }
    }
}
