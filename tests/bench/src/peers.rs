//! The proxies that are compared, configured to do the same: ten prefixes, of which the last takes the requests; four endpoints, the one with
//! the least work next; connections kept on both sides; the usual forwarding headers; no access log.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use serde_json::{Value, json};

use crate::process::{Running, family, wait_for};

const PROXY_CORE: usize = 0;
const BACKEND_CORE: usize = 1;
const BACKENDS: [u8; 4] = [2, 3, 4, 5];
const PATH: &str = "/service-9/items";

/// One way through one proxy.
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) layer: &'static str,
    pub(crate) url: String,
    pid: u32,
}

impl Peer {
    pub(crate) fn processes(&self) -> Result<Vec<u32>, String> {
        family(self.pid)
    }
}

/// All of them, and the backends.
pub(crate) struct Peers {
    pub(crate) all: Vec<Peer>,
    _processes: Vec<Running>,
    _folder: tempfile::TempDir,
}

/// The configuration of the `rules` router.
pub(crate) fn rules(with_header: bool) -> Value {
    let rule = |i: usize| {
        let mut matched = json!({"path": {"type": "PathPrefix", "value": format!("/service-{i}")}});
        if with_header {
            matched["headers"] = json!([{"name": "x-version", "value": "2"}]);
        }
        json!({"matches": [matched], "backendRefs": [{"name": "bench", "port": 80}]})
    };
    json!({"rules": (0..10).map(rule).collect::<Vec<_>>()})
}

fn port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    listener.local_addr().map(|a| a.port()).map_err(|e| e.to_string())
}

impl Peers {
    pub(crate) fn start(gateway: &Path) -> Result<Self, String> {
        if !gateway.exists() {
            return Err(format!("{} does not exist: run `make build`", gateway.display()));
        }
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let at = folder.path();
        let (mut all, mut processes) = (Vec::new(), Vec::new());
        let backend = port()?;
        processes.push(nginx(at, "backend", BACKEND_CORE, &backend_config(backend))?);
        for last in BACKENDS {
            wait_for(SocketAddr::from(([127, 0, 0, last], backend)), "the backend")?;
        }
        let (l7, l4) = (port()?, port()?);
        let ours = sluicegate(at, gateway, backend, l7, l4)?;
        let mut peer = |name: &str, port: u16, layer, running: &Running| -> Result<(), String> {
            wait_for(SocketAddr::from(([127, 0, 0, 1], port)), name)?;
            let url = format!("http://127.0.0.1:{port}{PATH}");
            all.push(Peer { name: format!("{name} {layer}"), layer, url, pid: running.pid() });
            Ok(())
        };
        peer("sluicegate", l7, "L7", &ours)?;
        peer("sluicegate", l4, "L4", &ours)?;
        processes.push(ours);
        let (l7, l4) = (port()?, port()?);
        let stream = stream_module();
        let nginx = nginx(at, "nginx", PROXY_CORE, &nginx_config(backend, l7, stream.as_deref().map(|module| (module, l4))))?;
        peer("nginx", l7, "L7", &nginx)?;
        match stream {
            Some(_) => peer("nginx", l4, "L4", &nginx)?,
            None => println!("  nginx has no stream module here (Debian: libnginx-mod-stream): L4 is compared with HAProxy only"),
        }
        processes.push(nginx);
        let (l7, l4) = (port()?, port()?);
        let config = at.join("haproxy.cfg");
        std::fs::write(&config, haproxy_config(backend, l7, l4)).map_err(|e| e.to_string())?;
        let file = config.to_str().ok_or("the folder's name is not UTF-8")?;
        let haproxy = Running::start(PROXY_CORE, "haproxy", &["-db", "-f", file], &at.join("haproxy.log"))?;
        peer("haproxy", l7, "L7", &haproxy)?;
        peer("haproxy", l4, "L4", &haproxy)?;
        processes.push(haproxy);
        all.sort_by_key(|p| std::cmp::Reverse(p.layer));
        Ok(Self { all, _processes: processes, _folder: folder })
    }
}

fn nginx(at: &Path, name: &str, core: usize, config: &str) -> Result<Running, String> {
    let folder = at.join(name);
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config.replace("FOLDER", &folder.display().to_string())).map_err(|e| e.to_string())?;
    let file = file.to_str().ok_or("the folder's name is not UTF-8")?;
    Running::start(core, "nginx", &["-p", folder.to_str().unwrap_or("."), "-c", file], &folder.join("log"))
}

