//! A router for version 0.1.0 of the contract, written with plain wit-bindgen: it answers everything itself.
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
    world: "sluicegate:plugin/router",
});

use exports::sluicegate::plugin::routing::{Answer, Configured, Decision, Guest, GuestTable, Interests, Listener, Request, Table};
use sluicegate::plugin::host;
use sluicegate::plugin::types::{Description, PluginKind};

struct Old;
struct Rules(String);

impl Guest for Old {
    type Table = Rules;

    fn describe() -> Description {
        Description { name: "old".to_owned(), version: "0.1.0".to_owned(), kind: PluginKind::Router, config_schema: "{}".to_owned() }
    }
}

impl GuestTable for Rules {
    fn configure(_: String, listener: Listener) -> Result<(Table, Configured), String> {
        host::log(host::Level::Info, &listener.name);
        let interests = Interests { headers: vec!["x-a".to_owned()], cookies: Vec::new(), query: true, client: true };
        Ok((Table::new(Self(listener.namespace)), Configured { rules: Vec::new(), interests }))
    }

    fn route(&self, request: Request) -> Decision {
        let values = request.values.map_or(0, |values| values.len());
        let body = format!("{} {} {values} {}", self.0, request.path, host::random() > 0);
        Decision::Answer(Answer { status: 200, headers: Vec::new(), body })
    }
}

export!(Old);
