//! What an operator may ask of a running gateway, and what has happened to its plugins.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// What to do with a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve the generation before the live one until the file changes. If a generation is on trial, end the trial instead.
    Rollback,
    /// Serve without the plugin until `Reload`: balancers are replaced by the native choice, routers by 503, discovery by the last endpoints.
    Disable,
    /// Let the generation on trial serve.
    Promote,
    /// Load the plugin anew from its source, even if nothing has changed. This ends `Disable` and `Rollback`.
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

/// Whether what stands in front is to send new work here. `/readyz` and health check node ports tell it.
#[derive(Debug, Default)]
pub struct Readiness {
    stopping: AtomicBool,
    drained: AtomicBool,
}

impl Readiness {
    /// The gateway begins to stop. There is no way back.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the gateway stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Drains the gateway, or ends that: nothing new is to be sent here, and what comes all the same is served.
    pub fn drain(&self, drained: bool) {
        self.drained.store(drained, Ordering::Relaxed);
    }

    /// Whether an operator has drained the gateway.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Whether nothing new is to be sent here.
    pub fn is_away(&self) -> bool {
        self.is_stopping() || self.is_drained()
    }
}

/// What was done, or why nothing was.
pub type Done = Result<String, String>;

/// Carries an order about the plugin of this name to control. The future is ready when the workers have what follows from the order.
pub type Operate = Arc<dyn Fn(String, Action) -> Pin<Box<dyn Future<Output = Done> + Send>> + Send + Sync>;

/// An event: something that happened to a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginEvent {
    /// When it happened: RFC 3339, in UTC.
    pub at: String,
    /// What happened: `loaded`, `refused`, `quarantined`, `shadow`, `canary`, `promoted`, `rolled back` or `disabled`.
    pub what: &'static str,
    /// The number of the generation to which it happened; none for one that was not accepted.
    pub generation: Option<u64>,
    /// The version of that generation, if it named one.
    pub version: Option<String>,
    /// The SHA-256 of its file, in hexadecimal.
    pub sha256: Option<String>,
    /// Why it happened.
    pub reason: Option<String>,
}
