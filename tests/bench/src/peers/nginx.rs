//! nginx, as one of the proxies and as the backend of all.

use std::path::Path;

use super::{BACKEND_CORE, BACKENDS, Door, PROXY_CORE, Peer, ROUTES, Setting, port, prefixes, text, write};
use crate::process::Running;

const COMMON: &str = "daemon off; pid FOLDER/pid; error_log FOLDER/error.log warn; worker_processes 1; worker_rlimit_nofile 8192;\n\
    events { worker_connections 4096; }\n";
const HTTP: &str = "  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; default_type text/plain; sendfile on;\n  \
    client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b; fastcgi_temp_path FOLDER/c; uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e;\n";

/// The directives of a server that forwards.
const FORWARD: &str = "    proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    proxy_set_header Host $http_host;\n    \
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    proxy_set_header X-Forwarded-Proto $scheme;\n    \
    proxy_set_header X-Forwarded-Host $http_host;\n    proxy_set_header X-Forwarded-Port $server_port;\n";

/// Answers 100 bytes from memory, and larger bodies from files that the kernel has in memory.
pub(super) fn backend(setting: &Setting<'_>) -> Result<Running, String> {
    let body = "x".repeat(100);
    let listen: String = BACKENDS.iter().map(|last| format!("    listen 127.0.0.{last}:{} backlog=4096;\n", setting.backend)).collect();
    for (name, size) in [("10k", 10 << 10), ("1m", 1 << 20)] {
        write(&setting.folder.join(name), "x".repeat(size))?;
    }
    let calls: String = BACKENDS.iter().map(|last| format!("    listen 127.0.0.{last}:{} http2 backlog=4096;\n", setting.grpc)).collect();
    // A POST for a file is answered 405, which is made the file.
    let config = format!(
        "{COMMON}http {{\n{HTTP}  open_file_cache max=100;\n  server {{\n{calls}    http2_max_concurrent_streams 512;\n\
         \x20   location = /call {{ default_type application/grpc; add_trailer grpc-status 0 always; alias {call}; error_page 405 =200 /call; }}\n\
         \x20   location / {{ rewrite ^ /call last; }}\n  }}\n  server {{\n{listen}    location / {{ return 200 \"{body}\"; }}\n\
         \x20   location /service-9/10k {{ alias {files}/10k; }}\n    location /service-9/1m {{ alias {files}/1m; }}\n  }}\n}}\n",
        files = text(setting.folder)?,
        call = text(&setting.call)?
    );
    run(setting.folder, "backend", BACKEND_CORE, &config)
}

pub(super) fn start(setting: &Setting<'_>) -> Result<Peer, String> {
    let (http, https, h2, l4, udp, grpc, websocket) = (port()?, port()?, port()?, port()?, port()?, port()?, port()?);
    let servers = |port: u16| -> String { BACKENDS.iter().map(|last| format!(" server 127.0.0.{last}:{port};")).collect() };
    let locations: String = (0..10).map(|i| format!("    location /service-{i} {{ proxy_pass http://pool; }}\n")).collect();
    let mut doors = vec![(Door::Http, http), (Door::Https, https), (Door::H2, h2), (Door::Grpc, grpc), (Door::WebSocket, websocket)];
    let (mut load, mut stream) = (String::new(), String::new());
    match stream_module() {
        Some(module) => {
            load = format!("load_module {module};\n");
            stream = format!(
                "stream {{\n  upstream raw {{ least_conn;{} }}\n  upstream echo {{ least_conn;{} }}\n\
                 \x20 server {{ listen 127.0.0.1:{l4} backlog=4096; proxy_pass raw; }}\n\
                 \x20 server {{ listen 127.0.0.1:{udp} udp; proxy_pass echo; }}\n}}\n",
                servers(setting.backend),
                servers(setting.echo)
            );
            doors.extend([(Door::L4, l4), (Door::Udp, udp)]);
        }
        None => println!("  nginx has no stream module here (Debian: libnginx-mod-stream): it is not measured at L4"),
    }
    let mut many = String::new();
    for routes in ROUTES {
        let port = port()?;
        let locations: String = prefixes(routes).map(|prefix| format!("    location {prefix} {{ proxy_pass http://pool; }}\n")).collect();
        many += &format!("  server {{\n    listen 127.0.0.1:{port} backlog=4096;\n{FORWARD}{locations}  }}\n");
        doors.push((Door::Routes(routes), port));
    }
    let config = format!(
        "{load}{COMMON}http {{\n{HTTP}  upstream pool {{ least_conn;{servers} keepalive 128; keepalive_requests 1000000000; }}\n\
         \x20 proxy_max_temp_file_size 0;\n\
         \x20 server {{\n    listen 127.0.0.1:{http} backlog=4096;\n    listen 127.0.0.1:{h2} http2 backlog=4096;\n\
         \x20   listen 127.0.0.1:{https} ssl backlog=4096;\n    ssl_certificate {certificate};\n    ssl_certificate_key {key};\n\
         \x20   ssl_protocols TLSv1.2 TLSv1.3;\n{FORWARD}{locations}  }}\n\
         \x20 upstream calls {{ least_conn;{calls} keepalive 128; keepalive_requests 1000000000; }}\n\
         \x20 server {{ listen 127.0.0.1:{grpc} http2 backlog=4096; location / {{ grpc_pass grpc://calls; }} }}\n\
         \x20 upstream echo {{ least_conn;{echo} }}\n\
         \x20 server {{ listen 127.0.0.1:{websocket} backlog=4096; proxy_http_version 1.1; proxy_set_header Host $http_host;\n\
         \x20   proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; location / {{ proxy_pass http://echo; }} }}\n{many}}}\n{stream}",
        servers = servers(setting.backend),
        calls = servers(setting.grpc),
        echo = servers(setting.websocket),
        certificate = text(&setting.certificate)?,
        key = text(&setting.key)?
    );
    Peer::started("nginx", run(setting.folder, "nginx", PROXY_CORE, &config)?, &doors)
}

fn run(at: &Path, name: &str, core: usize, config: &str) -> Result<Running, String> {
    let folder = at.join(name);
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let file = folder.join("nginx.conf");
    write(&file, config.replace("FOLDER", text(&folder)?))?;
    Running::start(core, "nginx", &["-p", text(&folder)?, "-c", text(&file)?], &folder.join("log"))
}

/// The directive that loads the module for TCP and UDP, which Debian builds separately.
fn stream_module() -> Option<String> {
    ["/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/share/nginx/modules/ngx_stream_module.so"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .map(str::to_owned)
}
