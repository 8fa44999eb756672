//! A discovery plugin for version 0.1.0 of the contract, written with plain wit-bindgen: each Service gets one endpoint, 127.0.0.1:9.
#![allow(missing_docs, unsafe_code, unreachable_pub, reason = "generated code")]

wit_bindgen::generate!({
    path: [
        "../../../sdk/wit/deps/io.wit",
        "../../../sdk/wit/deps/clocks.wit",
        "../../../sdk/wit/deps/random.wit",
        "../../../sdk/wit/deps/sockets.wit",
        "../../../sdk/wit/deps/http.wit",
        "../../../gateway/host/wit/plugin-0.1.0.wit",
    ],
    world: "sluicegate:plugin/discovery",
    generate_all,
});

use exports::sluicegate::plugin::discovering::Guest;
use sluicegate::plugin::publishing::{self, Endpoint};
use sluicegate::plugin::types::{Description, PluginKind};
use sluicegate::plugin::{host, objects};

struct Old;

impl Guest for Old {
    fn describe() -> Description {
        Description { name: "old".to_owned(), version: "0.1.0".to_owned(), kind: PluginKind::Discovery, config_schema: "{}".to_owned() }
    }

    fn run() -> Result<(), String> {
        objects::watch(&["Pod".to_owned()]);
        loop {
            for event in objects::next(None) {
                let objects::Event::TargetApplied(target) = event else { continue };
                host::log(host::Level::Info, &target.key.name);
                let now = wasi::clocks::monotonic_clock::now();
                let endpoint = Endpoint {
                    address: "127.0.0.1".to_owned(),
                    port: 9,
                    port_name: None,
                    ready: now > 0,
                    serving: true,
                    terminating: false,
                    weight: 1,
                    zone: None,
                    node: None,
                    hint_zones: Vec::new(),
                    hint_nodes: Vec::new(),
                    labels: Vec::new(),
                };
                publishing::publish(&target.key, &[endpoint]);
            }
        }
    }
}

export!(Old);
