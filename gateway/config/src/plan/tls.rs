//! The settings that objects make for TLS: how listeners end it, and how endpoints are connected to.
//!
//! A mistake never leaves anything open: a listener without a usable certificate, or without the authorities of its clients, refuses handshakes, and endpoints
//! whose rules are broken get no connections.

use gateway_api::apis::standard::backendtlspolicies::{BackendTlsPolicy, BackendTlsPolicyValidationSubjectAltNamesType};
use gateway_api::apis::standard::gateways::{
    Gateway, GatewayListenersTls, GatewayTlsFrontendDefaultValidationMode, GatewayTlsFrontendPerPortTlsValidationMode,
};
use rustls_pki_types::DnsName;
use sluicegate_model::tls::{
    Certificate, Cipher, ClientValidation, Demand, HANDSHAKE_TIMEOUT, SubjectAltName, Trust, UpstreamSettings, Verify, Version, Versions,
};

use super::compile::Compiler;
use super::gateways::Holder;
use super::references::Reference;
use super::routes::Attached;
use super::*;
use crate::object::ours::{BackendTls, ClientTls, SubjectAltName as GivenName, VersionChoice};
use crate::object::{BackendTrafficPolicy, ClientTrafficPolicy, error, warning};

/// The field in which a Gateway says how its clients' certificates are verified.
const FRONTEND: &str = "spec.tls.frontend";

/// The ClientTrafficPolicy that counts for a listener, and its object.
pub(super) type ClientPolicy<'p> = Option<(&'p Arc<Object>, &'p ClientTrafficPolicy)>;
/// The BackendTrafficPolicy that counts for a service port, and its object.
pub(super) type BackendPolicy<'p> = Option<(&'p Arc<Object>, &'p BackendTrafficPolicy)>;

