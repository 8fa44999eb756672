//! What the chart's roles grant: exactly what a gateway asks an API server for.

use std::collections::BTreeSet;

use sluicegate_tests::apiserver::{KINDS, Right};

use super::{objects, of_kind, render};

const GATEWAY: &str = "gateway.networking.k8s.io";
const EXPERIMENTAL: &str = "gateway.networking.x-k8s.io";
const OURS: &str = "sluicegate.dev";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["patch", "update"];

/// In all namespaces: groups, resources, verbs.
const EVERYWHERE: &[(&str, &[&str], &[&str])] = &[
    ("", &["services", "pods", "nodes", "namespaces", "secrets", "configmaps"], READ),
    ("discovery.k8s.io", &["endpointslices"], READ),
    (
        GATEWAY,
        &[
            "gatewayclasses",
            "gateways",
            "listenersets",
            "httproutes",
            "grpcroutes",
            "tlsroutes",
            "tcproutes",
            "udproutes",
            "backendtlspolicies",
            "referencegrants",
        ],
        READ,
    ),
    (EXPERIMENTAL, &["xbackendtrafficpolicies"], READ),
    (OURS, &["plugins", "backendtrafficpolicies", "clienttrafficpolicies", "backends", "httproutefilters", "gatewayparameters"], READ),
    ("", &["services/status"], WRITE),
    (
        GATEWAY,
        &[
            "gatewayclasses/status",
            "gateways/status",
            "listenersets/status",
            "httproutes/status",
            "grpcroutes/status",
            "tlsroutes/status",
            "tcproutes/status",
            "udproutes/status",
            "backendtlspolicies/status",
        ],
        WRITE,
    ),
    (EXPERIMENTAL, &["xbackendtrafficpolicies/status"], WRITE),
    (OURS, &["plugins/status", "backendtrafficpolicies/status", "clienttrafficpolicies/status", "backends/status"], WRITE),
    ("events.k8s.io", &["events"], &["create", "patch"]),
];

/// In the namespace of the gateway's own.
const OWN_NAMESPACE: &[(&str, &[&str], &[&str])] = &[("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch"])];

fn rights(table: &[(&str, &[&str], &[&str])]) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for (group, resources, verbs) in table {
        for resource in *resources {
            let right = |verb: &&str| Right { group: (*group).to_owned(), resource: (*resource).to_owned(), verb: (*verb).to_owned() };
            all.extend(verbs.iter().map(right));
        }
    }
    all
}

/// The rights of the gateway's account in all namespaces, and in its own.
fn granted() -> [BTreeSet<Right>; 2] {
    let all = objects(&render(&[]).expect("rendered"));
    ["ClusterRole", "Role"].map(|kind| {
        let role = of_kind(&all, kind).into_iter().find(|role| role["metadata"]["name"] == "sluicegate").expect("a role");
        Right::granted(role)
    })
}

#[test]
fn the_account_has_the_rights_that_are_used_and_no_others() {
    let [everywhere, own] = granted();
    assert_eq!(everywhere, rights(EVERYWHERE));
    assert_eq!(own, rights(OWN_NAMESPACE));
}

/// A kind that is read, and a resource whose name is misspelt.
#[test]
fn the_resources_are_those_of_the_api_server() {
    let readable = |kind: &&sluicegate_tests::apiserver::Kind| {
        !["ComponentStatus", "Lease", "CustomResourceDefinition"].contains(&kind.kind) && kind.group != "events.k8s.io"
    };
    let there: BTreeSet<(&str, &str)> = KINDS.iter().filter(readable).map(|kind| (kind.group, kind.plural)).collect();
    let [everywhere, _] = granted();
    let read: BTreeSet<(&str, &str)> =
        everywhere.iter().filter(|right| right.verb == "watch").map(|right| (right.group.as_str(), right.resource.as_str())).collect();
    assert_eq!(read, there);
}

#[test]
fn requests_need_the_rights_that_roles_name() {
    for (request, right) in [
        ("GET /api/v1/services?limit=500", "list services"),
        ("GET /api/v1/namespaces/shop/services?watch=true&resourceVersion=1", "watch services"),
        ("GET /api/v1/namespaces", "list namespaces"),
        ("GET /api/v1/namespaces/shop", "get namespaces"),
        ("GET /api/v1/namespaces/shop/secrets/tls", "get secrets"),
        (
            "PATCH /apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways/edge/status?fieldManager=a",
            "patch gateways/status.gateway.networking.k8s.io",
        ),
        ("PUT /apis/gateway.networking.k8s.io/v1/gatewayclasses/ours/status", "update gatewayclasses/status.gateway.networking.k8s.io"),
        ("POST /apis/coordination.k8s.io/v1/namespaces/edge/leases", "create leases.coordination.k8s.io"),
    ] {
        assert_eq!(Right::needed(request).expect(request).to_string(), right);
    }
    assert_eq!(Right::needed("GET /readyz"), None);
    assert_eq!(Right::needed("GET /apis/gateway.networking.k8s.io/v1"), None);
}
