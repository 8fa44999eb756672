//! What a selector that matches nothing may have meant.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use strsim::damerau_levenshtein as edits;

use crate::object::{Body, Object};
use crate::objects::Objects;

type Labels = BTreeMap<String, String>;

/// Labels as a selector is written: `app=web,tier=front`.
pub(super) fn shown(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Whether a Pod has all of a selector's labels.
pub(super) fn selects(selector: &Labels, pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().is_some_and(|labels| has(selector, labels))
}

fn has(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A hint for a Service whose selector selects none of `pods` in its namespace. `selected` are the Pods of any namespace that it selects.
pub(super) fn hint(
    objects: &Objects,
    selector: &Labels,
    namespace: &str,
    pods: &[(&Object, &Pod)],
    selected: &[(&Object, &Pod)],
) -> Option<String> {
    if let Some((other, _)) = selected.first() {
        return Some(format!("Pod {:?} has them, in namespace {:?}", other.key.name, other.key.namespace));
    }
    let makes = objects.of_kind("Deployment").find(|o| match &o.body {
        Body::Deployment(deployment) => {
            let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
            template.and_then(|metadata| metadata.labels.as_ref()).is_some_and(|labels| has(selector, labels))
        }
        _ => false,
    });
    if let Some(deployment) = makes {
        return Some(format!("Deployment {:?} has them in its template, but only a cluster makes its Pods", deployment.key.name));
    }
    let near = || pods.iter().filter(|(o, _)| o.key.namespace == namespace);
    let nearest = near()
        .filter_map(|(o, pod)| Some((distance(selector, pod.metadata.labels.as_ref()?), o, pod)))
        .min_by_key(|(distance, ..)| *distance);
    match nearest {
        Some((_, object, pod)) => {
            let labels = pod.metadata.labels.as_ref().map(shown).unwrap_or_default();
            Some(format!("nearest is Pod {:?} with {labels}", object.key.name))
        }
        None if near().next().is_none() => Some("there is no Pod in this namespace".to_owned()),
        None => Some("its Pods have no labels".to_owned()),
    }
}

/// How far a Pod's labels are from a selector: for each label of the selector the edits that turn the most similar label into it, summed.
fn distance(selector: &Labels, labels: &Labels) -> usize {
    let of = |key: &str, value: &str| labels.iter().map(|(k, v)| edits(key, k) + edits(value, v)).min().unwrap_or(key.len() + value.len());
    selector.iter().map(|(key, value)| of(key, value)).sum()
}
