//! The namespaces from which a listener takes routes, and a Gateway takes ListenerSets.

use std::collections::BTreeMap;

use gateway_api::apis::standard::gateways::{
    GatewayAllowedListenersNamespaces, GatewayAllowedListenersNamespacesFrom, GatewayListenersAllowedRoutesNamespaces,
    GatewayListenersAllowedRoutesNamespacesFrom,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The label that every namespace has.
const NAME: &str = "kubernetes.io/metadata.name";

/// The namespaces from which objects are taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Namespaces {
    None,
    Same,
    All,
    Selector(LabelSelector),
}

/// Converts a selector. The crate `gateway-api` has a type of its own for the selector of each field.
macro_rules! selector {
    ($given:expr) => {
        $given.as_ref().map_or_else(LabelSelector::default, |given| LabelSelector {
            match_labels: given.match_labels.clone(),
            match_expressions: given.match_expressions.as_ref().map(|all| {
                let requirements = all.iter().map(|one| LabelSelectorRequirement {
                    key: one.key.clone(),
                    operator: one.operator.clone(),
                    values: one.values.clone(),
                });
                requirements.collect()
            }),
        })
    };
}

impl Namespaces {
    /// Reads `allowedRoutes.namespaces` of a listener.
    pub(super) fn of_routes(given: Option<&GatewayListenersAllowedRoutesNamespaces>) -> Self {
        use GatewayListenersAllowedRoutesNamespacesFrom::{All, Same, Selector};
        match given.and_then(|given| Some((given, given.from.as_ref()?))) {
            None | Some((_, Same)) => Self::Same,
            Some((_, All)) => Self::All,
            Some((given, Selector)) => Self::Selector(selector!(given.selector)),
        }
    }

    /// Reads `allowedListeners.namespaces` of a Gateway.
    pub(super) fn of_listener_sets(given: Option<&GatewayAllowedListenersNamespaces>) -> Self {
        use GatewayAllowedListenersNamespacesFrom::{All, None as Nobody, Same, Selector};
        match given.and_then(|given| Some((given, given.from.as_ref()?))) {
            None | Some((_, Nobody)) => Self::None,
            Some((_, Same)) => Self::Same,
            Some((_, All)) => Self::All,
            Some((given, Selector)) => Self::Selector(selector!(given.selector)),
        }
    }

    /// Whether a namespace is one of these. `own` is the namespace that [`Namespaces::Same`] means.
    pub(super) fn contain(&self, namespace: &str, own: &str, labels: impl Fn(&str) -> BTreeMap<String, String>) -> bool {
        match self {
            Self::None => false,
            Self::Same => namespace == own,
            Self::All => true,
            Self::Selector(selector) => selects(selector, namespace, labels(namespace)),
        }
    }
}

/// Whether a selector matches a namespace. A selector without conditions matches all.
fn selects(selector: &LabelSelector, namespace: &str, mut labels: BTreeMap<String, String>) -> bool {
    labels.insert(NAME.to_owned(), namespace.to_owned());
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = value.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
