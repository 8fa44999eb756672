//! What wasmtime generates from the plugin contract, one module a world.
#![allow(missing_docs, unreachable_pub, reason = "generated code")]

pub(crate) mod balancer {
    wasmtime::component::bindgen!({ path: "../../sdk/wit", world: "balancer" });
}

pub(crate) mod router {
    wasmtime::component::bindgen!({ path: "../../sdk/wit", world: "router", ownership: Borrowing { duplicate_if_necessary: true }, with: { "sluicegate:plugin/types": super::balancer::sluicegate::plugin::types, "sluicegate:plugin/host": super::balancer::sluicegate::plugin::host } });
}

pub(crate) mod discovery {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        world: "discovery",
        with: {
            "sluicegate:plugin/types": super::balancer::sluicegate::plugin::types,
            "sluicegate:plugin/host": super::balancer::sluicegate::plugin::host,
            "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
            "wasi:http/types.fields": crate::wasi::fields::Fields,
            "wasi:http/types.outgoing-request": crate::wasi::request::Request,
            "wasi:http/types.outgoing-body": crate::wasi::request::OutgoingBody,
            "wasi:http/types.request-options": crate::wasi::request::Options,
            "wasi:http/types.future-incoming-response": crate::wasi::response::Answer,
            "wasi:http/types.incoming-response": crate::wasi::response::Response,
            "wasi:http/types.incoming-body": crate::wasi::body::IncomingBody,
            "wasi:http/types.future-trailers": crate::wasi::response::Trailers,
            "wasi:sockets/network.network": crate::wasi::lookup::Network,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::wasi::lookup::Addresses,
        },
        imports: { "sluicegate:plugin/objects.next": async | trappable, default: trappable },
        exports: { default: async },
        require_store_data_send: true,
    });
}
