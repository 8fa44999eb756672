//! Our kinds, group `sluicegate.dev/v1alpha1`, in the shape of Gateway API policy attachment (GEP-713): a file a kind.

mod acme;
mod backend;
mod backend_object;
mod client;
mod configuration;
mod connection;
mod forwarding;
mod gateway_parameters;
mod health;
mod http2;
mod http3;
mod http_route_filter;
mod plugin;
mod rate;
mod retry;
mod telemetry;
mod timeout;
mod tls;
mod values;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use sluicegate_model::config_text::ConfigText;

pub use acme::*;
pub use backend::*;
pub use backend_object::*;
pub use client::*;
pub use configuration::*;
pub use connection::*;
pub use forwarding::*;
pub use gateway_parameters::*;
pub use health::*;
pub use http_route_filter::*;
pub use http2::*;
pub use http3::*;
pub use plugin::*;
pub use rate::*;
pub use retry::*;
// These choices reach the data plane as policies write them.
pub use sluicegate_model::settings::{
    EscapedReserved, EscapedSlashes, ForwardedAction, HalfClose, PathParameters, RequestIdAction, Trigger, WithUnderscoresAction,
};
pub use telemetry::*;
pub use timeout::*;
pub use tls::*;
pub use values::*;

/// What a policy attaches to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// The target's group: empty for Service, `gateway.networking.k8s.io` for the others.
    #[serde(default)]
    pub group: String,
    /// The target's kind: `Service`, `Gateway` or `ListenerSet`; of a BackendTrafficPolicy also a kind of route.
    pub kind: String,
    /// The target's name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The name of a Service's port, of a listener or of a route's rule. Default: all of them.
    #[schemars(length(min = 1))]
    pub section_name: Option<String>,
}

/// A plugin and its configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginUse {
    /// The name of a `Plugin` object or of a built-in plugin.
    pub plugin: String,
    /// The plugin's configuration, which is checked against its own schema.
    #[serde(default)]
    pub config: ConfigText,
}

/// The names of all fields of our kinds, for hints.
pub(super) static FIELDS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut names = BTreeSet::from(["metadata", "spec"].map(str::to_owned));
    for schema in [
        schemars::schema_for!(PluginSpec),
        schemars::schema_for!(BackendSpec),
        schemars::schema_for!(GatewayParametersSpec),
        schemars::schema_for!(HttpRouteFilterSpec),
        schemars::schema_for!(BackendTrafficPolicySpec),
        schemars::schema_for!(ClientTrafficPolicySpec),
        schemars::schema_for!(SluicegateConfiguration),
    ] {
        properties(schema.as_value(), &mut names);
    }
    names
});

fn properties(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                names.extend(properties.keys().cloned());
            }
            fields.values().for_each(|value| properties(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| properties(item, names)),
        _ => {}
    }
}
