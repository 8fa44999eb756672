//! Why a request would fail although nothing is wrong with any object by itself: selectors that match nothing, ports that no container has,
//! listeners that lead nowhere. For `check` and `explain`; a running gateway does not say it, as Pods come and go.

mod nearest;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluicegate_builtins::DEFAULT_DISCOVERY;
use sluicegate_model::family::IpFamily;
use sluicegate_model::fault::Fault;

use crate::object::{Body, Object, ObjectKey, SERVICE_NAME, warning};
use crate::objects::Objects;
use crate::plan::{ListenerProtocol, Plan, PlannedService};

/// The objects, and what is looked up in them to find out why a Service would fail.
pub struct Diagnosis<'o> {
    objects: &'o Objects,
    /// The Services that EndpointSlices name, by namespace and name.
    sliced: HashSet<(&'o str, &'o str)>,
    pods: Vec<Labelled<'o>>,
    /// Positions in `pods`, by the key and the value of a label.
    labelled: HashMap<&'o str, HashMap<&'o str, Vec<usize>>>,
}

/// A Pod, and the object that holds it.
type Labelled<'o> = (&'o Object, &'o Pod);

impl<'o> Diagnosis<'o> {
    /// Prepares the look-ups among these objects.
    pub fn new(objects: &'o Objects) -> Self {
        let slice = |o: &'o Arc<Object>| match &o.body {
            Body::CheckedSlice(service) => Some((&*o.key.namespace, service.as_deref()?)),
            Body::EndpointSlice(slice) => Some((&*o.key.namespace, slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?.as_str())),
            _ => None,
        };
        let sliced = objects.of_kind("EndpointSlice").filter_map(slice).collect();
        let pods: Vec<Labelled<'o>> = objects.of_kind("Pod").filter_map(|o| Some((&**o, pod(o)?))).collect();
        let mut labelled: HashMap<&str, HashMap<&str, Vec<usize>>> = HashMap::new();
        for (at, (_, pod)) in pods.iter().enumerate() {
            for (key, value) in pod.metadata.labels.iter().flatten() {
                labelled.entry(key).or_default().entry(value).or_default().push(at);
            }
        }
        Self { objects, sliced, pods, labelled }
    }

    /// All that would fail, in the order of the plan.
    pub fn all(&self, plan: &Plan) -> Vec<Fault> {
        let mut faults: Vec<Fault> = plan.services.values().flat_map(|planned| self.service(planned)).collect();
        listeners(plan, &mut faults);
        faults
    }

    fn with(&self, key: &str, value: &str) -> &[usize] {
        self.labelled.get(key).and_then(|values| values.get(value)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The Pods that have all of a selector's labels, in any namespace.
    fn selected(&self, selector: &BTreeMap<String, String>) -> Vec<Labelled<'o>> {
        let fewest = selector.iter().map(|(key, value)| self.with(key, value)).min_by_key(|found| found.len()).unwrap_or_default();
        fewest.iter().map(|at| self.pods[*at]).filter(|(_, pod)| nearest::selects(selector, pod)).collect()
    }

    /// Why a Service has no endpoints, or no usable ones, as far as the objects tell.
    pub fn service(&self, planned: &PlannedService) -> Vec<Fault> {
        let mut faults = Vec::new();
        let Body::Service(service) = &planned.object.body else { return faults };
        let by_kubernetes = planned.ports.first().is_some_and(|port| port.discovery.plugin == DEFAULT_DISCOVERY);
        if !planned.proxied || !by_kubernetes || self.sliced.contains(&(planned.namespace.as_str(), planned.name.as_str())) {
            return faults;
        }
        let mut say = |path: &str, what: String, hint: Option<String>| {
            faults.push(warning(&planned.object.origin, &planned.object.key, path, format!("{path}: {what}"), hint));
        };
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
        let Some(selector) = selector else {
            let what = "the Service has no selector, and no EndpointSlice names it: it has no endpoints".to_owned();
            say("spec", what, Some(format!("an EndpointSlice with the label {SERVICE_NAME}: {}", planned.name)));
            return faults;
        };
        let everywhere = self.selected(selector);
        let selected: Vec<(&Object, &Pod)> = everywhere.iter().copied().filter(|(o, _)| o.key.namespace == planned.namespace).collect();
        if selected.is_empty() {
            let what =
                format!("no Pod of namespace {:?} has {}: the Service has no endpoints", planned.namespace, nearest::shown(selector));
            say("spec.selector", what, nearest::hint(self.objects, selector, &planned.namespace, &self.pods, &everywhere));
            return faults;
        }
        let usable = |(_, pod): &&(&Object, &Pod)| phase(pod).is_none_or(|phase| !matches!(phase, "Succeeded" | "Failed"));
        let running: Vec<&(&Object, &Pod)> = selected.iter().filter(usable).collect();
        let names = |pods: &[&(&Object, &Pod)]| pods.iter().take(3).map(|(o, _)| o.key.name.clone()).collect::<Vec<_>>().join(", ");
        if running.is_empty() {
            say("spec.selector", format!("all Pods that it selects have ended: {}", names(&selected.iter().collect::<Vec<_>>())), None);
            return faults;
        }
        let without: Vec<IpFamily> =
            planned.families.list().iter().copied().filter(|family| !running.iter().any(|(_, pod)| has(pod, *family))).collect();
        for family in &without {
            let what = format!("no Pod that it selects has an address of {family}: {}", names(&running));
            say("spec.selector", what, Some("status.podIP, or status.podIPs for two families".to_owned()));
        }
        if without.is_empty() && !running.iter().any(|(_, pod)| is_ready(pod)) {
            say(
                "spec.selector",
                format!("no Pod that it selects is ready: {}", names(&running)),
                Some("the condition Ready in status.conditions".to_owned()),
            );
        }
        for (i, port) in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).enumerate() {
            if let Some((what, hint)) = target_port(port, &running) {
                say(&format!("spec.ports[{i}].targetPort"), what, hint);
            }
        }
        faults
    }
}

