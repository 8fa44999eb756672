//! Envoy, which watches files of routes (RDS) and endpoints (EDS) that are renamed into place. Only the changed pool has a file: each takes one of the
//! inotify instances of a user, of which there usually are 128.
//! inotify instances that a user may have, of which there are 128 as a rule.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Kind, Plan, Proxy, find};
use crate::peers::{text, write};
use crate::process::Running;
use crate::scale::world::{Side, replace};

struct Envoy {
    running: Running,
    /// The file that is renamed into place, and its text for each side.
    file: PathBuf,
    texts: [String; 2],
}

pub(super) fn start(plan: &Plan<'_>) -> Result<Option<Box<dyn Proxy>>, String> {
    let Some(program) = find(plan, "envoy") else { return Ok(None) };
    let file = |name: &str| plan.folder.join(format!("{name}.json"));
    let mut clusters = Vec::new();
    let changed = format!("pool-{}", plan.changed());
    for (name, endpoints) in plan.pools(Side::A) {
        let assignment = assignment(plan, &name, &endpoints);
        let mut cluster = json!({"name": name, "connect_timeout": "5s", "lb_policy": "LEAST_REQUEST"});
        if name == changed {
            write(&file(&name), discovered("endpoint.v3.ClusterLoadAssignment", assignment))?;
            cluster["type"] = json!("EDS");
            cluster["eds_cluster_config"] = json!({"eds_config": watched(&file(&name))?});
        } else {
            cluster["type"] = json!("STATIC");
            cluster["load_assignment"] = assignment;
        }
        clusters.push(cluster);
    }
    let routes = [Side::A, Side::B].map(|side| routes(plan, side));
    write(&file("routes"), &routes[0])?;
    let (address, port) = (plan.listen().ip().to_string(), plan.port);
    let manager = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web", "rds": {"route_config_name": "routes", "config_source": watched(&file("routes"))?},
        "http_filters": [{"name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]});
    let listener = json!({"name": "web", "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]});
    let bootstrap =
        json!({"node": {"id": "bench", "cluster": "bench"}, "static_resources": {"listeners": [listener], "clusters": clusters}});
    let path = file("bootstrap");
    write(&path, bootstrap.to_string())?;
    let arguments = ["-c", text(&path)?, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"];
    let running = Running::anywhere(text(&program)?, &arguments, &plan.folder.join("log"))?;
    let (file, texts) = match plan.kind {
        Kind::Routes => (file("routes"), routes),
        Kind::Endpoints => {
            let of =
                |side| discovered("endpoint.v3.ClusterLoadAssignment", assignment(plan, &changed, &plan.endpoints(plan.changed(), side)));
            (file(&changed), [of(Side::A), of(Side::B)])
        }
    };
    Ok(Some(Box::new(Envoy { running, file, texts })))
}

fn watched(file: &Path) -> Result<Value, String> {
    Ok(json!({"path_config_source": {"path": text(file)?}, "resource_api_version": "V3"}))
}

/// The text of a file with one resource.
fn discovered(kind: &str, mut resource: Value) -> String {
    resource["@type"] = json!(format!("type.googleapis.com/envoy.config.{kind}"));
    json!({"resources": [resource]}).to_string()
}

fn assignment(plan: &Plan<'_>, name: &str, endpoints: &[Ipv4Addr]) -> Value {
    let endpoint = |address: &Ipv4Addr| json!({"endpoint": {"address": {"socket_address": {"address": address.to_string(), "port_value": plan.backend}}}});
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()}]})
}

fn routes(plan: &Plan<'_>, side: Side) -> String {
    let routes = plan.routes(side).into_iter().map(|(path, pool)| json!({"match": {"prefix": path}, "route": {"cluster": pool}}));
    let host = json!({"name": "all", "domains": ["*"], "routes": routes.collect::<Vec<_>>()});
    discovered("route.v3.RouteConfiguration", json!({"name": "routes", "virtual_hosts": [host]}))
}

impl Proxy for Envoy {
    fn change(&mut self, side: Side) -> Result<(), String> {
        replace(&self.file, &self.texts[usize::from(side == Side::B)])
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }
}
