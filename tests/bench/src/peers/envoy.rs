//! Envoy, for HTTP/1.1, HTTP/2 and gRPC.

use std::path::Path;

use serde_json::{Value, json};

use super::{BACKENDS, Door, PROXY_CORE, Peer, Setting, port, text, write};
use crate::process::Running;

const OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn cluster(name: &str, port: u16, http2: bool) -> Value {
    let endpoint =
        |last: u8| json!({"endpoint": {"address": {"socket_address": {"address": format!("127.0.0.{last}"), "port_value": port}}}});
    let mut cluster = json!({"name": name, "connect_timeout": "5s", "type": "STATIC", "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": BACKENDS.map(endpoint)}]}});
    if http2 {
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
            {"@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}});
    }
    cluster
}

fn listener(name: &str, port: u16, cluster: &str, codec: &str) -> Value {
    let route = |i: usize| json!({"match": {"prefix": format!("/service-{i}")}, "route": {"cluster": cluster}});
    let routes: Vec<Value> = (0..10).map(route).collect();
    let manager = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name, "codec_type": codec, "use_remote_address": true,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]});
    json!({"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]})
}

/// Starts it. `all`: not for gRPC alone.
pub(super) fn start(setting: &Setting<'_>, program: &Path, all: bool) -> Result<Peer, String> {
    let (http, h2, grpc) = (port()?, port()?, port()?);
    let listeners =
        [listener("http", http, "pool", "HTTP1"), listener("h2", h2, "pool", "HTTP2"), listener("grpc", grpc, "calls", "HTTP2")];
    let clusters = [cluster("pool", setting.backend, false), cluster("calls", setting.grpc, true)];
    let bootstrap =
        json!({"node": {"id": "bench", "cluster": "bench"}, "static_resources": {"listeners": listeners, "clusters": clusters}});
    let file = setting.folder.join("envoy.json");
    write(&file, bootstrap.to_string())?;
    let arguments = ["-c", text(&file)?, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"];
    let running = Running::start(PROXY_CORE, text(program)?, &arguments, &setting.folder.join("envoy.log"))?;
    let doors = [(Door::Grpc, grpc), (Door::Http, http), (Door::H2, h2)];
    Peer::started("envoy", running, if all { &doors } else { &doors[..1] })
}
