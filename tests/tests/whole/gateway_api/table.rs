//! Which tests of the conformance suite are here: the table of `config/GATEWAY-API.md` is made of the names below and of the functions of this folder.

use std::fmt::Write as _;

/// The tests of release v1.6.1 for gateways, in the order of their subjects.
const NAMES: [&str; 131] = [
    "GatewayClassObservedGenerationBump",
    "GatewayObservedGenerationBump",
    "GatewayModifyListeners",
    "GatewayWithAttachedRoutes",
    "GatewayWithAttachedRoutesWithPort8080",
    "GatewayListenerUnsupportedProtocol",
    "GatewayInvalidParametersRef",
    "GatewayInvalidRouteKind",
    "GatewayInvalidTLSConfiguration",
    "GatewaySecretMissingReferenceGrant",
    "GatewaySecretInvalidReferenceGrant",
    "GatewaySecretReferenceGrantSpecific",
    "GatewaySecretReferenceGrantAllInNamespace",
    "GatewayStaticAddresses",
    "GatewayOptionalAddressValue",
    "GatewayInfrastructure",
    "GatewayHTTPListenerIsolation",
    "GatewayTLSBackendClientCertificate",
    "GatewayInvalidTLSBackendConfiguration",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayFrontendInvalidDefaultClientCertificateValidation",
    "GatewayInvalidFrontendClientCertificateValidation",
    "HTTPRouteSimpleSameNamespace",
    "HTTPRouteCrossNamespace",
    "HTTPRouteInvalidCrossNamespaceParentRef",
    "HTTPRouteDisallowedKind",
    "HTTPRouteInvalidParentRefNotMatchingSectionName",
    "HTTPRouteInvalidParentRefNotMatchingListenerPort",
    "HTTPRouteInvalidParentRefSectionNameNotMatchingPort",
    "HTTPRouteListenerPortMatching",
    "HTTPRouteListenerHostnameMatching",
    "HTTPRouteHostnameIntersection",
    "HTTPRouteMultipleGateways",
    "HTTPRouteObservedGenerationBump",
    "HTTPRouteInvalidNonExistentBackendRef",
    "HTTPRouteInvalidBackendRefUnknownKind",
    "HTTPRouteInvalidCrossNamespaceBackendRef",
    "HTTPRouteInvalidReferenceGrant",
    "HTTPRouteReferenceGrant",
    "HTTPRoutePartiallyInvalidViaInvalidReferenceGrant",
    "HTTPRouteNoBackendRefs",
    "HTTPRouteServiceTypes",
    "HTTPRouteHTTPSListener",
    "HTTPRouteHTTPSListenerDetectMisdirectedRequests",
    "HTTPRouteExactPathMatching",
    "HTTPRoutePathMatchOrder",
    "HTTPRouteMatching",
    "HTTPRouteMatchingAcrossRoutes",
    "HTTPRouteHeaderMatching",
    "HTTPRouteMethodMatching",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteNamedRule",
    "HTTPRouteWeight",
    "HTTPRouteRequestHeaderModifier",
    "HTTPRouteBackendRequestHeaderModifier",
    "HTTPRouteRequestHeaderModifierBackendWeights",
    "HTTPRouteResponseHeaderModifier",
    "HTTPRouteRewriteHost",
    "HTTPRouteRewritePath",
    "HTTPRouteRedirectHostAndStatus",
    "HTTPRouteRedirectPath",
    "HTTPRouteRedirectPort",
    "HTTPRouteRedirectScheme",
    "HTTPRouteRedirectPortAndScheme",
    "HTTPRoute303Redirect",
    "HTTPRoute307Redirect",
    "HTTPRoute308Redirect",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteCORS",
    "HTTPRouteTimeoutRequest",
    "HTTPRouteTimeoutBackendRequest",
    "HTTPRouteRetry",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "BackendTLSPolicy",
    "BackendTLSPolicyInvalidCACertificateRef",
    "BackendTLSPolicyInvalidKind",
    "BackendTLSPolicyConflictResolution",
    "BackendTLSPolicyObservedGenerationBump",
    "BackendTLSPolicySANValidation",
    "GRPCExactMethodMatching",
    "GRPCRouteHeaderMatching",
    "GRPCRouteListenerHostnameMatching",
    "GRPCRouteWeight",
    "GRPCRouteNamedRule",
    "TLSRouteSimpleSameNamespace",
    "TLSRouteHostnameIntersection",
    "TLSRouteInvalidNoMatchingListenerHostname",
    "TLSRouteInvalidNoMatchingListener",
    "TLSRouteInvalidBackendRefNonexistent",
    "TLSRouteInvalidBackendRefUnknownKind",
    "TLSRouteInvalidReferenceGrant",
    "TLSRouteListenerPassthroughSupportedKinds",
    "TLSRouteListenerTerminateNotSupported",
    "TLSRouteListenerTerminateSupportedKinds",
    "TLSRouteTerminateSimpleSameNamespace",
    "TLSRouteListenerMixedTerminationNotSupported",
    "TLSRouteMixedTerminationSameNamespace",
    "TCPRouteParentRefAttachAll",
    "TCPRouteParentRefPortAndSectionName",
    "TCPRouteMultipleRoutesAttachment",
    "TCPRouteWeightedRouting",
    "TCPRouteReferenceGrant",
    "TCPRouteInvalidBackendRefNonexistent",
    "TCPRouteInvalidCrossNamespaceBackendRef",
    "TCPRouteInvalidNonTCPListener",
    "UDPRoute",
    "UDPRouteParentRefAttachAllListeners",
    "UDPRouteParentRefPortAndSectionName",
    "UDPRouteMultipleRoutesAttachment",
    "UDPRouteWeightedRouting",
    "UDPRouteReferenceGrant",
    "UDPRouteInvalidBackendRefNonexistent",
    "UDPRouteInvalidCrossNamespaceBackendRef",
    "UDPRouteNotAllowedByListeners",
    "ListenerSetDefaultNotAllowed",
    "ListenerSetAllowedNamespaceNone",
    "ListenerSetAllowedNamespaceSame",
    "ListenerSetAllowedNamespaceSelector",
    "ListenerSetAllowedRoutesNamespaces",
    "ListenerSetAllowedRoutesSupportedKinds",
    "ListenerSetHTTPRouting",
    "ListenerSetGatewayParentSectionNameNotFound",
    "ListenerSetDualParentRefIndependence",
    "ListenerSetRouteStatusScopedToParentRef",
    "ListenerSetHostnameConflict",
    "ListenerSetProtocolConflict",
    "ListenerSetReferenceGrant",
];

