//! What policies say of a service port or a listener, resolved.

use super::compile::Compiler;
use super::*;
use crate::object::{BackendTrafficPolicy, ClientTrafficPolicy};
use crate::settings::{BackendSettings, ClientSettings};

impl Compiler<'_> {
    /// `policy`: the one that counts for the service port, and its object.
    pub(super) fn backend_settings(&mut self, policy: Option<(&Arc<Object>, &BackendTrafficPolicy)>) -> Arc<BackendSettings> {
        let Some((_object, policy)) = policy else { return Arc::default() };
        let spec = &policy.spec;
        Arc::new(BackendSettings {
            timeouts: limits::backend_timeouts(spec),
            retry: spec.retry.as_ref().map(limits::retry),
            breaker: limits::breaker(spec),
            rates: limits::rates(spec.rate_limit.as_ref()),
        })
    }

    /// `policy`: the one that counts for the listener, and its object.
    pub(super) fn client_settings(&mut self, policy: Option<(&Arc<Object>, &ClientTrafficPolicy)>) -> Arc<ClientSettings> {
        let Some((_object, policy)) = policy else { return Arc::default() };
        let spec = &policy.spec;
        Arc::new(ClientSettings {
            timeouts: limits::client_timeouts(spec),
            connections: limits::connections(spec),
            head: limits::head(spec),
            content: limits::content(spec),
            rates: limits::rates(spec.rate_limit.as_ref()),
        })
    }
}
