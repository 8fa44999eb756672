//! The endpoints that exist: an nginx that answers with the address at which it was asked.

use std::net::SocketAddr;
use std::path::Path;

use super::world::real;
use crate::peers::{text, write};
use crate::process::{Running, wait_for};

pub(super) fn start(folder: &Path, port: u16) -> Result<Running, String> {
    let folder = folder.join("backend");
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let at = text(&folder)?;
    let listen: String = real().map(|address| format!("    listen {address}:{port} backlog=4096;\n")).collect();
    let file = folder.join("nginx.conf");
    write(
        &file,
        format!(
            "daemon off; pid {at}/pid; error_log {at}/error.log warn; worker_processes 1; worker_rlimit_nofile 8192;\n\
             events {{ worker_connections 4096; }}\nhttp {{\n  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;\n  \
             client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n  \
             default_type text/plain;\n  server {{\n{listen}    location / {{ return 200 $server_addr; }}\n  }}\n}}\n"
        ),
    )?;
    let running = Running::anywhere("nginx", &["-p", at, "-c", text(&file)?], &folder.join("log"))?;
    for address in real() {
        wait_for(SocketAddr::from((address, port)), "the backend")?;
    }
    Ok(running)
}