/// Tests that the suite leaves out where a feature is served.
const LEFT_OUT: [(&str, &str); 2] = [
    ("TLSRouteListenerTerminateNotSupported", "is left out, as TLSRouteModeTerminate is served"),
    ("TLSRouteListenerMixedTerminationNotSupported", "is left out, as TLSRouteModeMixed is served"),
];

const SOURCES: [&str; 10] = [
    include_str!("backend_tls.rs"),
    include_str!("client_certificates.rs"),
    include_str!("gateways.rs"),
    include_str!("grpc.rs"),
    include_str!("l4.rs"),
    include_str!("http_attachment.rs"),
    include_str!("http_filters.rs"),
    include_str!("http_matching.rs"),
    include_str!("retries.rs"),
    include_str!("tls_routes.rs"),
];

#[test]
fn the_table_of_tests_says_what_is_here() {
    let here = |name: &str| SOURCES.iter().any(|source| source.contains(&format!("#[test]\nfn {name}() {{")));
    let shown = NAMES.iter().filter(|name| here(name)).count();
    let left_out = |name: &str| LEFT_OUT.iter().find(|(known, _)| *known == name).map(|(_, why)| *why);
    let mut table =
        format!("{shown} of {} tests are shown; {} are left out.\n\n| test | shown |\n| --- | --- |\n", NAMES.len(), LEFT_OUT.len());
    for name in NAMES {
        let _ = writeln!(table, "| {name} | {} |", if here(name) { "yes" } else { left_out(name).unwrap_or("not yet") });
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/GATEWAY-API.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let (before, _) = page.split_once("<!-- tests -->\n").expect("the place of the table");
    let wanted = format!("{before}<!-- tests -->\n{table}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &wanted).expect("written");
        return;
    }
    assert!(page == wanted, "config/GATEWAY-API.md is not up to date: UPDATE_GOLDEN=1 writes it anew");
    let unknown: Vec<&str> =
        SOURCES.iter().flat_map(|source| source.split("#[test]\nfn ").skip(1)).filter_map(|rest| rest.split('(').next()).collect();
    assert!(unknown.iter().all(|name| NAMES.contains(name)), "{unknown:?}");
}
