//! The same configurations from an API server: the one of the tests, which is in this process, with objects that have what a real one adds to them. A change is an object
//! that is put there.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate_apiserver::ApiServer;

use super::changes::{Measured, answers, latencies, measure as changed, percentile};
use super::gateway::Gateway;
use super::report::{Row, Scale};
use super::world::{CHANGED, ENDPOINTS, Side, name, of_gateway, of_route, of_service, path};
use super::{COUNTED, Services, Setting};
use crate::client::Client;
use crate::peers::port;

/// For how long a gateway is observed to which nothing is told: bookmarks come once a minute.
const CALM: Duration = Duration::from_secs(60);
/// For how long a leader is observed that writes statuses.
const WRITING: Duration = Duration::from_secs(10);
/// How long a leader may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an API server keeps of an object besides: who has set which field.
fn managed(object: &Value) -> Value {
    fn fields(value: &Value) -> Value {
        match value {
            Value::Object(all) => all.iter().map(|(name, value)| (format!("f:{name}"), fields(value))).collect(),
            _ => json!({}),
        }
    }
    let mut told = fields(object);
    if let Some(told) = told.as_object_mut() {
        told.retain(|name, _| !matches!(name.as_str(), "f:apiVersion" | "f:kind"));
    }
    json!([{"apiVersion": object["apiVersion"], "fieldsType": "FieldsV1", "fieldsV1": told, "manager": "kubectl-client-side-apply",
        "operation": "Update", "time": "2026-11-28T12:00:00Z"}])
}

/// A server with all definitions, of which another gateway writes the statuses.
fn server() -> ApiServer {
    let server = ApiServer::start();
    server.install_all();
    put(&server, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}));
    server.put(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "sluicegate", "namespace": "default"},
        "spec": {"holderIdentity": "another", "leaseDurationSeconds": 3600, "leaseTransitions": 0,
            "acquireTime": "2026-11-28T12:00:00.000000Z", "renewTime": "2026-11-28T12:00:00.000000Z"}}));
    server
}

/// Puts an object there as a cluster would have it: a Service is left to this gateway, and has all its addresses.
fn put(server: &ApiServer, mut object: Value) {
    if object["kind"] == "Service" {
        object["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"] = json!("sluicegate");
        let ip = object["spec"]["clusterIP"].as_str().map_or_else(|| json!("None"), |ip| json!(ip));
        (object["spec"]["clusterIPs"], object["spec"]["clusterIP"]) = (json!([ip]), ip);
        object["spec"]["ports"][0]["protocol"] = json!("TCP");
        object["spec"]["sessionAffinity"] = json!("None");
        object["status"] = json!({"loadBalancer": {}});
    }
    object["metadata"]["managedFields"] = managed(&object);
    server.put(object);
}

/// The bytes of all objects, in MiB.
fn size(server: &ApiServer, kinds: &[&str]) -> f64 {
    kinds.iter().flat_map(|kind| server.all(kind)).map(|object| object.to_string().len() as f64).sum::<f64>() / MIB
}

const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn measure(setting: &Setting<'_>, scale: &mut Scale) -> Result<(), String> {
    services(setting, scale)?;
    routes(setting, scale)
}

