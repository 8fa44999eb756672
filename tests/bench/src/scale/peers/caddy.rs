//! Caddy, which is changed by a PATCH of its admin API.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Kind, Plan, Proxy, find};
use crate::peers::{port, text, write};
use crate::process::Running;
use crate::scale::world::Side;

struct Caddy {
    running: Running,
    admin: SocketAddr,
    /// The path of the changed route's upstreams in the configuration.
    path: String,
    backend: u16,
}

pub(super) fn start(plan: &Plan<'_>) -> Result<Option<Box<dyn Proxy>>, String> {
    let Some(program) = find(plan, "caddy") else { return Ok(None) };
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, port()?));
    let dial = |address: &Ipv4Addr| json!({"dial": format!("{address}:{}", plan.backend)});
    let pools = plan.pools(Side::A);
    let route = |(number, (path, pool)): (usize, (String, String))| {
        // In Caddy a route itself has the endpoints.
        let endpoints = match plan.kind {
            Kind::Routes => pools.iter().find(|(name, _)| *name == pool).map(|(_, endpoints)| endpoints),
            Kind::Endpoints => pools.get(number).map(|(_, endpoints)| endpoints),
        };
        let upstreams: Vec<Value> = endpoints.into_iter().flatten().map(dial).collect();
        let proxy =
            json!({"handler": "reverse_proxy", "upstreams": upstreams, "load_balancing": {"selection_policy": {"policy": "least_conn"}}});
        json!({"match": [{"path": [format!("{path}*")]}], "handle": [proxy], "terminal": true})
    };
    let routes: Vec<Value> = plan.routes(Side::A).into_iter().enumerate().map(route).collect();
    let server = json!({"listen": [plan.listen().to_string()], "automatic_https": {"disable": true}, "routes": routes});
    let config = json!({"admin": {"listen": admin.to_string(), "config": {"persist": false}},
        "logging": {"logs": {"default": {"level": "ERROR"}}}, "apps": {"http": {"servers": {"web": server}}}});
    let file = plan.folder.join("caddy.json");
    write(&file, config.to_string())?;
    let running = Running::anywhere(text(&program)?, &["run", "--config", text(&file)?], &plan.folder.join("log"))?;
    let path = format!("/config/apps/http/servers/web/routes/{}/handle/0/upstreams/0/dial", plan.changed());
    Ok(Some(Box::new(Caddy { running, admin, path, backend: plan.backend })))
}

impl Proxy for Caddy {
    fn change(&mut self, side: Side) -> Result<(), String> {
        let body = json!(format!("{}:{}", side.address(), self.backend)).to_string();
        let head = format!(
            "PATCH {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.path,
            self.admin,
            body.len()
        );
        let told = TcpStream::connect(self.admin).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(format!("{head}{body}").as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        let answer = told.map_err(|e| format!("the admin API: {e}"))?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("the admin API: {answer}")) }
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }
}