impl Compiler<'_> {
    /// Resolves how the listener with index `i` of a Gateway or ListenerSet ends TLS.
    pub(super) fn gateway_tls(
        &mut self,
        holder: Holder<'_>,
        i: usize,
        policy: ClientPolicy<'_>,
        alpn: &[&str],
        (routes, hostname): (&[Attached], Option<&str>),
    ) -> Arc<ServerSettings> {
        let path = format!("spec.listeners[{i}].tls");
        let (object, listener) = (holder.object, &holder.listeners[i]);
        let refs = listener.tls.as_ref().and_then(|tls| tls.certificate_refs.as_deref()).unwrap_or_default();
        if refs.is_empty() && acme::issuer(holder, i).is_none() {
            let message = format!("{path}.certificateRefs: Required value: without a certificate the listener refuses handshakes");
            self.part.faults.push(error(&object.origin, &object.key, &path, message, None));
        }
        let certificates = refs.iter().enumerate().filter_map(|(j, r)| {
            let kind = (r.group.as_deref(), r.kind.as_deref().unwrap_or("Secret"));
            self.certificate(&Reference::new(object, format!("{path}.certificateRefs[{j}]"), kind, &r.name, r.namespace.as_deref()))
        });
        let certificates: Vec<_> = certificates.collect();
        let acme = self.acme(holder, i, routes, hostname, &certificates);
        let client = self.frontend(holder.gateway, holder.spec, listener.port);
        let tls = policy.and_then(|(object, policy)| Some((object, policy.spec.tls.as_ref()?)));
        if let Some((policy, _)) = tls.filter(|(_, tls)| !tls.certificate_refs.is_empty()) {
            let path = "spec.tls.certificateRefs";
            let message = format!("{path}: a Gateway's listener has its own certificateRefs; these count for Services only");
            self.part.faults.push(warning(&policy.origin, &policy.key, path, message, None));
        }
        Arc::new(ServerSettings { acme, ..self.server(certificates, client, tls, alpn) })
    }

    /// Resolves how a Service's port ends TLS. `None`: no policy has it do so.
    pub(super) fn service_tls(&mut self, policy: ClientPolicy<'_>, alpn: &[&str]) -> Option<Arc<ServerSettings>> {
        let (object, policy) = policy?;
        let tls = policy.spec.tls.as_ref()?;
        if tls.certificate_refs.is_empty() {
            let path = "spec.tls.certificateRefs";
            let message = format!("{path}: Required value: without a certificate the Service's ports refuse handshakes");
            self.part.faults.push(error(&object.origin, &object.key, path, message, None));
        }
        let refs = tls.certificate_refs.iter().enumerate();
        let certificates =
            refs.filter_map(|(i, r)| self.certificate(&Reference::ours(object, format!("spec.tls.certificateRefs[{i}]"), r)));
        let certificates = certificates.collect();
        Some(Arc::new(self.server(certificates, None, Some((object, tls)), alpn)))
    }

    fn server(
        &mut self,
        certificates: Vec<Arc<Certificate>>,
        client: Option<ClientValidation>,
        policy: Option<(&Arc<Object>, &ClientTls)>,
        alpn: &[&str],
    ) -> ServerSettings {
        let alpn = alpn.iter().map(|p| (*p).to_owned()).collect();
        let Some((object, tls)) = policy else { return ServerSettings { certificates, client, alpn, ..ServerSettings::default() } };
        let version = |choice: Option<VersionChoice>, default| match choice {
            None | Some(VersionChoice::Auto) => default,
            Some(VersionChoice::Tls12) => Version::Tls12,
            Some(VersionChoice::Tls13) => Version::Tls13,
        };
        // The policy counts before the Gateway's own `tls.frontend`, as it may be for this listener alone.
        let own = tls.client_validation.as_ref().map(|validation| {
            let refs = validation.ca_certificate_refs.iter().enumerate();
            let refs = refs.map(|(i, r)| Reference::ours(object, format!("spec.tls.clientValidation.caCertificateRefs[{i}]"), r));
            let demand = if validation.optional { Demand::Optional } else { Demand::Required };
            ClientValidation { authorities: self.authorities(&refs.collect::<Vec<_>>()), demand }
        });
        ServerSettings {
            certificates,
            acme: None,
            versions: Versions { min: version(tls.min_version, Version::Tls12), max: version(tls.max_version, Version::Tls13) },
            ciphers: tls.ciphers.iter().filter_map(|name| Cipher::named(name)).collect(),
            alpn: tls.alpn_protocols.clone().unwrap_or(alpn),
            client: own.or(client),
            handshake_timeout: tls.handshake_timeout.map_or(HANDSHAKE_TIMEOUT, |t| t.0),
        }
    }

    /// Reads `tls.frontend` of a Gateway for one of its ports (GEP-91).
    fn frontend(&mut self, object: &Object, gateway: &Gateway, port: i32) -> Option<ClientValidation> {
        let frontend = gateway.spec.tls.as_ref()?.frontend.as_ref()?;
        let own = frontend.per_port.iter().flatten().enumerate().find(|(_, p)| p.port == port);
        let (path, refs, fallback) = match own {
            Some((i, own)) => {
                let validation = own.tls.validation.as_ref()?;
                let refs = validation
                    .ca_certificate_refs
                    .iter()
                    .map(|r| ((Some(r.group.as_str()), r.kind.as_str()), r.name.as_str(), r.namespace.as_deref()));
                let fallback = validation.mode == Some(GatewayTlsFrontendPerPortTlsValidationMode::AllowInsecureFallback);
                (format!("{FRONTEND}.perPort[{i}].tls"), refs.collect::<Vec<_>>(), fallback)
            }
            None => {
                let validation = frontend.default.validation.as_ref()?;
                let refs = validation
                    .ca_certificate_refs
                    .iter()
                    .map(|r| ((Some(r.group.as_str()), r.kind.as_str()), r.name.as_str(), r.namespace.as_deref()));
                let fallback = validation.mode == Some(GatewayTlsFrontendDefaultValidationMode::AllowInsecureFallback);
                (format!("{FRONTEND}.default"), refs.collect(), fallback)
            }
        };
        let refs: Vec<Reference<'_>> = refs
            .into_iter()
            .enumerate()
            .map(|(i, (kind, name, namespace))| {
                Reference::new(object, format!("{path}.validation.caCertificateRefs[{i}]"), kind, name, namespace)
            })
            .collect();
        let demand = if fallback { Demand::Fallback } else { Demand::Required };
        Some(ClientValidation { authorities: self.authorities(&refs), demand })
    }

    /// Settles which certificate endpoints are shown by `tls.backend` of a Gateway (GEP-3155), and says whether the reference can be used. `None`: there is
    /// none.
    pub(super) fn gateway_identity(&mut self, object: &Object, gateway: &Gateway) -> Option<Verdict> {
        let given = gateway.spec.tls.as_ref()?.backend.as_ref()?.client_certificate_ref.as_ref()?;
        let path = "spec.tls.backend.clientCertificateRef";
        let kind = given.kind.as_deref().unwrap_or("Secret");
        let before = self.refused.len();
        let kind = (given.group.as_deref(), kind);
        match self.certificate(&Reference::new(object, path.to_owned(), kind, &given.name, given.namespace.as_deref())) {
            Some(certificate) => {
                self.identity = PlannedIdentity::Certificate(certificate);
                Some(Ok(()))
            }
            None => {
                self.identity = PlannedIdentity::Broken;
                let why = self.refused.get(before).map(|refused| refused.refusal.clone());
                let why = why
                    .unwrap_or_else(|| Refusal::new(Reason::NotFound, format!("{path}: the Secret has no certificate that can be used")));
                Some(Err(why.unless_permitted(Reason::InvalidClientCertificateRef)))
            }
        }
    }

    /// Resolves how connections to the endpoints of a service port use TLS. `https`: whether its `appProtocol` says that endpoints speak TLS.
    pub(super) fn endpoint_tls(&mut self, service: &Object, port: &str, https: bool, policy: BackendPolicy<'_>) -> PlannedEndpointTls {
        let ours = policy.and_then(|(object, policy)| Some((object, policy.spec.tls.as_deref()?)));
        let certificate = ours.and_then(|(object, tls)| Some((object, tls.client_certificate_ref.as_ref()?)));
        let certificate =
            certificate.map(|(object, r)| self.certificate(&Reference::ours(object, "spec.tls.clientCertificateRef".to_owned(), r)));
        let standard = self.backend_tls_policy(service, port);
        let settled = match (standard, ours.filter(|(_, tls)| tls.verifies())) {
            (None, None) if https => return PlannedEndpointTls::Untold,
            (None, None) => {
                let Some((object, _)) = ours.filter(|_| certificate.is_some()) else { return PlannedEndpointTls::Off };
                let path = "spec.tls";
                let message = format!("{path}: it is not said who vouches for endpoints");
                let hint = "caCertificateRefs or wellKnownCACertificates with sni, or a BackendTLSPolicy";
                self.part.faults.push(error(&object.origin, &object.key, path, message, Some(hint.to_owned())));
                return PlannedEndpointTls::Broken;
            }
            (Some((object, policy)), also) => {
                if let Some((other, _)) = also {
                    let path = "spec.tls";
                    let message = format!("{path}: Conflicted: {} says how endpoints are verified", object.key);
                    self.part.faults.push(warning(&other.origin, &other.key, path, message, None));
                }
                self.standard_rules(object, policy)
            }
            (None, Some((object, tls))) => self.our_rules(object, tls),
        };
        endpoint_tls(settled, certificate)
    }

    /// Resolves how connections to the endpoints of a Backend use TLS.
    pub(super) fn our_endpoint_tls(&mut self, object: &Object, tls: &BackendTls) -> PlannedEndpointTls {
        let certificate = tls.client_certificate_ref.as_ref();
        let certificate = certificate.map(|r| self.certificate(&Reference::ours(object, "spec.tls.clientCertificateRef".to_owned(), r)));
        let settled = self.our_rules(object, tls);
        endpoint_tls(settled, certificate)
    }

    fn our_rules(&mut self, object: &Object, tls: &BackendTls) -> Option<(Verify, Option<DnsName<'static>>)> {
        let sni = tls.sni.as_deref().and_then(host);
        if tls.insecure_skip_verify {
            return Some((Verify::Nothing, sni));
        }
        let trust = match tls.well_known_ca_certificates {
            Some(_) => Trust::System,
            None => {
                let refs = tls.ca_certificate_refs.iter().enumerate();
                let refs: Vec<_> = refs.map(|(i, r)| Reference::ours(object, format!("spec.tls.caCertificateRefs[{i}]"), r)).collect();
                Trust::Only(self.authorities(&refs)?)
            }
        };
        let names = tls.subject_alt_names.iter().filter_map(|name| match name {
            GivenName::Hostname { hostname } => host(hostname).map(SubjectAltName::Hostname),
            GivenName::Uri { uri } => Some(SubjectAltName::Uri(uri.clone())),
        });
        Some((Verify::Signed { trust, names: names.collect() }, sni))
    }

    fn standard_rules(&mut self, object: &Object, policy: &BackendTlsPolicy) -> Option<(Verify, Option<DnsName<'static>>)> {
        let trust = self.standard_trust(object, policy)?;
        let validation = &policy.spec.validation;
        let names = validation.subject_alt_names.iter().flatten().filter_map(|name| match name.r#type {
            BackendTlsPolicyValidationSubjectAltNamesType::Hostname => {
                name.hostname.as_deref().and_then(host).map(SubjectAltName::Hostname)
            }
            BackendTlsPolicyValidationSubjectAltNamesType::Uri => name.uri.clone().map(SubjectAltName::Uri),
        });
        Some((Verify::Signed { trust, names: names.collect() }, Some(host(&validation.hostname)?)))
    }
}

