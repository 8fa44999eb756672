//! The list of the kinds of plugins.

use std::sync::Arc;

use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{Generation, PluginError, PluginKind};
use sluicegate_model::route::{ListenerInfo, RouteTable};
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::balancer::WasmBalancer;
use crate::discovery::WasmDiscovery;
use crate::kind::{Description, Kind, Loading};
use crate::router::WasmRouter;
use crate::version::Interfaces;

macro_rules! kinds {
    ($($(#[doc = $about:literal])* $kind:ident: $linker:ident => $plugin:ty,)*) => {
        /// A checked generation, ready for workers.
        #[derive(Clone)]
        pub enum Loaded {
            $($(#[doc = $about])* $kind(Arc<$plugin>),)*
        }

        impl Loaded {
            /// The generation's identity and counters.
            pub fn generation(&self) -> &Arc<Generation> {
                match self {
                    $(Self::$kind(plugin) => Kind::generation(&**plugin),)*
                }
            }

            /// Tries the generation with a configuration before it gets traffic. For a router it returns what it made of the configuration. `listener`: a router's.
            ///
            /// # Errors
            /// It failed.
            pub fn trial(&self, config: &ConfigText, listener: Option<&ListenerInfo>) -> Result<Option<Arc<RouteTable>>, PluginError> {
                match self {
                    $(Self::$kind(plugin) => Kind::trial(&**plugin, config, listener),)*
                }
            }
        }

        /// What guests of each kind import.
        pub(crate) struct Linkers {
            $($linker: Linker<<$plugin as Kind>::State>,)*
        }

        impl Linkers {
            pub(crate) fn new(engine: &Engine) -> Result<Self, wasmtime::Error> {
                $(let mut $linker = Linker::new(engine);
                <$plugin as Kind>::link(&mut $linker)?;)*
                Ok(Self { $($linker,)* })
            }

            pub(crate) fn load(&self, kind: PluginKind, loading: &Loading<'_>) -> Result<(Loaded, Description), PluginError> {
                match kind {
                    $(PluginKind::$kind => {
                        let (plugin, description) = <$plugin as Kind>::load(loading, &self.$linker)?;
                        Ok((Loaded::$kind(plugin.into()), description))
                    })*
                }
            }
        }

        /// The interfaces by which kinds are told apart.
        pub(crate) const INTERFACES: Interfaces = &[$((<$plugin as Kind>::INTERFACE, <$plugin as Kind>::KIND),)*];
    };
}

kinds! {
    /// A balancer.
    Balancer: balancers => WasmBalancer,
    /// A router.
    Router: routers => WasmRouter,
    /// A discovery plugin.
    Discovery: discoveries => WasmDiscovery,
}
