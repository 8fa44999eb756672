//! HTTP/3, in `ClientTrafficPolicy`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClientTrafficPolicySpec, VersionChoice};

/// HTTP/3 from clients.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientHttp3Policy {
    /// The port that responses over HTTP/1.1 and HTTP/2 name in `Alt-Svc`, where clients reach the gateway by another one than its own. Default: the listener's.
    #[schemars(range(min = 1, max = 65535))]
    pub advertised_port: Option<u16>,
}

impl ClientHttp3Policy {
    /// Why HTTP/3 cannot be served by what else a policy says; none: it can.
    pub fn why_not(spec: &ClientTrafficPolicySpec) -> Option<&'static str> {
        if spec.tls.as_ref().is_some_and(|tls| matches!(tls.max_version, Some(VersionChoice::Tls12))) {
            return Some("HTTP/3 needs TLS 1.3, which spec.tls.maxVersion leaves out");
        }
        let asked = spec.proxy_protocol.as_ref().is_some_and(|proxy| !proxy.optional);
        asked.then_some("spec.proxyProtocol asks every client for a PROXY header, and there is none over QUIC")
    }
}
