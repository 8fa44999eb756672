//! Gateways with what became of them, and listeners with the host names that they serve.

use std::collections::HashMap;

use serde_json::{Value, json};
use sluicegate_model::status::{HostStatus, ListenerStatus};

use super::super::sample::Sample;
use super::{Viewed, list, rounded, routes};

/// How many host names of a listener are shown, and listeners of a Gateway.
const FEW: usize = 8;

pub(super) fn gateways(viewed: &Viewed, sample: &Sample) -> Value {
    let all = sample.status.objects.as_ref().and_then(|objects| objects.judged("gateways")).unwrap_or_default();
    let count = all.len();
    let found = all.into_iter().filter(|gateway| viewed.finds(&[&format!("{}/{}", gateway.namespace, gateway.name)])).collect();
    list(viewed, found, count, |gateway| {
        let conditions = |of: &Value| -> Vec<Value> {
            let all = of["conditions"].as_array().into_iter().flatten();
            all.map(|one| json!({ "type": one["type"], "status": one["status"], "reason": one["reason"], "message": one["message"] }))
                .collect()
        };
        let listeners = gateway.status["listeners"].as_array().map(Vec::as_slice).unwrap_or_default();
        let shown: Vec<Value> = listeners.iter().take(FEW).map(|listener| {
            json!({ "name": listener["name"], "attachedRoutes": listener["attachedRoutes"], "conditions": conditions(listener) })
        }).collect();
        json!({
            "namespace": gateway.namespace, "name": gateway.name, "addresses": gateway.status["addresses"],
            "conditions": conditions(&gateway.status), "listeners": shown, "moreListeners": listeners.len().saturating_sub(FEW),
        })
    })
}

pub(super) fn listeners(viewed: &Viewed, sample: &Sample) -> Value {
    let index = &sample.index;
    let all = &sample.status.listeners;
    let count = all.iter().count();
    let found = all.iter().filter(|listener| {
        viewed.finds(&[&listener.name, &listener.address, listener.protocol])
            || listener.hosts.iter().any(|host| host.hostname.as_ref().is_some_and(|name| viewed.finds(&[name])))
    });
    // What leads on from a listener: by rules, or straight to a Service.
    let at: HashMap<(String, bool), usize> =
        index.listeners.iter().enumerate().map(|(at, listener)| ((listener.address.to_string(), is_udp(&listener.front)), at)).collect();
    let mut rules: HashMap<usize, (usize, f32)> = HashMap::new();
    for route in &index.routes {
        let rate = routes::figures(sample, *route).rate;
        for (listener, _) in index.routers.get(route.router).into_iter().flat_map(|router| &router.at) {
            let known = rules.entry(*listener).or_default();
            *known = (known.0 + 1, known.1 + rate);
        }
    }
    let straight: HashMap<usize, String> =
        index.straight.iter().flat_map(|(service, listeners)| listeners.iter().map(move |at| (*at, service.to_string()))).collect();
    list(viewed, found.collect(), count, |listener: &ListenerStatus| {
        let at = at.get(&(listener.address.clone(), listener.protocol == "UDP"));
        let of = at.and_then(|at| rules.get(at));
        json!({
            "name": listener.name, "address": listener.address, "protocol": listener.protocol, "bound": at.is_some(),
            "hosts": listener.hosts.iter().take(FEW).collect::<Vec<&HostStatus>>(), "moreHosts": listener.hosts.len().saturating_sub(FEW),
            "rules": of.map_or(0, |(count, _)| *count), "rate": of.map(|(_, rate)| rounded(*rate)), "service": at.and_then(|at| straight.get(at)),
        })
    })
}

fn is_udp(front: &sluicegate_model::snapshot::Front) -> bool {
    front.protocol() == sluicegate_model::route::Protocol::Udp
}
