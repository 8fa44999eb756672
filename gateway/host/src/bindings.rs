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
        with: { "sluicegate:plugin/types": super::balancer::sluicegate::plugin::types, "sluicegate:plugin/host": super::balancer::sluicegate::plugin::host },
        imports: { "sluicegate:plugin/objects.next": async },
        exports: { default: async },
        require_store_data_send: true,
    });
}
