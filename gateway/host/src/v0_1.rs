//! The imports of the contract's version 0.1, carried out by those of the current version.

use crate::bindings::balancer::sluicegate::plugin::{host as now, statistics as current};
use crate::bindings::discovery::sluicegate::plugin::{objects as current_objects, publishing as current_publishing};
use crate::bindings::v0_1::balancer::sluicegate::plugin::{host, statistics, types};
use crate::bindings::v0_1::discovery::sluicegate::plugin::{objects, publishing};
use crate::discovery::DiscoveryState;
use crate::state::State;

/// The interface has only types.
impl types::Host for State {}

impl host::Host for State {
    fn log(&mut self, level: host::Level, message: String) {
        let level = match level {
            host::Level::Debug => now::Level::Debug,
            host::Level::Info => now::Level::Info,
            host::Level::Warn => now::Level::Warn,
            host::Level::Error => now::Level::Error,
        };
        now::Host::log(self, level, message, Vec::new());
    }

    fn random(&mut self) -> u64 {
        self.next_random()
    }
}

impl statistics::Host for State {
    fn condition_of(&mut self, endpoint: u32) -> statistics::Condition {
        self.condition(endpoint).into()
    }

    fn in_flight(&mut self, endpoint: u32) -> u32 {
        current::Host::in_flight(self, endpoint)
    }

    fn latency(&mut self, endpoint: u32) -> u32 {
        current::Host::latency(self, endpoint)
    }

    fn success(&mut self, endpoint: u32) -> f32 {
        current::Host::success(self, endpoint)
    }
}

impl objects::Host for DiscoveryState {
    fn watch(&mut self, kinds: Vec<String>) -> wasmtime::Result<()> {
        current_objects::Host::watch(self, kinds)
    }

    async fn next(&mut self, timeout_ms: Option<u64>) -> wasmtime::Result<Vec<objects::Event>> {
        Ok(current_objects::Host::next(self, timeout_ms).await?.into_iter().map(event).collect())
    }
}

impl publishing::Host for DiscoveryState {
    fn publish(&mut self, target: objects::Key, endpoints: Vec<publishing::Endpoint>) -> wasmtime::Result<()> {
        current_publishing::Host::publish(self, forth(target), endpoints.into_iter().map(endpoint).collect())
    }

    fn fail(&mut self, target: objects::Key, reason: String) -> wasmtime::Result<()> {
        current_publishing::Host::fail(self, forth(target), reason)
    }
}

fn forth(key: objects::Key) -> current_objects::Key {
    current_objects::Key { namespace: key.namespace, name: key.name }
}

fn event(event: current_objects::Event) -> objects::Event {
    let key = |key: current_objects::Key| objects::Key { namespace: key.namespace, name: key.name };
    match event {
        current_objects::Event::TargetApplied(t) => {
            objects::Event::TargetApplied(objects::Target { key: key(t.key), service: t.service, config: t.config })
        }
        current_objects::Event::TargetRemoved(k) => objects::Event::TargetRemoved(key(k)),
        current_objects::Event::ObjectApplied(o) => {
            objects::Event::ObjectApplied(objects::Object { kind: o.kind, key: key(o.key), json: o.json })
        }
        current_objects::Event::ObjectRemoved(o) => objects::Event::ObjectRemoved(objects::ObjectKey { kind: o.kind, key: key(o.key) }),
        current_objects::Event::Synced => objects::Event::Synced,
    }
}

fn endpoint(e: publishing::Endpoint) -> current_publishing::Endpoint {
    current_publishing::Endpoint {
        address: e.address,
        port: e.port,
        port_name: e.port_name,
        ready: e.ready,
        serving: e.serving,
        terminating: e.terminating,
        weight: e.weight,
        zone: e.zone,
        node: e.node,
        hint_zones: e.hint_zones,
        hint_nodes: e.hint_nodes,
        labels: e.labels,
        annotations: Vec::new(),
    }
}
