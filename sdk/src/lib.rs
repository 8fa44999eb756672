//! The SDK for Sluicegate plugins. An author writes a struct, implements one trait of these, and invokes one macro:
//!
//! | kind | trait | macro | decides |
//! | --- | --- | --- | --- |
//! | balancer | [`Balancer`] | [`export_balancer!`] | which endpoint of a pool serves |
//! | router | [`Router`] | [`export_router!`] | which rule and backend takes an exchange |
//! | discovery | [`Discovery`] | [`export_discovery!`] | which endpoints a service has |
//!
//! A plugin's configuration is a serde type; its JSON Schema is derived and the gateway checks objects against it. The same code compiles
//! natively, where [`testing`] stands in for the host, so a plugin is tested with plain `cargo test`.

mod ask;
#[cfg(target_arch = "wasm32")]
mod asking;
mod balancer;
mod bindings;
pub mod clock;
mod config;
mod discovery;
mod driver;
pub mod files;
mod host;
pub mod http;
mod log;
mod lookup;
pub mod metrics;
pub mod names;
mod objects;
mod router;
pub mod shared;
pub mod testing;

pub use ask::{Ask, Next, Reply};
pub use balancer::{Balancer, Condition, Endpoint, EndpointState, Outcome, Pick};
pub use discovery::{Concerned, Discovery, PublishedEndpoint, Service};
pub use host::random;
pub use log::{FieldValue, Level, log, log_with};
pub use lookup::resolve;
pub use objects::{Object, Objects};
pub use router::{
    Answer, Backend, Choice, Configured, Cors, Decision, Filter, Header, HeaderChanges, Interests, Listener, Mirror, PathRewrite, Redirect,
    Request, Retry, Rewrite, Router, Rule, ServiceRef, Splice, Transport,
};
pub use {schemars, serde, serde_json};

/// What the export macros expand to. It is not for authors, and may change with any version.
#[doc(hidden)]
pub mod __private {
    pub use crate::balancer::BalancerComponent;
    pub use crate::bindings::{balancer, discovery, router};
    pub use crate::config::Named;
    pub use crate::discovery::DiscoveryComponent;
    pub use crate::router::RouterComponent;
}

/// Makes a [`Balancer`] the plugin of this crate. Natively it expands to nothing, so that tests need no host. [`Balancer`] has an example.
#[macro_export]
macro_rules! export_balancer {
    ($plugin:ty) => {
        $crate::__export!($plugin, BalancerComponent, balancer);
    };
}

/// Makes a [`Router`] the plugin of this crate. Natively it expands to nothing, so that tests need no host. [`Router`] has an example.
#[macro_export]
macro_rules! export_router {
    ($plugin:ty) => {
        $crate::__export!($plugin, RouterComponent, router);
    };
}

/// Makes a [`Discovery`] the plugin of this crate. Natively it expands to nothing, so that tests need no host. [`Discovery`] has an example.
#[macro_export]
macro_rules! export_discovery {
    ($plugin:ty) => {
        $crate::__export!($plugin, DiscoveryComponent, discovery);
    };
}

// The generated exports carry `#[unsafe(export_name)]`, which crates with `unsafe_code = "deny"` would refuse without the `allow`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ty, $component:ident, $world:ident) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, missing_docs)]
        const _: () = {
            struct ThisCrate;
            impl $crate::__private::Named for ThisCrate {
                const NAME: &'static str = env!("CARGO_PKG_NAME");
                const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            }
            type Component = $crate::__private::$component<$plugin, ThisCrate>;
    $crate::__private::$world::export!(Component with_types_in $crate::__private::$world);
        };
    };
}
