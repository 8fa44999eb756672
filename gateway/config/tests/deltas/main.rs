//! The plan that is kept up to date equals a plan made from nothing, whatever has changed in whatever order, and a change costs what it reaches.

mod writer;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use sluicegate_config::object::{Object, ObjectKey};
use sluicegate_config::objects::{Change, Objects};
use sluicegate_config::plan::{Allocations, Delta, Plan, Planner, Settings, compile};
use sluicegate_config::{manifest, object};
use sluicegate_model::sorted::Sorted;
use writer::Writer;

fn parse(text: &str) -> Arc<Object> {
    let mut parsed = manifest::parse(Path::new("world.yaml"), text);
    assert!(parsed.faults.is_empty(), "{text}\n{:?}", parsed.faults);
    let (made, faults) = object::decode(parsed.documents.remove(0));
    Arc::new(made.unwrap_or_else(|| panic!("{text}\n{faults:?}")))
}

/// Everything in a plan, as text. The order of faults has no meaning: they are sorted before they are shown.
fn shown(plan: &Plan) -> Vec<String> {
    let mut faults: Vec<String> = plan.faults.iter().map(|fault| format!("{fault:?}")).collect();
    faults.sort();
    let services = plan.services.values().map(|s| format!("{s:?}"));
    let all = services.chain(plan.listeners.values().map(|l| format!("{l:?}"))).chain(plan.routers.iter().map(|r| format!("{r:?}")));
    let all = all.chain(plan.gateways.iter().map(|g| format!("{g:?}"))).chain(plan.routes.iter().map(|r| format!("{r:?}")));
    let all = all.chain(plan.listener_sets.iter().map(|s| format!("{s:?}"))).chain(plan.conflicts.iter().map(|c| format!("{c:?}")));
    let all = all.chain(plan.policies.values().flat_map(Sorted::iter).map(|p| format!("{p:?}")));
    let all = all.chain(plan.health_checks.iter().map(|c| format!("{c:?}"))).chain(plan.plugins.iter().map(|p| format!("{p:?}")));
    all.chain(faults).collect()
}

/// A planner, and the objects that it plans.
struct World {
    objects: Objects,
    allocations: Allocations,
    planner: Planner,
}

impl World {
    fn new() -> Self {
        Self { objects: Objects::default(), allocations: Allocations::default(), planner: Planner::new(Settings::default()) }
    }

    fn change(&mut self, changes: &[Change], allocations: Allocations) -> Delta {
        let before: Vec<_> = changes.iter().map(|change| (change, self.objects.change(change))).collect();
        let allocated = allocations.differences(&self.allocations);
        self.allocations = allocations;
        self.planner.update(&self.objects, before, &self.allocations, allocated)
    }
}

#[test]
fn a_plan_that_is_kept_up_to_date_is_the_plan_from_nothing() {
    for seed in 0..12 {
        let mut writer = Writer::new(seed);
        let mut world = World::new();
        for step in 0..60 {
            let mut changes: Vec<Change> = Vec::new();
            for _ in 0..writer.random.random_range(1..4) {
                let there: Vec<ObjectKey> = world.objects.iter().map(|object| object.key.clone()).collect();
                let change = match there.choose(&mut writer.random) {
                    Some(key) if writer.odds(30) => Change::Gone(key.clone()),
                    _ => Change::Applied(writer.object()),
                };
                if !changes.iter().any(|other| other.key() == change.key()) {
                    changes.push(change);
                }
            }
            let mut after = world.objects.clone();
            changes.iter().for_each(|change| drop(after.change(change)));
            let allocations = if writer.odds(50) { writer.allocations(&after) } else { world.allocations.clone() };
            let delta = world.change(&changes, allocations);
            let all: Vec<Arc<Object>> = world.objects.iter().cloned().collect();
            let anew = compile(&all, &world.allocations, &Settings::default());
            let (kept, fresh) = (shown(world.planner.plan()), shown(&anew));
            let differs = kept.iter().zip(&fresh).find(|(kept, fresh)| kept != fresh);
            assert!(
                kept == fresh,
                "seed {seed}, step {step}, {changes:?}: {} parts made\nkept  {:?}\nfresh {:?}",
                delta.made,
                differs.map(|(kept, _)| kept),
                differs.map(|(_, fresh)| fresh)
            );
            for (key, (_, now)) in &delta.services {
                let planned = world.planner.service(&key.0, &key.1);
                assert!(planned.map(Arc::as_ptr) == now.as_ref().map(Arc::as_ptr), "seed {seed}, step {step}: {key:?}");
            }
        }
    }
}

/// `services` Services, each with a policy and an EndpointSlice.
fn many(services: usize) -> (Vec<Arc<Object>>, Allocations) {
    let mut allocations = Allocations::default();
    let mut objects = Vec::new();
    for i in 0..services {
        let ip = IpAddr::from([127, 96, u8::try_from(i / 250).unwrap_or_default(), u8::try_from(i % 250 + 1).unwrap_or_default()]);
        allocations.cluster_ips.insert(("many".to_owned(), format!("s{i}")), vec![ip]);
        objects.push(service(i, "http"));
        objects.push(policy(i, 3));
        objects.push(parse(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{i}, namespace: many, labels: {{kubernetes.io/service-name: s{i}}}}}\naddressType: IPv4\nports: []\nendpoints: [{{addresses: [10.0.0.1]}}]\n"
        )));
    }
    (objects, allocations)
}

fn service(i: usize, protocol: &str) -> Arc<Object> {
    parse(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}, namespace: many}}\nspec: {{ports: [{{name: http, port: 80, appProtocol: {protocol}}}]}}\n"
    ))
}

