//! Whole gateways in this process, each on loopback addresses of its own. They are one binary, as each binary links wasmtime. Tests that measure
//! the process's memory or time requests are binaries of their own, beside this folder.

mod contract;
mod dependencies;
mod discovery;
mod discovery_consul;
mod discovery_dns;
mod discovery_dnsmasq;
mod discovery_file;
mod dual_stack;
mod edge;
mod end_to_end;
mod files;
mod flawed;
mod gateway_api;
mod handover;
mod health;
mod holding;
mod hostile_balancer;
mod hostile_components;
mod hostile_discovery;
mod hostile_router;
mod hostile_text;
mod http2;
mod lab;
mod lifecycle;
mod node_ports;
mod other_languages;
mod plugin_files;
mod readyz;
mod resilience;
mod rollout;
mod rooms;
mod signing;
mod sticky;
mod tls;
mod udp;
