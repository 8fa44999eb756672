//! What an operator may ask of a running gateway, and what became of its plugins so far.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

/// What to do with a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve the generation before the live one, until the file changes; while one is on trial, end that.
    Rollback,
    /// Serve without it, until `Reload`: balancers by the native choice, routers by 503, discovery with the last endpoints.
    Disable,
    /// Let the generation on trial serve.
    Promote,
    /// Load it from its source anew, also when nothing has changed; ends `Disable` and `Rollback`.
    Reload,
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rollback" => Ok(Self::Rollback),
            "disable" => Ok(Self::Disable),
            "promote" => Ok(Self::Promote),
            "reload" => Ok(Self::Reload),
            _ => Err(format!("{text:?} is none of rollback, disable, promote, reload")),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rollback => "rollback",
            Self::Disable => "disable",
            Self::Promote => "promote",
            Self::Reload => "reload",
        })
    }
}

/// What was done, or why not.
pub type Done = Result<String, String>;

/// Carries an order about the plugin of this name to control. It is ready when the workers have what follows from it.
pub type Operate = Arc<dyn Fn(String, Action) -> Pin<Box<dyn Future<Output = Done> + Send>> + Send + Sync>;

/// One thing that happened to a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginEvent {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// `loaded`, `refused`, `quarantined`, `shadow`, `canary`, `promoted`, `rolled back`, `disabled`.
    pub what: &'static str,
    /// The generation it happened to; none for one that was not accepted.
    pub generation: Option<u64>,
    /// Its version, if it said one.
    pub version: Option<String>,
    /// Hex SHA-256 of its file.
    pub sha256: Option<String>,
    /// Why.
    pub reason: Option<String>,
}
