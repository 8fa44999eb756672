//! Which tests of the conformance suite are here. The table of `config/GATEWAY-API.md` is made from the names below and the functions of this folder.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::world::World;

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
    (
        "TLSRouteListenerTerminateNotSupported",
        "is left out: the suite runs it only where TLSRouteModeTerminate is not claimed, and asserts of a TLS listener with mode Terminate that it is `Accepted: False`, `UnsupportedValue`; here that mode is served",
    ),
    (
        "TLSRouteListenerMixedTerminationNotSupported",
        "is left out: the suite runs it only where TLSRouteModeMixed is not claimed, and asserts of TLS listeners with modes Terminate and Passthrough on one port that both are `Accepted: False`, `ProtocolConflict`; here both are served",
    ),
];

/// The suite's features, each with the beginnings of the names of tests that need it.
const FEATURES: [(&str, &[&str]); 48] = [
    ("BackendTLSPolicy", &["BackendTLSPolicy"]),
    ("BackendTLSPolicySANValidation", &["BackendTLSPolicySANValidation"]),
    ("GRPCRoute", &["GRPCExact", "GRPCRouteHeader", "GRPCRouteListener", "GRPCRouteWeight"]),
    ("GRPCRouteNamedRouteRule", &["GRPCRouteNamedRule"]),
    (
        "Gateway",
        &[
            "GatewayClass",
            "GatewayObserved",
            "GatewayModify",
            "GatewayListener",
            "GatewayInvalidP",
            "GatewayInvalidR",
            "GatewayInvalidTLSC",
            "GatewaySecret",
        ],
    ),
    ("GatewayAddressEmpty", &["GatewayOptionalAddressValue"]),
    ("GatewayBackendClientCertificate", &["GatewayTLSBackend", "GatewayInvalidTLSBackend"]),
    ("GatewayFrontendClientCertificateValidation", &["GatewayFrontend", "GatewayInvalidFrontend"]),
    ("GatewayFrontendClientCertificateValidationInsecureFallback", &["GatewayFrontendClientCertificateValidationInsecureFallback"]),
    ("GatewayHTTPListenerIsolation", &["GatewayHTTPListenerIsolation"]),
    ("GatewayHTTPSListenerDetectMisdirectedRequests", &["HTTPRouteHTTPSListenerDetectMisdirectedRequests"]),
    ("GatewayInfrastructurePropagation", &["GatewayInfrastructure"]),
    ("GatewayPort8080", &["GatewayWithAttachedRoutesWithPort8080", "HTTPRouteRedirectPortAndScheme"]),
    ("GatewayStaticAddresses", &["GatewayStaticAddresses"]),
    (
        "HTTPRoute",
        &[
            "HTTPRouteSimple",
            "HTTPRouteCross",
            "HTTPRouteDisallowed",
            "HTTPRouteListenerHost",
            "HTTPRouteHostname",
            "HTTPRouteMultiple",
            "HTTPRouteObserved",
            "HTTPRouteInvalidNon",
            "HTTPRouteNoBackend",
            "HTTPRouteService",
            "HTTPRouteExact",
            "HTTPRoutePath",
            "HTTPRouteMatching",
            "HTTPRouteHeader",
            "HTTPRouteWeight",
            "HTTPRouteRequestHeaderModifier",
            "HTTPRouteRedirectHost",
        ],
    ),
    ("HTTPRoute303RedirectStatusCode", &["HTTPRoute303Redirect"]),
    ("HTTPRoute307RedirectStatusCode", &["HTTPRoute307Redirect"]),
    ("HTTPRoute308RedirectStatusCode", &["HTTPRoute308Redirect"]),
    ("HTTPRouteBackendProtocolH2C", &["HTTPRouteBackendProtocolH2C"]),
    ("HTTPRouteBackendProtocolWebSocket", &["HTTPRouteBackendProtocolWebSocket"]),
    ("HTTPRouteBackendRequestHeaderModification", &["HTTPRouteBackendRequestHeader", "HTTPRouteRequestHeaderModifierBackendWeights"]),
    ("HTTPRouteBackendTimeout", &["HTTPRouteTimeoutBackendRequest"]),
    ("HTTPRouteCORS", &["HTTPRouteCORS"]),
    ("HTTPRouteDestinationPortMatching", &["HTTPRouteInvalidParentRefNotMatchingListenerPort"]),
    ("HTTPRouteHostRewrite", &["HTTPRouteRewriteHost"]),
    ("HTTPRouteMethodMatching", &["HTTPRouteMethodMatching"]),
    ("HTTPRouteNamedRouteRule", &["HTTPRouteNamedRule"]),
    ("HTTPRouteParentRefPort", &["HTTPRouteListenerPortMatching", "HTTPRouteInvalidParentRefSectionNameNotMatchingPort"]),
    ("HTTPRoutePathRedirect", &["HTTPRouteRedirectPath"]),
    ("HTTPRoutePathRewrite", &["HTTPRouteRewritePath"]),
    ("HTTPRoutePortRedirect", &["HTTPRouteRedirectPort"]),
    ("HTTPRouteQueryParamMatching", &["HTTPRouteQueryParamMatching"]),
    ("HTTPRouteRequestMirror", &["HTTPRouteRequestMirror"]),
    ("HTTPRouteRequestMultipleMirrors", &["HTTPRouteRequestMultipleMirrors"]),
    ("HTTPRouteRequestPercentageMirror", &["HTTPRouteRequestPercentageMirror"]),
    ("HTTPRouteRequestTimeout", &["HTTPRouteTimeoutRequest"]),
    ("HTTPRouteResponseHeaderModification", &["HTTPRouteResponseHeaderModifier"]),
    ("HTTPRouteRetry", &["HTTPRouteRetry"]),
    // The suite has no tests for these two.
    ("HTTPRouteRetryBackendTimeout", &["HTTPRouteRetry"]),
    ("HTTPRouteRetryConnectionError", &["HTTPRouteRetry"]),
    ("HTTPRouteSchemeRedirect", &["HTTPRouteRedirectScheme"]),
    ("ListenerSet", &["ListenerSet"]),
    ("ReferenceGrant", &["GatewaySecret", "HTTPRouteReferenceGrant", "HTTPRouteInvalidReferenceGrant", "HTTPRoutePartially"]),
    ("TCPRoute", &["TCPRoute"]),
    ("TLSRoute", &["TLSRouteSimple", "TLSRouteHostname", "TLSRouteInvalid", "TLSRouteListenerPassthrough"]),
    ("TLSRouteModeMixed", &["TLSRouteMixed"]),
    ("TLSRouteModeTerminate", &["TLSRouteListenerTerminateSupported", "TLSRouteTerminate"]),
    ("UDPRoute", &["UDPRoute"]),
];