fn pod(object: &Object) -> Option<&Pod> {
    match &object.body {
        Body::Pod(pod) => Some(pod),
        _ => None,
    }
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref().and_then(|status| status.phase.as_deref())
}

fn has(pod: &Pod, family: IpFamily) -> bool {
    let status = pod.status.as_ref();
    let all = status.and_then(|s| s.pod_ips.as_ref()).into_iter().flatten().map(|ip| &ip.ip);
    let mut all = all.chain(status.and_then(|s| s.pod_ip.as_ref()));
    all.any(|ip| ip.parse().is_ok_and(|ip| IpFamily::of(ip) == family))
}

/// Whether a Pod is ready, as the discovery plugin judges it. A Pod without conditions and phase was written by hand, and counts as ready.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let by_hand = conditions.is_empty() && phase(pod).is_none();
    let ready = by_hand || conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// What is wrong with a named target port that none of the Pods has, and a hint; none if one of them has it.
fn target_port(port: &ServicePort, pods: &[&(&Object, &Pod)]) -> Option<(String, Option<String>)> {
    let Some(IntOrString::String(name)) = &port.target_port else { return None };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    if name.is_empty() || protocol == "SCTP" {
        return None;
    }
    let mut there: Vec<(String, String, i32)> = Vec::new();
    for (_, pod) in pods {
        let spec = pod.spec.as_ref();
        let sidecars =
            spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        for found in spec.into_iter().flat_map(|s| &s.containers).chain(sidecars).flat_map(|c| c.ports.iter().flatten()) {
            let found =
                (found.name.clone().unwrap_or_default(), found.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), found.container_port);
            if !there.contains(&found) {
                there.push(found);
            }
        }
    }
    if there.iter().any(|(found, of, _)| found == name && of == protocol) {
        return None;
    }
    let what = format!("no container of the Pods that are selected has a port named {name:?} of protocol {protocol}");
    let shown: Vec<String> = there
        .iter()
        .map(
            |(name, protocol, number)| {
                if name.is_empty() { format!("{number}/{protocol}, without a name") } else { format!("{name:?} ({number}/{protocol})") }
            },
        )
        .collect();
    let hint = if shown.is_empty() {
        "their containers name no ports: the number will do".to_owned()
    } else {
        format!("there are: {}", shown.join(", "))
    };
    Some((what, Some(hint)))
}

/// Listeners of Gateways and ListenerSets that lead nowhere.
fn listeners(plan: &Plan, faults: &mut Vec<Fault>) {
    let conflicts: HashSet<(&ObjectKey, &str)> = plan.conflicts.iter().map(|conflict| (&conflict.object, &*conflict.path)).collect();
    let gateways = plan.gateways.iter().map(|gateway| (&gateway.object, &gateway.accepted, &gateway.listeners));
    let sets = plan.listener_sets.iter().map(|set| (&set.object, &set.accepted, &set.listeners));
    for (object, _, listeners) in gateways.chain(sets).filter(|(_, accepted, _)| accepted.is_ok()) {
        for (i, listener) in listeners.iter().enumerate() {
            let path = format!("spec.listeners[{i}]");
            let serves = listener.accepted.is_ok() && !conflicts.contains(&(&object.key, &*path));
            if !serves || listener.routes > 0 || listener.overridden.is_some() {
                continue;
            }
            let what = match listener.protocol {
                ListenerProtocol::Http | ListenerProtocol::Https => "every request is answered 404",
                ListenerProtocol::Udp => "every datagram is dropped",
                _ => "every connection is reset",
            };
            let message = format!("{path}: the listener {:?} has no routes: {what}", listener.name);
            let route = listener.protocol.routes().first().map_or("route", |kind| kind.name());
            let (kind, name) = (&object.key.kind, &object.key.name);
            let named = if kind == "Gateway" { format!("name {name}") } else { format!("have kind {kind} and name {name}") };
            let hint = format!(
                "a {route} whose parentRefs {named}, or a ClientTrafficPolicy with a router, whose targetRefs have kind {kind} and that name"
            );
            faults.push(warning(&object.origin, &object.key, &path, message, Some(hint)));
        }
    }
}