fn services(setting: &Setting<'_>, scale: &mut Scale) -> Result<(), String> {
    let (count, backend) = (setting.sizes.scale, setting.backend);
    println!("  {count} Services ...");
    let put_all = |server: &ApiServer, number: u32, side: Side, limited: bool| {
        of_service(number, count, side, limited, backend).into_iter().for_each(|object| put(server, object));
    };
    // This start fills the cache of compiled code.
    let first = server();
    (0..3).for_each(|number| put_all(&first, number, Side::A, false));
    drop(Gateway::in_cluster(setting.binary, &first.kubeconfig(), &setting.state())?);
    let server = server();
    (0..count).for_each(|number| put_all(&server, number, Side::A, false));
    let gateway = Gateway::in_cluster(setting.binary, &server.kubeconfig(), &setting.state())?;
    let (memory, (requests, bytes)) = (gateway.memory(), gateway.asked()?);
    let start = gateway.start.control + gateway.start.workers;
    let what = format!("in a cluster, {count} Services, {} endpoints: all served", count * ENDPOINTS);
    scale.row(Row::of(what, start, "s of CPU").goal(12.0));
    scale.row(Row::of("in a cluster: the same, by the clock", gateway.took.as_secs_f64(), "s"));
    scale.row(Row::of("in a cluster: memory, proportional (PSS), one worker", memory.proportional, "MiB").goal(350.0));
    scale.row(Row::of("in a cluster: requests of a start", requests as f64, ""));
    let all = size(&server, &["Service", "EndpointSlice", "BackendTrafficPolicy"]);
    scale.row(Row::of(format!("in a cluster: bytes of a start, of objects of {all:.1} MiB"), bytes as f64 / MIB, "MiB"));

    let mut client = Client::new(Services::changed());
    let body = |number: usize| Side::of(number).address().to_string();
    let endpoint = |number: usize| {
        let [_, slice, _] = of_service(CHANGED, count, Side::of(number), false, backend);
        put(&server, slice);
        Ok(())
    };
    let Measured { served, cost } = changed(&gateway, COUNTED, endpoint, |n| answers(&mut client, "/", &body(n)))?;
    scale.row(Row::of("in a cluster: an endpoint changed until it is served, p99", percentile(&served, 99), "ms"));
    scale.row(Row::of("in a cluster: an endpoint changed", cost.all(), "ms of CPU").goal(5.0));
    let policy = |number: usize| {
        let [_, _, policy] = of_service(CHANGED, count, Side::A, number.is_multiple_of(2), backend);
        put(&server, policy);
        Ok(())
    };
    let mut limited = |wanted: bool| client.get("/").is_ok_and(|answer| (answer.status == 429) == wanted);
    let Measured { cost, .. } = changed(&gateway, COUNTED, policy, |n| limited(n.is_multiple_of(2)))?;
    scale.row(Row::of("in a cluster: a policy changed", cost.all(), "ms of CPU").goal(20.0));
    let further = |number: usize| {
        if number.is_multiple_of(2) {
            put_all(&server, count, Side::A, false);
        } else {
            ["Service", "EndpointSlice", "BackendTrafficPolicy"].iter().for_each(|kind| {
                server.remove(kind, "default", &name(count));
            });
        }
        Ok(())
    };
    let address = SocketAddr::from((super::world::ip(count), 80));
    let Measured { cost, .. } = changed(&gateway, COUNTED, further, |n| super::listens(address) == n.is_multiple_of(2))?;
    scale.row(Row::of("in a cluster: a Service added or removed", cost.all(), "ms of CPU").goal(10.0));
    calm(&server, &gateway, scale)?;
    let memory = gateway.memory().proportional;
    scale.row(Row::of("in a cluster: memory after these changes", memory, "MiB").goal(350.0));
    lead(&server, &gateway, scale)
}

/// What a gateway asks for when nothing happens.
fn calm(server: &ApiServer, gateway: &Gateway, scale: &mut Scale) -> Result<(), String> {
    let (before, (_, bytes), cpu) = (server.asked().len(), gateway.asked()?, gateway.cpu()?);
    std::thread::sleep(CALM);
    let (asked, (_, more), used) = (server.asked(), gateway.asked()?, gateway.cpu()? - cpu);
    let (election, others): (Vec<&String>, Vec<&String>) = asked[before..].iter().partition(|asked| asked.contains("/leases"));
    let minutes = CALM.as_secs_f64() / 60.0;
    scale.row(Row::of("in a cluster, in calm: requests of the election", election.len() as f64 / minutes, "a minute"));
    scale.row(Row::of("in a cluster, in calm: other requests", others.len() as f64 / minutes, "a minute"));
    scale.row(Row::of("in a cluster, in calm: answers", (more - bytes) as f64 / 1024.0 / minutes, "KiB a minute"));
    scale.row(Row::of("in a cluster, in calm: CPU", (used.control + used.workers) * 1e3 / minutes, "ms a minute"));
    Ok(())
}

