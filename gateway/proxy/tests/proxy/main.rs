//! The data plane against raw sockets and real peers, with native plugins. This is one binary, as linking dozens takes minutes. Tests that set limits of
//! the process are binaries of their own, beside this folder.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access_log;
mod admission;
mod arrival;
mod breakers;
mod changes;
mod correctness;
mod figures;
mod forwarding;
mod framing;
mod grpc;
mod half_close;
mod health;
mod http;
mod http2;
mod http2_endpoints;
mod http2_floods;
mod http2_flow;
mod http2_limits;
mod http2_ordinary;
mod http2_refusals;
mod http3;
mod http3_floods;
mod limits;
mod messages;
mod mirrors;
mod names;
mod peers;
mod proxy_protocol;
mod retries;
mod retry_defaults;
mod sessions;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod tcp;
mod tls;
mod tls_endpoints;
mod tls_hellos;
mod tls_passthrough;
mod traces;
mod trailers;
mod udp;
mod udp_limits;
mod unrouted;
mod upgrade;
