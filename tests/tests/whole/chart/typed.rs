//! Every object that the chart renders has the fields of its type, and no others.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::Value;
use sluicegate_tests::Gateway;

use super::{EVERYTHING, objects, of_kind, render};

/// A field that the type does not have is lost on the way there and back.
fn whole<T: Serialize + DeserializeOwned>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"));
    assert_eq!(serde_json::to_value(typed).expect("JSON"), *object);
}

#[test]
fn all_objects_have_the_fields_of_their_types() {
    let mut custom = 0;
    for values in EVERYTHING {
        for object in objects(&render(values).expect("rendered")) {
            match object["kind"].as_str().expect("a kind") {
                "DaemonSet" => whole::<DaemonSet>(&object),
                "Deployment" => whole::<Deployment>(&object),
                "ConfigMap" => whole::<ConfigMap>(&object),
                "Namespace" => whole::<Namespace>(&object),
                "Service" => whole::<Service>(&object),
                "ServiceAccount" => whole::<ServiceAccount>(&object),
                "NetworkPolicy" => whole::<NetworkPolicy>(&object),
                "PodDisruptionBudget" => whole::<PodDisruptionBudget>(&object),
                "ClusterRole" => whole::<ClusterRole>(&object),
                "ClusterRoleBinding" => whole::<ClusterRoleBinding>(&object),
                "Role" => whole::<Role>(&object),
                "RoleBinding" => whole::<RoleBinding>(&object),
                // The first is checked below; the others are the Prometheus Operator's.
                "GatewayClass" | "ServiceMonitor" | "PrometheusRule" => custom += 1,
                other => panic!("{other} is of no known type"),
            }
        }
    }
    assert!(custom > 5, "{custom}");
}

/// A gateway reads the class, the Services and the process's settings, and accepts the class.
#[test]
fn a_gateway_accepts_what_it_would_read() {
    let rendered = render(&["form=Deployment"]).expect("rendered");
    let all = objects(&rendered);
    let settings = of_kind(&all, "ConfigMap")[0]["data"]["sluicegate.yaml"].as_str().expect("text");
    let gateway = Gateway::new(&[("rendered.yaml", &rendered), ("settings.yaml", settings)]);
    let faults = gateway.json("faults");
    let faults: Vec<&Value> = faults.as_array().expect("a list").iter().filter(|fault| fault["severity"] == "error").collect();
    assert_eq!(faults, Vec::<&Value>::new());
    let class = &gateway.json("objects/gatewayclasses")[0];
    assert_eq!((&class["metadata"]["name"], &class["status"]["conditions"][0]["status"]), (&"sluicegate".into(), &"True".into()));
}