/// Joins how endpoints are verified with the certificate that they are shown. `settled` is `None` if it is broken how they are verified. `certificate` is
/// `None` if none is to be shown, and `Some(None)` if the one to be shown is broken.
fn endpoint_tls(settled: Option<(Verify, Option<DnsName<'static>>)>, certificate: Option<Option<Arc<Certificate>>>) -> PlannedEndpointTls {
    match (settled, certificate) {
        (Some((verify, sni)), None) => PlannedEndpointTls::On(Arc::new(UpstreamSettings { verify, sni, certificate: None })),
        (Some((verify, sni)), Some(certificate @ Some(_))) => {
            PlannedEndpointTls::On(Arc::new(UpstreamSettings { verify, sni, certificate }))
        }
        _ => PlannedEndpointTls::Broken,
    }
}

/// Whether a listener passes TLS through.
///
/// # Errors
/// A field below `tls` does not fit the protocol: its name, and why.
pub(super) fn passthrough(protocol: &ListenerProtocol, tls: Option<&GatewayListenersTls>) -> Result<bool, (&'static str, &'static str)> {
    use gateway_api::apis::standard::gateways::GatewayListenersTlsMode::{Passthrough, Terminate};
    match (protocol, tls.map(|tls| tls.mode.as_ref().unwrap_or(&Terminate))) {
        (ListenerProtocol::Https, Some(Passthrough)) => {
            Err((".mode", "Unsupported value: \"Passthrough\" with protocol HTTPS: supported values: \"Terminate\""))
        }
        (ListenerProtocol::Tls, None) => Err(("", "Required value with protocol TLS")),
        (_, mode) => Ok(mode == Some(&Passthrough)),
    }
}

fn host(name: &str) -> Option<DnsName<'static>> {
    DnsName::try_from(name.to_ascii_lowercase()).ok()
}