fn policy(i: usize, seconds: usize) -> Arc<Object> {
    parse(&format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: p{i}, namespace: many}}\nspec:\n  targetRefs: [{{group: \"\", kind: Service, name: s{i}}}]\n  timeout: {{http: {{requestTimeout: {seconds}s}}}}\n"
    ))
}

#[test]
fn a_change_makes_the_parts_that_it_reaches_and_no_others() {
    let mut world = World::new();
    let (objects, allocations) = many(100);
    let changes: Vec<Change> = objects.iter().cloned().map(Change::Applied).collect();
    assert_eq!(world.change(&changes, allocations.clone()).made, 200);
    let before = world.planner.plan().clone();
    let delta = world.change(&[Change::Applied(policy(7, 9))], allocations.clone());
    assert_eq!((delta.made, delta.services.len()), (2, 1), "the policy, and the Service that it targets");
    let other = before.services.values().zip(world.planner.plan().services.values()).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!(other, 1, "the others are the same ones");
    let delta = world.change(&[Change::Applied(service(7, "grpc"))], allocations.clone());
    assert_eq!((delta.made, delta.services.len()), (2, 1));
    let delta = world.change(&[Change::Applied(objects[2].clone())], allocations.clone());
    assert_eq!(delta.made, 0, "the plan does not look at endpoints");
    let delta = world.change(&[Change::Gone(objects[0].key.clone())], allocations);
    assert_eq!((delta.made, delta.services.len()), (2, 1));
    assert_eq!(world.planner.plan().services.len(), 99);
}

/// A Gateway, and `routes` HTTPRoutes that are attached to it, each to a Service of its own.
fn routed(routes: usize) -> Vec<Arc<Object>> {
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: many}\nspec:\n  gatewayClassName: sluicegate\n  listeners: [{name: http, port: 80, protocol: HTTP}]\n";
    let mut objects = vec![parse(gateway)];
    for i in 0..routes {
        objects.push(service(i, "http"));
        objects.push(route(i, "/"));
    }
    objects
}

fn route(i: usize, path: &str) -> Arc<Object> {
    parse(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{i}, namespace: many}}\nspec:\n  parentRefs: [{{name: g}}]\n  hostnames: [h{i}.example]\n  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: s{i}, port: 80}}]}}]\n"
    ))
}

#[test]
fn a_changed_route_makes_itself_and_its_gateway_and_no_other_route() {
    let mut world = World::new();
    let objects = routed(50);
    let changes: Vec<Change> = objects.iter().cloned().map(Change::Applied).collect();
    assert_eq!(world.change(&changes, Allocations::default()).made, 101);
    assert_eq!(world.planner.plan().gateways[0].listeners[0].routes, 50);
    assert_eq!(world.change(&[Change::Applied(route(7, "/other"))], Allocations::default()).made, 2);
    // The route is made again, as it has looked at the Service, with the same result.
    assert_eq!(world.change(&[Change::Applied(service(7, "grpc"))], Allocations::default()).made, 2);
    assert_eq!(world.change(&[Change::Gone(service(7, "grpc").key.clone())], Allocations::default()).made, 3);
    assert_eq!(world.change(&[Change::Gone(route(7, "/").key.clone())], Allocations::default()).made, 2);
    assert_eq!(world.planner.plan().gateways[0].listeners[0].routes, 49);
}

#[test]
fn a_changed_listener_set_makes_itself_and_no_other_set() {
    let mut world = World::new();
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: many}\nspec:\n  gatewayClassName: sluicegate\n  allowedListeners: {namespaces: {from: All}}\n  listeners: [{name: http, port: 80, protocol: HTTP, hostname: own.example}]\n";
    let set = |i: usize, host: &str| {
        parse(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: l{i}, namespace: many}}\nspec:\n  parentRef: {{name: g}}\n  listeners: [{{name: http, port: 80, protocol: HTTP, hostname: {host}}}]\n"
        ))
    };
    let mut changes = vec![Change::Applied(parse(gateway))];
    changes.extend((0..50).map(|i| Change::Applied(set(i, &format!("h{i}.example")))));
    assert_eq!(world.change(&changes, Allocations::default()).made, 51);
    assert_eq!(world.change(&[Change::Applied(set(7, "other.example"))], Allocations::default()).made, 1);
    // A route of the Gateway does not concern its sets, but what the Gateway allows does. The route has looked whether the Gateway exists.
    let of_gateway = route(1, "/");
    assert_eq!(world.change(&[Change::Applied(of_gateway)], Allocations::default()).made, 2);
    assert_eq!(world.change(&[Change::Applied(parse(&gateway.replace("All", "Same")))], Allocations::default()).made, 52);
    assert!(world.planner.plan().conflicts.is_empty());
}

#[test]
fn eight_times_the_objects_cost_about_eight_times_as_much() {
    let cost = |services: usize| {
        let (objects, allocations) = many(services);
        let once = || {
            let begun = std::time::Instant::now();
            let plan = compile(&objects, &allocations, &Settings::default());
            let all = Objects::new(&objects);
            let faults = sluicegate_config::diagnose::Diagnosis::new(&all).all(&plan);
            assert_eq!((plan.services.len(), faults.len()), (services, 0));
            begun.elapsed().as_secs_f64()
        };
        (0..3).map(|_| once()).fold(f64::MAX, f64::min)
    };
    let (few, many) = (cost(150), cost(1200));
    // If something walks over all objects for each of them, this is 64. The machine may be busy.
    assert!(many / few < 24.0, "{few} s, and {many} s for eight times as many");
}