const SOURCES: [&str; 12] = [
    include_str!("addresses.rs"),
    include_str!("backend_tls.rs"),
    include_str!("client_certificates.rs"),
    include_str!("gateways.rs"),
    include_str!("grpc.rs"),
    include_str!("l4.rs"),
    include_str!("listener_sets.rs"),
    include_str!("http_attachment.rs"),
    include_str!("http_filters.rs"),
    include_str!("http_matching.rs"),
    include_str!("retries.rs"),
    include_str!("tls_routes.rs"),
];

fn here(name: &str) -> bool {
    SOURCES.iter().any(|source| source.contains(&format!("#[test]\nfn {name}() {{")))
}

#[test]
fn the_features_that_are_claimed_are_those_whose_tests_are_all_here() {
    let shown = |beginnings: &&[&str]| {
        let mut tests = NAMES.iter().filter(|name| beginnings.iter().any(|beginning| name.starts_with(beginning)));
        tests.all(|name| here(name) || LEFT_OUT.iter().any(|(known, _)| known == name))
    };
    let needed = |beginning: &&&str| !NAMES.iter().any(|name| name.starts_with(**beginning));
    let unknown: Vec<&&str> = FEATURES.iter().flat_map(|(_, beginnings)| beginnings.iter()).filter(needed).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let wanted: BTreeSet<String> =
        FEATURES.iter().filter(|(_, beginnings)| shown(beginnings)).map(|(feature, _)| (*feature).to_owned()).collect();
    let world = World::new("");
    let claimed = world.object("gatewayclasses", "conformance")["status"]["supportedFeatures"].as_array().cloned().unwrap_or_default();
    let claimed: Vec<String> = claimed.iter().filter_map(|feature| feature["name"].as_str()).map(str::to_owned).collect();
    assert_eq!(claimed, wanted.into_iter().collect::<Vec<_>>());
}

#[test]
fn the_table_of_tests_says_what_is_here() {
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
