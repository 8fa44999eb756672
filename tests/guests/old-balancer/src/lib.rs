//! A round-robin balancer for version 0.1.0 of the contract, written with plain wit-bindgen: plugins that were built for that version still load.
#![allow(missing_docs, unsafe_code, unreachable_pub, reason = "generated code")]

use std::cell::Cell;

wit_bindgen::generate!({
    path: [
        "../../../sdk/wit/deps/io.wit",
        "../../../sdk/wit/deps/clocks.wit",
        "../../../sdk/wit/deps/random.wit",
        "../../../sdk/wit/deps/sockets.wit",
        "../../../sdk/wit/deps/http.wit",
        "../../../gateway/host/wit/plugin-0.1.0.wit",
    ],
    world: "sluicegate:plugin/balancer",
});

use exports::sluicegate::plugin::balancing::{Endpoint, Guest, GuestPool, Outcome, PickContext, Pool};
use sluicegate::plugin::types::{Description, PluginKind};
use sluicegate::plugin::{host, statistics};

struct Old;

#[derive(Default)]
struct RoundRobin {
    endpoints: Cell<u32>,
    next: Cell<u32>,
}

impl Guest for Old {
    type Pool = RoundRobin;

    fn describe() -> Description {
        Description { name: "old".to_owned(), version: "0.1.0".to_owned(), kind: PluginKind::Balancer, config_schema: "{}".to_owned() }
    }
}

impl GuestPool for RoundRobin {
    fn open(_: String) -> Result<Pool, String> {
        Ok(Pool::new(Self::default()))
    }

    fn wants_reports(&self) -> bool {
        true
    }

    fn update(&self, endpoints: Vec<Endpoint>) {
        host::log(host::Level::Info, &format!("{} endpoints", endpoints.len()));
        self.endpoints.set(u32::try_from(endpoints.len()).unwrap_or(u32::MAX));
    }

    fn pick(&self, _: PickContext) -> Option<u32> {
        let next = self.next.get().checked_rem(self.endpoints.get())?;
        self.next.set(next + 1);
        // It asks for everything that it may import.
        let fit = statistics::condition_of(next) == statistics::Condition::Healthy && statistics::success(next) >= 0.0;
        let _ = (fit, statistics::in_flight(next), statistics::latency(next), host::random());
        Some(next)
    }

    fn report(&self, _: Outcome) {}
}

export!(Old);
