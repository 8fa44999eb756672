//! nginx, which is changed by another file and SIGHUP to the master (`nginx -s reload`).

use std::path::PathBuf;
use std::process::Command;

use super::{Plan, Proxy, find};
use crate::peers::text;
use crate::process::Running;
use crate::scale::world::{Side, replace};

struct Nginx {
    running: Running,
    file: PathBuf,
    texts: [String; 2],
}

pub(super) fn start(plan: &Plan<'_>) -> Result<Option<Box<dyn Proxy>>, String> {
    let Some(program) = find(plan, "nginx") else { return Ok(None) };
    let texts = [config(plan, Side::A)?, config(plan, Side::B)?];
    let file = plan.folder.join("nginx.conf");
    replace(&file, &texts[0])?;
    let running = Running::anywhere(text(&program)?, &["-p", text(&plan.folder)?, "-c", text(&file)?], &plan.folder.join("log"))?;
    Ok(Some(Box::new(Nginx { running, file, texts })))
}

fn config(plan: &Plan<'_>, side: Side) -> Result<String, String> {
    let at = text(&plan.folder)?;
    let mut config = format!(
        "daemon off; pid {at}/pid; error_log {at}/error.log warn; worker_processes 1; worker_rlimit_nofile 8192;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;\n  \
         client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n"
    );
    for (name, endpoints) in plan.pools(side) {
        let servers: String = endpoints.iter().map(|address| format!(" server {address}:{};", plan.backend)).collect();
        config += &format!("  upstream {name} {{ least_conn;{servers} keepalive 32; }}\n");
    }
    config += &format!("  server {{\n    listen {};\n    proxy_http_version 1.1; proxy_set_header Connection \"\";\n", plan.listen());
    for (path, pool) in plan.routes(side) {
        config += &format!("    location {path} {{ proxy_pass http://{pool}; }}\n");
    }
    Ok(config + "  }\n}\n")
}

impl Proxy for Nginx {
    fn change(&mut self, side: Side) -> Result<(), String> {
        replace(&self.file, &self.texts[usize::from(side == Side::B)])?;
        Command::new("kill").args(["-HUP", &self.pid().to_string()]).status().map(drop).map_err(|e| e.to_string())
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }
}
