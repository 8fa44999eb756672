//! `Backend`: what routes may lead to besides Services, by host name or address, in Envoy Gateway's shape.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Deserialize;

use super::tls::BackendTls;

/// Endpoints that no cluster knows of.
#[derive(Clone, Debug, Deserialize)]
pub struct Backend {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The endpoints, and how they are spoken to.
    pub spec: BackendSpec,
}

/// The endpoints of a Backend, and how they are spoken to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendSpec {
    /// One with a host name, or 1 to 64 with addresses.
    pub endpoints: Vec<BackendEndpoint>,
    /// The protocol that the endpoints speak. Default: HTTP/1.1.
    #[serde(default)]
    pub app_protocols: Vec<BackendProtocol>,
    /// How the endpoints are verified, which then speak TLS. Default: they speak plain text.
    pub tls: Option<BackendTls>,
}

/// An endpoint: exactly one of `fqdn` and `ip`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct BackendEndpoint {
    /// A host name.
    pub fqdn: Option<FqdnEndpoint>,
    /// An address.
    pub ip: Option<IpEndpoint>,
    /// Where it is, for balancers that look at zones.
    pub zone: Option<String>,
}

/// A host name: all its addresses are endpoints, looked up again as often as DNS says.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct FqdnEndpoint {
    /// The host name, such as `api.example.com`.
    pub hostname: String,
    /// The port, which is the same at all addresses of the host name.
    pub port: u16,
}

/// An endpoint that is named by its address.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct IpEndpoint {
    /// An IPv4 or IPv6 address.
    #[schemars(with = "String")]
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// A protocol that a Backend speaks, named as a Service's `appProtocol` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[serde(rename = "http")]
    Http,
    /// HTTP/2 without negotiation.
    #[serde(rename = "kubernetes.io/h2c")]
    H2c,
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// WebSocket over HTTP/1.1.
    #[serde(rename = "kubernetes.io/ws")]
    Ws,
}

impl BackendSpec {
    /// Its one host name and port, if it has one.
    pub fn fqdn(&self) -> Option<&FqdnEndpoint> {
        self.endpoints.iter().find_map(|endpoint| endpoint.fqdn.as_ref())
    }

    /// The port by which it is known: the first endpoint's.
    pub fn port(&self) -> Option<u16> {
        let first = self.endpoints.first()?;
        first.fqdn.as_ref().map(|fqdn| fqdn.port).or(first.ip.as_ref().map(|ip| ip.port))
    }

    /// How its endpoints are verified: without another name, as the host name that they have.
    pub fn verified(&self) -> Option<BackendTls> {
        let mut tls = self.tls.clone()?;
        if tls.sni.is_none() {
            tls.sni = self.fqdn().map(|fqdn| fqdn.hostname.clone());
        }
        Some(tls)
    }
}
