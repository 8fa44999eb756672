//! What the conformance suite of the Gateway API (v1.6.1) asserts, test by test and under its names, with manifests of our own, of a gateway whose objects
//! are files. `config/GATEWAY-API.md` says which of its tests are here; [`table`] holds it to that.

#![expect(non_snake_case, reason = "tests have the names that the conformance suite has for them")]

mod addresses;
mod backend_tls;
mod client_certificates;
mod gateways;
mod grpc;
mod http_attachment;
mod http_filters;
mod http_matching;
mod l4;
mod listener_sets;
mod ours;
mod policies;
mod policy_targets;
mod retries;
mod routers;
mod secure;
mod table;
mod tls_routes;
mod world;