fn backend_config(port: u16) -> String {
    let body = "x".repeat(100);
    let listen: String = BACKENDS.iter().map(|last| format!("    listen 127.0.0.{last}:{port} backlog=4096;\n")).collect();
    format!(
        "daemon off; pid FOLDER/pid; error_log FOLDER/error.log warn; worker_processes 1; worker_rlimit_nofile 8192;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; default_type text/plain;\n\
         \x20 client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b; fastcgi_temp_path FOLDER/c; uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e;\n\
         \x20 server {{\n{listen}    location / {{ return 200 \"{body}\"; }}\n  }}\n}}\n"
    )
}

/// Debian builds it as a module of its own.
fn stream_module() -> Option<String> {
    ["/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/share/nginx/modules/ngx_stream_module.so"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .map(str::to_owned)
}

fn nginx_config(backend: u16, l7: u16, stream: Option<(&str, u16)>) -> String {
    let servers: String = BACKENDS.iter().map(|last| format!(" server 127.0.0.{last}:{backend};")).collect();
    let locations: String = (0..10).map(|i| format!("    location /service-{i} {{ proxy_pass http://pool; }}\n")).collect();
    let (load, stream) = match stream {
        Some((module, port)) => (
            format!("load_module {module};\n"),
            format!(
                "stream {{ upstream pool {{ least_conn;{servers} }} server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass pool; }} }}\n"
            ),
        ),
        None => (String::new(), String::new()),
    };
    format!(
        "{load}daemon off; pid FOLDER/pid; error_log FOLDER/error.log warn; worker_processes 1; worker_rlimit_nofile 8192;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;\n\
         \x20 client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b; fastcgi_temp_path FOLDER/c; uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e;\n\
         \x20 upstream pool {{ least_conn;{servers} keepalive 128; keepalive_requests 1000000000; }}\n\
         \x20 server {{\n    listen 127.0.0.1:{l7} backlog=4096;\n    proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n\
         \x20   proxy_set_header Host $http_host;\n    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         \x20   proxy_set_header X-Forwarded-Proto $scheme;\n    proxy_set_header X-Forwarded-Host $http_host;\n{locations}  }}\n}}\n{stream}"
    )
}

fn haproxy_config(backend: u16, l7: u16, l4: u16) -> String {
    let servers: String = BACKENDS.iter().map(|last| format!("  server s{last} 127.0.0.{last}:{backend}\n")).collect();
    let rules: String = (0..10).map(|i| format!("  use_backend pool if {{ path_beg /service-{i} }}\n")).collect();
    format!(
        "global\n  nbthread 1\n  maxconn 8192\n\
         defaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend web\n  mode http\n  bind 127.0.0.1:{l7} backlog 4096\n  option forwardfor\n  http-request set-header X-Forwarded-Proto http\n\
         \x20 http-request set-header X-Forwarded-Host %[req.hdr(Host)]\n{rules}\
         backend pool\n  mode http\n  balance leastconn\n  http-reuse always\n{servers}\
         listen raw\n  mode tcp\n  bind 127.0.0.1:{l4} backlog 4096\n  balance leastconn\n{servers}"
    )
}

fn sluicegate(at: &Path, gateway: &Path, backend: u16, l7: u16, l4: u16) -> Result<Running, String> {
    let folder = at.join("sluicegate");
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let target = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "bench"}]);
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench"}, "spec": {"selector": {"app": "bench"},
            "ports": [{"port": 80, "targetPort": backend, "appProtocol": "http"}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "raw"}, "spec": {"type": "NodePort", "selector": {"app": "bench"},
            "ports": [{"port": 81, "targetPort": backend, "nodePort": l4}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "bench"}, "spec": {
            "gatewayClassName": "sluicegate", "addresses": [{"type": "IPAddress", "value": "127.0.0.1"}],
            "listeners": [{"name": "web", "port": l7, "protocol": "HTTP"}]}}),
        json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": {"name": "bench"},
            "spec": {"targetRefs": target, "router": {"plugin": "rules", "config": rules(false)}}}),
    ];
    objects.extend(BACKENDS.iter().map(|last| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{last}"), "labels": {"app": "bench"}},
            "status": {"podIP": format!("127.0.0.{last}"), "conditions": [{"type": "Ready", "status": "True"}]}})
    }));
    for (i, object) in objects.iter().enumerate() {
        std::fs::write(folder.join(format!("{i}.json")), object.to_string()).map_err(|e| e.to_string())?;
    }
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("the folder's name is not UTF-8");
    let (program, objects, state) = (text(gateway)?, text(&folder)?, text(&at.join("state"))?);
    let arguments = ["run", &objects, "--workers", "1", "--admin-address", "127.0.0.1:0", "--state-dir", &state];
    let network =
        ["--nodeport-addresses", "127.0.0.1/32", "--node-port-range", "1024-65535", "--service-cluster-ip-range", "127.215.0.0/24"];
    Running::start(PROXY_CORE, &program, &[&arguments[..], &network[..]].concat(), &at.join("sluicegate.log"))
}
