//! What the chart's roles grant: exactly what a gateway asks an API server for.

use std::collections::BTreeSet;

use sluicegate_tests::apiserver::{ApiServer, KINDS, Right};

use super::{config, objects, of_kind, render};

const GATEWAY: &str = "gateway.networking.k8s.io";
const EXPERIMENTAL: &str = "gateway.networking.x-k8s.io";
const OURS: &str = "sluicegate.dev";
const READ: &[&str] = &["list", "watch"];

/// Kinds that are read: groups and resources.
const READABLE: &[(&str, &[&str])] = &[
    ("", &["services", "nodes", "namespaces", "pods", "secrets", "configmaps"]),
    ("discovery.k8s.io", &["endpointslices"]),
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
    ),
    (EXPERIMENTAL, &["xbackendtrafficpolicies"]),
    (OURS, &["plugins", "backendtrafficpolicies", "clienttrafficpolicies", "backends", "httproutefilters", "gatewayparameters"]),
];

/// Kinds that are read and whose status is not written.
const WITHOUT_STATUS: &[&str] =
    &["nodes", "namespaces", "pods", "secrets", "configmaps", "endpointslices", "referencegrants", "httproutefilters", "gatewayparameters"];

fn right(group: &str, resource: &str, verb: &str) -> Right {
    Right { group: group.to_owned(), resource: resource.to_owned(), verb: verb.to_owned() }
}

/// The rights that a gateway needs in all namespaces.
fn everywhere() -> BTreeSet<Right> {
    let mut all = BTreeSet::from(["create", "patch"].map(|verb| right("events.k8s.io", "events", verb)));
    // A Service stands for each Gateway.
    all.extend(["create", "patch", "delete"].map(|verb| right("", "services", verb)));
    for (group, resources) in READABLE {
        for resource in *resources {
            all.extend(READ.iter().map(|verb| right(group, resource, verb)));
            if !WITHOUT_STATUS.contains(resource) {
                all.insert(right(group, resource, "get"));
                all.insert(right(group, &format!("{resource}/status"), "patch"));
            }
        }
    }
    all
}

/// The rights that it needs in its own namespace, for the Lease by which one of many gateways is elected, and those in which each tells what it runs.
fn own_namespace() -> BTreeSet<Right> {
    ["get", "list", "watch", "create", "update", "patch", "delete"].map(|verb| right("coordination.k8s.io", "leases", verb)).into()
}

/// The rights of the gateway's account in all namespaces, and in its own.
fn granted() -> [BTreeSet<Right>; 2] {
    let all = objects(&render(&[]).expect("rendered"));
    ["ClusterRole", "Role"].map(|kind| {
        let role = of_kind(&all, kind).into_iter().find(|role| role["metadata"]["name"] == "sluicegate").expect("a role");
        Right::granted(role)
    })
}

/// Checks that the account of the manifests, which are what the chart renders, may do everything that a server was asked for.
#[track_caller]
pub(crate) fn assert_sufficient(server: &ApiServer) {
    let all = objects(&std::fs::read_to_string(config("manifests/daemonset.yaml")).expect("read"));
    let roles = all.iter().filter(|object| object["metadata"]["name"] == "sluicegate");
    let granted: BTreeSet<Right> = roles.flat_map(Right::granted).collect();
    let needed = server.rights_needed();
    assert!(!needed.is_empty(), "nothing was asked for");
    let missing: Vec<String> = needed.difference(&granted).map(Right::to_string).collect();
    assert!(missing.is_empty(), "the chart does not grant {missing:?}");
}

#[test]
fn the_account_has_the_rights_that_are_used_and_no_others() {
    let [granted_everywhere, granted_here] = granted();
    assert_eq!(granted_everywhere, everywhere());
    assert_eq!(granted_here, own_namespace());
}

/// This finds kinds that are read without the right to do so, and resources whose names are misspelt.
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
