//! What policies say of a service port or a listener, resolved.

use super::compile::Compiler;
use super::*;
use crate::object::{BackendTrafficPolicy, ClientTrafficPolicy};
use crate::settings::{BackendSettings, BackendTimeouts, ClientSettings};

impl Compiler<'_> {
    /// `policy`: the one that counts for the service port, and its object.
    pub(super) fn backend_settings(&mut self, policy: Option<(&Arc<Object>, &BackendTrafficPolicy)>) -> Arc<BackendSettings> {
        let Some((_object, policy)) = policy else { return Arc::default() };
        let (spec, defaults) = (&policy.spec, BackendTimeouts::default());
        Arc::new(BackendSettings {
            timeouts: BackendTimeouts {
                connect: spec.timeout.tcp.connect_timeout.map_or(defaults.connect, |s| s.0),
                request: spec.timeout.http.request_timeout.map_or(defaults.request, |s| Some(s.0)),
            },
        })
    }

    /// `policy`: the one that counts for the listener, and its object.
    pub(super) fn client_settings(&mut self, policy: Option<(&Arc<Object>, &ClientTrafficPolicy)>) -> Arc<ClientSettings> {
        let Some((_object, _policy)) = policy else { return Arc::default() };
        Arc::new(ClientSettings {})
    }
}