/// What it costs to write statuses.
fn lead(server: &ApiServer, gateway: &Gateway, scale: &mut Scale) -> Result<(), String> {
    server.remove("Lease", "default", "sluicegate");
    let written = |since: usize| server.asked().iter().skip(since).filter(|asked| asked.starts_with("PATCH ")).count();
    let (since, begun) = (server.asked().len(), Instant::now());
    while written(since) < 50 {
        if begun.elapsed() > PATIENCE {
            return Err("no status is written".to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (since, cpu, begun) = (server.asked().len(), gateway.cpu()?, Instant::now());
    std::thread::sleep(WRITING);
    let (statuses, used, took) = (written(since) as f64, gateway.cpu()? - cpu, begun.elapsed().as_secs_f64());
    scale.row(Row::of("in a cluster, as the leader: statuses", statuses / took, "a second"));
    scale.row(Row::of("in a cluster, as the leader: a status", used.control * 1e3 / statuses.max(1.0), "ms of CPU"));
    scale.row(Row::of("in a cluster, as the leader: memory", gateway.memory().proportional, "MiB"));
    Ok(())
}

fn routes(setting: &Setting<'_>, scale: &mut Scale) -> Result<(), String> {
    let (count, backend) = (setting.sizes.scale, setting.backend);
    println!("  {count} HTTPRoutes on one Gateway ...");
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port()?));
    let with = |count: u32| {
        let server = server();
        put(
            &server,
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "sluicegate"},
            "spec": {"controllerName": "sluicegate.dev/gateway-controller"}}),
        );
        of_gateway(at, backend).into_iter().for_each(|object| put(&server, object));
        (0..count).for_each(|number| put(&server, of_route(number, Side::A)));
        server
    };
    let few = with(1);
    // The first start compiles, and the memory which that takes is not given back.
    drop(Gateway::in_cluster(setting.binary, &few.kubeconfig(), &setting.state())?);
    let gateway = Gateway::in_cluster(setting.binary, &few.kubeconfig(), &setting.state())?;
    let without = gateway.memory().proportional;
    drop(gateway);
    let server = with(count);
    let gateway = Gateway::in_cluster(setting.binary, &server.kubeconfig(), &setting.state())?;
    let (start, (requests, bytes)) = (gateway.start.control + gateway.start.workers, gateway.asked()?);
    let mut client = Client::new(at);
    let (changing, path) = (count / 2, path(count / 2));
    let body = |number: usize| Side::of(number).address().to_string();
    let route = |number: usize| {
        put(&server, of_route(changing, Side::of(number)));
        Ok(())
    };
    // A router compiles its rules at the first request that needs them.
    latencies(2, route, |number| answers(&mut client, &path, &body(number)))?;
    let what = format!("in a cluster, {count} HTTPRoutes on one Gateway");
    scale.row(Row::of(format!("{what}: more memory than of one"), gateway.memory().proportional - without, "MiB").goal(100.0));
    scale.row(Row::of(format!("{what}: all served"), start, "s of CPU"));
    let all = size(&server, &["HTTPRoute"]);
    scale.row(Row::of(format!("{what}: bytes of a start, of objects of {all:.1} MiB, in {requests} requests"), bytes as f64 / MIB, "MiB"));
    let Measured { served, cost } = changed(&gateway, COUNTED / 4, route, |number| answers(&mut client, &path, &body(number)))?;
    scale.row(Row::of("in a cluster: an HTTPRoute of these changed", cost.all(), "ms of CPU").goal(20.0));
    scale.row(Row::of("in a cluster: the same until it is served, the slowest", percentile(&served, 100), "ms"));
    Ok(())
}
